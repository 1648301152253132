"""Compose the folder that becomes a repository of the Hub: weights, configs, picture and card.

This is the part of publishing that needs no network. If the model does not load, or does not
compute what its source does, no folder remains.
"""

from __future__ import annotations

import os.path
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checkpoint.identify import identify
from ...checkpoint.inspect import inspect
from ...checkpoint.open import Checkpoint, open_checkpoint
from ...checkpoint.safety.report import Safety, SourceReport, naming_harm
from ...checkpoint.validate import validate
from ...config.hydra import BUILDERS
from ...config.hydra_writer import to_hydra
from ...config.registry import shipped_config, shipped_like
from ...conversion.api import convert
from ...dialects import EITHER, HF_IMAGE, HF_VIDEO, OFFICIAL, named
from ...dialects.rules import Dialect
from ...errors import MismatchError, RefusedError, UsageError
from ...io.nearby import expanded
from ...io.output.folders import refuse_file_name
from ...io.output.temporary import temporary_folder
from ...io.source import CONFIG
from ...report import SILENT, Part, Progress, size_text, table
from .card import Facts, OfficialFiles, Picture, metadata, section
from .graphs import add_graphs, refuse_without_folder
from .manifest import MANIFEST, FileFact, write_manifest
from .phases import Phases
from .proof import Form, Scenarios, compared, drawn, not_run, official_form, tracked
from .proposals import proposals
from .readme import NAME, merged, metadata_of

if TYPE_CHECKING:
    from ...comparison.report import ParityReport
    from ...comparison.sides import Config
    from ...evaluation.report import Evaluation
    from .example import Example


@dataclass(frozen=True)
class Repository(SourceReport):
    """The answer of :func:`compose`.

    Attributes:
        repo_id: The repository, ``namespace/name``.
        folder: The folder that was written.
        source: The checkpoint that was converted.
        dialect: The dialect of the main checkpoint.
        files: The files of the folder, by name.
        parity: The comparisons with the source; empty when nothing was compared.
        evaluations: How each form and the source track the objects of a data set; empty if that was
            not asked.
        notes: Metadata of an existing README that was kept, and what the card could state.
        safety: What loading the source with torch or pickle would import and call.
    """

    repo_id: str
    folder: Path
    source: Path
    dialect: str
    files: dict[str, FileFact]
    parity: tuple[ParityReport, ...]
    evaluations: tuple[Evaluation, ...]
    notes: tuple[str, ...]
    safety: Safety

    @property
    def paths(self) -> dict[str, Path]:
        """The files on this machine, by their paths in the repository."""
        return {name: self.folder / name for name in self.files}

    @property
    def verdict(self) -> str:
        """What was found out about the model, in words."""
        compared = "in parity with its source" if self.parity else "not compared with its source"
        tracked = "; no pixel of its masks differs" if self.evaluations else ""
        return f"loads strictly, {compared}{tracked}"

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, files and comparisons as dicts.
        """
        return {
            **super().to_dict(),
            "files": {name: vars(file) for name, file in self.files.items()},
            "parity": [report.to_dict() for report in self.parity],
            "evaluations": [found.to_dict() for found in self.evaluations],
        }

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A table of what was read and written.
        """
        rows = [
            ("read", str(self.source)),
            ("composed", f"{self.folder} ({self.dialect}), for {self.repo_id}"),
            *((file.name, size_text(file.size)) for file in self.files.values()),
            ("checked", self.verdict),
            *(("note", note) for note in self.notes),
        ]
        return [table(rows)]


