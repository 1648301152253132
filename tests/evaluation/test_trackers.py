"""The same objects tracked by other packages: what is equal, what differs, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam21convert
from sam21convert.config.registry import shipped_config
from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError, UsageError
from sam21convert.prediction.backends.names import split

from ..model.test_video_parity import weights_of
from ..support.checkpoints import official_pt
from ..support.official import DEBUG
from .test_track import data

NAME = DEBUG[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("model")
    return official_pt(home / "model.pt", weights_of(shipped_config(NAME)))


@pytest.mark.parametrize("layout", ["davis", "sav", "lvos"])
@pytest.mark.parametrize("backend", ["sam2", "official"])
def test_the_official_predictor_gives_the_same_masks(
    backend: str, layout: Any, model: Path, tmp_path: Path
) -> None:
    root = data(tmp_path / "DATA", layout)
    found = sam21convert.evaluate(model, root, config=NAME, against=f"{backend}:{model}")
    assert found.against is not None
    assert found.paired is not None
    assert (found.backend, found.against.backend) == ("truth", "sam2")
    assert found.paired.identical
    assert found.per_object == found.against.per_object


def test_a_backend_for_all_checkpoints(model: Path, tmp_path: Path) -> None:
    root = data(tmp_path / "DATA", "davis")
    options: dict[str, Any] = {"config": NAME, "backend": "sam2"}
    found = sam21convert.evaluate(model, root, against=f"truth:{model}", **options)
    assert found.against is not None
    assert (found.backend, found.against.backend) == ("sam2", "truth")


def test_transformers_tracks_and_its_difference_is_named(model: Path, tmp_path: Path) -> None:
    """Checkpoint and folder alike; test_real_video.py measures the difference."""
    root, folder = data(tmp_path / "DATA", "lvos"), tmp_path / "hf"
    sam21convert.convert(model, folder, config=NAME)
    options: dict[str, Any] = {"config": NAME, "against": f"transformers:{folder}"}
    found = sam21convert.evaluate(f"hf:{model}", root, **options)
    assert found.paired is not None
    assert found.paired.identical
    assert found.backend == "transformers"
    assert "object pointer of a mask prompt from another token" in found.notes[-1]


@pytest.mark.slow
def test_an_export_tracks(model: Path, tmp_path: Path) -> None:
    root, export = data(tmp_path / "DATA", "sav"), tmp_path / "onnx"
    sam21convert.export_onnx(model, export, config=NAME, with_video=True)
    found = sam21convert.evaluate(model, root, config=NAME, against=f"onnx:{export}")
    assert found.against is not None
    assert found.paired is not None
    assert found.against.backend == "onnx"
    assert found.paired.pixels <= found.paired.of_pixels // 1000
    assert found.against.notes[-1].startswith("onnxruntime rounds otherwise")
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"dtype": "bfloat16"}, "computes in the types that it was written in"),
        ({"image_size": 512}, "was exported for 128 pixels, and not for 512"),
    )
    for options, text in wrong:
        with pytest.raises(UsageError, match=text):
            sam21convert.evaluate(f"onnx:{export}", root, **options)


@pytest.mark.parametrize("backend", ["truth", "sam2", "transformers"])
def test_bfloat16_computes_otherwise_and_says_so(backend: Any, model: Path, tmp_path: Path) -> None:
    root = data(tmp_path / "DATA", "sav")
    kept = [tmp_path / name for name in ("float32", "bfloat16")]
    for place in kept:
        dtype: Any = place.name
        options: dict[str, Any] = {"config": NAME, "backend": backend, "masks": place}
        found = sam21convert.evaluate(model, root, dtype=dtype, **options)
        assert found.dtype == dtype
        said = any(note.startswith("computed in bfloat16 by autocast") for note in found.notes)
        assert said == (dtype == "bfloat16")
    names = [sorted(path.relative_to(place) for path in place.rglob("*.png")) for place in kept]
    assert names[0] == names[1]


def test_what_a_backend_cannot_do_is_one_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data(tmp_path / "DATA", "davis")
    options: dict[str, Any] = {"config": NAME}
    with pytest.raises(UsageError, match="timm has the image encoder alone, and tracks nothing"):
        sam21convert.evaluate(f"timm:{model}", root, **options)
    with pytest.raises(UsageError, match="there is no backend 'sam3'"):
        sam21convert.evaluate(f"sam3:{model}", root, **options)
    with pytest.raises(UsageError, match="sam2 keeps memories in bfloat16"):
        sam21convert.evaluate(f"sam2:{model}", root, dtype="float16", **options)
    with pytest.raises(Sam21ConvertError, match="expected a folder, found a file"):
        sam21convert.evaluate(f"onnx:{model}", root, **options)
    image = tmp_path / "image"
    sam21convert.convert(model, image, to="hf-image", config=NAME)
    with pytest.raises(RefusedError, match="is an image model"):
        sam21convert.evaluate(f"transformers:{image}", root)
    path = root / "JPEGImages/480p/car/00001.jpg"
    path.write_bytes(path.read_bytes()[:200])
    for backend in ("sam2", "transformers"):
        with pytest.raises(UnreadableError, match="JPEGImages"):
            sam21convert.evaluate(f"{backend}:{model}", root, **options)


@pytest.mark.parametrize(
    ("text", "backend", "source"),
    [
        ("model.pt", None, "model.pt"),
        ("sam2:model.pt", "sam2", "model.pt"),
        ("hf:a:b", "transformers", "a:b"),
        ("hf://owner/name", None, "hf://owner/name"),
        ("https://host/model.pt", None, "https://host/model.pt"),
        ("c:model.pt", None, "c:model.pt"),
    ],
)
def test_names_of_backends(text: str, backend: str | None, source: str) -> None:
    found = split(text)
    assert found == (backend, source)


def test_a_pixel_is_that_of_the_highest_logit_and_of_equal_ones_of_the_smaller_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam21convert.evaluation.datasets import open_dataset
    from sam21convert.evaluation.track import track

    root = data(tmp_path / "DATA", "davis")
    (video,) = open_dataset(root).videos
    shape = np.array(Image.open(next(video.truth.iterdir()))).shape

    class Fake:
        def begin(self, frames: Path) -> tuple[int, ...]:
            return shape

        def forget(self) -> None:
            raise AssertionError

        def add(self, frame: int, number: int, mask: Any) -> None:
            assert frame == 0

        def follow(self, start: int | None = None) -> Any:
            logits = np.full((2, *shape), -1, np.float32)
            logits[:, 0, :4] = [[3, 1, 2, -1], [1, 3, 2, -1]]
            yield 0, logits

    (tmp_path / "masks").mkdir()
    track(Fake(), video, "davis", tmp_path / "masks")  # type: ignore[arg-type]
    ids = np.array(Image.open(tmp_path / "masks/00000.png"))
    assert ids[0, :4].tolist() == [1, 2, 1, 0]
    assert not ids[1:].any()
