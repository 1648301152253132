"""Tables in the documents agree with the code."""

from __future__ import annotations

import inspect
import re

import click
import pytest

import sam21convert
import sam21convert.model
from sam21convert.checkpoint.lookalikes import FAMILIES, ModelFamily, Signature
from sam21convert.checkpoint.state_dict import ANCHORS
from sam21convert.commands.main import main
from sam21convert.commands.translate import as_options
from sam21convert.comparison.explain.known_differences import KNOWN_DIFFERENCES
from sam21convert.comparison.gradients.known import KNOWN_CUTS
from sam21convert.comparison.gradients.scenarios import ALL as TRAINING
from sam21convert.comparison.scenarios import BY_NAME
from sam21convert.comparison.sides import BACKENDS
from sam21convert.dialects import DIALECTS
from sam21convert.dialects.keymap import target_name
from sam21convert.io.unsupported import ARCHIVES, UNSUPPORTED

from .support.paths import DOCS, ROOT

# Roles and literals of docstrings.
MARKUP = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`|``(.+?)``")
FORMS = {
    "torch zip": "`.pt`",
    "safetensors": "`.safetensors`",
    "transformers folder": "folder",
    "timm folder": "folder",
}


def rows(heading: str, document: str = "parity.md") -> list[list[str]]:
    """Cells of the first table of a document that follows ``heading``."""
    text = (DOCS / document).read_text().partition(heading)[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return [line.strip("|\n").split(" | ") for line in table[0].splitlines()[2:]]


def test_every_scenario() -> None:
    listed = [name for row in rows("**Scenarios**") for name in re.findall("`(.+?)`", row[0])]
    assert listed == list(BY_NAME)


def test_every_known_difference() -> None:
    listed = [(row[0].strip(" `"), row[1], row[3]) for row in rows("## Known differences")]
    assert listed == [(d.name, f"{d.backend} {d.versions}", d.summary) for d in KNOWN_DIFFERENCES]


def test_every_scenario_of_training() -> None:
    listed = [row[0].strip(" `") for row in rows("## Gradients")]
    assert listed == [scenario.name for scenario in TRAINING]


def test_every_cut_that_is_known() -> None:
    listed = [(row[0].strip(" `"), *row[1:3]) for row in rows("What is known of a package")]
    assert listed == [
        (cut.name, f"{cut.backend} {cut.versions}", cut.summary) for cut in KNOWN_CUTS
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend(backend: str) -> None:
    assert f"`{backend}`" in (DOCS / "parity.md").read_text()


def test_every_lookalike() -> None:
    listed = [[cell.strip() for cell in row] for row in rows("## Lookalikes", "formats.md")]
    assert listed == [
        [f.name, recognised(f), f"{f.about}; {on_the_command_line(f.advice, code=True)}"]
        for f in FAMILIES
    ]


def on_the_command_line(hint: str, *, code: bool = False) -> str:
    """A hint of the library as the commands print it; with ``code``, options in backticks."""
    with click.Context(main):
        text = as_options(hint)
    return re.sub(r"--[a-z-]+", r"`\g<0>`", text) if code else text


def recognised(family: ModelFamily) -> str:
    """How a model family is recognised, in the words of the document."""
    signs = [*map(in_words, family.signatures)]
    signs += [f"`model_type` `{kind}`" for kind in family.model_types]
    signs += [f"`{family.config_key}` in `config.json`"] if family.config_key else []
    return "<br>".join(signs)


def in_words(signature: Signature) -> str:
    words = " and ".join(f"`{name}`" for name in signature.names)
    words += f" of {signature.rank} dimensions" if signature.rank else ""
    return words + "".join(f", no `{name}`" for name in signature.without)


def test_every_unsupported_format() -> None:
    listed = [
        [cell.strip() for cell in row] for row in rows("## Unsupported formats", "formats.md")
    ]
    known = [(kind.what, kind.hint) for kind in UNSUPPORTED]
    known += [(kind.what, kind.hint) for kind in ARCHIVES]
    assert listed == [[what, on_the_command_line(hint)] for what, hint in known]


def test_every_dialect() -> None:
    listed = [[cell.strip() for cell in row[:3]] for row in rows("## Dialects", "formats.md")]
    assert [[name.strip("`"), what.replace("`", ""), forms] for name, what, forms in listed] == [
        [d.name, d.summary, ", ".join(FORMS[container] for container in d.containers)]
        for d in DIALECTS
    ]


def test_what_a_dialect_is_recognised_by_and_asked_for_with() -> None:
    for dialect, row in zip(DIALECTS, rows("## Dialects", "formats.md"), strict=True):
        recognised, command = row[3], row[4]
        assert re.findall("`(.+?)`", recognised)[0] == target_name(dialect, ANCHORS[0])
        usual = dialect.name in ("official", "hf-video")
        assert usual or f"--to {dialect.name}`" in command


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in DOCS.glob("*.md"))]
)
def test_every_path_exists(file: str) -> None:
    text = (ROOT / file).read_text()
    named = set(
        re.findall(r"(?<![\w./])(?:sam21convert|tests|benchmarks|docs|configs)/[\w./+-]*\w", text)
    )
    named = {name for name in named if not re.fullmatch(r"sam21convert/\w+/\d", name)}  # schemas
    links = (link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link)
    linked = {(ROOT / file).parent / link for link in links}
    missing = [path for path in [*(ROOT / name for name in named), *linked] if not path.exists()]
    assert not missing


def first_line(name: str) -> str:
    home = sam21convert.model if "model" in name.split(".") else sam21convert
    text = inspect.getdoc(getattr(home, name.rpartition(".")[2])) or ""
    return MARKUP.sub(lambda found: f"`{found[1] or found[2]}`", text.partition("\n")[0])


def test_the_reference_says_in_a_line_what_each_name_is() -> None:
    text = (DOCS / "api.md").read_text()
    names = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    listed = re.findall(r"^- `(\w+)`: (.+)$", text, re.MULTILINE)
    assert listed == [(name.rpartition(".")[2], first_line(name)) for name in names]


def test_how_long_a_comparison_takes_is_what_was_measured() -> None:
    text = (DOCS / "performance.md").read_text()
    row = r"^\| `official.pt transformers:folder` \| \d+ \| (\d+) \| \d+ \|$"
    (now,) = re.findall(row, text, re.MULTILINE)
    said = f"about as long as {now} encodings of an image"
    assert said in (ROOT / "README.md").read_text().replace("\n", " ")
    assert said in (DOCS / "parity.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for document in DOCS.glob("*.md"):
        for name in re.findall(r"`((?:test_|Test)\w+)…?`", document.read_text()):
            assert re.search(rf"(def|class) {name}", code), f"{document.name}: {name}"
