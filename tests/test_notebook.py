"""The notebook runs from its first cell to its last, and each cell answers what it is there for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from .support.paths import DOCS, ROOT

NOTEBOOK = DOCS / "notebook.ipynb"
SETUP = "import tests.conftest"  # as the tests import the packages to compare with
PICTURE = r'<img src="data:image/jpeg;base64,[^"]{1000,}"><table>'
# The pattern that the outputs of each cell contain: what is printed, then the value in each form.
SAYS: Mapping[str, str] = {
    "begin": r"\A\Z",
    "sample": r"wrote mine\.pt: 359 random tensors.*<table>",
    "inspect": r"generation  SAM 2\.1\n.*\('2\.1', 'debug', 'harmless'\)",
    "convert": r"wrote    my-model \(hf-video, transformers folder\).*'model\.safetensors'",
    "transformers": r"right +transformers .*\npoint +same .*\nverdict +in parity\n",
    "diff": r"changed +memory embeddings \(1 of 4 tensors",
    "image": r"dtype\('bool'\), \(3, 120, 160\), \[0\.\d+, 0\.\d+, 0\.\d+\]",
    "overlay": r"PIL\.Image\.Image.* size=160x120",
    "report": rf"expected IoU .*{PICTURE}",
    "video": rf"object ball .*{PICTURE}",
    "video-masks": r"\(3, 120, 160\)",
}


def executed(cells: list[Any], home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The cells after they were run in a kernel, whose current folder is ``home``."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(home))
    book = new_notebook(cells=cells)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(home)}}).execute()
    return list(book.cells)


def answer(cell: Any) -> str:
    """All that a cell shows, but for warnings."""
    texts = [one for one in cell.outputs if one.get("name") != "stderr"]
    return "".join(
        one["text"] if "text" in one else "".join(map(str, one["data"].values())) for one in texts
    )


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    book = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as here:
        _, *done = executed(
            [new_code_cell(SETUP), *book.cells], tmp_path_factory.mktemp("notebook"), here
        )
    return done


def test_every_cell_answers(cells: list[Any]) -> None:
    code = {cell.id: answer(cell) for cell in cells if cell.cell_type == "code"}
    assert [*code] == [*SAYS]
    for name, said in code.items():
        assert re.search(SAYS[name], said, re.DOTALL), f"{name}: {said[:2000]}"


def test_a_cell_that_fails_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = new_code_cell("sam21convert.predict_image")
    with pytest.raises(CellExecutionError, match="NameError"):
        executed([broken], tmp_path, monkeypatch)


def test_it_is_kept_without_outputs() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not [cell.id for cell in code if cell.outputs or cell.execution_count]
