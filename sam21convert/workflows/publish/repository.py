"""Compose the folder that becomes a repository of the Hub: weights, configs, picture and card.

Everything that publishing takes and no network is needed for. A model that does not load, or does
not compute what its source does, never gets a folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ...checkpoint.inspect import inspect
from ...checkpoint.open import Checkpoint, open_checkpoint
from ...checkpoint.validate import validate
from ...comparison.api import parity
from ...comparison.report import ParityReport
from ...comparison.sides import Config, backend_for
from ...config.hydra_writer import to_hydra
from ...config.plain_yaml import load_yaml
from ...config.registry import shipped_config, shipped_like
from ...conversion.api import convert
from ...dialects import BY_NAME, HF_IMAGE, HF_VIDEO, OFFICIAL
from ...dialects.rules import Dialect
from ...errors import MismatchError, RefusedError, UsageError
from ...io.data.checksums import sha256
from ...io.source import CONFIG
from ...prediction.draw import scene
from ...prediction.image import predict_image
from ...prediction.prompts import Point
from ...report import SILENT, Progress, Report, size_text, table
from .card import EXAMPLE, Facts, FileFact, OfficialFiles, metadata, section
from .readme import NAME, merged

Scenarios = Literal["quick", "full", "none"]

_SIDE = 384  # of the example picture, in pixels
_POINT = (0.35, 0.62)  # of its side: on the wall of the house


@dataclass(frozen=True)
class Repository(Report):
    """The answer of :func:`compose`. ``files`` are those of the folder, by name."""

    repo_id: str
    folder: Path
    source: Path
    dialect: str
    files: dict[str, FileFact]
    parity: tuple[ParityReport, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, files and comparisons as dicts."""
        return {
            **super().to_dict(),
            "files": {name: vars(file) for name, file in self.files.items()},
            "parity": [report.to_dict() for report in self.parity],
        }

    def __str__(self) -> str:
        verdict = "in parity with its source" if self.parity else "not compared with its source"
        rows = [
            ("read", str(self.source)),
            ("composed", f"{self.folder} ({self.dialect}), for {self.repo_id}"),
            *((file.name, size_text(file.size)) for file in self.files.values()),
            ("checked", f"loads strictly, {verdict}"),
            *(("note", note) for note in self.notes),
        ]
        return table(rows)


