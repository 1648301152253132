"""The dialects: round trips keep every bit, and files get the names that programs expect."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sam21convert
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.config.registry import BY_NAME as CONFIGS
from sam21convert.config.registry import shipped_tensors
from sam21convert.dialects import BY_NAME, DIALECTS, rules
from sam21convert.dialects.keymap import covers
from sam21convert.dialects.rules import Dialect
from sam21convert.errors import RefusedError, UsageError
from sam21convert.io.data.checksums import same_bytes
from sam21convert.io.source import Container

from ..support.checkpoints import DEBUG, DEBUG_20, random_bits, sparse, state_dict
from ..support.official import PUBLISHED
from ..support.paths import DOCS

TINY = "sam2.1/sam2.1_hiera_t"
NAMINGS = [dialect for dialect in DIALECTS if not dialect.file]
NAMED = [dialect for dialect in DIALECTS if dialect.file]
ENDINGS: dict[Container, str] = {"torch zip": ".pt", "safetensors": ".safetensors"}


def there(source: Path, to: Dialect, container: Container, **options: Any) -> Path:
    """Convert ``source`` to a dialect, in the container that the suffix of the output chooses."""
    out = source.with_name("there" + ENDINGS.get(container, ""))
    done = sam21convert.convert(source, out, to=to.name, **options)
    assert (done.dialect, done.container) == (to.name, container)
    return done.destination


@pytest.mark.parametrize("config", [DEBUG, DEBUG_20])
@pytest.mark.parametrize(
    ("dialect", "container"),
    [(dialect, container) for dialect in NAMINGS for container in dialect.containers],
    ids=lambda value: getattr(value, "name", value),
)
class TestThereAndBack:
    def test_every_bit_is_kept(
        self, dialect: Dialect, container: Container, config: str, tmp_path: Path
    ) -> None:
        """Exactly the tensors that the dialect has no place for come from the base checkpoint."""
        source = random_bits(tmp_path / "source.safetensors", shipped_tensors(config))
        other = random_bits(tmp_path / "other.safetensors", shipped_tensors(config))
        base = None if dialect.task == "video" else other
        between = there(source, dialect, container)
        sam21convert.convert(between, tmp_path / "back.safetensors", base=base)
        sent, based, back = (
            open_checkpoint(tmp_path / f"{name}.safetensors").tensors
            for name in ("source", "other", "back")
        )
        assert list(back) == list(sent)
        for name, ref in back.items():
            expected, wrong = (sent, based) if covers(dialect, name) else (based, sent)
            assert same_bytes(ref, expected[name]), name
            assert not same_bytes(ref, wrong[name]), name

    def test_its_output_is_recognised(
        self, dialect: Dialect, container: Container, config: str, tmp_path: Path
    ) -> None:
        source = random_bits(tmp_path / "source.safetensors", shipped_tensors(config))
        found = sam21convert.inspect(there(source, dialect, container))
        assert (found.dialect, found.container) == (dialect.name, container)
        assert (found.size, found.task) == ("debug", dialect.task)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dialect", NAMINGS, ids=lambda dialect: dialect.name)
def test_casts_are_those_of_torch(dialect: Dialect, dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = state_dict()
    torch.save(tensors, tmp_path / "source.pt")
    short: Any = str(dtype).removeprefix("torch.")
    between = there(tmp_path / "source.pt", dialect, dialect.containers[0], dtype=short)
    base = None if dialect.task == "video" else tmp_path / "source.pt"
    sam21convert.convert(between, tmp_path / "back.safetensors", base=base)
    for name, tensor in load_file(tmp_path / "back.safetensors").items():
        expected = tensors[name].to(dtype) if covers(dialect, name) else tensors[name]
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected), name


def test_a_part_without_a_base_is_refused_with_the_number_missing(tmp_path: Path) -> None:
    source = random_bits(tmp_path / "source.safetensors", shipped_tensors(DEBUG))
    between = there(source, BY_NAME["timm"], "timm folder")
    with pytest.raises(RefusedError, match=r"a trunk alone: 265 .*or 262 .*are missing") as caught:
        sam21convert.convert(between, tmp_path / "back.pt")
    assert "`base=CHECKPOINT`" in str(caught.value.hint)


FILES = {
    "sam2.1/sam2.1_hiera_t": ("sam2.1_t.pt", "sam2.1_hiera_tiny{}.safetensors"),
    "sam2.1/sam2.1_hiera_s": ("sam2.1_s.pt", "sam2.1_hiera_small{}.safetensors"),
    "sam2.1/sam2.1_hiera_b+": ("sam2.1_b.pt", "sam2.1_hiera_base_plus{}.safetensors"),
    "sam2.1/sam2.1_hiera_l": ("sam2.1_l.pt", "sam2.1_hiera_large{}.safetensors"),
    "sam2/sam2_hiera_t": ("sam2_t.pt", "sam2_hiera_tiny{}.safetensors"),
    "sam2/sam2_hiera_s": ("sam2_s.pt", "sam2_hiera_small{}.safetensors"),
    "sam2/sam2_hiera_b+": ("sam2_b.pt", "sam2_hiera_base_plus{}.safetensors"),
    "sam2/sam2_hiera_l": ("sam2_l.pt", "sam2_hiera_large{}.safetensors"),
}


class TestProgramsThatReadFileNames:
    @pytest.mark.parametrize("config", PUBLISHED)
    def test_a_folder_gets_the_file_of_the_right_name(self, config: str, tmp_path: Path) -> None:
        source = sparse(tmp_path / "source.safetensors", shipped_tensors(config))
        ultralytics, comfyui = FILES[config]
        dtypes: tuple[Any, ...] = ("float32", "float16", "bfloat16")
        for dtype, mark in zip(dtypes, ("", "-fp16", "-bf16"), strict=True):
            for to, name in (("ultralytics", ultralytics), ("comfyui", comfyui.format(mark))):
                done = sam21convert.convert(source, tmp_path, to=to, dtype=dtype, dry_run=True)
                assert done.destination == tmp_path / name
                windows = any("window_spec" in note for note in done.notes)
                assert windows == (to == "comfyui" and CONFIGS[config].size == "large")

    @pytest.mark.parametrize(
        ("to", "wrong", "right"),
        [
            ("ultralytics", "mine.pt", "sam2.1_t.pt"),
            ("ultralytics", "sam2_t.pt", "sam2.1_t.pt"),
            ("ultralytics", "sam2.1_b.pt", "sam2.1_t.pt"),
            ("comfyui", "sam2.1_hiera_tiny-fp16.safetensors", "sam2.1_hiera_tiny.safetensors"),
        ],
    )
    def test_another_name_is_refused(self, to: str, wrong: str, right: str, tmp_path: Path) -> None:
        source = sparse(tmp_path / "source.safetensors", shipped_tensors(TINY))
        with pytest.raises(UsageError) as caught:
            sam21convert.convert(source, tmp_path / wrong, to=to, dry_run=True)
        assert f"end the name in {right}," in str(caught.value.hint)
        done = sam21convert.convert(source, tmp_path / f"my_{right}", to=to, dry_run=True)
        assert done.destination.name == f"my_{right}"

    @pytest.mark.parametrize(
        ("to", "name", "taken"),
        [
            ("ultralytics", "sam2.1/sam2_t.pt", False),
            ("ultralytics", "sam2.1_sam2_t.pt", False),
            ("ultralytics", "sam2_t.pt", True),
            ("comfyui", "sam2.1_sam2_hiera_tiny.safetensors", False),
            ("comfyui", "sam2.1/sam2_hiera_tiny.safetensors", True),
        ],
    )
    def test_a_name_that_says_another_generation_is_refused(
        self, to: str, name: str, taken: bool, tmp_path: Path
    ) -> None:
        source = sparse(tmp_path / "source.safetensors", shipped_tensors("sam2/sam2_hiera_t"))
        (tmp_path / "sam2.1").mkdir()
        if taken:
            done = sam21convert.convert(source, tmp_path / name, to=to, dry_run=True)
            assert done.destination == tmp_path / name
            return
        with pytest.raises(UsageError, match=r"would take it for SAM 2.1"):
            sam21convert.convert(source, tmp_path / name, to=to, dry_run=True)

    @pytest.mark.parametrize("dialect", NAMED, ids=lambda dialect: dialect.name)
    def test_a_size_that_they_do_not_know_is_refused(
        self, dialect: Dialect, tmp_path: Path
    ) -> None:
        source = sparse(tmp_path / "source.safetensors", shipped_tensors(DEBUG))
        with pytest.raises(UsageError, match="only for the published sizes"):
            sam21convert.convert(source, tmp_path, to=dialect.name)

    def test_the_tensors_are_the_official_ones(self, tmp_path: Path) -> None:
        source = random_bits(tmp_path / "source.safetensors", shipped_tensors(TINY))
        (tmp_path / "out").mkdir()
        for dialect in NAMED:
            out = sam21convert.convert(source, tmp_path / "out", to=dialect.name).destination
            sent, found = open_checkpoint(source).tensors, open_checkpoint(out).tensors
            assert sorted(found) == sorted(sent)
            assert all(same_bytes(ref, sent[name]) for name, ref in found.items())
            out.unlink()


def test_a_dialect_is_a_few_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example in docs/architecture.md works: written, recognised, and converted back."""
    text = (DOCS / "architecture.md").read_text()
    code = re.findall(r"```python\n(.+?)```", text.partition("## A new dialect")[2], re.DOTALL)[0]
    assert len(code.splitlines()) < 30
    names = dict(vars(rules))
    exec(code, names)
    short: Dialect = names["SHORT"]
    for module in ("checkpoint.detect", "checkpoint.state_dict"):
        monkeypatch.setattr(f"sam21convert.{module}.DIALECTS", (*DIALECTS, short))
    monkeypatch.setitem(BY_NAME, short.name, short)
    source = random_bits(tmp_path / "source.safetensors", shipped_tensors(DEBUG))
    between = there(source, short, "safetensors")
    assert "trunk.0.ln1.weight" in load_file(between)
    assert sam21convert.inspect(between).dialect == "short"
    sam21convert.convert(between, tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == source.read_bytes()
