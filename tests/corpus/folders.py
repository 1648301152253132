# ruff: noqa: E501 B008
"""Folders, configs, adapters, and paths that are not regular files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.registry import shipped_config
from sam21convert.config.transformers import to_json

from .attacks import CALLS
from .case import ACCEPTED, Case, written
from .spelling import (
    DEBUG,
    model_safetensors,
    model_zip,
    safetensors,
    span,
    spelled,
    tensor_pickle,
    torch_zip,
)

DCP = "torch.distributed.checkpoint"
LAUGHS = "a0: &a0 [1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
HUGE = 10**9


def cases() -> Iterator[Case]:
    """Configs in JSON and YAML, folders of torch.distributed and PEFT, and special files."""
    yield from _json()
    yield from _yaml()
    yield from _no_files()
    yield from _names()
    yield from _distributed()
    yield from _adapters()


def _folder(**files: bytes) -> Callable[[Path], object]:
    """A folder with these files and intact weights; ``__`` in a name stands for a dot."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for name, data in {"model__safetensors": model_safetensors(), **files}.items():
            (folder / name.replace("__", ".")).write_bytes(data)

    return make


def _json() -> Iterator[Case]:
    sound = json.loads(to_json(shipped_config(DEBUG), "sam2_video", "float32", generation=True))

    def changed(where: str, value: Any) -> bytes:
        content = json.loads(json.dumps(sound))
        *path, last = where.split(".")
        section = content
        for step in path:
            section = section[step]
        section[last] = value
        return json.dumps(content).encode()

    trunk = "vision_config.backbone_config"
    for name, where, value in (
        ("a text as a size", "image_size", "x"),
        ("a huge size", "image_size", HUGE),
        ("a negative size", "image_size", -64),
        ("infinity as a size", "image_size", float("inf")),
        ("a list as a width", "vision_config.fpn_hidden_size", [1]),
        ("a map as a width", "vision_config.fpn_hidden_size", {"a": 1}),
        ("a huge width", f"{trunk}.hidden_size", HUGE),
        ("10^9 blocks", f"{trunk}.blocks_per_stage", [HUGE] * 4),
        ("10^9 stages", f"{trunk}.blocks_per_stage", [1] * 100_000),
        ("a text as blocks", f"{trunk}.blocks_per_stage", "many"),
        ("nested blocks", f"{trunk}.blocks_per_stage", [[1], [2], [3], [4]]),
        ("10^9 layers", "memory_attention_num_layers", HUGE),
        ("10^9 memories", "num_maskmem", HUGE),
        ("an empty list of heads", f"{trunk}.num_attention_heads_per_stage", []),
        ("a map as heads", f"{trunk}.num_attention_heads_per_stage", [{}]),
        ("zero as a window", f"{trunk}.window_size_per_stage", [0, 0, 0, 0]),
        ("a text as a rotary base", "memory_attention_rope_theta", "x"),
        ("a list as a rotary base", "memory_attention_rope_theta", [1]),
        ("infinity as a rotary base", "memory_attention_rope_theta", float("inf")),
        ("a rotary base of 400 digits", "memory_attention_rope_theta", 10**400),
        ("NaN as a scale", "sigmoid_scale_for_mem_enc", float("nan")),
        ("a number as a section", "vision_config", 3),
        ("another model", "model_type", "llama"),
        ("a list as the model", "model_type", ["sam2_video"]),
        ("a line break in the model", "model_type", "a\nerror: b"),
        ("an escape sequence in the model", "model_type", "\x1b[2J"),
        ("a long model", "model_type", "x" * 10**4),
    ):
        made = _folder(config__json=changed(where, value))
        place = where.replace("vision_config.fpn_hidden_size", "").rpartition(".")[2]
        says = ("config.json",) if "heads" in name or "section" in name else ("config.json", place)
        yield Case("config.json", name, made, _THEIR.get(where, says), file="folder")
    for name, text, message in (
        ("no JSON", b"{", "not valid JSON"),
        ("nested too deep", b'{"a":' + b"[" * 10**4, "not valid JSON"),
        ("a list", b"[]", "not a mapping"),
        ("not UTF-8", b"\xff\xfe", "not UTF-8"),
        ("a number of 5000 digits", b'{"image_size": ' + b"9" * 5000 + b"}", "not valid JSON"),
        ("10 MB", b" " * 10**7, "too large for a config"),
        ("a field twice", b'{"model_type": "sam2", "model_type": "sam2_video"}', "occurs twice"),
    ):
        made = _folder(config__json=text)
        yield Case("config.json", name, made, ("config.json", message), file="folder")


