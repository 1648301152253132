"""Read the checkpoints of DeepSpeed's ZeRO: float32 weights in stripes over the files of all ranks.

Follows ``deepspeed/utils/zero_to_fp32.py``. The weights with which a model was run, in 16 bits, are
in ``*_model_states.pt``, together with the names and shapes; those that were trained, in float32,
are in ``*_optim_states.pt``. Up to stage 2 a group of parameters is one vector, of which each rank
has a part. In stage 3 each rank has a part of each parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import RefusedError, UnreadableError
from .source import Placeholder, Source, is_file_name, refuse_special
from .tensor import Joined, Striped, TensorRef, stretches_of
from .torch_storage import errors_about
from .torch_zip import read_torch_zip

_LATEST = "latest"
_MODEL_STATES, _OPTIM_STATES = "_model_states.pt", "_optim_states.pt"
_MODEL = re.compile(r"(?:zero_pp_rank_([0-9]{1,5})_)?mp_rank_([0-9]{2,5})_model_states\.pt")
_OPTIM = re.compile(r"[a-z0-9]*_?zero_pp_rank_([0-9]{1,5})_mp_rank_([0-9]{2,5})_optim_states\.pt")
_WHOLE, _FIRST = "mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt"
_MAX_RANKS = 4096
_MAX_LATEST = 1024  # bytes
_AGAIN = "copy the whole folder again, with the files of every process"
_HALF = ("F16", "BF16")
# What only describes the stripes, or holds tensors that ``module`` then has.
_USED_UP = ("param_shapes", "frozen_param_shapes", "frozen_param_fragments", "shared_params")

Shapes: TypeAlias = list[dict[str, tuple[int, ...]]]


def find_deepspeed(folder: Path) -> Path | None:
    """Find the checkpoint of DeepSpeed in a folder.

    Args:
        folder: The folder of a run, with ``latest`` and a folder for each step; or one of those.

    Returns:
        The folder with the files of a step; None if there is none.

    Raises:
        UnreadableError: If ``latest`` names no such folder.
        RefusedError: If there are several, and no ``latest``.
    """
    if _has_states(folder):
        return folder
    latest = folder / _LATEST
    if latest.is_file():
        refuse_special(latest)
        with errors_about(str(latest)), latest.open("rb") as file:
            tag = file.read(_MAX_LATEST).decode("utf-8", "replace").strip()
            if not is_file_name(tag):
                raise UnreadableError(f"names {tag[:60]!r}, which is no folder beside it")
            if not (folder / tag).is_dir():
                raise UnreadableError(f"names {tag}, which is not there", hint=_AGAIN)
            if _has_states(folder / tag):
                return folder / tag
    steps = _steps(folder)
    if len(steps) > 1:
        names = ", ".join(step.name for step in steps)
        raise RefusedError(
            f"{folder}: holds several checkpoints of DeepSpeed, and no file {_LATEST}: {names}",
            hint=f"give one of them, as in {steps[-1]}",
        )
    return steps[0] if steps else None


def read_deepspeed(folder: Path) -> Source:
    """Read a checkpoint of DeepSpeed, without the data of the tensors.

    Args:
        folder: A folder in which :func:`find_deepspeed` finds a checkpoint.

    Returns:
        The opened checkpoint; its ``module`` holds the float32 weights, as far as there are any.

    Raises:
        UnreadableError: If files are missing or contradict each other.
        RefusedError: If it is a universal checkpoint, or of a model that is divided among ranks in
            another way than by ZeRO.
    """
    step = find_deepspeed(folder)
    if step is None:
        raise UnreadableError(f"{folder}: holds no checkpoint of DeepSpeed")
    source = _read_step(step)
    others = [other for other in _steps(folder) if other != step]
    notes: tuple[str, ...] = ()
    if others:
        names = ", ".join(other.name for other in others)
        chosen = f"{step.name} is read, which {_LATEST} names"
        notes = (f"{chosen}; also there: {names}; give one as in {others[-1]}",)
    return replace(source, path=folder, notes=(*notes, *source.notes))


def with_masters(source: Source) -> Source:
    """Put the float32 weights of its folder in the place of those in a file of DeepSpeed.

    Args:
        source: Any file of ``torch.save``.

    Returns:
        The checkpoint in the folder of the file if that is a part of one; else ``source`` itself,
        with a note if it is a part of one and has lost the others.

    Raises:
        UnreadableError: If files are missing or contradict each other.
        RefusedError: If the file alone holds no weights.
    """
    path = source.path
    if not _is_part(source.root):
        return source
    if not (_MODEL.fullmatch(path.name) or _OPTIM.fullmatch(path.name)):
        return _without_masters(source)  # renamed, so that nothing beside it need belong to it
    if not any(_OPTIM.fullmatch(name) for name in _names(path.parent, _OPTIM_STATES)):
        return _without_masters(source)
    whole = _read_step(path.parent)
    return replace(whole, notes=(f"{path.name} is one part of it", *whole.notes))


def _is_part(root: Any) -> bool:
    """Whether a file was written by ZeRO, by what it holds."""
    if not isinstance(root, dict):
        return False
    state = root.get("optimizer_state_dict")
    if isinstance(state, dict) and "partition_count" in state:
        return True
    return isinstance(root.get("module"), dict) and isinstance(root.get("param_shapes"), list)


def _without_masters(source: Source) -> Source:
    """A file alone: what it holds is the weights as they were run, or nothing."""
    module = source.root.get("module")
    if not isinstance(module, dict):
        raise RefusedError(
            f"{source.path}: is a part of a DeepSpeed checkpoint, without names and shapes",
            hint="they are in *_model_states.pt: copy the files of its folder beside it",
        )
    tensors = [value for value in module.values() if isinstance(value, TensorRef)]
    if any(0 in tensor.spec.shape for tensor in tensors):
        raise RefusedError(
            f"{source.path}: DeepSpeed (ZeRO stage 3) left no weights in this file",
            hint="they are in the files *_optim_states.pt of the same folder: copy those beside it",
        )
    half = {tensor.spec.dtype for tensor in tensors} & {*_HALF}
    note = (
        f"of the DeepSpeed checkpoint only the weights in {' and '.join(sorted(half))} are read: "
        "the float32 weights that were trained are in *_optim_states.pt, which are not beside it",
    )
    kept = {key: value for key, value in source.root.items() if key not in _USED_UP}
    return replace(source, root=kept, notes=(*source.notes, *(note if half else ())))


def _has_states(folder: Path) -> bool:
    return bool(_names(folder, _MODEL_STATES) or _names(folder, _OPTIM_STATES))


def _names(folder: Path, end: str) -> list[str]:
    """The names of the files in a folder with this ending, by the numbers in them."""
    found = (entry.name for entry in folder.glob(f"*{end}") if entry.is_file())
    return sorted(found, key=lambda name: [int(n) for n in re.findall(r"[0-9]{1,9}", name)])


def _steps(folder: Path) -> list[Path]:
    """The folders of steps below that of a run, the last step last."""
    found = [path for path in folder.glob("global_step*") if path.is_dir() and _has_states(path)]
    return sorted(found, key=lambda path: int("0" + re.sub(r"[^0-9]", "", path.name)[:18]))


@dataclass(frozen=True, slots=True)
class _Stripes:
    """The float32 weights of all ranks.

    Attributes:
        partitioned: Whether each parameter is divided among the ranks, as in stage 3.
        ranks: For each rank, its vectors, one for each group of parameters.
        paddings: Elements behind each parameter of each group, which are not part of it.
        sources: The opened files.
    """

    partitioned: bool
    ranks: tuple[tuple[TensorRef, ...], ...]
    paddings: tuple[tuple[int, ...], ...] | None
    sources: tuple[Source, ...]


def _read_step(step: Path) -> Source:
    if (step / "zero").is_dir():
        raise RefusedError(
            f"{step}: is a universal checkpoint of DeepSpeed",
            hint="give the checkpoint that ds_to_universal.py made it from",
        )
    stripes = _stripes(step)
    first = _FIRST if stripes is not None and stripes.partitioned else _WHOLE
    if stripes is None and not (step / first).exists():
        first = _FIRST
    models = _models(step, first)
    if stripes is None:
        return replace(_without_masters(models[0]), container="DeepSpeed", path=step)
    with errors_about(str(models[0].path)):
        shapes = _shapes(models[0].root.get("param_shapes"))
    with errors_about(str(step)):
        parameters = (_of_stage_3 if stripes.partitioned else _of_stage_2)(stripes, shapes)
        root, notes = _assembled(models, dict(parameters), stripes)
    every = (*models, *stripes.sources)
    return Source(
        step,
        "DeepSpeed",
        tuple(source.path for source in every),
        root,
        blobs=tuple(blob for source in every for blob in source.blobs),
        placeholders=tuple(dict.fromkeys(name for one in every for name in one.placeholders)),
        notes=notes,
    )


def _stripes(step: Path) -> _Stripes | None:
    """Read the files of the optimizer; None if there are none."""
    ranks = _ranks(step)
    if not ranks:
        return None
    sources: list[Source] = []
    for rank, name in ranks.items():
        source = read_torch_zip(step / name)
        with errors_about(str(step / name)):
            state = source.root.get("optimizer_state_dict") if isinstance(source.root, dict) else {}
            if not isinstance(state, dict) or "partition_count" not in state:
                raise UnreadableError("is not what ZeRO writes: it has no partition_count")
            if not sources:
                _check_ranks(step, ranks, rank, state["partition_count"])
        sources.append(replace(source, root=state))
    with errors_about(str(sources[0].path)):
        partitioned, vectors = True, [source.root.get("fp32_flat_groups") for source in sources]
        if not any(vectors):
            key = "single_partition_of_fp32_groups"
            partitioned, vectors = False, [source.root.get(key) for source in sources]
        found = tuple(_vectors(value) for value in vectors)
        if len({len(one) for one in found}) > 1:
            raise UnreadableError("the ranks have different numbers of groups of parameters")
        if len({vector.spec.dtype for one in found for vector in one}) > 1:
            raise UnreadableError("the weights have several element types")
        paddings = sources[0].root.get("param_alignment_paddings")
    return _Stripes(partitioned, found, _paddings(paddings), tuple(sources))


def _ranks(step: Path) -> dict[int, str]:
    """The file of each rank; names are the only place that tells the rank."""
    found: dict[int, str] = {}
    for name in _names(step, _OPTIM_STATES):
        rank = _rank_of(step, name, _OPTIM)
        if rank in found:
            raise RefusedError(
                f"{step}: {found[rank]} and {name} are both of rank {rank}",
                hint="one is left from another run: move it elsewhere",
            )
        found[rank] = name
    return found


def _rank_of(step: Path, name: str, pattern: re.Pattern[str]) -> int:
    match = pattern.fullmatch(name)
    if match is None or int(match[2]) > 0:
        raise RefusedError(
            f"{step}: {name} is of a model that is divided among ranks in another way than by "
            "ZeRO: by tensors, stages of a pipeline or experts",
            hint="write a single file with the program that trained it",
        )
    return int(match[1] or 0)


def _check_ranks(step: Path, ranks: Mapping[int, str], first: int, count: Any) -> None:
    """Refuse files that are missing, and files of another run."""
    most = max(count, default=0) if isinstance(count, list) and _all_int(count) else count
    if type(most) is not int or not 0 < most <= _MAX_RANKS:
        raise UnreadableError("partition_count is not a number of processes")
    missing = [rank for rank in range(most) if rank not in ranks]
    if missing:
        name = re.sub(rf"zero_pp_rank_{first}_", f"zero_pp_rank_{missing[0]}_", ranks[first])
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise UnreadableError(f"it is of {most} processes, and {name}{more} missing", hint=_AGAIN)
    extra = [name for rank, name in ranks.items() if rank >= most]
    if extra:
        raise RefusedError(
            f"it is of {most} processes, and {', '.join(extra[:3])} does not belong to it",
            hint="it is left from another run: move it elsewhere",
        )


def _models(step: Path, first: str) -> list[Source]:
    """Read the files with names, shapes and buffers: of all ranks if each has frozen parts."""
    every = _names(step, _MODEL_STATES)
    for name in every:
        _rank_of(step, name, _MODEL)
    names = [name for name in every if (name == _WHOLE) == (first == _WHOLE)]
    if first not in names:
        raise UnreadableError(f"{step}: {first} is missing: it has the names", hint=_AGAIN)
    one = _model(step / first)
    if first == _WHOLE or not one.root.get("frozen_param_fragments"):
        return [one]
    return [one, *(_model(step / name) for name in names if name != first)]


def _model(path: Path) -> Source:
    source = read_torch_zip(path)
    if not isinstance(source.root, dict) or not isinstance(source.root.get("module"), dict):
        raise UnreadableError(f"{path}: has no module, unlike what DeepSpeed writes")
    return source


def _assembled(
    models: Sequence[Source], parameters: dict[str, TensorRef], stripes: _Stripes
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content of the file with names, its tensors replaced by those in float32."""
    root, count = models[0].root, len(stripes.ranks)
    frozen = dict(_frozen(models, count, partitioned=stripes.partitioned))
    module = {**root["module"]}
    for name, tensor in (*frozen.items(), *parameters.items()):
        old = module.get(name)
        if isinstance(old, TensorRef) and old.spec.shape not in (tensor.spec.shape, (0,)):
            raise UnreadableError(f"{name[:100]} has two shapes: {old.spec} and {tensor.spec}")
        module[name] = tensor
    shared = root.get("shared_params") or {}
    for name, other in shared.items() if isinstance(shared, dict) else ():
        if isinstance(other, str) and other in module:
            module[name] = module[other]
    kept = {key: value for key, value in root.items() if key not in _USED_UP}
    as_run = sum(
        isinstance(ref, TensorRef) and ref.spec.dtype in _HALF and name not in parameters
        for name, ref in module.items()
    )
    stage = "stage 3" if stripes.partitioned else "stage 1 or 2"
    places = "1 process" if count == 1 else f"{count} processes"
    kind = next(iter(parameters.values())).spec.dtype if parameters else "F32"
    notes = [
        f"the {len(parameters)} trained tensors are those that DeepSpeed's optimizer kept in {kind}"
        f" (ZeRO {stage}), put together from the files of {places}"
    ]
    if as_run:
        notes.append(f"{as_run} tensors were not trained, and are in 16 bits as they were run")
    return {**kept, "module": module}, tuple(notes)


