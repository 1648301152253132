"""The page that the Hub puts into every new static Space, which may be replaced.

Who creates a Space, on the website or by a push that then fails, has this page in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from huggingface_hub import HfApi

from ...hub.errors import translate_errors
from ...hub.retry import retry
from .manifest import FileFact
from .replace import fetched
from .upload import RemoteState

_PAGE, _STYLE = "index.html", "style.css"
_SAYS = b"Welcome to your static Space!"
_LARGEST = 1 << 14  # bytes; the Hub's own page has less than a thousand


def starter_page(api: HfApi, repo_id: str, state: RemoteState) -> Mapping[str, FileFact]:
    """Find the page that the Hub wrote, in a Space that nobody has written to.

    Args:
        api: The client.
        repo_id: The Space, ``namespace/name``.
        state: What it holds.

    Returns:
        The files of that page by name; none if the Space has a second commit or another page.

    Raises:
        RefusedError: If the Hub does not let you read it.
        UnreadableError: If the Hub cannot be reached.
    """
    page = state.files.get(_PAGE)
    if page is None or page.size > _LARGEST:
        return {}
    with translate_errors(repo_id):
        history = retry(
            lambda: api.list_repo_commits(repo_id, repo_type=state.kind, revision=state.head)
        )
    if len(history) > 1 or _SAYS not in fetched(repo_id, _PAGE, state).read_bytes():
        return {}
    return {
        name: FileFact.of(fetched(repo_id, name, state))
        for name in (_PAGE, _STYLE)
        if name in state.files
    }