_THEIR = {  # what the fields of transformers are called here
    "vision_config.fpn_hidden_size": ("config.json", "hidden_dim"),
    "vision_config.backbone_config.hidden_size": ("config.json", "trunk.embed_dim"),
    "vision_config.backbone_config.blocks_per_stage": ("config.json", ": "),
    "memory_attention_num_layers": ("config.json", "memory_attention.num_layers"),
    "memory_attention_rope_theta": ("config.json", "rope_theta"),
    "vision_config.backbone_config.window_size_per_stage": ("config.json", "trunk.window_spec"),
}


def _with_yaml(text: str | bytes) -> Callable[[Path], object]:
    """An intact checkpoint with a YAML beside it."""

    def make(path: Path) -> None:
        path.write_bytes(model_safetensors())
        data = text.encode() if isinstance(text, str) else text
        path.with_name("config.yaml").write_bytes(data)

    return make


def _yaml() -> Iterator[Case]:
    sound = to_hydra(shipped_config(DEBUG))
    no, refused = "not valid YAML", (0, 3, 3)
    run = "!!python/object/apply:os.system ['echo fired > fired']"
    for name, text, message, loader in (
        ("python/object/apply", f"a: {run}", no, "yaml"),
        ("python/object/new", run.replace("apply", "new").join(("a: ", "")), no, "yaml"),
        ("python/object", "a: !!python/object:os.system {}", no, None),
        ("python/name", "a: !!python/name:os.system", no, None),
        ("python/module", "a: !!python/module:antigravity", no, None),
        ("within a model", sound + f"\na: {run}", no, "yaml"),
        ("a tag of its own", "a: !evil {}", no, None),
        ("billion laughs", LAUGHS + "model: *a29\n", "refer to each other", None),
        ("laughs as a value", sound + LAUGHS + "x: {model: {backbone_stride: *a29}}", "refer", None),
        ("a list in itself", "a: &a [*a]", "refers to itself", None),
        ("merge keys that double", LAUGHS.replace("[1]", "{k: 1}").replace("[", "{<<: [").replace("]", "]}"), "refer to each other", None),
        ("merge keys that multiply", "a: &a {b: 1}\nc: {<<: [" + "*a, " * 10_000 + "]}", "", None),
        ("a key that is a list", "? [a]\n: b", no, None),
        ("a key that is a number", "1: 2", "not a mapping", None),
        ("a list", "- a", "not a mapping", None),
        ("nested too deep", "a: " + "[" * 3_000, no, None),
        ("indented too deep", "".join(" " * n + "a:\n" for n in range(300)), "", None),
        ("two documents", "a: 1\n---\nb: 2", no, None),
        ("control characters", "a: \x07", no, None),
        ("not UTF-8", b"a: \xff", "not UTF-8", None),
        ("10 MB", " " * 10**7, "too large for a config", None),
        ("long lines", "a: [" + "1," * 5_000 + "]", "", None),
        ("10^9 blocks", sound.replace("stages: [", "stages: [1000000000, "), "stages", None),
        ("a hexadecimal of 2,000 digits", sound.replace("image_size: 128", "image_size: 0x" + "f" * 2000), "image_size", None),
        ("a hexadecimal of 50,000 digits", sound.replace("image_size: 128", "image_size: 0x" + "f" * 50_000), "more than 4096 characters", None),
        ("a short sexagesimal", sound.replace("image_size: 128", "image_size: " + "1:" * 1000 + "1"), "image_size", None),
        ("a sexagesimal", sound.replace("image_size: 128", "image_size: " + "1:" * 5000 + "1"), "more than 4096 characters", None),
        ("many keys", "".join(f"{n}: 1\n" for n in range(3000)), "more than 1000 values", None),
        ("a timestamp", sound.replace("image_size: 128", "image_size: 2001-99-99"), no, None),
        ("an interpolation to itself", sound.replace("image_size: 128", "image_size: ${model.image_size}"), "image_size", None),
        ("an interpolation that runs", sound.replace("image_size: 128", "image_size: ${oc.env:HOME}"), "image_size", None),
        ("a target that runs", sound.replace("sam2.modeling.backbones.hieradet.Hiera", "os.system"), "trunk._target_", None),
        ("a map as a trunk class", sound.replace("sam2.modeling.backbones.hieradet.Hiera", "{a: b}"), "trunk._target_", None),
        ("no model", "a: 1", "is missing", None),
        ("an empty file", "", "not a mapping", None),
    ):  # fmt: skip
        made = _with_yaml(text)
        says = ("config.yaml", message)
        yield Case(
            "config.yaml",
            name,
            made,
            says,
            refused,
            file="a.safetensors",
            loader=loader,
            config=True,
        )
    made = _with_yaml(sound)
    yield Case("config.yaml", "sound", made, codes=ACCEPTED, file="a.safetensors", config=True)


