"""A checkpoint becomes a program for other runtimes, is proved, and comes back bit for bit."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch.export import ExportedProgram

import sam21convert
from sam21convert import MismatchError, RefusedError, UnreadableError, UsageError, packages
from sam21convert.comparison.backends.onnx import Onnx
from sam21convert.dialects import HF_IMAGE
from sam21convert.dialects.keymap import covers
from sam21convert.export.check import BOUND, MULTIPLE, check, noise_of, relative
from sam21convert.export.graphs import Axes, Graph, PromptDecoder, VisionEncoder
from sam21convert.export.runtime import OnnxImagePredictor, load
from sam21convert.export.video_graphs import MemoryAttention
from sam21convert.export.write import export, save
from sam21convert.io.onnx import read_graph, runnable
from sam21convert.io.output.atomic import new_folder
from sam21convert.model.image_predictor import pixels_of
from sam21convert.prediction.draw import scene
from sam21convert.prediction.load import Loading
from sam21convert.prediction.predictors import Request, open_both
from sam21convert.workflows.export_onnx import graphs_of

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG
from ..support.exports import SIDES, Exported
from ..support.paths import contents
from ..support.rounding import beyond_rounding, rounding

GRAPHS = ("vision_encoder", "prompt_encoder_mask_decoder")
VIDEO = ("frame_decoder", "memory_attention", "memory_encoder")


def furthest(graph: Graph) -> float:
    """How far rounding moves the model itself, at any size."""
    with torch.inference_mode():
        runs = [noise_of(graph, inputs, graph.expected(*inputs)) for inputs in graph.trials()]
    return max(max(noise.values()) for noise in runs)


class TestWhatIsWritten:
    def test_every_graph_is_within_the_bound_at_all_sizes(self, both: Exported) -> None:
        exact = {one["name"]: one for one in both.report["graphs"] if one["variant"] == "fp32"}
        assert {*exact} == {f"onnx/{name}.onnx" for name in (*GRAPHS, *VIDEO)}
        apart = {name: one["apart"] for name, one in exact.items()}
        # Old kernels move what the model attends to further than the bound themselves.
        attention = MemoryAttention(both.model).eval()
        most = {"onnx/memory_attention.onnx": max(BOUND, MULTIPLE * furthest(attention))}
        assert all(0 < found <= most.get(name, BOUND) for name, found in apart.items()), apart

    def test_the_example_is_what_the_driver_answers(self, newer: Exported) -> None:
        from PIL import Image

        home = newer.folder / "golden"
        expected = json.loads((home / "expected.json").read_text())
        predictor = OnnxImagePredictor(load(newer.folder))
        predictor.set_image(np.asarray(Image.open(home / "picture.png")))
        _, iou, logits = predictor.predict(expected["points"], expected["labels"])
        assert iou == pytest.approx(expected["iou_scores"], abs=1e-5)
        for own, wanted in zip(logits, expected["masks"], strict=True):
            assert int((own > 0).sum()) == sum(wanted["counts"][1::2])

    def test_what_a_variant_costs_is_measured(self, newer: Exported) -> None:
        found = {one["variant"]: one for one in newer.report["golden"]}
        assert found["fp32"]["mask_iou"] == 1
        assert found["fp32"]["logits"] < found["fp16"]["logits"] < found["q8"]["logits"]

    def test_each_graph_says_where_it_comes_from(self, newer: Exported) -> None:
        for path in (newer.folder / "onnx").glob("*.onnx"):
            about = read_graph(path).metadata
            assert about["sam21convert.source"] == newer.weights.name
            assert json.loads(about["sam21convert.sha256"]) == newer.report["sha256"]
            assert "onnxscript" in json.loads(about["sam21convert.versions"])
            assert str(newer.weights.parent).encode() not in path.read_bytes()

    def test_onnxruntime_loads_each_without_a_word(self, newer: Exported) -> None:
        program = "import onnxruntime, sys; [onnxruntime.InferenceSession(a) for a in sys.argv[1:]]"
        files = sorted((newer.folder / "onnx").glob("*.onnx"))
        line = [sys.executable, "-c", program, *map(str, files)]
        settings = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(line, capture_output=True, text=True, env=settings, check=True)
        assert len(files) == len(GRAPHS) * 3 + len(VIDEO)
        assert not done.stdout + done.stderr

    def test_free_axes_have_names(self, newer: Exported) -> None:
        model = onnx.load(newer.folder / "onnx" / "memory_attention.onnx")
        shapes = {
            one.name: [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim]
            for one in model.graph.input
        }
        assert shapes["memories"][:2] == ["batch_size", "memories"]
        assert shapes["pointer_ages"] == ["pointers"]

    def test_it_is_compared_with_what_the_model_itself_predicts(self, newer: Exported) -> None:
        """Within rounding: some kernels of MKL round by how their inputs lie."""
        side, labels = newer.model.image_size, torch.ones(2, 1, dtype=torch.int64)
        points = torch.tensor([[[side / 3, side / 2]], [[side / 2, side / 5]]])  # 2, 1, 2
        with torch.inference_mode():
            features = newer.model.encode_image(torch.randn(1, 3, side, side))

            def predicted(model: Any) -> dict[str, torch.Tensor]:
                own = model.predict_masks(features, points, labels)
                return {"iou": own.iou, "logits": own.logits, "score": own.object_score}

            def expected(points: torch.Tensor) -> dict[str, torch.Tensor]:
                graph, none = PromptDecoder(newer.model).eval(), torch.zeros(1, 0, 4)
                levels = (*features.high_res, features.embedding)
                found = graph.expected(points[None], labels[None], none, *levels)
                return dict(zip(("iou", "logits", "score"), (one[0] for one in found), strict=True))

            noise, own = rounding(newer.model, predicted), predicted(newer.model)
            assert not beyond_rounding(noise, expected(points), own)
            assert beyond_rounding(noise, expected(points + 1), own).keys() == own.keys()

    def test_the_example_is_encoded_as_the_model_itself_encodes_it(self, newer: Exported) -> None:
        pixels = torch.randn(1, 3, newer.model.image_size, newer.model.image_size)
        with torch.inference_mode():
            found = VisionEncoder(newer.model, pixels).eval().expected(pixels)
            own = newer.model.encode_image(pixels)
        for one, other in zip(found, (*own.high_res, own.embedding), strict=True):
            assert torch.equal(one, other)

    def test_its_picture_shows_every_tensor_of_the_encoder(self, newer: Exported) -> None:
        """A file is run with this picture alone, so it must be moved by each of them."""
        side = newer.model.image_size
        graph = VisionEncoder(newer.model, pixels_of(scene(side), side), frames=True).eval()
        (inputs,) = graph.trials()
        held = read_graph(newer.folder / "onnx" / f"{GRAPHS[0]}.onnx").tensors
        with torch.inference_mode():
            before = [one.numpy() for one in graph.expected(*inputs)]
            for name in held:
                with changed(newer.model, name):
                    after = [one.numpy() for one in graph.expected(*inputs)]
                assert max(map(relative, before, after)) > BOUND, name

    def test_what_is_computed_first_is_kept(self, newer: Exported) -> None:
        """By the driver, at the size that is tried first; the example is answered from it."""
        side = newer.model.image_size
        graph = VisionEncoder(newer.model, pixels_of(scene(side), side), frames=True).eval()
        files = {"q8": newer.folder / "onnx" / f"{GRAPHS[0]}_quantized.onnx"}
        found = check(graph, files)
        own = load(newer.folder, variant="q8").encode(graph.picture.numpy())
        for given, again in zip(found.given["q8"], own, strict=True):
            assert again is not None
            assert np.array_equal(given, again)
        for wanted, expected in zip(found.wanted, graph.expected(graph.picture), strict=True):
            assert torch.equal(wanted, expected)

    def test_a_file_of_another_model_is_caught(self, newer: Exported) -> None:
        graph = PromptDecoder(newer.model).eval()
        files = {"fp32": newer.folder / "onnx" / f"{GRAPHS[1]}.onnx"}
        assert check(graph, files).apart["fp32"] <= BOUND
        name = "sam_mask_decoder.iou_prediction_head.layers.2.bias"
        found = pytest.raises(MismatchError, match="iou_scores is .* of its scale")
        with changed(newer.model, name), found:
            check(graph, files)


class TestTracing:
    def test_the_exporter_takes_no_operator_of_the_model_apart(self, newer: Exported) -> None:
        """That would trace each graph two more times."""
        assert newer.report["taken_apart"] == 0

    def test_an_operator_that_it_does_not_know_is_taken_apart(
        self, newer: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        graph = Meshed(newer.model).eval()
        save(export(graph), tmp_path / "meshed.onnx", "fp32", {})
        assert check(graph, {"fp32": tmp_path / "meshed.onnx"}).apart["fp32"] <= BOUND
        monkeypatch.setattr(ExportedProgram, "run_decompositions", lambda program, _: program)
        with pytest.raises(UsageError, match="cannot export meshed"):
            export(graph)

    def test_garbage_is_collected_again_afterwards(
        self, newer: Exported, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        meanwhile = []

        def refused(graph: Graph) -> ExportedProgram:
            meanwhile.append(gc.isenabled())
            raise TypeError(graph.file)

        monkeypatch.setattr("sam21convert.export.write._captured", refused)
        with pytest.raises(UsageError, match="TypeError"):
            export(PromptDecoder(newer.model).eval())
        assert meanwhile == [False]
        assert gc.isenabled()


class Meshed(Graph):
    """A graph with an operator that is not of ONNX."""

    file = "meshed"
    inputs, outputs = (Axes("x", {0: "rows"}),), (Axes("y", {0: "rows"}),)
    traced, tried = (3,), ((1,), (5,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = torch.meshgrid(x, x.sin(), indexing="ij")
        return first - second

    def _inputs(self, *sizes: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn(*sizes),)


class TestNoise:
    def test_what_rounding_alone_moves_further_is_kept(
        self, newer: Exported, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As with weights that are sharper than these."""
        monkeypatch.setattr("sam21convert.export.check.BOUND", 1e-9)
        graph = PromptDecoder(newer.model).eval()
        files = {"fp32": newer.folder / "onnx" / f"{GRAPHS[1]}.onnx"}
        assert 1e-9 < check(graph, files).apart["fp32"] <= BOUND
        name = "sam_mask_decoder.iou_prediction_head.layers.2.bias"
        with changed(newer.model, name), pytest.raises(MismatchError, match="of its scale"):
            check(graph, files)

    def test_nothing_is_kept_where_it_is_infinite(self, newer: Exported) -> None:
        name = "sam_mask_decoder.iou_prediction_head.layers.2.bias"
        graph = PromptDecoder(newer.model).eval()
        files = {"fp32": newer.folder / "onnx" / f"{GRAPHS[1]}.onnx"}
        with changed(newer.model, name) as tensor:
            tensor[1:] = float("nan")
            with pytest.raises(MismatchError, match="iou_scores is inf of its scale"):
                check(graph, files)

    def test_it_is_that_of_the_graph(self, newer: Exported) -> None:
        graph = PromptDecoder(newer.model).eval()
        with torch.inference_mode():
            inputs = graph.example()
            noise = noise_of(graph, inputs, graph(*inputs))
        assert {*noise} == {"iou_scores", "pred_masks", "object_score_logits"}
        assert all(0 < value < BOUND for value in noise.values())