def compose(
    source: str | Path,
    folder: str | Path,
    repo_id: str,
    *,
    to: str | None = None,
    config: Config = None,
    with_official: bool = False,
    with_onnx: bool = False,
    scenarios: Scenarios = "quick",
    device: str = "auto",
    data: str | Path | None = None,
    readme: bytes | None = None,
    earlier: Iterable[FileFact] = (),
    license: str | None = None,  # noqa: A002 - the name that the field has
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    example: Example | None = None,
    progress: Progress = SILENT,
) -> Repository:
    """Write the files of the repository ``repo_id`` to a new folder.

    Args:
        source: The checkpoint, as for :func:`~sam21convert.convert`.
        folder: The folder to make; it must not exist.
        repo_id: The repository, ``namespace/name``, which the card names.
        to: The dialect: ``"hf-video"``, ``"hf-image"`` or ``"official"``, which means the ``.pt``
            and the YAML of the official code. None means ``"hf-video"``, or ``"hf-image"`` for an
            image model.
        config: The config of ``source``, as for :func:`~sam21convert.convert`.
        with_official: Whether to add the ``.pt`` and the YAML to a folder for transformers.
        with_onnx: Whether to add graphs for ONNX runtimes to a folder for transformers: those of
            ``source`` if it is an export, else new ones.
        scenarios: How thoroughly to compare with the source: ``"quick"``, ``"full"`` or ``"none"``,
            which runs no model and needs no torch, so that there is no picture either. Folders for
            transformers are run by transformers.
        device: The device to compare on, as for :func:`~sam21convert.parity`.
        data: A data set, whose objects source and result track: no pixel of their masks may differ.
            None for none.
        readme: The present README.md of the repository; None takes that of a source folder, if
            there is one. Only the generated section and missing metadata are written.
        earlier: What an earlier run wrote into the repository. It stays listed as ours.
        license: For the card, an id such as ``apache-2.0``.
        base_model: For the card, the id of the model that this one was trained from.
        datasets: For the card, ids of the datasets that it was trained on.
        example: The picture of the card; None for a drawn scene.
        progress: As for :func:`~sam21convert.parity`.

    Returns:
        The files and the comparisons.

    Raises:
        UsageError: If the folder exists, the dialect is unknown or transformers is not installed.
        MismatchError: If the result does not load, is not in parity with the source, or tracks
            otherwise.
        RefusedError: If no official YAML can describe the model.
        Sam21ConvertError: Otherwise as :func:`~sam21convert.convert` does. After any error there is
            no folder.
    """
    refuse_without_folder(to, with_onnx=with_onnx)
    checkpoint = open_checkpoint(source, config)
    if config is None and checkpoint.config_from not in (None, CONFIG):
        config = checkpoint.config  # from the YAML beside it on the Hub
    if data is not None:
        _refuse_untrackable(checkpoint, to, data)
    given, source = str(source), checkpoint.source.path.absolute()
    folder, dialect = expanded(Path(folder)).absolute(), _pick(checkpoint, to)
    progress = Phases.of(progress)
    with naming_harm(source), _new(folder), _scratch(wanted=with_onnx) as scratch:
        official = _write_weights(checkpoint, dialect, config, folder, progress, both=with_official)
        forms = _forms(checkpoint, config, dialect, folder, official, progress)
        image_size = _image_size(forms[0])
        picture = None if scenarios == "none" else drawn(forms[0], example, folder)
        graphs = add_graphs(checkpoint, config, folder, scratch, progress) if scratch else None
        forms += [] if graphs is None else [Form(graphs.export, "onnx")]
        files = _listed(folder, earlier)
        facts = Facts(
            repo_id=repo_id,
            folder=folder,
            dialect=dialect,
            official=official,
            image_size=image_size,
            source=inspect(source),
            written=inspect(forms[0].path),
            config=config if isinstance(config, (str, Path)) else None,
            read=[FileFact.of(file) for file in checkpoint.source.files],
            files=list(files.values()),
            picture=picture,
            graphs=graphs,
            parity=compared(checkpoint, config, forms, image_size, scenarios, device, progress),
            not_run=tuple(not_run(checkpoint, forms, scenarios)),
            evaluations=tracked(checkpoint, config, forms, data, device, progress),
        )
        stated = metadata(facts, license, base_model, datasets)
        notes = _write_card(facts, stated, _readme(given) if readme is None else readme)
        notes = (*notes, *_proposed(facts, given, checkpoint), *_about_the_picture(picture))
        return _repository(facts, source, files, notes)


def _repository(
    facts: Facts, source: Path, files: Mapping[str, FileFact], notes: tuple[str, ...]
) -> Repository:
    return Repository(
        repo_id=facts.repo_id,
        folder=facts.folder,
        source=source,
        dialect=facts.dialect.name,
        files={NAME: FileFact.of(facts.folder / NAME), **files},
        parity=tuple(facts.parity),
        evaluations=tuple(facts.evaluations),
        notes=notes,
        safety=facts.source.safety,
    )


def _write_card(facts: Facts, stated: Mapping[str, Any], readme: bytes | None) -> tuple[str, ...]:
    """Write the card into the folder; returns notes on what was kept of ``readme``."""
    title = facts.repo_id.rpartition("/")[2]
    text, notes = merged(readme, title, section(facts), stated)
    (facts.folder / NAME).write_bytes(text)
    return notes


def _proposed(facts: Facts, given: str, checkpoint: Checkpoint) -> Iterator[str]:
    """What the card could state besides."""
    stated = metadata_of((facts.folder / NAME).read_bytes())
    return proposals(stated, given, checkpoint, facts.repo_id)


