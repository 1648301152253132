"""A model card of facts: what the model is, where it comes from, how to use it, what was compared.

All text and all numbers come from the run that made the repository; nothing is downloaded.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._version import __version__
from ...checkpoint.inspect import Inspection
from ...dialects import HF_IMAGE, HF_VIDEO, OFFICIAL
from ...dialects.rules import Dialect
from ...io.markdown import block, code, link, prose, shell, table
from ...prediction.prompts import Prompted
from ...report import counted, share, size_text
from . import snippets
from .graphs import Graphs
from .manifest import FileFact

if TYPE_CHECKING:
    from ...comparison.report import ParityReport
    from ...evaluation.report import Evaluation

EXAMPLE, PHOTO = "example.png", "photo.jpg"


@dataclass(frozen=True)
class OfficialFiles:
    """Names of the two files from which the official code builds a model.

    Attributes:
        checkpoint: The ``.pt``.
        config: The YAML.
    """

    checkpoint: str
    config: str


@dataclass(frozen=True)
class Picture:
    """What a card says of its picture.

    Attributes:
        objects: The prompts of each object, by its name.
        ious: The IoU that the model expects of each mask: of one for each object, or of three
            candidates for the only one.
        photo: Whether it shows the user's photo, which is in the repository.
        memory: The most that tensors took while it was made, in bytes.
    """

    objects: Mapping[str, Prompted]
    ious: tuple[float, ...]
    photo: bool
    memory: int

    @property
    def candidates(self) -> bool:
        """Whether the masks are candidates for one object."""
        return len(self.ious) > len(self.objects)


@dataclass(frozen=True)
class Facts:
    """What a card states about a repository. Paths are absolute; the card shows only names.

    Attributes:
        repo_id: The repository, ``namespace/name``.
        folder: The local folder that becomes the repository.
        dialect: The dialect of the main checkpoint.
        official: The files of the official code, if the repository has them.
        image_size: Side of the model's input in pixels.
        source: The checkpoint that was converted.
        written: The main checkpoint of the repository.
        config: The config that was given for the source.
        read: The files of the source.
        files: All files of the repository except the card.
        picture: The picture; None when no model was run.
        graphs: The graphs for ONNX runtimes, if the repository has them.
        parity: The comparisons with the source; empty when nothing was compared.
        evaluations: How source and result track the objects of a data set; empty if not asked.
        not_run: Names of checkpoints that were not compared with the source, since the same package
            would have run the same tensors twice.
    """

    repo_id: str
    folder: Path
    dialect: Dialect
    official: OfficialFiles | None
    image_size: int
    source: Inspection
    written: Inspection
    config: str | Path | None
    read: Sequence[FileFact]
    files: Sequence[FileFact]
    picture: Picture | None
    graphs: Graphs | None
    parity: Sequence[ParityReport]
    evaluations: Sequence[Evaluation] = ()
    not_run: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The name of the model as people write it, such as SAM 2.1 tiny."""
        generation = (self.written.generation or "2").removesuffix(".0")
        return f"SAM {generation} {(self.written.size or 'of custom size').replace('_', ' ')}"


def metadata(
    facts: Facts,
    license: str | None = None,  # noqa: A002 - the name that the field has
    base_model: str | None = None,
    datasets: Sequence[str] = (),
) -> dict[str, Any]:
    """Collect the metadata of the card. Values that are not known are left out, not guessed.

    Args:
        facts: What is known about the repository.
        license: An id such as ``apache-2.0``.
        base_model: The id of the model that this one was trained from.
        datasets: Ids of the datasets that it was trained on.

    Returns:
        Name of a field, as the Hub defines it, to its value.
    """
    generation = facts.written.generation
    found = {
        "library_name": "sam2" if facts.dialect is OFFICIAL else "transformers",
        "pipeline_tag": "mask-generation",
        "license": license,
        "base_model": base_model,
        "datasets": list(datasets),
        "tags": [
            "segment-anything",
            "sam2.1" if generation == "2.1" else "sam2",
            *(["onnx", "transformers.js"] if facts.graphs else []),
        ],
    }
    return {name: value for name, value in found.items() if value}


