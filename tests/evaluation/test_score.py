"""The score is that of each benchmark's own evaluator, to the last bit of a double.

Masks are drawn, so that the evaluators of DAVIS, LVOS and MOSE v2, which no package holds, could be
run on them once: ``tests/fixtures/evaluators.json`` has what they found, and which they were.
vos-benchmark, whose code SA-V's evaluator uses, is run here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam21convert
from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError, UsageError
from sam21convert.evaluation import measure
from sam21convert.evaluation.datasets import names_in
from sam21convert.evaluation.measure import Pair
from sam21convert.evaluation.names import Protocol
from sam21convert.evaluation.report import Evaluation

from ..support import tracked_masks as drawn
from ..support.answers import conforms
from ..support.paths import ROOT

RECORDED = json.loads((ROOT / "tests/fixtures/evaluators.json").read_text())
WRITERS: dict[Protocol, Any] = {"davis": drawn.davis, "lvos": drawn.lvos, "mosev2": drawn.mose}


def percent(found: Evaluation) -> dict[str, list[float]]:
    """J and F of each object, named as the evaluators of DAVIS and LVOS name it."""
    numbers: dict[str, int] = {}
    scores = {}
    for one in found.per_object:
        numbers[one.video] = numbers.get(one.video, 0) + 1
        number = one.object if found.protocol == "mosev2" else numbers[one.video]
        scores[f"{one.video}_{number}"] = [one.j, one.f]
    return scores


@pytest.mark.parametrize("protocol", WRITERS)
def test_the_rules_of_a_benchmark_give_what_its_evaluator_gives(
    protocol: Protocol, tmp_path: Path
) -> None:
    data, masks = WRITERS[protocol](tmp_path)
    found = sam21convert.score(masks, data, protocol=protocol)
    theirs = RECORDED[protocol]
    expected = {name: [v * 100 for v in of[:2]] for name, of in theirs["objects"].items()}
    assert len(expected) > 30
    assert percent(found) == expected
    assert [found.j, found.f, found.jf] == [value * 100 for value in theirs["total"]]


def test_the_spread_of_lvos(tmp_path: Path) -> None:
    data, masks = drawn.lvos(tmp_path)
    found = sam21convert.score(masks, data)
    assert found.protocol == found.layout == "lvos"
    expected = [v * 100 for _, _, v in RECORDED["lvos"]["objects"].values()]
    by_name = dict(zip(percent(found), (one.more["v"] for one in found.per_object), strict=True))
    assert [by_name[name] for name in RECORDED["lvos"]["objects"]] == pytest.approx(expected)


def test_what_mose_measures_of_objects_that_go_and_come_back(tmp_path: Path) -> None:
    data, masks = drawn.mose(tmp_path)
    found = sam21convert.score(masks, data, protocol="mosev2")
    for one in found.per_object:
        _, _, classic, *more = RECORDED["mosev2"]["objects"][f"{one.video}_{one.object}"]
        assert one.more["classic_f"] == classic * 100
        for name, (j, f) in (("disappear_jf", more[:2]), ("reappear_jf", more[2:])):
            assert one.more[name] == (None if j is None else pytest.approx((j + f) * 50))
    assert any(one.more["reappear_jf"] for one in found.per_object)


def test_numpy_1_counts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [Pair(p[4] == 1, t[4] == 1) for t, p in drawn.cases().values()]
    expected = [pair.counts() for pair in pairs]
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert [pair.counts() for pair in pairs] == expected


class TestLargeMasks:
    """Where there is much to look through, pixels are looked at in another way."""

    @staticmethod
    def masks(kind: str) -> tuple[Any, Any]:
        y, x = np.mgrid[:1080, :1920]
        true = np.hypot(y - 500, x - 900) < 420
        moved = {"close": 5, "specks": 5, "apart": 300}[kind]
        predicted = np.roll(true, moved, axis=1)
        if kind == "specks":
            predicted[::97, ::89] ^= True
        return predicted, true

    @pytest.mark.parametrize("kind", ["close", "specks", "apart"])
    def test_vos_benchmark_finds_the_same(self, kind: str) -> None:
        evaluator = pytest.importorskip("vos_benchmark.evaluator").Evaluator
        predicted, true = self.masks(kind)
        (j,), (f,) = (
            of.values() for of in TestVosBenchmark.fed(evaluator, [true] * 3, [predicted] * 3)
        )
        found = Pair(predicted, true).counts()
        assert [found.j * 100, found.f * 100] == [j, f]

    @pytest.mark.parametrize("kind", ["close", "specks", "apart"])
    @pytest.mark.parametrize("radius", [4, 17.6, 40])
    def test_the_other_way_finds_the_same(
        self, kind: str, radius: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = Pair(*self.masks(kind))
        found = pair.counts(radius)
        if kind == "specks":
            assert 0 < found.predicted - found.near_true < found.predicted
        monkeypatch.setattr(measure, "_LARGE", 10**9)
        assert pair.counts(radius) == found


class TestVosBenchmark:
    @pytest.fixture
    def evaluator(self) -> Any:
        return pytest.importorskip("vos_benchmark.evaluator").Evaluator

    def test_masks_of_all_objects_in_one_picture(self, evaluator: Any, tmp_path: Path) -> None:
        data, masks = drawn.mose(tmp_path)
        found = sam21convert.score(masks, data, protocol="sav")
        j, f = [], []
        for video, (truth, predicted) in sorted(drawn.cases().items()):
            iou, boundary = self.fed(evaluator, truth, predicted)
            j += [*iou.values()]
            f += [*boundary.values()]
            mine = {one.object: [one.j, one.f] for one in found.per_object if one.video == video}
            assert mine == {str(number): [iou[number], boundary[number]] for number in iou}
        assert (found.j, found.f) == (np.mean(j), np.mean(f))
        assert found.jf == (np.mean(j) + np.mean(f)) / 2

    def test_a_folder_for_each_object(self, evaluator: Any, tmp_path: Path) -> None:
        data, masks = drawn.sav(tmp_path)
        found = sam21convert.score(masks, data)
        assert (found.layout, found.protocol) == ("sav", "sav")
        for one in found.per_object:
            truth, predicted = drawn.cases()[one.video]
            number = [n for n in np.unique(truth[1:-1]) if n][int(one.object)]
            (j,), (f,) = (
                of.values() for of in self.fed(evaluator, truth == number, predicted == number)
            )
            assert [one.j, one.f] == [j, f]

    @staticmethod
    def fed(evaluator: Any, truth: Any, predicted: Any) -> Any:
        fed = evaluator()
        for true, given in list(zip(truth, predicted, strict=True))[1:-1]:
            fed.feed_frame(given, true)
        return fed.conclude()


class TestReport:
    def test_what_json_has(self, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path)
        answer = sam21convert.score(masks, data).to_answer()
        assert answer["ok"] is True
        assert answer["schema"] == "sam21convert/evaluate/1"
        assert [answer[name] for name in ("protocol", "layout", "videos")] == ["davis", "davis", 16]
        assert answer["objects"] == len(answer["per_object"]) == 34
        assert answer["frames"] == 34 * (drawn.FRAMES - 2)
        assert {"video", "object", "j", "f", "frames"} <= answer["per_object"][0].keys()

    def test_some_videos_only(self, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path)
        found = sam21convert.score(masks, data, videos=["equal", "lost"])
        assert [one.jf for one in found.per_object] == [100, 100, 0, 0]
        with pytest.raises(UsageError, match="there is no video equall") as error:
            sam21convert.score(masks, data, videos=["equall"])
        assert error.value.hint == "did you mean equal?"

    def test_rules_that_are_not_those_of_the_data_are_noted(self, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path)
        assert not sam21convert.score(masks, data).notes
        (note,) = sam21convert.score(masks, data, protocol="sav").notes
        assert "usually scored by the rules of davis" in note

    def test_data_that_lies_in_a_folder_alone(self, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path / "home")
        masks = masks.rename(tmp_path / "masks")
        found = sam21convert.score(masks, tmp_path / "home")
        assert found.data == data


class TestWrongInput:
    """One sentence each, with the file and what to do."""

    @pytest.fixture
    def given(self, tmp_path: Path) -> tuple[Path, Path]:
        truth, predicted = drawn.cases()["moved"]
        drawn.write(tmp_path / "DATA/Annotations/480p/car", truth)
        drawn.write(tmp_path / "masks/car", predicted)
        return tmp_path / "DATA", tmp_path / "masks"

    @contextmanager
    def refused(
        self, given: tuple[Path, Path], kind: type[Sam21ConvertError], text: str
    ) -> Iterator[Path]:
        data, masks = given
        yield masks / "car/00003.png"
        with pytest.raises(kind, match=text):
            sam21convert.score(masks, data)

    def test_a_missing_mask(self, given: Any) -> None:
        with self.refused(given, UnreadableError, r"00003\.png: there is no mask") as path:
            path.unlink()

    def test_no_masks_of_a_video(self, given: Any) -> None:
        with self.refused(given, UnreadableError, r"car") as path:
            path.parent.rename(path.parent.parent / "bus")

    def test_another_size(self, given: Any) -> None:
        with self.refused(given, UnreadableError, r"expected 80 x 48 .* found 40 x 48") as path:
            Image.fromarray(np.zeros((48, 40), np.uint8)).save(path)

    def test_colours(self, given: Any) -> None:
        with self.refused(given, RefusedError, r"expected ids .* mode RGB") as path:
            Image.fromarray(np.zeros((48, 80, 3), np.uint8)).save(path)

    def test_a_damaged_png(self, given: Any) -> None:
        with self.refused(given, UnreadableError, r"00003\.png") as path:
            path.write_bytes(path.read_bytes()[:90])

    def test_an_object_that_is_not_in_the_truth(self, given: Any) -> None:
        with self.refused(given, RefusedError, r"object 7 is not in the first mask") as path:
            Image.fromarray(np.full((48, 80), 7, np.uint8)).save(path)
        found = sam21convert.score(*reversed(given), protocol="sav")  # as the hint says
        assert found.objects == 2

    def test_an_object_that_appears_later(self, tmp_path: Path) -> None:
        data, masks = drawn.mose(tmp_path)
        with pytest.raises(RefusedError, match="object 2 is not in the first mask"):
            sam21convert.score(masks, data, protocol="davis", videos=["later"])

    def test_a_video_that_is_too_short(self, given: Any) -> None:
        with self.refused(given, RefusedError, "expected masks of 3 frames or more") as path:
            for truth in (given[0] / "Annotations/480p/car").glob("*[1-8].png"):
                truth.unlink()
            assert path.exists()

    def test_several_objects_in_a_file_of_one(self, tmp_path: Path) -> None:
        data, masks = drawn.sav(tmp_path)
        with pytest.raises(RefusedError, match="expected one object in a file"):
            path = masks / "equal/000/00004.png"
            Image.fromarray(np.arange(80 * 48, dtype=np.uint8).reshape(48, 80) % 3).save(path)
            sam21convert.score(masks, data, videos=["equal"])

    def test_no_data_set(self, tmp_path: Path) -> None:
        (tmp_path / "pictures").mkdir()
        with pytest.raises(RefusedError, match=r"expected a folder Annotations .* pictures"):
            sam21convert.score(tmp_path, tmp_path)

    def test_a_list_with_a_video_that_is_not_there(self, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path)
        (data / "ImageSets/2017/val.txt").write_text("equal\nbear\n")
        with pytest.raises(UnreadableError, match=r"val\.txt: lists bear, which has no masks"):
            sam21convert.score(masks, data)

    @pytest.mark.parametrize("name", ["../bear", "a/b", "..", "/tmp/bear"])
    def test_a_list_with_a_path(self, name: str, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path)
        (data / "ImageSets/2017/val.txt").write_text(f"equal\n{name}\n")
        with pytest.raises(RefusedError, match=rf"val\.txt: lists {name}, which is no name"):
            sam21convert.score(masks, data)

    def test_ids_that_no_byte_holds(self, given: Any) -> None:
        with self.refused(given, RefusedError, r"00003\.png: expected ids .* found 60000") as path:
            Image.fromarray(np.full((48, 80), 60000, np.uint16)).save(path)

    def test_a_jpeg_that_is_named_png(self, given: Any) -> None:
        with self.refused(given, RefusedError, r"00003\.png: expected a PNG") as path:
            Image.fromarray(np.zeros((48, 80), np.uint8)).save(path, "JPEG")

    def test_a_file_in_place_of_a_folder(self, given: Any) -> None:
        data, masks = given
        path = masks / "car/00001.png"
        for wrong in ((path, data), (masks, path)):
            with pytest.raises(
                UnreadableError, match=r"00001\.png: expected a folder, found a file"
            ):
                sam21convert.score(*wrong)

    def test_rules_for_masks_of_all_objects_and_a_folder_for_each(self, tmp_path: Path) -> None:
        data, masks = drawn.sav(tmp_path)
        with pytest.raises(RefusedError, match="has a folder for each object") as error:
            sam21convert.score(masks, data, protocol="davis")
        assert error.value.hint == "--protocol sav scores them"


class TestOneBrokenVideo:
    """It is reported, and the others are scored as they are without it."""

    @pytest.mark.parametrize("broken", ["missing", "size", "colours", "damaged", "another id"])
    def test_is_reported_and_the_rest_scored(self, broken: str, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path)
        others = [name for name in drawn.cases() if name not in ("far", *drawn.LATER)]
        expected = sam21convert.score(masks, data, videos=others)
        path = masks / "far/00003.png"
        wrong = {
            "size": np.zeros((48, 40), np.uint8),
            "colours": np.zeros((48, 80, 3), np.uint8),
            "another id": np.full((48, 80), 7, np.uint8),
        }
        if broken == "missing":
            path.unlink()
        elif broken == "damaged":
            path.write_bytes(path.read_bytes()[:90])
        else:
            Image.fromarray(wrong[broken]).save(path)
        with pytest.raises(Sam21ConvertError) as error:
            sam21convert.score(masks, data, videos=["far"])
        found = sam21convert.score(masks, data)
        assert (found.ok, found.exit_code, found.videos) == (False, 1, len(others))
        (failed,) = found.failed
        assert (failed.video, failed.reason) == ("far", error.value.message)
        assert str(path) in failed.reason
        assert replace(found, failed=()) == expected
        assert f"failed: far: {failed.reason}" in str(found)
        answer = conforms(found.to_json())
        assert answer["failed"] == [
            {"video": "far", "reason": failed.reason, "hint": error.value.hint}
        ]

    def test_if_all_are_broken_the_answer_is_the_error_of_the_first(self, tmp_path: Path) -> None:
        data, masks = drawn.davis(tmp_path)
        for path in masks.glob("*/00003.png"):
            path.unlink()
        with pytest.raises(UnreadableError, match=r"equal/00003\.png: there is no mask"):
            sam21convert.score(masks, data)


class TestWrongFilesAboutObjects:
    @pytest.fixture(scope="class")
    @classmethod
    def given(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
        home = tmp_path_factory.mktemp("lvos")
        truth, predicted = drawn.cases()["moved"]
        drawn.write(home / "DATA/Annotations/car", truth, 1, 5, 8)
        drawn.write(home / "masks/car", predicted, 1, 5, 8)
        return home / "DATA", home / "masks"

    def scored(self, given: tuple[Path, Path], objects: Any, protocol: Protocol) -> Evaluation:
        data, masks = given
        stated = {"videos": {"car": {"objects": objects}}}
        (data / "valid_meta.json").write_text(json.dumps(stated))
        return sam21convert.score(masks, data, protocol=protocol)

    @pytest.mark.parametrize(
        ("start", "end", "count", "text"),
        [
            (1, 6, 2, "has 2 frames; expected 3 or more"),
            (1, 41, 20, "has 20 frames; expected 3 or more"),
            (1, 5 * 10**7, 10**7, "has 10000000 frames; expected .* or than the 9 masks in"),
            (41, 1, 9, "expected start, end and frame_nums .* of object 1 of video car"),
            (-10, 40, 9, "expected start, end and frame_nums"),
            (1, 10**30, 9, "expected start, end and frame_nums"),
            (1, float("inf"), 9, "expected start, end and frame_nums"),
            ([1], 41, 9, "expected start, end and frame_nums"),
        ],
    )
    def test_spans(self, given: Any, start: Any, end: Any, count: Any, text: str) -> None:
        span = {"start": start, "end": end, "frame_nums": count}
        with pytest.raises(Sam21ConvertError, match=rf"valid_meta\.json: .*{text}"):
            self.scored(given, {"1": {"frame_range": span}}, "lvos")

    def test_a_list_where_spans_are_needed(self, given: Any) -> None:
        with pytest.raises(UnreadableError, match=r"valid_meta\.json: expected start, end and"):
            self.scored(given, [1, 2], "lvos")

    @pytest.mark.parametrize("name", ["0", "256", "-1", "x", "9" * 5000, None, 1.0, {"a": 1}])
    def test_what_is_no_id(self, given: Any, name: Any) -> None:
        with pytest.raises(UnreadableError, match=r"valid_meta\.json: expected ids of objects"):
            self.scored(given, [name], "mosev2")

    def test_an_id_counts_once(self, given: Any) -> None:
        assert self.scored(given, [1, "1", 2], "mosev2").objects == 2


class TestNamesOfVideos:
    def test_in_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_bytes("\ufeffcar\r\n\r\na b\r\n".encode())
        assert names_in(str(path)) == ["car", "a b"]

    def test_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_bytes(b"\xff\xfec\0")
        with pytest.raises(UnreadableError, match=r"list\.txt: not UTF-8 text"):
            names_in(str(path))
        path.write_text("\n \n")
        for text in (str(path), "", ","):
            with pytest.raises(UsageError, match="expected names of videos"):
                names_in(text)
        assert names_in("a" * 5000) == ["a" * 5000]
