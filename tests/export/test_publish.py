"""A repository holds graphs beside the weights, and its card tells the truth about them."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.hf_api import RepoFile
from onnx import numpy_helper
from PIL import Image
from transformers import Sam2VideoModel

import sam21convert
from sam21convert import MismatchError, MissingPackageError, UsageError
from sam21convert.prediction.draw import scene
from sam21convert.report import share
from sam21convert.workflows import export_onnx as making
from sam21convert.workflows.publish import upload
from sam21convert.workflows.publish.manifest import MANIFEST, read_manifest
from sam21convert.workflows.publish.needs import check_packages
from sam21convert.workflows.publish.repository import Repository, compose
from sam21convert.workflows.publish.upload import RemoteState

from ..support.exports import Exported
from ..support.hub_server import Fault, Hub, LostAnswer, Status
from ..support.hub_server.writing import STARTER
from ..support.pushing import Commands, running
from ..workflows.test_repository import card, digest, programs, ran

REPO = "org/graphs"


class TestRepository:
    def test_it_has_the_graphs_byte_for_byte(self, published: Repository, newer: Exported) -> None:
        for path in (*newer.folder.glob("onnx/*"), *newer.folder.glob("golden/*")):
            name = path.relative_to(newer.folder).as_posix()
            assert published.files[name].sha256 == digest(path)
        listed = read_manifest(published.folder / MANIFEST, published.repo_id)
        assert listed is not None
        assert {*listed} == {*published.files} - {MANIFEST, "README.md"}

    def test_its_weights_are_read_as_without_them(self, published: Repository) -> None:
        _, info = Sam2VideoModel.from_pretrained(published.folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert sam21convert.inspect(published.folder).dialect == "hf-video"
        assert sam21convert.diff(published.source, published.folder).ok

    def test_both_forms_are_compared_with_the_source(self, published: Repository) -> None:
        assert [one.right.backend for one in published.parity] == ["transformers", "onnx"]
        assert all(one.ok for one in published.parity)
        assert str(published.folder.parent) not in card(published)
        assert str(published.source.parent) not in card(published)
        assert {*re.findall(r"\]\((.+?)\)", card(published))} <= {*published.files}

    def test_the_card_tells_what_each_variant_costs(
        self, published: Repository, newer: Exported
    ) -> None:
        """Measured anew, against the weights that are published."""
        rows = re.findall(r"^\| (fp32|fp16|q8) \| .*? \| (.*?) \| (.*?) \|", card(published), re.M)
        assert [row[0] for row in rows] == ["fp32", "fp16", "q8"]
        for (_, iou, logits), known in zip(rows, newer.report["golden"], strict=True):
            assert iou == share(known["mask_iou"])
            assert float(logits) == pytest.approx(known["logits"], rel=0.05, abs=1e-6)
        tags = ModelCard.load(published.folder / "README.md").data.tags
        assert {"onnx", "transformers.js"} < {*tags}

    def test_the_program_in_python_runs(
        self, published: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Image.fromarray(scene(480)).save(tmp_path / "picture.jpg")
        monkeypatch.chdir(tmp_path)
        last = programs(published)[-1]
        found = ran(last, published.folder)
        theirs = sam21convert.predict_image(
            "picture.jpg", published.folder, prompts=[sam21convert.Point(210, 350)], device="cpu"
        )
        assert "OnnxImagePredictor" in last
        assert np.mean(theirs.masks == (found["masks"] > 0)) > 0.999


class TestMaking:
    def test_any_other_source_is_exported(
        self, newer: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []

        def export(source: Path, folder: Path, **options: Any) -> None:
            asked.append((source, options["with_video"], options["config"]))
            shutil.copytree(newer.folder, folder)

        monkeypatch.setattr(making, "export_onnx", export)
        for to in ("hf-video", "hf-image"):
            made = compose(
                newer.weights,
                tmp_path / to,
                "me/x",
                to=to,
                config=newer.model.config,
                with_onnx=True,
                scenarios="none",
            )
            assert "onnx/vision_encoder.onnx" in made.files
        config = newer.model.config
        assert asked == [(newer.weights, True, config), (newer.weights, False, config)]

    def test_graphs_of_other_weights_are_not_published(
        self, newer: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def export(source: Path, folder: Path, **_: Any) -> None:
            others = shutil.ignore_patterns(
                "frame_*", "memory_*", "*_fp16.onnx", "*_quantized.onnx"
            )
            shutil.copytree(newer.folder, folder, ignore=others)
            path = folder / "onnx" / "prompt_encoder_mask_decoder.onnx"
            model = onnx.load(path)
            name = "sam_mask_decoder.output_hypernetworks_mlps.1.layers.2.bias"
            (tensor,) = (one for one in model.graph.initializer if one.name == name)
            values = numpy_helper.to_array(tensor) + np.float32(0.5)
            tensor.CopyFrom(numpy_helper.from_array(values, name))
            onnx.save(model, path)

        monkeypatch.setattr(making, "export_onnx", export)
        with pytest.raises(MismatchError, match="not compute what .*weights.pt does") as raised:
            compose(
                newer.weights,
                tmp_path / "new",
                "me/x",
                to="hf-image",
                config=newer.model.config,
                with_onnx=True,
            )
        assert "to=onnx" in str(raised.value.hint)
        assert not (tmp_path / "new").exists()

    def test_they_go_with_a_folder_for_transformers(self, newer: Exported, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="`to=official` does not write"):
            compose(newer.weights, tmp_path / "new", "me/x", to="official", with_onnx=True)
        assert not (tmp_path / "new").exists()

    def test_what_they_need_is_asked_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        check_packages(None, "none", with_onnx=True, tracks=False, serves=False)
        monkeypatch.setattr("sam21convert.packages.find_spec", lambda name: None)
        check_packages(None, "none", with_onnx=False, tracks=False, serves=False)
        with pytest.raises(MissingPackageError, match="`with_onnx`: needs torch"):
            check_packages(None, "none", with_onnx=True, tracks=False, serves=False)


@pytest.fixture(scope="module")
def commands(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with running(exported, tmp_path_factory.mktemp("home")) as commands:
        yield commands


def test_they_are_pushed_and_verified(commands: Commands, tmp_path: Path) -> None:
    look = tmp_path / "look"
    planned = commands.push(REPO, "--with-onnx", "--dry-run", "--output", str(look))
    hashes = {
        path.relative_to(look).as_posix(): digest(path)
        for path in look.rglob("*")
        if path.is_file()
    }
    assert {"onnx/vision_encoder.onnx", "golden/expected.json"} < {*hashes}
    assert {*planned["changes"].values()} == {"new"}
    assert REPO not in commands.hub.store.repos
    done = commands.push(REPO, "--with-onnx")
    assert done["uploaded"]
    there = commands.hub.repo(REPO).files("main")
    assert {name: there[name].sha256 for name in there if name != ".gitattributes"} == hashes
    commands.hub.repo(REPO).write({"onnx/vision_encoder.onnx": b"theirs"})
    refused = commands.push(REPO, "--with-onnx")
    assert "did not write: onnx/vision_encoder.onnx" in refused["error"]


@pytest.mark.slow
def test_a_checkpoint_is_exported_on_the_way(
    commands: Commands, newer: Exported, tmp_path: Path
) -> None:
    """With nothing in place of the export: what arrives runs, and computes what the model does."""
    weights = tmp_path / "weights"
    sam21convert.convert(newer.weights, weights, to="hf-image", config=newer.model.config)
    done = replace(commands, source=weights).push("org/exported", "--with-onnx")
    assert done["uploaded"], done
    arrived = tmp_path / "arrived"
    for name, blob in commands.hub.repo("org/exported").files("main").items():
        (arrived / name).parent.mkdir(parents=True, exist_ok=True)
        (arrived / name).write_bytes(blob.read())
    assert {path.name for path in arrived.glob("onnx/*.onnx")} == {
        f"{name}{end}.onnx"
        for name in ("vision_encoder", "prompt_encoder_mask_decoder")
        for end in ("", "_quantized")
    }
    graphs = shutil.copytree(arrived, tmp_path / "graphs")
    (graphs / "model.safetensors").unlink()
    assert sam21convert.diff(weights, graphs).ok
    found = sam21convert.parity(weights, f"onnx:{graphs}", scenarios="point")
    assert found.ok, found


class TestPage:
    SPACE = "org/page"
    ASKED = ("--with-onnx", "--page-space", SPACE, "--page-cdn")

    @pytest.fixture
    def hub(self, commands: Commands) -> Hub:
        hub = commands.hub
        hub.requests.clear()
        for key in (REPO, f"spaces/{self.SPACE}"):
            hub.store.repos.pop(key, None)
            shutil.rmtree(hub.store.folder / key, ignore_errors=True)
        return hub

    def test_it_is_a_static_space_that_runs_the_published_graphs(
        self, commands: Commands, hub: Hub, tmp_path: Path
    ) -> None:
        look = tmp_path / "look"
        planned = commands.push(REPO, *self.ASKED, "--dry-run", "--output", str(look))
        assert planned["page"]["creates"]
        assert not {REPO, f"spaces/{self.SPACE}"} & {*hub.store.repos}
        done = commands.push(REPO, *self.ASKED)
        assert (done["uploaded"], done["page"]["uploaded"]) == (True, True)
        assert done["page"]["url"].endswith(f"/spaces/{self.SPACE}")
        there = hub.store.repos[f"spaces/{self.SPACE}"].files("main")
        hashes = {name: blob.sha256 for name, blob in there.items() if name != ".gitattributes"}
        assert hashes == {name: one["sha256"] for name, one in done["page"]["files"].items()}
        assert hashes == {name: digest(look / "space" / name) for name in hashes}
        graph = "onnx/vision_encoder.onnx"
        model = hub.repo(REPO).files("main")
        assert hashes[f"models/graphs/{graph}"] == model[graph].sha256
        front = ModelCard.load(look / "space" / "README.md").data.to_dict()
        assert (front["sdk"], front["title"], front["models"]) == ("static", "page", [REPO])
        assert b"<script" in there["index.html"].read()
        assert f"space       {self.SPACE}" in commands.announced

        again = commands.push(REPO, *self.ASKED)
        assert (again["uploaded"], again["page"]["uploaded"]) == (False, False)

    def test_what_others_have_there_stays(self, commands: Commands, hub: Hub) -> None:
        front = b"---\nsdk: %s\n---\n# Theirs\n"
        for files, said in (
            ({"README.md": front % b"gradio"}, "is a Space of the kind gradio"),
            ({"README.md": front % b"static", "index.html": b"theirs"}, "index.html"),
        ):
            hub.store.create(self.SPACE, files, prefix="spaces/")
            refused = commands.push(REPO, *self.ASKED)
            assert said in refused["error"]
            assert (refused["exit_code"], refused["hint"]) == (3, "name another Space")
            assert REPO not in hub.store.repos  # nothing was written before
            shutil.rmtree(hub.store.folder / f"spaces/{self.SPACE}")

    def test_a_first_upload_that_failed_is_repeated(self, commands: Commands, hub: Hub) -> None:
        """The Space is there then, with the page that the Hub puts into every new one."""
        hub.inject(Fault("POST", "/api/spaces/*/commit/*", Status(403)))
        failed = commands.push(REPO, *self.ASKED)
        hub.heal()
        space = hub.store.repos[f"spaces/{self.SPACE}"]
        assert failed["exit_code"] == 3
        assert {"index.html", "style.css"} < {*space.files("main")}
        assert len(space.history()) == 1

        done = commands.push(REPO, *self.ASKED)
        assert (done["uploaded"], done["page"]["uploaded"]) == (False, True)
        assert done["page"]["changes"]["index.html"] == "changed"
        there = space.files("main")
        for name, stated in done["page"]["files"].items():
            assert there[name].sha256 == stated["sha256"], name
        assert b"A new Space." in there["README.md"].read()  # a README is never replaced

    @pytest.mark.parametrize("theirs", ["index.html", "notes.md"])
    def test_a_new_space_that_someone_has_written_to_is_theirs(
        self, commands: Commands, hub: Hub, theirs: str
    ) -> None:
        space = hub.store.create(self.SPACE, prefix="spaces/", starter=STARTER)
        space.write({theirs: b"Welcome to your static Space! It is mine."})
        refused = commands.push(REPO, *self.ASKED)
        assert "did not write: " in refused["error"]
        assert "index.html" in refused["error"]
        assert len(space.history()) == 2

    def test_an_answer_that_is_lost_is_asked_for(self, commands: Commands, hub: Hub) -> None:
        hub.inject(Fault("POST", "/api/spaces/*/commit/*", LostAnswer()))
        done = commands.push(REPO, *self.ASKED)
        hub.heal()
        assert done["page"]["uploaded"]
        assert len(hub.asked("POST", "/api/spaces/*/commit/*")) == 1

    def test_what_the_hub_holds_is_compared(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "index.html").write_text("ours")
        files = {"index.html": tmp_path / "index.html"}
        for content, wrong in (("ours", False), ("others", True), ("four", True)):
            raw = content.encode()
            oid = hashlib.sha1(b"blob %d\0%s" % (len(raw), raw)).hexdigest()
            there = RepoFile(  # type: ignore[no-untyped-call]
                path="index.html", size=len(raw), oid=oid, type="file"
            )
            state = RemoteState("main", "head", {"index.html": there}, "space")
            monkeypatch.setattr(upload, "fetch_state", lambda *_, state=state: state)
            if wrong:
                with pytest.raises(MismatchError, match="differs from .*: index.html"):
                    upload.verify(HfApi(), self.SPACE, "main", files, "space")
            else:
                assert upload.verify(HfApi(), self.SPACE, "main", files, "space") is state

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--page-space", "org/page"), "--page-space: a page runs graphs"),
            (("--with-onnx", "--page-space", "page"), "expected NAMESPACE/NAME"),
            (("--with-onnx", "--page-space", "a b/c"), "not a valid name of a Space"),
            (("--page-cdn",), "--page-cdn: is for a page"),
            (("--with-onnx", "--page-space", "org/page", "--create-pr"), "exclude each other"),
        ],
    )
    def test_requests_that_cannot_be(
        self, commands: Commands, hub: Hub, options: tuple[str, ...], message: str
    ) -> None:
        refused = commands.push(REPO, *options)
        assert (refused["exit_code"], message in refused["error"]) == (2, True)
