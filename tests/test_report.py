"""Reports: text for people, plain data for machines, tables in a notebook."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sam21convert
from sam21convert.io.folding import fold
from sam21convert.report import Part, Report, one_line, table

from .support.checkpoints import DEBUG


@dataclass(frozen=True)
class Answer(Report):
    path: Path
    names: tuple[str, ...]
    found: tuple[dict[str, Any], ...] = ()

    def shown(self) -> list[Part]:
        return [table([("path", str(self.path)), ("names", ", ".join(self.names))])]


NASTY = "a\nsafety  harmless\r\x1b[2J\x85\u2028\u202e\udcff.pt"
ESCAPED = r"a\nsafety  harmless\r\x1b[2J\x85\u2028\u202e\udcff.pt"


def test_a_name_cannot_begin_a_line_or_move_the_cursor() -> None:
    assert one_line(NASTY) == ESCAPED
    assert str(table([("file", NASTY)])) == f"file  {ESCAPED}"
    assert str(table([(NASTY, "a"), ("b", "c")])).splitlines()[0] == f"{ESCAPED}  a"
    assert fold([f"{NASTY}.0.bias", f"{NASTY}.1.bias"]) == [f"{ESCAPED}.{{0,1}}.bias"]
    assert str(Answer(Path(NASTY), (NASTY,))).splitlines() == [
        f"path   {ESCAPED}",
        f"names  {ESCAPED}",
    ]


def test_lines_that_are_ours_stay_below_each_other() -> None:
    assert str(table([("one", ("a", "b\nc")), ("two", "d")])) == "one  a\n     b\\nc\ntwo  d"


def test_text_of_any_language_is_shown_as_it_is() -> None:
    assert one_line("Grüße, 東京 → 🙂") == "Grüße, 東京 → 🙂"


def test_its_json_holds_no_number_that_is_not_finite() -> None:
    answer = Answer(Path("a.pt"), (), ({"iou": float("nan"), "of": [float("-inf"), 0.5]},))
    assert json.loads(answer.to_json())["found"] == [{"iou": None, "of": [None, 0.5]}]
    assert "NaN" not in answer.to_json()


def test_its_repr_is_its_text() -> None:
    answer = Answer(Path("a.pt"), ("one", "two"))
    assert repr(answer) == str(answer) == "path   a.pt\nnames  one, two"


def test_every_report_of_the_package_has_its_text_as_its_repr() -> None:
    def below(cls: type[Report]) -> set[type[Report]]:
        return {cls}.union(*map(below, cls.__subclasses__()))

    for name in sam21convert.__all__:
        getattr(sam21convert, name)  # imports the modules
    ours = {cls for cls in below(Report) if cls.__module__.startswith("sam21convert.")}
    assert len(ours) >= 12
    assert all(cls.__repr__ is Report.__repr__ for cls in ours - {Report})


class Refusal(Answer):
    """An answer that is no."""

    @property
    def exit_code(self) -> int:
        """1."""
        return 1


def test_every_report_has_the_ok_of_its_json(tmp_path: Path) -> None:
    for answer in (Answer(Path("a"), ()), Refusal(Path("a"), ())):
        assert answer.ok == (not isinstance(answer, Refusal)) == answer.to_answer()["ok"]
    model, other = (sam21convert.sample(tmp_path / f"{n}.pt", DEBUG, seed=n) for n in (0, 1))
    answers = [
        model,
        sam21convert.inspect(model.path),
        sam21convert.inspect_all([model.path, tmp_path / "gone.pt"]),
        sam21convert.validate(model.path),
        sam21convert.validate(model.path, "debug/sam2_debug"),
        sam21convert.diff(model.path, model.path),
        sam21convert.diff(model.path, other.path),
    ]
    assert [one.ok for one in answers] == [True, True, False, True, False, True, False]
    assert [one.ok for one in answers] == [one.exit_code == 0 for one in answers]


def test_a_change_is_printed_with_its_name(tmp_path: Path) -> None:
    a, b = (sam21convert.sample(tmp_path / f"{n}.pt", DEBUG, seed=n).path for n in (0, 1))
    found = sam21convert.diff(a, b)
    for change in found.tensors:
        assert str(change) == f"{change.name}  {change.size}"
    assert "of scale" in found.tensors[0].size


def test_a_notebook_shows_a_table() -> None:
    shown = Answer(Path("<a>.pt"), ("one", "two"))._repr_html_()
    assert shown.startswith("<table><tr><th>path</th><td>&lt;a&gt;.pt</td></tr>")
    assert "<td>one, two</td>" in shown


def test_long_lists_are_folded_and_cut() -> None:
    many = Answer(Path("a"), tuple(map(str, range(9))), tuple({"n": n} for n in range(60)))
    shown = many._repr_html_()
    assert "<details><summary>9</summary>0, 1, 2" in shown
    assert "<summary>60</summary>" in shown
    assert shown.count("<li>") == 50
    assert "and 10 more" in shown


def test_a_conversion_is_short_in_a_notebook(tmp_path: Path) -> None:
    sam21convert.sample(tmp_path / "a.pt", DEBUG)
    done = sam21convert.convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert len(repr(done)) < 1000 < len(done.to_json())
    assert json.loads(done.to_json())["tensors"][0]["name"] == done.tensors[0]["name"]
    assert len(done._repr_html_()) < 30_000
