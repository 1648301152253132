"""The pages in a browser: mkdocs builds them without a warning, and they fetch nothing."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import sam21convert
import sam21convert.model

from .support.paths import DOCS, ROOT

SETTINGS = ROOT / "mkdocs.yml"
# What a page takes from another address by itself; a link that is followed by hand is none.
FETCHED = re.compile(
    r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?((?:https?:)?//[^\" >]+)"
)


def pages(nav: Any) -> list[str]:
    """The files that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in pages(one)]


def navigation() -> list[str]:
    return pages(yaml.safe_load(SETTINGS.read_text())["nav"])


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Without --quiet, which would let warnings through.
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder), *options]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, cwd=ROOT, env=variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_navigation() -> None:
    missing = {path.name for path in DOCS.glob("*.md")} - {*navigation()}
    assert not missing, f"add to `nav` in mkdocs.yml, and to docs/index.md: {sorted(missing)}"


def test_the_overview_links_every_page() -> None:
    linked = re.findall(r"\]\(([\w.]+)\)", (DOCS / "index.md").read_text())
    missing = {*navigation()} - {*linked, "index.md", "notebook.md"}  # which is linked as a file
    assert not missing, f"add to docs/index.md: {sorted(missing)}"


def test_the_reference_has_every_public_name(site: Path) -> None:
    page = (site / "api" / "index.html").read_text()
    shown = {*re.findall(r'id="sam21convert\.(?:model\.)?(\w+)"', page)}
    public = {*sam21convert.__all__, *sam21convert.model.__all__} - {"__version__"}
    assert not public - shown, f"add to docs/api.md: {sorted(public - shown)}"
    assert not shown - public, f"remove from docs/api.md: {sorted(shown - public)}"
    assert not re.findall(r":(?:func|class|meth|attr|mod):`[^<]*", page)
    assert 'href="#sam21convert.load_model"' in page  # a reference in a docstring


def test_the_notebook_is_a_page(site: Path) -> None:
    page = (site / "notebook" / "index.html").read_text()
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    book = json.loads((DOCS / "notebook.ipynb").read_text())
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert page.count('<div class="highlight">') == len(code) > 5
    assert not [cell for cell in code if cell not in text]
    assert 'href="../notebook.ipynb"' in page
    assert (site / "notebook.ipynb").read_text() == (DOCS / "notebook.ipynb").read_text()
    assert 'href="notebook/"' in (site / "index.html").read_text()
    assert 'href="../notebook/"' in (site / "python" / "index.html").read_text()


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    found = [path for path in site.rglob("*.html") if FETCHED.search(path.read_text())]
    assert not found
    assert not [path for path in site.rglob("*.css") if re.search("url\\(.?http", path.read_text())]


def test_what_would_be_fetched_is_seen() -> None:
    assert FETCHED.search('<link rel="stylesheet" href="https://fonts.example/css?family=Roboto">')
    assert FETCHED.search('<script async src="//cdn.example/x.js"></script>')
    assert not FETCHED.search('<a href="https://example.org">')


def test_a_broken_link_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[two](formats.md) [three](#nowhere)\n")
    settings = yaml.safe_load(SETTINGS.read_text())
    settings = {**settings, "nav": ["index.md"], "plugins": [], "hooks": []}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    done = build(tmp_path / "site", "-f", str(tmp_path / "mkdocs.yml"))
    assert done.returncode == 1
    assert "formats.md" in done.stderr
    assert "#nowhere" in done.stderr
