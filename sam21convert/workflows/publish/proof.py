"""What a repository claims of its checkpoints: that they compute what their source computes."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...checkpoint.open import Checkpoint, open_checkpoint
from ...errors import MismatchError, call_of
from ...prediction.backends.names import backend_for
from ...report import Progress, one_line
from .card import EXAMPLE, PHOTO, Picture
from .evidence import Evidence, files_of

if TYPE_CHECKING:
    from ...comparison.report import ParityReport
    from ...comparison.sides import Config
    from ...evaluation.report import Evaluation
    from .example import Example

Scenarios = Literal["quick", "full", "none"]
OWN_MODEL, OFFICIAL_CODE = "truth", "sam2"


class Form(NamedTuple):
    """A form of the model.

    Attributes:
        path: The checkpoint.
        backend: What runs it.
        config: Its config if it has none of its own.
    """

    path: Path
    backend: str
    config: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The files that are read of it, by name."""
        if self.backend == "onnx":  # graphs, their weights, and settings for them
            every = (path for path in self.path.rglob("*") if path.is_file())
            return {path.relative_to(self.path).as_posix(): path for path in every}
        given = {} if self.config is None else {self.config.name: self.config}
        opened = open_checkpoint(self.path, self.config)
        return {**files_of(opened.source.files, self.path), **given}


def official_form(path: Path, config: Path) -> Form:
    """The checkpoint for the official code, which runs it where it is installed.

    Args:
        path: The ``.pt``.
        config: Its YAML.

    Returns:
        The form; without the official code the model of this package runs it.
    """
    there = find_spec(OFFICIAL_CODE) is not None
    return Form(path, OFFICIAL_CODE if there else OWN_MODEL, config)


def proves_nothing(checkpoint: Checkpoint, form: Form) -> bool:
    """Whether a comparison would run the same tensors in the same model twice.

    Args:
        checkpoint: The source.
        form: A form that was made of it, all tensors of which are those of the source.

    Returns:
        True where both are run by the model of this package.
    """
    return form.backend == OWN_MODEL == backend_for(checkpoint.dialect)


def compared(
    checkpoint: Checkpoint,
    given: Config,
    forms: Sequence[Form],
    image_size: int,
    scenarios: Scenarios,
    device: str,
    progress: Progress,
) -> list[ParityReport]:
    """Compare each form with the source, unless an earlier run has compared the same bytes.

    Args:
        checkpoint: The source.
        given: Its config, if one was given.
        forms: What was made of it.
        image_size: Side of the input of the models, in pixels.
        scenarios: How thoroughly; ``"none"`` compares nothing.
        device: The device, as for :func:`~sam21convert.parity`.
        progress: As for :func:`~sam21convert.parity`.

    Returns:
        The comparisons, all in parity.

    Raises:
        MismatchError: If a form is not in parity.
    """
    if scenarios == "none":
        return []
    from ...comparison.report import ParityReport

    reports = []
    for form in forms:
        if proves_nothing(checkpoint, form):
            continue
        config = given if form.config is None else form.config
        comparison = Comparison(checkpoint, form, config, image_size, scenarios, device)
        evidence = comparison.evidence()
        found = evidence.recall(ParityReport)
        if found is None or not found.ok:
            found = comparison.run(progress)
            evidence.keep(found)
        reports.append(found)
    return reports