def compose(
    source: str | Path,
    folder: str | Path,
    repo_id: str,
    *,
    to: str | None = None,
    config: Config = None,
    with_official: bool = False,
    scenarios: Scenarios = "quick",
    readme: bytes | None = None,
    license: str | None = None,  # noqa: A002 - the name that the field has
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Repository:
    """Write what the repository ``repo_id`` shall hold to the new ``folder``.

    ``to`` is the dialect: ``hf-video`` unless given (``hf-image`` of an image model), ``hf-image``
    or ``official``, the ``.pt`` and YAML that ``with_official`` adds to the other two. ``config``
    is that of ``source``, as for :func:`~sam21convert.convert`.
    ``scenarios`` are those of the comparison with the source, in which transformers runs its own
    folders. ``readme`` is the README.md that the repository has, else that of a source folder is
    taken; of either, only our section and missing metadata are written. ``progress`` is that of
    :func:`~sam21convert.parity`.

    Raises :class:`UsageError` when the folder exists or transformers is missing,
    :class:`MismatchError` when what was written does not load or is not in parity, and else as
    :func:`~sam21convert.convert` does. After an error there is no folder.
    """
    checkpoint = open_checkpoint(source, config)
    if config is None and checkpoint.config_from not in (None, CONFIG):
        config = checkpoint.config  # of the YAML beside it on the Hub
    source, folder = checkpoint.source.path.absolute(), Path(folder).absolute()
    dialect = _pick(checkpoint, to)
    with _new(folder):
        if dialect is not OFFICIAL:
            convert(source, folder, to=dialect.name, config=config)
        official = (
            _write_official(checkpoint, config, folder)
            if with_official or dialect is OFFICIAL
            else None
        )
        forms = _forms(dialect, folder, official)
        for written, own in forms:
            _check_values(written, own)
        main, own = forms[0]
        model = open_checkpoint(main, own).model_config
        assert model is not None
        ious = _draw(main, own, folder / EXAMPLE)
        files = {path.name: _fact(path) for path in sorted(folder.iterdir())}
        facts = Facts(
            repo_id=repo_id,
            folder=folder,
            dialect=dialect,
            official=official,
            image_size=model.image_size,
            source=inspect(source),
            written=inspect(main),
            config=config if isinstance(config, (str, Path)) else None,
            read=[_fact(file) for file in checkpoint.source.files],
            files=list(files.values()),
            ious=ious,
            parity=_compare(checkpoint, config, forms, model.image_size, scenarios, progress),
        )
        if readme is None and (source / NAME).is_file():
            readme = (source / NAME).read_bytes()
        title = repo_id.rpartition("/")[2]
        named = metadata(facts, license, base_model, datasets)
        text, notes = merged(readme, title, section(facts), named)
        (folder / NAME).write_bytes(text)
        return Repository(
            repo_id=repo_id,
            folder=folder,
            source=source,
            dialect=dialect.name,
            files={NAME: _fact(folder / NAME), **files},
            parity=tuple(facts.parity),
            notes=notes,
        )


def _pick(checkpoint: Checkpoint, to: str | None) -> Dialect:
    if to is None:
        return HF_IMAGE if checkpoint.dialect is HF_IMAGE else HF_VIDEO
    if to not in BY_NAME:
        raise UsageError(f"no dialect is called {to!r}", hint=f"one of {', '.join(BY_NAME)}")
    return BY_NAME[to]


@contextmanager
def _new(folder: Path) -> Iterator[None]:
    """A folder that is gone again when the block fails."""
    try:
        folder.mkdir()
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", hint="name a new folder") from error
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_official(checkpoint: Checkpoint, given: Config, folder: Path) -> OfficialFiles:
    """The ``.pt`` and its YAML, under the names that the official code gives such a model."""
    config = checkpoint.model_config
    shipped = None if config is None else shipped_like(config)
    stem = f"sam{'2' if config is None or config.generation == '2.0' else '2.1'}"
    names = OfficialFiles(f"{stem}.pt", f"{stem}.yaml")
    if shipped is not None:
        short = shipped.name.rpartition("/")[2]
        stem = f"{short.rpartition('_')[0]}_{shipped.size}"
        published = config == shipped_config(shipped.name) and shipped.size != "debug"
        names = OfficialFiles(f"{stem}.pt", f"{short if published else stem}.yaml")
    convert(checkpoint.source.path, folder / names.checkpoint, config=given)
    assert config is not None  # or there would have been no map of names to convert with
    if not (folder / names.config).exists():
        (folder / names.config).write_text(to_hydra(config), encoding="utf-8", newline="\n")
    if load_yaml(folder / names.config) != config:
        raise RefusedError(
            f"{checkpoint.source.path}: its multimask stability settings are not those that the "
            "official builders set, so that no YAML makes them build this model",
            hint="publish it for transformers alone",
        )
    return names


def _forms(
    dialect: Dialect, folder: Path, official: OfficialFiles | None
) -> list[tuple[Path, Path | None]]:
    """What can be loaded from the folder, with its config; the main one first."""
    forms: list[tuple[Path, Path | None]] = [] if dialect is OFFICIAL else [(folder, None)]
    if official is not None:
        forms.append((folder / official.checkpoint, folder / official.config))
    return forms


def _check_values(written: Path, config: Path | None) -> None:
    found = validate(written, config)
    if not found.ok:
        raise MismatchError(str(found), hint="nothing was kept of what was written")


def _compare(
    checkpoint: Checkpoint,
    given: Config,
    forms: Sequence[tuple[Path, Path | None]],
    image_size: int,
    scenarios: Scenarios,
    progress: Progress,
) -> list[ParityReport]:
    """Each form against the source; the ground truth runs what has the official names."""
    if scenarios == "none":
        return []
    source = f"{backend_for(checkpoint.dialect)}:{checkpoint.source.path.absolute()}"
    reports = []
    for written, own in forms:
        backend = "transformers" if own is None else "truth"
        found = parity(
            source,
            f"{backend}:{written}",
            scenarios=scenarios,
            image_size=image_size,
            config=given if own is None else own,
            progress=progress,
        )
        if not found.ok:
            raise MismatchError(
                f"{written.name}: does not compute what {checkpoint.source.path} does\n\n{found}",
                hint="nothing was kept; sam21convert parity --report shows more",
            )
        reports.append(found)
    return reports


def _draw(checkpoint: Path, config: Path | None, path: Path) -> list[float]:
    """Draw what the model makes of a point; the IoU that it expects of each candidate."""
    with tempfile.TemporaryDirectory() as scratch:
        picture, drawn = Path(scratch) / "scene.png", Path(scratch) / EXAMPLE
        Image.fromarray(scene(_SIDE)).save(picture)
        point = Point(_SIDE * _POINT[0], _SIDE * _POINT[1])
        found = predict_image(picture, checkpoint, drawn, [point], config=config, device="cpu")
        shutil.copyfile(drawn, path)
    return [mask.iou for mask in found.masks]


def _fact(path: Path) -> FileFact:
    return FileFact(path.name, path.stat().st_size, sha256(path))
