"""Write the page: the models, the runtime and the files that make it, in one folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...io.nearby import expanded
from ...io.output.atomic import new_folder, refuse_existing
from ...markup.browser_files import with_shared
from ...report import SILENT, Line, Part, Progress, Report, labelled, size_text
from . import runtime as onnxruntime_web
from .folders import Exported, distinct, read_export

_STATIC = Path(__file__).parent / "static"
_MOST = 2  # models on a page
_RUNTIME, _MODELS = "runtime", "models"


@dataclass(frozen=True)
class ModelOnPage:
    """A model of a page.

    Attributes:
        name: what the page calls it.
        source: the folder that it was copied from.
        image_size: side of its input in pixels.
        variants: the sizes of its variants in bytes, by name.
        checked: whether it has a golden example, with which the page can check a browser.
    """

    name: str
    source: Path
    image_size: int
    variants: dict[str, int]
    checked: bool


@dataclass(frozen=True)
class Page(Report, schema="page/1"):
    """The result of :func:`page`.

    Attributes:
        path: the folder of the page.
        title: its title.
        models: the models on it.
        runtime: the version of onnxruntime-web.
        cdn: the address from which browsers load it; None if its files are beside the page.
        files: the number of files.
        bytes: their size.

    Example:
        >>> written = sam21convert.page("onnx", "site", cdn=True)
        >>> written.models[0].image_size
        128
    """

    path: Path
    title: str
    models: tuple[ModelOnPage, ...]
    runtime: str
    cdn: str | None
    files: int
    bytes: int

    def shown(self) -> Sequence[Part]:
        """What people see.

        Returns:
            What was written, each model, and how to serve it.
        """
        where = "from a CDN" if self.cdn else "beside the page"
        size = f"{self.files} files, {size_text(self.bytes)}"
        lines: list[Part] = [Line((f"wrote {self.path}: {size}",))]
        for model in self.models:
            sizes = ", ".join(f"{name} {size_text(n)}" for name, n in model.variants.items())
            lines.append(labelled(model.name, f"{model.image_size} pixels, {sizes}", 2))
        lines.append(labelled("onnxruntime-web", f"{self.runtime}, {where}", 2))
        serve = f"python -m http.server -d {self.path}, then http://localhost:8000"
        return [*lines, labelled("serve it", serve)]

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data.

        Returns:
            A dict of what JSON can hold, with paths as text.
        """
        models = [{**asdict(one), "source": str(one.source)} for one in self.models]
        return {**super().to_dict(), "models": models}

    def alerts(self) -> tuple[str, ...]:
        """What is missing for the page to show that a browser computes the same.

        Returns:
            A line for each model without a golden example.
        """
        return tuple(
            f"{model.source}: has no golden example, so that the page cannot check it"
            for model in self.models
            if not model.checked
        )