def _no_files() -> Iterator[Case]:
    def linked(path: Path) -> None:
        path.symlink_to(path.name)

    def ring(path: Path) -> None:
        path.symlink_to("other.pt")
        path.with_name("other.pt").symlink_to(path.name)

    def loop_within(path: Path) -> None:
        path.mkdir()
        (path / "a").symlink_to(".")
        (path / "model.safetensors").symlink_to("model.safetensors")

    def unreadable(path: Path) -> None:
        path.write_bytes(model_zip())
        path.chmod(0)

    def piped(name: str) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            _folder(config__json=b"{}")(folder)
            (folder / name).unlink()
            os.mkfifo(folder / name)

        return make

    def piped_yaml(path: Path) -> None:
        path.write_bytes(model_safetensors())
        os.mkfifo(path.with_name("config.yaml"))

    no = "is not a regular file"
    for name in ("config.json", "model.safetensors"):
        yield Case("no regular files", f"a FIFO as {name}", piped(name), (name, no), file="folder")
    yield Case(
        "no regular files", "a FIFO as a config", piped_yaml, ("config.yaml", no), (0, 3, 3),
        file="a.safetensors", config=True,
    )  # fmt: skip
    for name, make, message, file in (
        ("a FIFO", os.mkfifo, no, "a.pt"),
        ("a FIFO as an index", os.mkfifo, no, "model.safetensors.index.json"),
        ("a link to a device", lambda p: p.symlink_to("/dev/zero"), no, "a.pt"),
        ("a link to /dev/null", lambda p: p.symlink_to("/dev/null"), no, "a.safetensors"),
        ("a link to itself", linked, "symbolic links", "a.pt"),
        ("two links in a ring", ring, "symbolic links", "a.pt"),
        ("a link to nothing", lambda p: p.symlink_to("gone"), "No such file", "a.pt"),
        ("nothing", lambda _: None, "No such file", "a.pt"),
        ("a loop in a folder", loop_within, "symbolic links", "folder"),
        ("an empty folder", Path.mkdir, "holds no checkpoint", "folder"),
        ("a folder named as a file", Path.mkdir, "holds no checkpoint", "a.pt"),
        ("an empty file", Path.touch, "is empty", "a.pt"),
        ("not to be read", unreadable, "Permission denied", "a.pt"),
        ("zeros", written(bytes(4096)), "neither a PyTorch checkpoint nor", "a.pt"),
        ("noise", written(bytes(range(255, -1, -1)) * 16), "neither a PyTorch", "a.pt"),
    ):
        yield Case("no regular files", name, make, (message,), file=file)
    for argument in ("-", "/dev/stdin", "/dev/zero", "/dev/null", "/dev/fd/0", "/proc/self/mem"):
        says = ("standard input",) if argument == "-" else ("regular file",)
        says = ("Input/output error",) if argument.startswith("/proc") else says
        nothing = written(b"")
        yield Case("no regular files", argument, nothing, says, argument=argument)


