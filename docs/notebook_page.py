"""For mkdocs: the notebook as a page of its cells; the file itself stays there to be downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

BOOK = "notebook.ipynb"
PAGE = "notebook.md"


def as_markdown(book: dict[str, Any]) -> str:
    """Write the cells of a notebook one below the other.

    Args:
        book: The notebook, in format 4. It is kept without outputs.

    Returns:
        Its texts, and its code in fences.
    """
    cells = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in book["cells"]]
    texts = [f"```python\n{source}\n```" if code else source for source, code in cells]
    title, *rest = texts
    return "\n\n".join([title, f"[Download it]({BOOK}), and run it in Jupyter.", *rest, ""])


def on_files(files: Files, config: Any) -> Files:
    """Add the page.

    Args:
        files: The files of the site.
        config: The settings.

    Returns:
        The files with one more.
    """
    book = json.loads(Path(config.docs_dir, BOOK).read_text("utf-8"))
    files.append(File.generated(config, PAGE, content=as_markdown(book)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let other pages link to the page, where the documents link to the file.

    Args:
        markdown: The text of a page.
        page: The page.
        **_: Not used.

    Returns:
        The text.
    """
    if page.file.src_uri == PAGE:
        return markdown
    return markdown.replace(f"]({BOOK})", f"]({PAGE})")
