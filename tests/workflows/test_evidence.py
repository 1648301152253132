"""Evidence is used again only for the same bytes, options, versions and code, if it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import sam21convert
from sam21convert.comparison.report import ParityReport
from sam21convert.workflows.publish import evidence as module
from sam21convert.workflows.publish import proof
from sam21convert.workflows.publish.evidence import Evidence
from sam21convert.workflows.publish.repository import Repository, compose

from ..support.checkpoints import DEBUG

REPO = "org/my-sam2"


@dataclass(frozen=True)
class Claim:
    """Evidence as small as can be."""

    text: str
    place: Path
    numbers: tuple[float, ...]
    count: int | None


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sam21convert" / "evidence"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"0123")
    return path


def place(weights: Path, **options: Any) -> Evidence:
    return Evidence("claim", {"weights": weights}, options, {"form": weights})


def kept(weights: Path) -> tuple[Evidence, Claim]:
    claim = Claim(f"of {weights}", weights, (0.1, float("inf")), None)
    found = place(weights, size=1)
    assert found.recall(Claim) is None
    found.keep(claim)
    return found, claim


def test_what_was_kept_is_recalled(weights: Path) -> None:
    found, claim = kept(weights)
    assert found.recall(Claim) == place(weights, size=1).recall(Claim) == claim


def test_paths_become_those_of_the_present(weights: Path, tmp_path: Path) -> None:
    kept(weights)
    other = weights.rename(tmp_path / "moved")
    found = place(other, size=1).recall(Claim)
    assert found is not None
    assert (found.text, found.place) == (f"of {other}", other)


def test_other_bytes_options_versions_or_code_have_no_evidence(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(weights)
    assert place(weights, size=2).recall(Claim) is None
    with monkeypatch.context() as patched:
        patched.setattr(module, "version", lambda name: f"{name} 99")
        assert place(weights, size=1).recall(Claim) is None
    with monkeypatch.context() as patched:
        patched.setattr(module, "_code", lambda: "0")
        assert place(weights, size=1).recall(Claim) is None
    assert place(weights, size=1).recall(Claim) is not None
    weights.write_bytes(b"0124")
    assert place(weights, size=1).recall(Claim) is None


def test_the_code_is_all_that_computes_and_its_configs() -> None:
    home = Path(module.__file__).parents[2]
    names = {path.relative_to(home).as_posix() for path in module._sources(home)}
    assert {"comparison/noise.py", "model/sam2.py", "model/mask_decoder.py"} <= names
    assert any(name.startswith("configs/") and name.endswith(".yaml") for name in names)


def test_the_evidence_of_other_files_under_this_name_is_none(weights: Path) -> None:
    found, _ = kept(weights)
    other = place(weights, size=2)
    other.path.write_bytes(found.path.read_bytes())
    other.path.chmod(0o600)
    assert other.recall(Claim) is None


def test_a_damaged_entry_is_none(weights: Path) -> None:
    """Each byte of it, and each end."""
    found, claim = kept(weights)
    whole = found.path.read_bytes()
    for at in range(len(whole)):
        found.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert found.recall(Claim) in (None, claim)
        found.path.write_bytes(whole[:at])
        assert found.recall(Claim) is None
    found.path.write_bytes(whole)
    assert found.recall(Claim) == claim


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": ["0.1"]},
        {"numbers": 1},
        {"count": 1.5},
        {"text": None},
        {"more": 1},
        {"text": {"a": []}},
    ],
)
def test_an_entry_of_other_types_is_none(weights: Path, change: dict[str, Any]) -> None:
    """Also one whose hash is right."""
    found, _ = kept(weights)
    entry = json.loads(found.path.read_text())
    told = {**entry["evidence"], **change}
    digest = module._digest([entry["bound"], told])
    found.path.write_text(json.dumps({**entry, "evidence": told, "sha256": digest}))
    assert found.recall(Claim) is None


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, '{"bound": 1}', "\xff"])
def test_what_is_no_entry_is_none(weights: Path, text: str) -> None:
    found, _ = kept(weights)
    found.path.write_bytes(text.encode("latin-1"))
    assert found.recall(Claim) is None


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_can_write_is_none(weights: Path, mode: int) -> None:
    found, claim = kept(weights)
    assert found.path.stat().st_mode & 0o777 == 0o600
    assert found.path.parent.stat().st_mode & 0o777 == 0o700
    found.path.chmod(mode)
    assert found.recall(Claim) is None
    found.path.chmod(0o600)
    assert found.recall(Claim) == claim


def test_what_another_user_wrote_is_none(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = kept(weights)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert found.recall(Claim) is None


def test_a_cache_that_cannot_be_written_keeps_nothing(weights: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file")
    found = place(weights)
    found.keep(Claim("", weights, (), None))
    assert found.recall(Claim) is None


def test_a_report_is_recalled_with_all_but_its_pictures(
    checkpoints: Callable[[str], Path], tmp_path: Path, weights: Path
) -> None:
    sam21convert.convert(checkpoints(DEBUG), tmp_path / "hf")
    scenarios = "image-pixels,point,no-prompt"
    report = sam21convert.parity(
        checkpoints(DEBUG), f"transformers:{tmp_path / 'hf'}", scenarios=scenarios
    )
    assert {found.status for found in report.scenarios} == {"same", "known difference"}
    place(weights).keep(report)
    plain = tuple(replace(found, views=()) for found in report.scenarios)
    assert place(weights).recall(ParityReport) == replace(report, scenarios=plain)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compared, and the pictures that were drawn."""
    from sam21convert.workflows.publish import example

    found: list[str] = []
    run, draw = proof.Comparison.run, example.draw

    def compared(comparison: proof.Comparison, *given: Any) -> Any:
        found.append(comparison.form.backend)
        return run(comparison, *given)

    def drawn(*given: Any) -> Any:
        found.append("picture")
        return draw(*given)

    monkeypatch.setattr(proof.Comparison, "run", compared)
    monkeypatch.setattr(example, "draw", drawn)
    return found