def _of_stage_2(stripes: _Stripes, shapes: Shapes) -> Iterator[tuple[str, TensorRef]]:
    """The parameters of each group follow each other in one vector, divided among the ranks."""
    groups = [*zip(*stripes.ranks, strict=True)]
    if len(groups) != len(shapes):
        raise UnreadableError(f"it has {len(groups)} groups of weights, and names of {len(shapes)}")
    align = 2 * len(stripes.ranks)
    for number, (vectors, named) in enumerate(zip(groups, shapes, strict=True)):
        whole = Joined.of([vector for vector in vectors if vector.spec.numel] or vectors[:1])
        there, at = whole.spec.numel, 0
        paddings = stripes.paddings[number] if stripes.paddings else (0,) * len(named)
        if len(paddings) != len(named):
            raise UnreadableError("it has another number of paddings than of parameters")
        for (name, shape), padding in zip(named.items(), paddings, strict=True):
            count = prod(shape)
            if at + count > there:
                raise UnreadableError(f"group {number} ends within {name[:100]}", hint=_AGAIN)
            yield name, Striped.of_stretches(shape, stretches_of(whole.rows(at, count)))
            at += count + padding
        if -(-at // align) != -(-there // align):
            raise UnreadableError(f"group {number} has {there} elements, its names stand for {at}")


def _of_stage_3(stripes: _Stripes, shapes: Shapes) -> Iterator[tuple[str, TensorRef]]:
    """Each parameter is divided among the ranks, and each part is padded to the same length."""
    ranks, at = [Joined.of(vectors) for vectors in stripes.ranks], 0
    named = {name: shape for group in shapes for name, shape in group.items()}
    there = {rank.spec.numel for rank in ranks}
    if there != {sum(-(-prod(shape) // len(ranks)) for shape in named.values())}:
        raise UnreadableError("the names stand for another number of elements than there are")
    for name, shape in named.items():
        length = -(-prod(shape) // len(ranks))
        yield name, _gathered(shape, [rank.rows(at, length) for rank in ranks])
        at += length


def _gathered(shape: tuple[int, ...], parts: Sequence[TensorRef]) -> TensorRef:
    """A parameter without the padding at the end of its last parts."""
    pieces = [piece for part in parts for piece in stretches_of(part) if piece.spec.numel]
    whole = Joined.of(pieces or parts[:1])
    if whole.spec.numel < prod(shape):
        raise UnreadableError(f"its parts have {whole.spec.numel} elements, not {prod(shape)}")
    return Striped.of_stretches(shape, stretches_of(whole.rows(0, prod(shape))))


def _frozen(
    models: Sequence[Source], count: int, *, partitioned: bool
) -> Iterator[tuple[str, TensorRef]]:
    """Parameters that were not trained, of which the optimizer has nothing."""
    fragments = [model.root.get("frozen_param_fragments") or {} for model in models]
    if not isinstance(fragments[0], dict) or not fragments[0]:
        return
    if partitioned and len(models) != count:
        raise UnreadableError(
            f"it is of {count} processes, with *{_MODEL_STATES} of {len(models)}", hint=_AGAIN
        )
    for name, shape in _named_shapes(models[0].root.get("frozen_param_shapes")).items():
        with errors_about(name[:100]):
            parts = [_vector(one.get(name), flat=partitioned) for one in fragments]
            if partitioned:
                yield name, _gathered(shape, parts)
            elif parts[0].spec.shape != shape:
                raise UnreadableError(f"it is {parts[0].spec}, not of shape {list(shape)}")
            else:
                yield name, parts[0]


def _shapes(value: Any) -> Shapes:
    if not isinstance(value, list):
        raise UnreadableError("it has no param_shapes, unlike what ZeRO writes")
    found = [_named_shapes(group) for group in value]
    if len({name for group in found for name in group}) != sum(map(len, found)):
        raise UnreadableError("param_shapes names a parameter twice")
    return found


def _named_shapes(value: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(shape, tuple) and _all_int(shape)
        for name, shape in value.items()
    ):
        raise UnreadableError("the shapes of the parameters are not what ZeRO writes")
    return value


def _vectors(value: Any) -> tuple[TensorRef, ...]:
    if not isinstance(value, list) or not value:
        raise UnreadableError("it has no weights of the optimizer, unlike what ZeRO writes")
    return tuple(_vector(one) for one in value)


def _vector(value: Any, *, flat: bool = True) -> TensorRef:
    if not isinstance(value, TensorRef) or (flat and len(value.spec.shape) != 1):
        what = value.name if isinstance(value, Placeholder) else type(value).__name__
        raise UnreadableError(f"a part of a weight is not a vector but {what[:100]}")
    if flat and value.stride is not None:
        raise UnreadableError("a part of a weight does not stand in one place")
    return value


def _paddings(value: Any) -> tuple[tuple[int, ...], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(g, list) and _all_int(g) for g in value):
        raise UnreadableError("param_alignment_paddings is not what ZeRO writes")
    return tuple(map(tuple, value))


def _all_int(values: Iterable[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 2**62 for value in values)