@dataclass(frozen=True)
class Comparison:
    """A comparison of the source with a form of it.

    Attributes:
        checkpoint: The source.
        form: What was made of it.
        config: The config of both, if one was given.
        image_size: As for :func:`compared`.
        scenarios: As for :func:`compared`.
        device: As for :func:`compared`.
    """

    checkpoint: Checkpoint
    form: Form
    config: Config
    image_size: int
    scenarios: Scenarios
    device: str

    @property
    def source(self) -> str:
        """The source, as :func:`~sam21convert.parity` takes it."""
        home = self.checkpoint.source.path.absolute()
        return f"{backend_for(self.checkpoint.dialect)}:{home}"

    def evidence(self) -> Evidence:
        """Find where its result is kept, under all that it depends on.

        Returns:
            The evidence, whether there is any yet or not.
        """
        source = self.checkpoint.source
        read = files_of(source.files, source.path)
        settings = {}
        if isinstance(self.config, (str, Path)) and Path(self.config).is_file():
            settings = {"config": Path(self.config)}
        return Evidence(
            "parity",
            {
                **{f"source/{name}": path for name, path in read.items()},
                **{f"form/{name}": path for name, path in self.form.files.items()},
                **settings,
            },
            {
                "left": self.source.partition(":")[0],
                "right": self.form.backend,
                "config": None if settings else repr(self.config),
                "image size": self.image_size,
                "scenarios": self.scenarios,
                "device": self.device,
            },
            {"source": source.path.absolute(), "form": self.form.path, **settings},
        )

    def run(self, progress: Progress) -> ParityReport:
        """Compare both.

        Args:
            progress: As for :func:`~sam21convert.parity`.

        Returns:
            The comparison.

        Raises:
            MismatchError: If they are not in parity.
        """
        from ...comparison.api import parity

        form = self.form
        found = parity(
            self.source,
            f"{form.backend}:{form.path}",
            scenarios=self.scenarios,
            device=self.device,
            image_size=self.image_size,
            config=self.config,
            progress=progress,
        )
        if not found.ok:
            own = self.checkpoint.source.path
            form_of = ("to=onnx",) if form.backend == "onnx" else ()
            raise MismatchError(
                f"{form.path.name}: does not compute what {one_line(str(own))} does\n\n{found}",
                hint="the written files were removed; "
                f"{call_of('convert', own, *form_of)} writes such files, and then "
                f"sam21convert parity {shlex.quote(self.source)} {form.backend}:OUT --report "
                "FOLDER shows more",
            )
        return found


def tracked(
    checkpoint: Checkpoint,
    given: Config,
    forms: Sequence[Form],
    data: str | Path | None,
    device: str,
    progress: Progress,
) -> list[Evaluation]:
    """Track the objects of a data set with the source and each form but the graphs.

    Args:
        checkpoint: The source.
        given: Its config, if one was given.
        forms: What was made of it.
        data: The data set; None for none.
        device: As for :func:`~sam21convert.evaluate`.
        progress: As for :func:`~sam21convert.evaluate`.

    Returns:
        What was found for each form.

    Raises:
        MismatchError: If a pixel differs.
    """
    if data is None:
        return []
    from ..track_and_compare import tracked_alike

    return [
        tracked_alike(
            checkpoint.source.path.absolute(),
            given,
            form.path,
            form.config,
            data,
            lossless=True,
            image_size=None,
            device=device,
            progress=progress,
        )
        for form in forms
        if form.backend != "onnx"  # whose rounding is another
    ]


@dataclass(frozen=True)
class Drawn:
    """A picture of a card with the files that show it.

    Attributes:
        picture: What the card says of it.
        files: By name, the bytes of each file in base64.
    """

    picture: Picture
    files: Mapping[str, str]


def drawn(form: Form, example: Example | None, folder: Path) -> Picture:
    """Draw what a form finds in the picture of the card into the folder, or take it from the cache.

    Args:
        form: The form, whose weights decide.
        example: The picture; None for a drawn scene.
        folder: Gets the files.

    Returns:
        What the card says of it.
    """
    evidence = Evidence("picture", form.files, {"example": _told(example)})
    found = evidence.recall(Drawn)
    if found is not None:
        for name, content in found.files.items():
            (folder / Path(name).name).write_bytes(base64.b64decode(content))
        return found.picture
    from .example import draw, drawn_scene

    picture = draw(example or drawn_scene(), form.path, form.config, folder)
    names = (EXAMPLE, PHOTO) if picture.photo else (EXAMPLE,)
    files = {name: base64.b64encode((folder / name).read_bytes()).decode() for name in names}
    evidence.keep(Drawn(picture, files))
    return picture


def _told(example: Example | None) -> Any:
    """A picture and its prompts as JSON has them."""
    if example is None:
        return None
    pixels = hashlib.sha256(example.picture.tobytes()).hexdigest()
    return [pixels, *example.picture.size, repr(list(example.prompts)), example.photo]


def not_run(checkpoint: Checkpoint, forms: Sequence[Form], scenarios: Scenarios) -> Iterator[str]:
    """Name the forms with which nothing was compared, since only this package could run them.

    Args:
        checkpoint: The source.
        forms: What was made of it.
        scenarios: How thoroughly was compared; ``"none"`` names no form.

    Yields:
        The name of the file.
    """
    if scenarios != "none":
        for form in forms:
            if proves_nothing(checkpoint, form):
                yield form.path.name
