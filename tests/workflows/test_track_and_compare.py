"""The evidence of tracking: for a conversion, and in the card of what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert.config.registry import shipped_config
from sam21convert.conversion.options import ConvertOptions
from sam21convert.conversion.plan import make_plan
from sam21convert.errors import MismatchError, UsageError
from sam21convert.evaluation.report import Evaluation
from sam21convert.report import SILENT
from sam21convert.workflows import track_and_compare
from sam21convert.workflows.convert_and_compare import WithEvidence, convert_with_evidence
from sam21convert.workflows.publish.repository import compose

from ..evaluation.test_track import data
from ..model.test_video_parity import weights_of
from ..support.answers import conforms
from ..support.checkpoints import official_pt
from ..support.official import DEBUG

OLD, NEW = "debug/sam2_debug", "debug/sam2.1_debug"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {
        name: official_pt(home / f"{at}.pt", weights_of(shipped_config(name)))
        for at, name in enumerate(DEBUG)
    }


def converted(source: Path, out: Path, root: Path, **options: Any) -> WithEvidence:
    plan = make_plan(source, out, ConvertOptions(**options))
    return convert_with_evidence(
        plan,
        parity=False,
        data=root,
        overwrite=False,
        verify=True,
        hashes=False,
        device="cpu",
        progress=SILENT,
    )


@pytest.mark.parametrize("out", ["a.safetensors", "folder"])
def test_a_conversion_tracks_the_same(out: str, models: dict[str, Path], tmp_path: Path) -> None:
    root = data(tmp_path / "DATA", "davis")
    found = converted(models[NEW], tmp_path / out, root)
    assert found.evaluation is not None
    assert found.evaluation.paired is not None
    assert found.evaluation.paired.identical
    assert found.evaluation.against is not None
    assert found.evaluation.against.checkpoint == tmp_path / out
    assert all(Path(name).is_file() for name in found.evaluation.against.sha256)
    answer = conforms(found.to_json())
    assert answer["evaluation"]["paired"]["pixels"] == 0
    assert "parity" not in answer
    assert "identical: none of" in str(found)


def test_so_does_an_upgrade(models: dict[str, Path], tmp_path: Path) -> None:
    root = data(tmp_path / "DATA", "davis")
    found = converted(models[OLD], tmp_path / "new.pt", root, generation="2.1", config=OLD)
    assert found.evaluation is not None
    assert found.evaluation.paired is not None
    assert found.evaluation.paired.identical
    assert found.evaluation.against is not None
    assert (found.evaluation.model, found.evaluation.against.model) == (OLD, NEW)


def test_what_casts_is_measured_and_kept(models: dict[str, Path], tmp_path: Path) -> None:
    root = data(tmp_path / "DATA", "davis")
    found = converted(models[NEW], tmp_path / "half.pt", root, dtype="bfloat16")
    assert found.evaluation is not None
    assert (found.exit_code, (tmp_path / "half.pt").exists()) == (0, True)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written has one tensor of another sign, which conversions never do."""

    def wrongly(source: Any, root: Any, *, against: Path, **options: Any) -> Evaluation:
        wrong = against.parent / "wrong.pt"
        content = torch.load(source, weights_only=True)
        content["model"]["sam_mask_decoder.mask_tokens.weight"] *= -1
        torch.save(content, wrong)
        try:
            return sam21convert.evaluate(source, root, against=wrong, **options)
        finally:
            wrong.unlink()

    monkeypatch.setattr(track_and_compare, "evaluate", wrongly)


@pytest.mark.usefixtures("faulty")
def test_nothing_is_kept_that_tracks_otherwise(models: dict[str, Path], tmp_path: Path) -> None:
    """The negative control."""
    root, out = data(tmp_path / "DATA", "davis"), tmp_path / "out.pt"
    with pytest.raises(MismatchError, match="does not track as .* pixels of the masks differ") as e:
        converted(models[NEW], out, root)
    assert e.value.exit_code == 1
    assert not out.exists()
    folder = tmp_path / "repository"
    with pytest.raises(MismatchError, match="does not track as"):
        compose(models[NEW], folder, "me/m", to="official", scenarios="none", data=root)
    assert not folder.exists()


def test_the_card_says_what_was_tracked(models: dict[str, Path], tmp_path: Path) -> None:
    root, folder = data(tmp_path / "DATA", "davis"), tmp_path / "repository"
    options: dict[str, Any] = {"scenarios": "none", "data": root, "with_official": True}
    found = compose(models[NEW], folder, "me/mine", **options)
    assert [one.paired.identical for one in found.evaluations if one.paired] == [True, True]
    card = (folder / "README.md").read_text()
    tracking = card[card.index("## Tracking") :]
    assert "The objects of `DATA` (layout davis) were tracked with" in tracking
    assert "1 video, 2 objects, 6 frames of objects" in tracking
    (first, *_) = found.evaluations
    scores = f"| {first.jf:.1f} | {first.j:.1f} | {first.f:.1f} |"
    assert tracking.count(scores) == 3  # of the source and of both forms
    assert tracking.count("identical: none of") == 2
    assert str(tmp_path) not in card
    assert len(json.loads(json.dumps(found.to_dict()))["evaluations"]) == 2
    plain = compose(models[NEW], tmp_path / "plain", "me/mine", scenarios="none")
    assert plain.evaluations == ()
    assert "## Tracking" not in (tmp_path / "plain/README.md").read_text()


def test_what_cannot_track_is_refused_before_anything_is_written(
    models: dict[str, Path], tmp_path: Path
) -> None:
    root = data(tmp_path / "DATA", "davis")
    with pytest.raises(UsageError, match="hf-image has no memory for videos, and tracks nothing"):
        converted(models[NEW], tmp_path / "image", root, to="hf-image")
    with pytest.raises(UsageError, match="hf-image has no memory"):
        compose(models[NEW], tmp_path / "image", "me/m", to="hf-image", scenarios="none", data=root)
    with pytest.raises(sam21convert.Sam21ConvertError, match="nowhere"):
        converted(models[NEW], tmp_path / "out.pt", tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DATA"]
