"""The Spaces that are published beside a model: a page that runs its graphs, and a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from ...report import Progress
from .app_space import check_app, compose_app
from .present import Present, ask
from .repository import Repository
from .space import ComposedPage, check_page, compose_page


@dataclass(frozen=True)
class Spaces:
    """The Spaces of a push, composed.

    Attributes:
        page: The page, if one was asked for.
        app: The server, if one was asked for.
    """

    page: ComposedPage | None
    app: ComposedPage | None


@dataclass(frozen=True)
class Wanted:
    """The Spaces that are asked for.

    Attributes:
        page: A static Space, ``namespace/name``; None for none.
        cdn: Whether its runtime comes from a CDN.
        app: A Space with a server, ``namespace/name``; None for none.
    """

    page: str | None
    cdn: bool
    app: str | None

    @property
    def names(self) -> list[str]:
        """The names of both."""
        return [name for name in (self.page, self.app) if name is not None]

    def check(self, *, with_onnx: bool, create_pr: bool) -> None:
        """Check what can be checked before anything is done.

        Args:
            with_onnx: Whether the repository gets graphs.
            create_pr: Whether the repository is changed by a pull request.

        Raises:
            UsageError: As :func:`~.space.check_page` and :func:`~.app_space.check_app` do.
        """
        check_page(self.page, cdn=self.cdn, with_onnx=with_onnx, create_pr=create_pr)
        check_app(self.app, self.page, create_pr=create_pr)

    def ask(self, api: HfApi, *, dry_run: bool) -> tuple[Present, Present]:
        """Ask the Hub for what it has of them.

        Args:
            api: The client.
            dry_run: Whether nothing will be written.

        Returns:
            What it has of the page and of the server.

        Raises:
            UnreadableError: As :func:`~.present.ask` does.
        """

        def there(name: str | None) -> Present:
            return Present() if name is None else ask(api, name, kind="space", dry_run=dry_run)

        return there(self.page), there(self.app)

    def compose(
        self,
        repository: Repository,
        scratch: Path,
        api: HfApi,
        there: tuple[Present, Present],
        progress: Progress,
    ) -> Spaces:
        """Write their files, and tell what they change.

        Args:
            repository: The model.
            scratch: A folder for the files.
            api: The client.
            there: What the Hub has of them.
            progress: Told what is done.

        Returns:
            The files and what becomes of them.

        Raises:
            RefusedError: As :func:`~.space.composed` does.
        """
        of_page, of_app = there
        return Spaces(
            compose_page(repository, scratch, self.page, api, of_page, self.cdn, progress),
            compose_app(repository, scratch, self.app, api, of_app, progress),
        )