def _names() -> Iterator[Case]:
    for file in (
        "Ünïcødé 模型.pt",
        "\U0001f98a.pt",
        "right\u202eleft.pt",
        "combining e\u0301.pt",
        " space at both ends .pt",
        "line\nbreak.pt",
        "\x1b[2J.pt",
        "%s{0}$HOME.pt",
        "--help.pt",
        os.fsdecode(b"not \xff UTF-8.pt"),
        "x" * 200 + ".pt",
    ):
        label = f"{file[:40]!a}"
        yield Case("file names", label, written(model_zip), codes=ACCEPTED, file=file)
        says = (ascii(file)[1:-1] if not file.isprintable() else file, "neither")
        made = written(b"\1\2\3")
        yield Case("file names", f"{label}, and no checkpoint", made, says, file=file)


def _record(kind: str, **state: bytes) -> bytes:
    """An object of torch.distributed.checkpoint, with its attributes."""
    items = b"".join(spelled(name) + value for name, value in state.items())
    return f"c{DCP}.{kind}\n".encode().replace(b":", b"\n") + b")\x81}(" + items + b"ub"


def _distributed() -> Iterator[Case]:
    piece = torch_zip(tensor_pickle())

    def folder(
        size: Any = (6,), sizes: Any = (6,), offsets: Any = (0,), name: Any = "0.distcp",
        start: Any = 0, length: Any = len(piece), entries: bytes | None = None, data: bytes = piece,
        tensors: int = 1,
    ) -> Callable[[Path], object]:  # fmt: skip
        chunk = _record(
            "metadata:ChunkStorageMetadata", offsets=spelled(offsets), sizes=spelled(sizes)
        )
        entry = _record(
            "metadata:TensorStorageMetadata", size=spelled(size), chunks=b"](" + chunk + b"e"
        )
        names = [spelled("w" * (number + 1)) for number in range(tensors)]
        indices = [
            _record("metadata:MetadataIndex", fqn=each, offset=spelled((0,))) for each in names
        ]
        place = _record(
            "filesystem:_StorageInfo",
            relative_path=spelled(name), offset=spelled(start), length=spelled(length),
        )  # fmt: skip
        table = b"}" + b"".join(each + entry + b"s" for each in names)
        whole = _record(
            "metadata:Metadata",
            state_dict_metadata=table if entries is None else entries,
            storage_data=b"}" + b"".join(index + place + b"s" for index in indices),
        )

        def make(path: Path) -> None:
            path.mkdir()
            (path / ".metadata").write_bytes(b"\x80\x02" + whole + b".")
            (path / "0.distcp").write_bytes(data)
            os.mkfifo(path / "pipe")

        return make

    attack = b"\x80\x02" + CALLS["os.system"] + b"."
    crowded = torch_zip(tensor_pickle(), *[bytes(24)] * 100)
    long = torch_zip(tensor_pickle()[:-1] + b"N0" * 3000 + b".")
    for name, make, *says in (
        ("hundreds of tensors in one place", folder(tensors=300), "byte 0: it overlaps another piece"),
        ("a piece with many entries", folder(data=crowded, length=len(crowded)), "0.distcp", "directory of"),
        ("a piece with a long pickle", folder(data=long, length=len(long)), "0.distcp", "more than the 4096 allowed"),
        ("a file that is gone", folder(name="1.distcp"), "1.distcp", "No such file"),
        ("out of the folder", folder(name="../0.distcp"), "not a file name in this folder"),
        ("the folder above", folder(name=".."), "not a file name in this folder"),
        ("an absolute name", folder(name="/etc/passwd"), "not a file name in this folder"),
        ("a NUL in a name", folder(name="a\0b"), "not a file name in this folder"),
        ("a FIFO", folder(name="pipe", length=0), "pipe", "not a regular file"),
        ("beyond the end", folder(length=10**12), "0.distcp ends before"),
        ("a negative start", folder(start=-1), "place in the folder is not recorded"),
        ("a huge start", folder(start=2**63), "place in the folder is not recorded"),
        ("another start", folder(start=7, length=len(piece) - 7), "not an intact zip"),
        ("another shape", folder(size=(7,), sizes=(7,)), "no tensor of shape [7]"),
        ("more rows than there are", folder(size=(7,)), "7 rows, its pieces have 6"),
        ("rows of 2**62", folder(size=(2**62,)), "rows, its pieces have 6"),
        ("a negative size", folder(size=(-6,)), "size or its pieces are missing"),
        ("rows that begin late", folder(offsets=(1,)), "missing or occur twice"),
        ("no tensors", folder(entries=b"}"), "no tensors by name"),
        ("a list of tensors", folder(entries=b"]"), "it has no state_dict_metadata"),
        ("an attack as the table", folder(entries=CALLS["os.system"]), "it has no state_dict_metadata"),
        ("an attack as a piece", folder(data=torch_zip(attack), length=len(torch_zip(attack))), "0.distcp"),
        ("an attack as a tensor", folder(entries=b"}" + spelled("w") + CALLS["posix.system"] + b"s"), "no tensors by name"),
    ):  # fmt: skip
        loader = "metadata" if name in ("an attack as the table", "an attack as a tensor") else None
        yield Case("torch.distributed", name, make, ("folder", *says), file="folder", loader=loader)
    for name, data in (
        ("an attack as .metadata", attack),
        ("an attack before .metadata", attack[:-1] + b"0}."),
    ):
        make = _files({".metadata": data})
        other = ("folder", ".metadata", "not what torch.distributed.checkpoint writes")
        yield Case("torch.distributed", name, make, other, file="folder", loader="metadata")
    make = _files({".metadata": b""})
    yield Case("torch.distributed", "empty", make, (".metadata", "ends before"), file="folder")