def page(
    folders: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    title: str | None = None,
    cdn: bool = False,
    runtime: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Page:
    """Write a web page that runs an exported model in a browser, or two side by side.

    The page is one folder without a server side: any server for files can serve it. A picture that
    is opened in it stays in the browser.

    Args:
        folders: a folder with an exported model, as ``convert`` writes it for ``to="onnx"``, or
            two such folders to compare.
        out: the folder to write.
        title: the title of the page; by default the names of the models.
        cdn: whether browsers load onnxruntime-web from a public CDN, instead of from the page. It
            is then not downloaded now.
        runtime: a folder with the files of onnxruntime-web, such as
            ``node_modules/onnxruntime-web/dist``, instead of what npm downloads.
        overwrite: whether an existing ``out`` is replaced.
        progress: is told what is done.

    Returns:
        What was written.

    Raises:
        UsageError: when ``out`` exists without ``overwrite``, more than two folders are given, or
            npm is needed and not installed.
        RefusedError: when a folder holds no exported model.
        UnreadableError: when a file cannot be read, or onnxruntime-web cannot be downloaded.

    Example:
        >>> sam21convert.page("onnx", "site", cdn=True).path
        PosixPath('site')
    """
    given = [folders] if isinstance(folders, (str, Path)) else [*folders]
    if not 1 <= len(given) <= _MOST:
        raise UsageError(f"folders: expected one or {_MOST}, found {len(given)}")
    if cdn and runtime is not None:
        raise UsageError("`cdn=True`: cannot be combined with `runtime`, which says another source")
    target = expanded(Path(out))
    refuse_existing(target, overwrite=overwrite)
    models = tuple(read_export(expanded(Path(folder))) for folder in given)
    return write_page(
        models, target, title, cdn=cdn, runtime=runtime, overwrite=overwrite, progress=progress
    )


def write_page(
    models: tuple[Exported, ...],
    target: Path,
    title: str | None,
    *,
    cdn: bool,
    runtime: str | Path | None,
    overwrite: bool,
    progress: Progress,
) -> Page:
    """Write a page for models that were read; see :func:`page`.

    Args:
        models: The models, each with the name that the page calls it.
        target: The folder to write.
        title: As for :func:`page`.
        cdn: As for :func:`page`.
        runtime: As for :func:`page`.
        overwrite: As for :func:`page`.
        progress: As for :func:`page`.

    Returns:
        What was written.

    Raises:
        UsageError: As :func:`page` does.
        UnreadableError: As :func:`page` does.
    """
    names = distinct(models)
    shown_title = title or " and ".join(names)
    with new_folder(target, overwrite=overwrite, without=(_RUNTIME, _MODELS)) as home:
        _write_static(home, shown_title, cdn=cdn)
        content = {
            "title": shown_title,
            "runtime": _runtime_facts(cdn=cdn),
            "models": [_facts(*pair) for pair in zip(names, models, strict=True)],
        }
        (home / "site.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if not cdn:
            progress.start("getting onnxruntime-web", 0)
            _write_runtime(home / _RUNTIME, runtime)
        _copy_models(home, names, models, progress)
        files = [path for path in home.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    on_page = tuple(
        ModelOnPage(name, one.folder, one.image_size, _sizes(one), bool(one.golden))
        for name, one in zip(names, models, strict=True)
    )
    address = onnxruntime_web.CDN if cdn else None
    version = onnxruntime_web.VERSION
    return Page(target, shown_title, on_page, version, address, len(files), size)


def _sizes(model: Exported) -> dict[str, int]:
    return {variant.name: variant.bytes for variant in model.variants}


def _facts(name: str, model: Exported) -> dict[str, Any]:
    """What the page is told of a model."""
    return {
        "name": name,
        "base": f"{_MODELS}/{name}/",
        "side": model.image_size,
        "mean": model.mean,
        "std": model.std,
        "variants": [
            {
                "name": variant.name,
                "files": [
                    {"graph": graph, "file": file, "bytes": size}
                    for graph, file, size in variant.files
                ],
            }
            for variant in model.variants
        ],
        "golden": model.golden or None,
    }


def _runtime_facts(*, cdn: bool) -> dict[str, Any]:
    return {
        "version": onnxruntime_web.VERSION,
        "base": onnxruntime_web.CDN if cdn else f"{_RUNTIME}/",
        "bytes": {name: sum(one.values()) for name, one in onnxruntime_web.FILES.items()},
    }


def policy(*, cdn: bool) -> str:
    """Make the Content-Security-Policy of a page.

    Args:
        cdn: Whether the runtime comes from a CDN.

    Returns:
        A policy that allows files of the page itself, blobs that it makes, and those of the CDN.
    """
    there = f" {onnxruntime_web.CDN}" if cdn else ""
    rules = {
        "default-src": "'none'",
        "script-src": f"'self' blob: 'wasm-unsafe-eval'{there}",
        "worker-src": "'self' blob:",
        "connect-src": f"'self'{there}",
        "img-src": "'self' blob:",
        "style-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {allowed}" for name, allowed in rules.items())


def _write_static(home: Path, title: str, *, cdn: bool) -> None:
    for name, path in with_shared(_STATIC).items():
        if path.suffix != ".html":
            shutil.copyfile(path, home / name)
            continue
        text = path.read_text(encoding="utf-8")
        text = text.replace("{{policy}}", escape(policy(cdn=cdn)))
        (home / name).write_text(text.replace("{{title}}", escape(title)), encoding="utf-8")


def _write_runtime(folder: Path, source: str | Path | None) -> None:
    folder.mkdir()
    if source is None:
        onnxruntime_web.download(folder)
    else:
        onnxruntime_web.copy(expanded(Path(source)), folder)


def _copy_models(
    home: Path, names: Sequence[str], models: Sequence[Exported], progress: Progress
) -> None:
    progress.start("copying", sum(sum(_sizes(model).values()) for model in models))
    for name, model in zip(names, models, strict=True):
        for file in model.files():
            destination = home / _MODELS / name / file
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.folder / file, destination)
            progress.advance(destination.stat().st_size)