def contents(made: Repository) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in made.paths.items()}


def test_a_dry_run_and_the_upload_after_it_compare_once(
    checkpoints: Callable[[str], Path], tmp_path: Path, ran: list[str]
) -> None:
    source = checkpoints(DEBUG)
    first = compose(source, tmp_path / "a", REPO, with_official=True)
    assert ran == ["picture", "transformers", "sam2"]
    again = compose(source, tmp_path / "b", REPO, with_official=True)
    assert len(ran) == 3
    assert contents(again) == contents(first)
    assert [report.right.source for report in again.parity] == [
        tmp_path / "b",
        tmp_path / "b" / "sam2.1_debug.pt",
    ]


def test_another_source_is_compared(
    checkpoints: Callable[[str], Path], tmp_path: Path, ran: list[str]
) -> None:
    compose(checkpoints(DEBUG), tmp_path / "a", REPO)
    sam21convert.sample(tmp_path / "other.pt", DEBUG, seed=1)
    compose(tmp_path / "other.pt", tmp_path / "b", REPO)
    assert ran == ["picture", "transformers"] * 2


def test_a_verdict_that_is_no_is_not_kept_and_not_believed(
    checkpoints: Callable[[str], Path],
    tmp_path: Path,
    cache: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compose(checkpoints(DEBUG), tmp_path / "a", REPO)
    monkeypatch.setattr(ParityReport, "ok", False)
    with pytest.raises(sam21convert.MismatchError, match="does not compute"):
        compose(checkpoints(DEBUG), tmp_path / "b", REPO)
    assert ran == ["picture", "transformers", "transformers"]
    assert len(list(cache.iterdir())) == 2


def test_a_file_is_not_compared_with_its_own_bytes(
    checkpoints: Callable[[str], Path],
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the official code the card says what was not run."""
    monkeypatch.setattr(proof, "find_spec", lambda name: None)
    made = compose(checkpoints(DEBUG), tmp_path / "a", REPO, to="official")
    text = (made.folder / "README.md").read_text()
    assert "`sam2.1_debug.pt` was not run, because the official code (`sam2`)" in text
    assert "in parity" not in text
    assert ran == ["picture"]
    assert made.parity == ()