def _files(files: Mapping[str, bytes]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)

    return make


def _adapters() -> Iterator[Case]:
    module = "base_model.model.vision_encoder.backbone.blocks.0.attn.qkv"
    header = {f"{module}.lora_A.weight": span(0, 64, [2, 8])}
    header[f"{module}.lora_B.weight"] = span(64, 256, [24, 2])
    weights = safetensors(header, bytes(256))
    sound = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["qkv"]}

    def folder(settings: Any, name: str = "adapter_model.safetensors", data: bytes = weights):  # type: ignore[no-untyped-def]
        text = settings if isinstance(settings, bytes) else json.dumps(settings).encode()
        return _files({"adapter_config.json": text, name: data})

    attack = torch_zip(b"\x80\x02" + CALLS["os.system"] + b".")
    for name, make, *says in (
        ("sound, and without a base", folder(sound), "is a PEFT adapter, not a model"),
        ("an attack as weights", folder(sound, "adapter_model.bin", attack), "adapter_model.bin", "no tensors"),
        ("no weights", _files({"adapter_config.json": json.dumps(sound).encode()}), "without"),
        ("no JSON", folder(b"{"), "adapter_config.json", "not valid JSON"),
        ("a rank of 0", folder({**sound, "r": 0}), "adapter_config.json: r cannot be 0"),
        ("a rank of 10^9", folder({**sound, "r": HUGE}), "states rank 1000000000"),
        ("a rank of 10^400", folder({**sound, "r": 10**400}), "r cannot be"),
        ("a text as alpha", folder({**sound, "lora_alpha": "x"}), "lora_alpha cannot be"),
        ("NaN as alpha", folder({**sound, "lora_alpha": float("nan")}), "lora_alpha cannot be"),
        ("infinity as alpha", folder({**sound, "lora_alpha": float("inf")}), "lora_alpha cannot be"),
        ("another kind", folder({**sound, "peft_type": "IA3"}), "of type IA3"),
        ("a pattern that is none", folder({**sound, "rank_pattern": {"(": 2}}), "adapter_config.json"),
        ("a pattern that takes too long", folder({**sound, "rank_pattern": {"(\\w+\\.?)+!": 2}}), "adapter_config.json", "pattern"),
        ("a pattern of many stars", folder({**sound, "rank_pattern": {".*" * 12 + "!": 2}}), "adapter_config.json", "pattern"),
        ("a pattern that looks back", folder({**sound, "rank_pattern": {"(v|i|n|e)*\\1!": 2}}), "adapter_config.json", "pattern"),
        ("a pattern of 10^9 times", folder({**sound, "rank_pattern": {"a{1000000000}": 2}}), "adapter_config.json", "pattern"),
        ("a list of patterns", folder({**sound, "rank_pattern": ["a"]}), "rank_pattern is not a map"),
    ):  # fmt: skip
        loader = "adapter" if name == "an attack as weights" else None
        yield Case("adapters", name, make, ("lora", *says), file="lora", loader=loader)