def _pick(checkpoint: Checkpoint, to: str | None) -> Dialect:
    if to in (None, *EITHER):
        own = checkpoint.dialect
        return HF_IMAGE if own is not None and own.task == "image" else HF_VIDEO
    return named(to)


def _scratch(*, wanted: bool) -> AbstractContextManager[Path | None]:
    """A folder for what is made of the graphs; None if there are none."""
    return temporary_folder() if wanted else nullcontext(None)


@contextmanager
def _new(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it when the block fails."""
    refuse_file_name(folder)
    try:
        folder.mkdir()
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", hint="name a new folder") from error
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_weights(
    checkpoint: Checkpoint,
    dialect: Dialect,
    given: Config,
    folder: Path,
    progress: Phases,
    *,
    both: bool,
) -> OfficialFiles | None:
    """Write all forms of the model; returns the files of the official one, if it is wanted."""
    progress.enter("convert")
    if dialect is not OFFICIAL:
        source = checkpoint.source.path
        convert(source, folder, to=dialect.name, config=given, progress=progress)
    official = both or dialect is OFFICIAL
    return _write_official(checkpoint, given, folder, progress) if official else None


def _write_official(
    checkpoint: Checkpoint, given: Config, folder: Path, progress: Progress
) -> OfficialFiles:
    """Write the ``.pt`` and its YAML, named as the official code names such a model."""
    config = identify(checkpoint).model_config
    shipped = shipped_like(config)
    stem = f"sam{'2' if config.generation == '2.0' else '2.1'}"
    names = OfficialFiles(f"{stem}.pt", f"{stem}.yaml")
    if shipped is not None:
        short = shipped.name.rpartition("/")[2]
        stem = f"{short.rpartition('_')[0]}_{shipped.size}"
        published = config == shipped_config(shipped.name) and shipped.size != "debug"
        names = OfficialFiles(f"{stem}.pt", f"{short if published else stem}.yaml")
    target = folder / names.checkpoint
    convert(checkpoint.source.path, target, config=given, progress=progress)
    if not (folder / names.config).exists():
        (folder / names.config).write_text(to_hydra(config), encoding="utf-8", newline="\n")
    if replace(config, **BUILDERS) != config:
        raise RefusedError(
            f"{checkpoint.source.path}: its multimask stability settings differ from what the "
            "official builders always set: no YAML can make them build this model",
            hint="publish it for transformers only",
        )
    return names


def _forms(
    checkpoint: Checkpoint,
    config: Config,
    dialect: Dialect,
    folder: Path,
    official: OfficialFiles | None,
    progress: Phases,
) -> list[Form]:
    """The checkpoints of the folder, the main one first, each checked to be sound."""
    forms = [] if dialect is OFFICIAL else [Form(folder, "transformers")]
    if official is not None:
        forms.append(official_form(folder / official.checkpoint, folder / official.config))
    progress.enter("validate")
    for form in forms:
        _check_values(form, checkpoint.source.path, config, progress)
    progress.enter("compare")
    return forms


def _image_size(form: Form) -> int:
    return identify(open_checkpoint(form.path, form.config)).model_config.image_size


def _check_values(form: Form, source: Path, config: Config, progress: Progress) -> None:
    found = validate(form.path, form.config, progress=progress)
    if not found.ok:
        given = validate(source, config, progress=progress)  # whose names the user knows
        told = found if given.ok else given
        raise MismatchError(str(told), hint="the written files were removed")


def _refuse_untrackable(checkpoint: Checkpoint, to: str | None, data: str | Path) -> None:
    """Check that the result can track, and that the data are there."""
    from ..track_and_compare import refuse_untrackable

    dialect = _pick(checkpoint, to)
    refuse_untrackable(dialect.task, dialect.name, data)


def _about_the_picture(picture: Picture | None) -> Iterator[str]:
    if picture is not None and not picture.photo:
        yield (
            "the card shows a drawn scene; `example=PHOTO` with a point or a box in it shows what "
            "the model is for"
        )


def _readme(given: str) -> bytes | None:
    """The README of a source that is a folder of the user's, if it has one."""
    path = expanded(Path(given)) / NAME
    there = os.path.lexists(path)  # an address may be too long for a path, which is no error here
    return path.read_bytes() if there and path.is_file() else None


def _listed(folder: Path, earlier: Iterable[FileFact]) -> dict[str, FileFact]:
    """The files of a folder by name, with the manifest, which is written here."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {fact.name: fact for fact in (FileFact.of(path, folder) for path in paths)}
    ours = {file.name: file for file in earlier if file.name != MANIFEST}
    listed = write_manifest(folder, {**ours, **files}.values())
    return {**files, listed.name: listed}
