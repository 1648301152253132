"""``predict image --everything`` draws all masks and writes them as COCO's tools read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from sam21convert.commands.main import main
from sam21convert.prediction.draw import scene

from ..support.checkpoints import official_pt


def test_the_drawing_and_the_annotations(tmp_path: Path) -> None:
    picture, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(scene(96)).save(picture)
    pt = official_pt(tmp_path / "m.pt")
    words = ["predict", "image", str(picture), "--checkpoint", str(pt), "-o", str(out), "--json"]
    grid = ["--points-per-side", "2", "--iou-threshold", "0", "--stability-threshold", "0"]
    ran = CliRunner().invoke(main, [*words, "--everything", *grid])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)["masks"]
    coco = json.loads((tmp_path / "out.coco.json").read_text())
    (image,), found = coco["images"], coco["annotations"]
    assert image == {"id": 1, "file_name": "in.png", "width": 96, "height": 96}
    assert [one["area"] for one in found] == [one["area"] for one in told]
    assert [one["id"] for one in found] == list(range(1, len(found) + 1))
    assert found
    assert all(isinstance(one["segmentation"]["counts"], str) for one in found)
    assert np.any(np.asarray(Image.open(out)) != scene(96))
    for wrong in (["--everything", "--point", "3,3"], ["--point", "3,3", "--crops", "1"]):
        assert CliRunner().invoke(main, [*words, "--overwrite", *wrong]).exit_code == 2