class changed:  # noqa: N801  # a context, not a class of things
    """A model with one tensor changed by a thousandth of its size."""

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        self.tensor = dict(model.named_parameters())[name].data

    def __enter__(self) -> torch.Tensor:
        self.before = self.tensor.clone()
        self.tensor += 1e-3 * self.tensor.abs().max()
        return self.tensor

    def __exit__(self, *_: object) -> None:
        self.tensor.copy_(self.before)


class TestBack:
    def test_the_weights_come_back_bit_for_bit(self, both: Exported, tmp_path: Path) -> None:
        done = sam21convert.convert(both.folder, tmp_path / "back.pt")
        assert done.image_size == both.model.image_size
        found = torch.load(tmp_path / "back.pt")["model"]
        assert {*found} == {*both.model.state_dict()}
        for name, tensor in both.model.state_dict().items():
            assert torch.equal(found[name], tensor), name

    def test_a_folder_for_transformers_can_be_made_of_it(
        self, newer: Exported, tmp_path: Path
    ) -> None:
        sam21convert.convert(newer.folder, tmp_path / "folder")
        assert sam21convert.diff(newer.weights, tmp_path / "folder").ok

    def test_an_export_for_pictures_is_an_image_model(
        self, newer: Exported, tmp_path: Path
    ) -> None:
        folder = without_videos(newer, tmp_path)
        assert sam21convert.convert(folder, tmp_path / "images").dialect == "hf-image"
        with pytest.raises(RefusedError, match="holds an image model: 108 tensors") as found:
            sam21convert.convert(folder, tmp_path / "whole.pt")
        assert "base=CHECKPOINT" in str(found.value.hint)
        sam21convert.convert(folder, tmp_path / "whole.pt", base=newer.weights)
        assert sam21convert.diff(newer.weights, tmp_path / "whole.pt").ok

    def test_it_is_read_like_any_other(self, newer: Exported, tmp_path: Path) -> None:
        folder = without_videos(newer, tmp_path)
        found = sam21convert.inspect(folder)
        assert (found.dialect, found.task, found.problems) == ("official-image", "image", ())
        assert sam21convert.validate(folder).ok
        report = sam21convert.parity(
            newer.weights, folder, image_size=SIDES[DEBUG], scenarios="point"
        )
        assert report.ok, report
        images, videos = open_both(Request(folder, "torch", None, None, "cpu", None))
        assert isinstance(images.loaded, Loading)
        assert (images.loaded.dialect, videos) == ("official-image", None)

    def test_inspect_names_it_and_its_graphs(self, newer: Exported) -> None:
        found = sam21convert.inspect(newer.folder)
        assert (found.container, found.image_size, found.problems) == (
            "onnx folder",
            SIDES[DEBUG],
            (),
        )
        assert any(newer.weights.name in note for note in found.notes)
        encoder = sam21convert.inspect(newer.folder / "onnx" / "vision_encoder.onnx")
        assert encoder.container == "onnx"
        assert sam21convert.safety(newer.folder).ok

    def test_rounded_weights_are_refused(self, newer: Exported, tmp_path: Path) -> None:
        with pytest.raises(RefusedError, match="is a graph in q8: its weights were rounded"):
            sam21convert.inspect(newer.folder / "onnx" / "vision_encoder_quantized.onnx")
        folder = shutil.copytree(newer.folder, tmp_path / "copy")
        for name in (*GRAPHS, *VIDEO):
            (folder / "onnx" / f"{name}.onnx").unlink()
        with pytest.raises(RefusedError, match="no graph in float32"):
            sam21convert.inspect(folder)

    def test_graphs_that_contradict_each_other_are_refused(
        self, newer: Exported, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(newer.folder, tmp_path / "copy")
        path = folder / "onnx" / "frame_decoder.onnx"
        ref = read_graph(path).tensors["sam_mask_decoder.iou_token.weight"]
        with path.open("r+b") as file:
            file.seek(ref.offset)
            file.write(b"\0\0\0\x40")
        with pytest.raises(UnreadableError, match="iou_token.weight in .* is not that in"):
            sam21convert.inspect(folder)


def without_videos(export: Exported, tmp_path: Path) -> Path:
    """The same export as it is made for pictures alone."""
    folder = shutil.copytree(export.folder, tmp_path / "pictures")
    for name in VIDEO:
        (folder / "onnx" / f"{name}.onnx").unlink()
    rest = folder / "onnx" / "model.safetensors"
    held = {one for name in GRAPHS for one in read_graph(folder / "onnx" / f"{name}.onnx").tensors}
    own = {
        name: tensor.contiguous()
        for name, tensor in export.model.state_dict().items()
        if covers(HF_IMAGE, name) and name not in held
    }
    save_file(own, rest)
    return folder


class TestParity:
    def test_it_computes_what_the_checkpoint_does(self, both: Exported) -> None:
        scenarios = "encoder,point,points,mask,no-prompt,video-two,video-correction,video-reverse"
        found = sam21convert.parity(
            both.weights, f"onnx:{both.folder}", scenarios=scenarios, config=both.model.config
        )
        assert found.ok, found
        assert {one.status for one in found.scenarios} == {"same"}
        assert all(control.detected for control in found.negative_controls)

    def test_its_weights_are_those_of_the_model_also_where_they_are_read_in_pieces(
        self, newer: Exported, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sam21convert.io.data.copy.CHUNK", 1000)
        side = Onnx(newer.folder, load(newer.folder))
        for name, tensor in newer.model.state_dict().items():
            assert torch.equal(side.tensor(name), tensor), name

    def test_other_weights_are_caught_and_named(self, newer: Exported, tmp_path: Path) -> None:
        name = "sam_mask_decoder.conv_s1.bias"
        with changed(newer.model, name):
            torch.save({"model": newer.model.state_dict()}, tmp_path / "other.pt")
        found = sam21convert.parity(
            tmp_path / "other.pt", f"onnx:{newer.folder}", scenarios="point"
        )
        assert not found.ok
        assert any(name in str(one) for one in found.diagnosis)

    def test_what_has_no_graph_is_not_run(self, newer: Exported, tmp_path: Path) -> None:
        folder = without_videos(newer, tmp_path)
        found = sam21convert.parity(
            newer.weights, f"onnx:{folder}", scenarios="point,points,video-point"
        )
        assert [one.status for one in found.scenarios] == ["same", "same", "not run", "not run"]
        assert "no graphs for videos" in found.scenarios[2].why

    def test_another_size_is_refused_with_the_way_to_it(self, newer: Exported) -> None:
        with pytest.raises(UsageError, match="was exported for 128") as raised:
            sam21convert.parity(newer.weights, f"onnx:{newer.folder}", image_size=256)
        assert "image_size=256" in str(raised.value.hint)


def tiny_model(inputs: list[str], outputs: list[str], **more: Any) -> onnx.ModelProto:
    """A graph that adds 1 to its first input, with the given names."""
    one = numpy_helper.from_array(np.ones(2, np.float32), "one")
    nodes = [
        helper.make_node("Add", [inputs[0], "one"], [name], domain=more.pop("domain", ""))
        for name in outputs
    ]
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in names]
        for names in (inputs, outputs)
    ]
    return helper.make_model(helper.make_graph(nodes, "main", *values, [one]), **more)


