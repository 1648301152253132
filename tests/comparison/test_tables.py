"""The tables of a parity report say what its JSON says, and show every name as it is."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from itertools import pairwise
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from sam21convert.comparison.folder import write_folder
from sam21convert.comparison.page.page import page
from sam21convert.comparison.report import ParityReport
from sam21convert.comparison.tables.data import COLUMNS, data
from sam21convert.comparison.tables.facts import head
from sam21convert.comparison.tables.latex import label_of, latex
from sam21convert.comparison.tables.markdown import markdown
from sam21convert.errors import UsageError
from sam21convert.report import one_line

from ..support.nasty import NASTY
from ..support.reports import (
    FAILING,
    KNOWN,
    LONG_NAMES,
    NOT_RUN,
    PASSING,
    activation,
    image,
    report,
    side,
    video,
)

MIXED = report(image(), image("box", apart=0.2), KNOWN, NOT_RUN, video())
NOT_FINITE = report(
    replace(image(), activations=(activation(apart=1e-9), activation("pointer", inf))),
    replace(image("box"), activations=(activation("pointer", nan),), first_mismatch="pointer"),
)
FILES = ("index.html", "report.json", "table.csv", "table.md", "table.tex")
ALL = pytest.mark.parametrize(
    "shown",
    [PASSING, FAILING, MIXED, LONG_NAMES, NOT_FINITE],
    ids=["yes", "no", "mixed", "long", "not-finite"],
)


def in_json(shown: ParityReport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown.to_json())
    return found


def numbers(scenario: dict[str, Any]) -> list[str]:
    """Number, difference, tolerance and IoU of a row, from the JSON of a scenario."""
    activations = scenario["activations"]
    if not activations:
        return [""] * 4
    named = [one for one in activations if one["name"] == scenario["first_mismatch"]]
    shown = named[0] if named else max(activations, key=nearness)
    overlaps = [one["iou"] for one in activations if one["iou"] is not None]
    least = min(overlaps, default=None)
    iou = "" if least is None else "1" if least == 1 else f"{min(least, 0.9999):.4f}"
    real = "" if scenario["apart"] is None else f" ({short(scenario['apart'])})"
    difference = f"{short(shown['relative'])}{real}"
    return [str(len(activations)), difference, short(shown["tolerance"]), iou]


def nearness(activation: dict[str, Any]) -> float:
    """How near an activation is to its tolerance."""
    apart = activation["relative"]
    return inf if apart is None else float(apart / activation["tolerance"])


def short(number: float | None) -> str:
    """In two digits. JSON has no numbers that are not finite."""
    return "not finite" if number is None else "0" if number == 0 else f"{number:.1e}"


def rows_of(shown: ParityReport) -> list[list[str]]:
    def title(one: dict[str, Any]) -> str:
        return one_line(f"{one['name']} ({one['input']})" if one["input"] else one["name"])

    found = in_json(shown)["scenarios"]
    return [[title(one), one["status"], *numbers(one)] for one in found]


# The text that a command of LaTeX shows.
SHOWN = {
    "textbackslash": "\\",
    "textasciicircum": "^",
    "textasciitilde": "~",
    "ss": "ß",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "infty": "not finite",
    "times": "×",
    **dict.fromkeys(("texttt", "emph", "allowbreak", "par"), ""),
    **{char: char for char in "{}$&#_%"},
}
TOKEN = re.compile(r"\\char(?P<code>\d+)|\\(?P<command>[A-Za-z]+|.)|(?P<plain>.)", re.DOTALL)


def seen(source: str) -> str:
    """The text that LaTeX shows. Fails where a name is a command, opens a group or begins math."""
    text, depth, math = "", 0, False
    source = re.sub(r'\\"\{(\w)\}', "\\1\u0308", source)
    for token in TOKEN.finditer(source):
        code, command, plain = token.groups()
        if code or command:
            text += chr(int(code)) if code else SHOWN[command]
        elif plain in "{}":
            depth += 1 if plain == "{" else -1
            assert depth >= 0
        elif plain == "$":
            math = not math
        else:
            assert plain not in "&#%~_`'\""
            assert plain.isascii() or plain == "\u0308"
            assert plain != "^" or math
            text += plain if plain != "^" else ""
    assert (depth, math) == (0, False)
    return unicodedata.normalize("NFC", text).replace("NaN", "not finite")


def in_latex(shown: ParityReport) -> tuple[list[list[str]], str]:
    """The cells of each row, and the text below them."""
    body, _, below = latex(shown).partition("\\midrule\n")[2].partition("\\bottomrule\n")
    rows = [
        [seen(cell) for cell in re.split(r" (?<!\\)& ", line.removesuffix(r" \\"))]
        for line in body.splitlines()
    ]
    notes = below.partition(r"\raggedright")[2].partition(r"\end{minipage}")[0]
    return rows, seen(notes)


def in_markdown(shown: ParityReport) -> tuple[list[list[str]], str]:
    """The cells of each row, and the text around them."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown(shown))
    cells, rest = [], []
    for before, token in pairwise(tokens):
        for child in token.children or ():
            assert child.type in ("text", "code_inline", "softbreak"), child
        text = "".join(child.content for child in token.children or ())
        if before.type == "td_open":
            cells.append(text)
        elif token.type == "inline" and before.type != "th_open":
            rest.append(text)
    width = len(head(PASSING)) + 1
    return [cells[at : at + width] for at in range(0, len(cells), width)], "\n".join(rest)


