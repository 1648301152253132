"""The page of ``serve`` as a Space of the Hub: a server beside the published model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from huggingface_hub import HfApi

from ..._version import __version__
from ...errors import UsageError
from ...io.markdown import code
from ...packages import EXTRAS, distribution_of
from ...report import Progress
from .present import Present
from .repository import Repository
from .space import ComposedPage, check_name, composed
from .wheel import write_wheel

PORT = 7860  # that of Spaces
# Of torch for processors; the wheels of the index bring gigabytes for GPUs.
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
_FOR_GPUS = ("nvidia", "cuda", "triton")  # what those of the index need
_APP = '''"""The page of the Space; written by sam21convert {version}."""

import os

from sam21convert.web.limits import Limits
from sam21convert.web.serving import serve

serve(
    ["hf://{model}"],
    host="0.0.0.0",  # the Space is reached through a proxy
    names=None,
    port=int(os.environ.get("PORT", "{port}")),
    framed_by="https://huggingface.co",
    limits=Limits(upload_bytes=100 * 2**20, frames=100),
)
'''
_DOCKERFILE = """FROM python:{python}-slim
RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
COPY --chown=user . .
RUN pip install --no-cache-dir --user -r requirements.txt
EXPOSE {port}
CMD ["python", "app.py"]
"""


def check_app(app_space: str | None, page_space: str | None, *, create_pr: bool) -> None:
    """Check what can be checked before anything is done.

    Args:
        app_space: The Space, if one is asked for.
        page_space: That of the other page, if one is asked for.
        create_pr: Whether the repository is changed by a pull request.

    Raises:
        UsageError: If these exclude each other, or there can be no such Space.
    """
    if app_space is None:
        return
    check_name(app_space, "me/my-app")
    if app_space == page_space:
        raise UsageError(f"{app_space}: `app_space` and `page_space` need a Space each")
    if create_pr:
        raise UsageError(
            "`create_pr` and `app_space` exclude each other: the page of a change that may be "
            "rejected would be public"
        )


def compose_app(
    repository: Repository,
    scratch: Path,
    repo_id: str | None,
    api: HfApi,
    there: Present,
    progress: Progress,
) -> ComposedPage | None:
    """Write the files of a Space that serves the published model, and tell what they change.

    Args:
        repository: The model.
        scratch: A folder for the files.
        repo_id: The Space, ``namespace/name``; None for none.
        api: The client.
        there: What the Hub has of it.
        progress: Told what is done.

    Returns:
        The files and what becomes of them; None for no Space.

    Raises:
        RefusedError: If there is a Space of another kind, or files of someone else would be
            replaced.
    """
    if repo_id is None:
        return None
    progress.start("writing the app", 0)
    folder = scratch / "app"
    folder.mkdir()
    facts = {"version": __version__, "model": repository.repo_id, "port": PORT}
    facts["python"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    wheel = write_wheel(folder)
    (folder / "app.py").write_text(_APP.format(**facts), encoding="utf-8")
    (folder / "Dockerfile").write_text(_DOCKERFILE.format(**facts), encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements(wheel.name), encoding="utf-8")
    text = (
        f"A page that segments pictures, and follows objects through videos, with "
        f"{code(repository.repo_id)}: click an object. What you open goes to this Space alone, and "
        "is forgotten when the page is closed. It runs on the processor; if the model is private, "
        "give the Space a secret HF_TOKEN that may read it. Written by sam21convert "
        f"{__version__}.\n"
    )
    return composed(repository, folder, repo_id, api, there, "docker", text, app_port=PORT)


def requirements(wheel: str) -> str:
    """Name what the app needs, with the versions that are installed here.

    Args:
        wheel: The file of this package, beside the list.

    Returns:
        The text of ``requirements.txt``.
    """
    own = metadata.requires("sam21convert") or ()
    asked = [distribution_of(name) for extra in ("torch", "web") for name in EXTRAS[extra]]
    pins = [f"{name}=={version}" for name, version in sorted(_closure([*own, *asked]).items())]
    lines = [f"--extra-index-url {_TORCH_INDEX}", f"./{wheel}", *pins]
    return "\n".join(lines) + "\n"


def _closure(requirements: Iterable[str]) -> dict[str, str]:
    """Name and version of all that is needed; torch is the one for processors."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        one, extra = waiting.pop()
        asked = one.marker is None or one.marker.evaluate({"extra": extra})
        if not asked or one.name.startswith(_FOR_GPUS):
            continue
        name = one.name.lower().replace("_", "-").replace(".", "-")
        found[name] = metadata.version(name)
        for inner in {"", *one.extras}:
            if (name, inner) not in seen:
                seen.add((name, inner))
                waiting += [(Requirement(text), inner) for text in metadata.requires(name) or ()]
    return {**found, "torch": f"{found['torch'].partition('+')[0]}+cpu"}