def section(facts: Facts) -> str:
    """Write the text of the card.

    Args:
        facts: What is known about the repository.

    Returns:
        Markdown, without metadata and title.
    """
    parts = [
        *_introduction(facts),
        *_usage(facts),
        *_graphs(facts),
        *_size(facts),
        *_provenance(facts),
        *_parity(facts),
        *_tracking(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(facts: Facts) -> Iterator[str]:
    forms = {
        HF_VIDEO: ["transformers (`Sam2VideoModel` and, for pictures, `Sam2Model`)"],
        HF_IMAGE: ["transformers (`Sam2Model`, for pictures only: it has no memory for videos)"],
        OFFICIAL: [],
    }[facts.dialect]
    if facts.official is not None:
        forms.append(f"the official code ({code(facts.official.checkpoint)})")
    yield (
        f"{facts.title}, at {facts.image_size} pixels, for {' and '.join(forms)}. "
        f"Written by sam21convert {__version__}."
    )
    if facts.picture is None:
        return
    of_what = "a photo" if facts.picture.photo else "a drawn scene"
    yield f"![Masks predicted in {of_what}]({EXAMPLE})"
    yield _masks_text(facts.picture)


def _masks_text(picture: Picture) -> str:
    """Whose masks the picture shows, and what the model expects of them."""
    where = f" in {link(PHOTO)}" if picture.photo else ""
    ious = [f"{iou:.2f}" for iou in picture.ious]
    if len(picture.objects) > 1:
        rated = zip(map(code, picture.objects), ious, strict=True)
        each = ", ".join(f"{name} ({iou})" for name, iou in rated)
        return f"One mask for each object{where}, with the IoU that the model expects: {each}."
    (prompted,) = picture.objects.values()
    count = len(prompted.points)
    points = [f"{count} points" if count > 1 else "one point"] if count else []
    prompts = " and ".join(["a box", *points] if prompted.box else points)
    if picture.candidates:
        expected = ", ".join(ious)
        return f"Three candidate masks for {prompts}{where}. The model expects IoUs of {expected}."
    return f"The mask for {prompts}{where}. The model expects an IoU of {ious[0]}."


def _usage(facts: Facts) -> Iterator[str]:
    yield "## Use"
    programs, picture = [], facts.picture
    subject = snippets.Subject(facts.repo_id)
    if picture is not None and picture.photo:
        subject = snippets.Subject(facts.repo_id, PHOTO, picture.objects, picture.candidates)
    if facts.dialect is not OFFICIAL:
        programs.append(("A picture, with transformers", snippets.transformers_image(subject)))
    if facts.dialect is HF_VIDEO:
        programs.append(("A video, with transformers", snippets.transformers_video(facts.repo_id)))
    if facts.official is not None:
        program = snippets.official_image(
            subject, facts.official.checkpoint, facts.official.config, facts.image_size
        )
        programs.append(("A picture, with the official code", program))
    programs.append(("A picture, with sam21convert", snippets.own_image(subject)))
    for title, program in programs:
        yield f"{title}:"
        yield block(program, "python")


def _graphs(facts: Facts) -> Iterator[str]:
    graphs = facts.graphs
    if graphs is None:
        return
    yield "## ONNX"
    files = link("onnx/vision_encoder.onnx"), link("onnx/prompt_encoder_mask_decoder.onnx")
    more = " Those beside them follow objects through videos." if graphs.videos else ""
    yield (
        f"{' and '.join(files)} are this model as graphs for onnxruntime, Node and browsers, at "
        f"{facts.image_size} pixels, in the layout of transformers.js.{more} On the picture in "
        f"{code('golden')}, their answers are this far from those of PyTorch with the weights here:"
    )
    yield table(
        ("variant", "size", "mask IoU", "logits, relative", "expected IoU", "object score"),
        [
            (
                one.variant,
                size_text(graphs.bytes[one.variant]),
                share(one.mask_iou),
                *(f"{value:.1e}" for value in (one.logits, one.iou_scores, one.object_score)),
            )
            for one in graphs.apart
        ],
    )
    dtype = next(iter(graphs.bytes))
    yield "In Node or a browser, with transformers.js:"
    yield block(snippets.javascript_image(facts.repo_id, dtype), "js")
    yield "In Python without torch, with sam21convert:"
    yield block(snippets.onnx_image(facts.repo_id, dtype), "python")


def _size(facts: Facts) -> Iterator[str]:
    written = facts.written
    yield "## Size"
    text = f"{written.parameters:,} parameters, {size_text(written.bytes)} in the file."
    if facts.picture is not None:
        text += (
            " While the picture above was made, on a CPU in float32, tensors took up to "
            f"{_rounded(facts.picture.memory)} of memory, weights included. A GPU is not needed."
        )
    yield text


def _rounded(nbytes: int) -> str:
    """A size in two digits."""
    size, unit = (nbytes / 1e6, "MB") if nbytes < 1e9 else (nbytes / 1e9, "GB")
    return f"{float(f'{size:.2g}'):g} {unit}"


def _provenance(facts: Facts) -> Iterator[str]:
    source, written = facts.source, facts.written
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in written.dtypes.items())
    dialect = code(source.dialect or "unknown")
    yield "## Provenance"
    yield table(
        ("", ""),
        [
            ("converted from", f"{code(source.path.name)}, dialect {dialect}, {source.container}"),
            ("model", f"{facts.title}, {_config_text(written)}"),
            ("image size", f"{facts.image_size} pixels"),
            ("tensors", prose(f"{written.tensors} ({dtypes})")),
            ("parameters", f"{written.parameters:,} in {size_text(written.bytes)}"),
            ("tool", f"sam21convert {__version__}"),
        ],
    )
    yield table(
        ("file", "", "bytes", "sha256"),
        [
            *((code(f.name), "read", str(f.size), code(f.sha256)) for f in facts.read),
            *((link(f.name), "written", str(f.size), code(f.sha256)) for f in facts.files),
        ],
    )


def _parity(facts: Facts) -> Iterator[str]:
    yield "## Parity"
    if not facts.parity and not facts.not_run:
        yield "Nothing was compared: the comparison was turned off for this upload."
        return
    from ...comparison.report import HEAD, scenario_row  # needs torch, as comparing does

    for report in facts.parity:
        names = _names(facts, report)
        left, right = (
            f"{prose(f'{side.backend} {side.version}')} with {code(names[str(side.source)])}"
            for side in (report.left, report.right)
        )
        verdict = "in parity" if report.ok else "not in parity"
        allowed = f"up to {report.multiple:g} times the measured noise is allowed"
        yield (
            f"{left} and {right}, run on the same inputs, on {prose(report.device)} in "
            f"{report.dtype}: {verdict}. Differences are in units of the largest magnitude of the "
            f"compared tensor; {'none is allowed' if report.exact else allowed}."
        )
        yield table(HEAD, [[*map(prose, scenario_row(found))] for found in report.scenarios])
        said = [
            f"- {prose(found.title)}, {found.status}: {prose(_named(found.why, names))}"
            for found in report.scenarios
            if found.status != "same"
        ]
        said += [
            f"- negative control: {code(control.tensor)}, changed by {control.share:.0%} of its "
            f"scale in {prose(control.scenario)}, was "
            f"{'detected' if control.detected else 'not detected'}"
            for control in report.negative_controls
        ]
        if said:
            yield "\n".join(said)
        command = shell(_named(word, names) for word in shlex.split(report.command))
        yield "To repeat it in a folder with the source and a copy of this repository:"
        yield block(command)
    for name in facts.not_run:
        yield (
            f"{code(name)} was not run, because the official code (`sam2`) was not installed where "
            "this was made. Its tensors were read back and checked when it was written."
        )


def _tracking(facts: Facts) -> Iterator[str]:
    """J&F of the source and of what is published, and whether any pixel differs."""
    if not facts.evaluations:
        return
    yield "## Tracking"
    first, source = facts.evaluations[0], code(facts.source.path.name)
    yield (
        f"The objects of {code(first.data.name)} (layout {first.layout}) were tracked with "
        f"{source} and with the files here, as the official script does it: from the first true "
        f"mask of each object, without post-processing, by sam21convert {__version__} in "
        f"{first.dtype} at {first.image_size} pixels on {prose(', '.join(first.tracked_on))}. J&F "
        f"by the rules of {first.protocol}: {counted(first.videos, 'video')}, "
        f"{counted(first.objects, 'object')}, {counted(first.frames, 'frame')} of objects."
    )
    rows = [(source, *_scores(first), "")]
    for found in facts.evaluations:
        assert found.against is not None
        assert found.paired is not None
        path = found.against.checkpoint
        home = facts.repo_id.rpartition("/")[2]
        name = home if path is None or path == facts.folder else path.name
        pixels = f"{found.paired.of_pixels:,} pixels"
        masks = f"{found.paired.pixels:,} of {pixels} differ"
        if found.paired.identical:
            masks = f"identical: none of {pixels} differs"
        rows.append((code(name), *_scores(found.against), masks))
    yield table(("", "J&F", "J", "F", "masks"), rows)


def _scores(found: Evaluation) -> tuple[str, ...]:
    return tuple("" if value is None else f"{value:.1f}" for value in (found.jf, found.j, found.f))


def _names(facts: Facts, report: ParityReport) -> dict[str, str]:
    """Path to the name that the card shows instead: paths of this machine are not published."""
    home = facts.repo_id.rpartition("/")[2]
    inside = () if facts.official is None else (facts.official.checkpoint, facts.official.config)
    given = Path(facts.config) if facts.config is not None else None
    return {
        **({} if facts.graphs is None else {str(facts.graphs.export): home}),
        **({str(facts.config): given.name} if given is not None and given.is_file() else {}),
        str(report.left.source): report.left.source.name,
        str(facts.folder): home,
        **{str(facts.folder / name): f"{home}/{name}" for name in inside},
    }


def _named(text: str, names: Mapping[str, str]) -> str:
    """Replace paths by their names, the longest first: one path may be the start of another."""
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(path, names[path])
    return text


def _config_text(written: Inspection) -> str:
    return f"config {code(written.config)}" if written.config else "a config that is not published"