def in_csv(shown: ParityReport) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data(shown))))


def to_latex(number: str) -> str:
    """A number of the JSON as it stands in a paper."""
    return re.sub(r"e([+-]\d+)(?=\)?$| \()", lambda found: f"×10{int(found[1])}", number)


@ALL
def test_rows_of_latex_are_the_scenarios_of_the_json(shown: ParityReport) -> None:
    assert in_latex(shown)[0] == [[*map(to_latex, row)] for row in rows_of(shown)]


@ALL
def test_rows_of_markdown_are_the_scenarios_of_the_json(shown: ParityReport) -> None:
    found = [row[:-1] for row in in_markdown(shown)[0]]
    plain = [[re.sub("^(inf|nan)$", "not finite", cell) for cell in row] for row in found]
    assert plain == rows_of(shown)


@ALL
def test_rows_of_csv_are_the_activations_of_the_json_with_every_digit(shown: ParityReport) -> None:
    def value(text: str) -> object:
        if text in ("", "true", "false"):
            return {"": None, "true": True, "false": False}[text]
        return float(text) if isfinite(float(text)) else None

    found = [
        {name: text if name == "activation" else value(text) for name, text in row.items()}
        for row in ({name: row[name] for name in COLUMNS[3:12]} for row in in_csv(shown))
    ]
    expected = [
        {"activation": one.pop("name"), **one}
        for scenario in in_json(shown)["scenarios"]
        for one in scenario["activations"] or [dict.fromkeys(("name", *COLUMNS[4:12]))]
    ]
    for row in expected:
        row["activation"] = row["activation"] or ""
    assert found == expected


@ALL
def test_what_belongs_to_them_is_that_of_the_json(shown: ParityReport) -> None:
    """Date, versions, device, command, and the hash of every file of both sides."""
    found = in_json(shown)
    facts = [found["date"], *(f"{name} {one}" for name, one in found["versions"].items())]
    facts += [f"{found['device']} in {found['dtype']}", found["command"]]
    facts += [*found["problems"], *(one["why"] for one in found["scenarios"])]
    sides = [found["left"], found["right"]]
    facts += [f"{one['backend']} {one['version']}, {one['source']}" for one in sides]
    facts += [text for one in sides for pair in one["sha256"].items() for text in pair]
    for text in (in_latex(shown)[1], in_markdown(shown)[1]):
        assert [fact for fact in facts if fact not in text] == []
    for row in in_csv(shown):
        assert (row["date"], row["ok"]) == (found["date"], str(found["ok"]).lower())
        assert row["versions"] == "; ".join(f"{n} {one}" for n, one in found["versions"].items())
        for name in ("left", "right"):
            assert row[f"{name}_source"] == found[name]["source"]
            assert row[f"{name}_sha256"] == "; ".join(
                f"{digest} {file}" for file, digest in found[name]["sha256"].items()
            )


def test_the_page_has_the_date() -> None:
    assert PASSING.date in page(PASSING)
    assert PASSING.date not in page(replace(PASSING, date="2027"))


def named(text: str) -> ParityReport:
    """A report with a name in every place that takes one."""
    left = replace(side(source=text), sha256={text: "9f" * 32, "b": "a1" * 32})
    reason = replace(NOT_RUN, why=text)
    shown = report(replace(image(), input=text), reason)
    return replace(shown, left=left, command=f"sam21convert parity {text}")