class TestFilesOfOthers:
    @pytest.mark.parametrize(
        ("inputs", "outputs", "what"),
        [
            (
                ["pixel_values"],
                ["image_embeddings.0", "image_embeddings.2"],
                "the image encoder of a SAM 2 in ONNX, in the layout of transformers.js",
            ),
            (
                ["input_points", "image_embeddings.2"],
                ["pred_masks"],
                "the mask decoder of a SAM 2 in ONNX, in the layout of transformers.js",
            ),
            (
                ["image"],
                ["high_res_feats_0", "image_embed"],
                "the image encoder of a SAM 2 in ONNX, in the layout of samexporter",
            ),
            (
                ["image_embed", "high_res_feats_0", "has_mask_input"],
                ["masks"],
                "the mask decoder of a SAM 2 in ONNX, in the layout of samexporter",
            ),
            (["x"], ["y"], "an ONNX model"),
        ],
    )
    def test_they_are_named(
        self, inputs: list[str], outputs: list[str], what: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "model.onnx"
        onnx.save(tiny_model(inputs, outputs), path)
        with pytest.raises(RefusedError, match=f"is {what}, which does not tell which weight"):
            sam21convert.inspect(path)

    def test_a_file_that_is_cut_short(self, newer: Exported, tmp_path: Path) -> None:
        whole = (newer.folder / "onnx" / "memory_encoder.onnx").read_bytes()
        path = tmp_path / "short.onnx"
        for length in (1, 40, 1000, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises((UnreadableError, RefusedError)):
                runnable(path)
        path.write_bytes(whole)
        assert runnable(path).is_ours

    @pytest.mark.parametrize("location", ["../weights", "/etc/weights", "a/b", ""])
    def test_weights_in_another_folder(self, location: str, tmp_path: Path) -> None:
        model = tiny_model(["x"], ["y"])
        keep_elsewhere(model.graph.initializer[0], location)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(RefusedError, match="keeps weights in a file of another folder"):
            runnable(path)

    def test_weights_in_a_file_that_is_missing(self, tmp_path: Path) -> None:
        model = tiny_model(["x"], ["y"])
        keep_elsewhere(model.graph.initializer[0], "model.onnx_data")
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UnreadableError, match="model.onnx_data, which is not beside it"):
            runnable(path)
        (tmp_path / "model.onnx_data").write_bytes(bytes(8))
        assert runnable(path).external == ("model.onnx_data",)

    def test_operators_that_are_not_of_onnx(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_model(["x"], ["y"], domain="com.example").SerializeToString())
        with pytest.raises(RefusedError, match="operators of 1 domains that are not part of ONNX"):
            runnable(path)

    def test_the_driver_checks_before_it_loads(self, newer: Exported, tmp_path: Path) -> None:
        folder = shutil.copytree(newer.folder, tmp_path / "copy")
        model = tiny_model(["pixel_values"], ["image_embeddings.0"], domain="com.example")
        (folder / "onnx" / "vision_encoder.onnx").write_bytes(model.SerializeToString())
        side = newer.model.image_size
        with pytest.raises(RefusedError, match="not part of ONNX"):
            load(folder).encode(np.zeros((1, 3, side, side), np.float32))


def keep_elsewhere(tensor: onnx.TensorProto, location: str) -> None:
    """Have the data of a tensor stand in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


def test_graphs_of_an_earlier_export_do_not_stay(newer: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(newer.folder, tmp_path / "copy")
    (folder / "sam2.encoder.onnx").write_bytes(b"")
    stale = graphs_of(folder)
    assert {"sam2.encoder.onnx", "onnx/vision_encoder_fp16.onnx"} < {*stale}
    with new_folder(folder, overwrite=True, without=stale) as new:
        (new / "onnx").mkdir()
        (new / "onnx" / "vision_encoder.onnx").write_bytes(b"new")
    assert graphs_of(folder) == ["onnx/vision_encoder.onnx"]
    assert (folder / "config.json").exists()
    assert graphs_of(tmp_path / "none") == []


class TestRequests:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layout": "samexport"}, "no such layout"),
            ({"variants": ("fp8",)}, "expected one or more of fp32, fp16, q8"),
            ({"variants": ()}, "expected one or more of fp32, fp16, q8"),
            ({"variants": ("q8", "q8")}, "expected one or more of fp32, fp16, q8"),
            ({"layout": "samexporter", "with_video": True}, "has no graphs for videos"),
            ({"layout": "samexporter", "parity": True}, "has no `parity`"),
            ({"variants": ("q8",), "parity": True}, "compares the graphs in float32"),
        ],
    )
    def test_what_cannot_be_is_refused_at_once(
        self, options: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match=message):
            sam21convert.export_onnx(tmp_path / "no.pt", tmp_path / "out", **options)
        assert not [*tmp_path.iterdir()]

    def test_a_torch_that_cannot_is_told_before_the_source_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packages, "version", lambda package: "2.7.1+cpu")
        line = ("convert", tmp_path / "no.pt", tmp_path / "out", "--to", "onnx")
        done = run(*line)
        assert done.exit_code == 2
        assert "--to onnx: needs torch 2.8 or newer, and 2.7.1+cpu is installed" in done.output
        assert "install 'torch>=2.8'" in done.output
        monkeypatch.setattr(packages, "version", lambda package: "2.8.0+cpu")
        assert "no.pt: No such file" in run(*line).output

    def test_an_image_model_has_no_videos(self, newer: Exported, tmp_path: Path) -> None:
        sam21convert.convert(newer.weights, tmp_path / "images", to="hf-image")
        with pytest.raises(UsageError, match="is an image model, without the tensors"):
            sam21convert.export_onnx(tmp_path / "images", tmp_path / "out", with_video=True)
        assert not (tmp_path / "out").exists()

    def test_options_of_graphs_are_for_graphs(self, tmp_path: Path) -> None:
        for option in (["--layout", "samexporter"], ["--variants", "q8"], ["--with-video"]):
            done = run("convert", tmp_path / "no.pt", tmp_path / "out", *option)
            assert done.exit_code == 2
            assert f"{option[0]}: is for --to onnx: add that" in done.output
        for option in (["--dtype", "float16"], ["--shard-size", "1MB"], ["--dry-run"]):
            done = run("convert", tmp_path / "no.pt", tmp_path / "out", "--to", "onnx", *option)
            assert done.exit_code == 2
            assert f"{option[0]}: has no effect on graphs" in done.output

    def test_whoever_asks_convert_for_it_is_shown_the_way(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as asked:
            sam21convert.convert(tmp_path / "no.pt", tmp_path / "out", to="onnx")
        assert "export_onnx" in str(asked.value.hint)
        said = run("convert", tmp_path / "no.pt", tmp_path / "out.onnx").output
        assert "--to onnx writes graphs to a folder, such as out" in said

    @pytest.mark.parametrize("place", ["", "onnx", "link"])
    def test_the_graphs_that_are_read_are_not_replaced(
        self, newer: Exported, tmp_path: Path, place: str
    ) -> None:
        source = shutil.copytree(newer.folder, tmp_path / "copy")
        (tmp_path / "link").symlink_to(source)
        before = contents(source)
        with pytest.raises(UsageError, match="is the input, which is never changed"):
            sam21convert.export_onnx(
                source, tmp_path / "link" if place == "link" else source / place, overwrite=True
            )
        assert contents(source) == before

    @pytest.mark.parametrize("read", ["", "model.safetensors"])
    def test_nor_is_a_folder_for_transformers(
        self, newer: Exported, tmp_path: Path, read: str
    ) -> None:
        source = tmp_path / "folder"
        sam21convert.convert(newer.weights, source)
        before = contents(source)
        with pytest.raises(UsageError, match="is the input, which is never changed"):
            sam21convert.export_onnx(source / read, source, overwrite=True)
        assert contents(source) == before

    @pytest.mark.parametrize(
        ("value", "said"), [(float("nan"), "NaN"), (float("-inf"), "infinite ones")]
    )
    def test_weights_that_are_not_finite_are_refused(
        self, newer: Exported, tmp_path: Path, value: float, said: str
    ) -> None:
        name = "sam_mask_decoder.transformer.layers.0.self_attn.q_proj.weight"
        weights, out = tmp_path / "weights.pt", tmp_path / "out"
        tensors = torch.load(newer.weights)["model"]
        tensors[name][0, 0] = value
        torch.save({"model": tensors}, weights)
        with pytest.raises(RefusedError, match=f"{name}: expected finite .* found {said}") as found:
            sam21convert.export_onnx(weights, out)
        assert found.value.hint == f"`validate({weights})` lists all such tensors"
        assert run("validate", weights).exit_code == 1
        assert not out.exists()

    def test_a_folder_with_the_name_of_a_file(self, newer: Exported, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="this is the name of a file"):
            sam21convert.export_onnx(newer.weights, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["samexporter"])
def test_the_layout_for_labelling_tools(newer: Exported, layout: Any, tmp_path: Path) -> None:
    done = sam21convert.export_onnx(newer.weights, tmp_path / "out", layout=layout)
    assert isinstance(done, sam21convert.Exported)
    assert [one.name for one in done.graphs if one.variant == "fp32"] == [
        "sam2.1_debug.encoder.onnx",
        "sam2.1_debug.decoder.onnx",
    ]
    decoder = onnx.load(tmp_path / "out" / "sam2.1_debug.decoder.onnx")
    assert [one.name for one in decoder.graph.input] == [
        "image_embed",
        "high_res_feats_0",
        "high_res_feats_1",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
    ]