FORMULAS = ("=1+1", "+1", "-1", "@SUM(1)", "\uff1d1", " =1")


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet computes a cell: it also takes the wide forms that Asian fonts have."""
    return unicodedata.normalize("NFKC", cell).lstrip()[:1] in {*"=+-@"}


@pytest.mark.parametrize("name", [*NASTY, *FORMULAS, "ἀλφα"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    plain, shown = one_line(name), named(name)
    source = one_line(str(shown.left.source))
    rows, text = in_latex(shown)
    ascii_only = "".join(c if c.isascii() or c in "üß" else ascii(c)[1:-1] for c in plain)
    assert rows[0][0] == f"point ({ascii_only})"
    assert ascii_only in text
    rows, text = in_markdown(shown)
    assert rows[0][0] == f"point ({plain})"
    assert source in text
    cells = in_csv(shown)
    texts = [cells[0]["input"], cells[0]["left_source"]]
    assert not any(map(is_formula, texts))
    assert [text[text[:1] == "'" and is_formula(text[1:]) :] for text in texts] == [plain, source]


def test_the_checks_see_formulas_and_names_that_are_not_escaped() -> None:
    assert [is_formula(one) for one in (*FORMULAS, "'=1", "1")] == [True] * 6 + [False] * 2
    for raw in (r"\input{x}", "a_b", "a$b", "50%", "{", "~"):
        with pytest.raises((AssertionError, KeyError)):
            seen(raw)


def test_a_negative_number_stays_a_number() -> None:
    found = replace(activation(), cosine=-0.25)
    (row,) = in_csv(report(replace(image(), activations=(found,))))
    assert float(row["cosine"]) == -0.25


def test_the_label_has_only_what_a_label_may_have() -> None:
    assert label_of(PASSING) == "tab:parity-truth-tiny-sam2-tiny"
    assert re.fullmatch(r"tab:parity-[a-z0-9-]+", label_of(named("a_b}{%$東.pt")))
    assert f"\\label{{{label_of(PASSING)}}}" in latex(PASSING)


LATEX = shutil.which("pdflatex")


@pytest.mark.skipif(LATEX is None, reason="no pdflatex on this machine")
def test_latex_compiles_it_as_an_input_of_a_bare_document(tmp_path: Path) -> None:
    assert LATEX is not None
    everything = report(*(replace(image(), input=name) for name in NASTY), NOT_RUN)
    (tmp_path / "table.tex").write_text(latex(everything))
    document = (
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    )
    (tmp_path / "paper.tex").write_text(document)
    command = [LATEX, "-halt-on-error", "-interaction=nonstopmode", "-draftmode", "paper.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "table.tex").write_text(latex(everything).replace(r"\_", "_"))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0


class TestFolder:
    def test_a_page_its_numbers_and_tables(self, tmp_path: Path) -> None:
        path = write_folder(FAILING, tmp_path / "new")
        assert path == tmp_path / "new" / "index.html"
        assert path.read_text() == page(FAILING)
        found = json.loads((path.parent / "report.json").read_text())
        assert found == in_json(FAILING)
        for end, written in (("tex", latex), ("md", markdown), ("csv", data)):
            assert (path.parent / f"table.{end}").read_text() == written(FAILING)
        assert sorted(file.name for file in path.parent.iterdir()) == [*FILES]

    def test_an_older_one_is_kept_without_overwrite(self, tmp_path: Path) -> None:
        (tmp_path / "other.txt").write_text("kept")
        with pytest.raises(UsageError, match="exists"):
            write_folder(PASSING, tmp_path)
        write_folder(FAILING, tmp_path, overwrite=True)
        write_folder(PASSING, tmp_path, overwrite=True)
        assert (tmp_path / "index.html").read_text() == page(PASSING)
        assert (tmp_path / "other.txt").read_text() == "kept"

    def test_an_error_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        broken = replace(PASSING, versions={"torch": object()})  # type: ignore[dict-item]
        with pytest.raises(TypeError):
            write_folder(broken, tmp_path / "new")
        assert list(tmp_path.iterdir()) == []

    def test_a_path_that_is_no_text_is_written(self, tmp_path: Path) -> None:
        write_folder(replace(PASSING, left=side(source="a\udcff.pt")), tmp_path / "new")
        for name in FILES:
            assert r"a\udcff.pt" in (tmp_path / "new" / name).read_text().replace(
                r"\textbackslash{}", "\\"
            )
