"""What the Hub can say before anything is computed: who writes, where, and with which card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import yaml
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    get_session,
    hf_raise_for_status,
)

from ...errors import RefusedError, UnreadableError
from ...hub.errors import gave_no_answer, translate_errors
from ...hub.redaction import redact
from ...hub.retry import retry


def check_user(api: HfApi, repo_ids: Sequence[str], *, proposes: bool) -> None:
    """Check that the token is valid, and may write where that can be told from what it is.

    What a fine-grained token may do, and an organisation lets its members do, is known when it is
    done.

    Args:
        api: The client.
        repo_ids: The repositories to write, ``namespace/name``.
        proposes: Whether a pull request is opened, which needs no right to write.

    Raises:
        UnreadableError: If there is no token, or the Hub does not accept it or cannot be reached.
        RefusedError: If it is for reading alone, or belongs to somebody who is not in the
            namespace.
    """
    with translate_errors(repo_ids[0]):
        me = retry(api.whoami)
    token = me.get("auth", {}).get("accessToken", {})
    role, namespaces = token.get("role"), [me["name"], *(org["name"] for org in me.get("orgs", ()))]
    for repo_id in repo_ids:
        namespace = repo_id.partition("/")[0]
        if role == "read":
            raise RefusedError(
                f"{repo_id}: the Hub does not let you write it: your token is for reading alone",
                hint="use a token with the role write (hf auth login, or HF_TOKEN)",
            )
        known = {name.lower() for name in namespaces}
        if role == "write" and not proposes and namespace.lower() not in known:
            raise RefusedError(
                f"{repo_id}: the Hub does not let you write it: you are {me['name']}, and "
                f"{namespace} is none of your namespaces: {', '.join(namespaces)}",
                hint="use a token of one of its members, or propose the change with "
                "`create_pr=True`",
            )


def _told(answer: str) -> str:
    """What is wrong with a card, out of the JSON of the Hub."""
    with suppress(ValueError, KeyError, TypeError):  # it may be in other words
        answer = "; ".join(str(one["message"]) for one in json.loads(answer)["errors"])
    return redact(answer)


def check_card(repo_id: str, stated: dict[str, Any], *, dry_run: bool) -> None:
    """Check that the Hub takes what a card is to state. A dry run goes on without an answer.

    Args:
        repo_id: The repository.
        stated: Fields of the card and their values, as far as the caller gave them.
        dry_run: Whether nothing will be written.

    Raises:
        RefusedError: If the Hub does not know the license, or a name cannot be one.
        UnreadableError: If the Hub cannot be reached and something is to be written.
    """
    given = {name: value for name, value in stated.items() if value}
    if not given:
        return
    card = {"repoType": "model", "content": f"---\n{yaml.safe_dump(given)}---\n"}

    def validate() -> None:
        # ModelCard.validate of huggingface_hub before 2.2 asks huggingface.co in place of ENDPOINT.
        answer = get_session().post(f"{constants.ENDPOINT}/api/validate-yaml", json=card)
        if answer.status_code == HTTPStatus.BAD_REQUEST:
            raise RefusedError(
                f"{repo_id}: the Hub does not take what the card would state: {_told(answer.text)}",
                hint="for example `license=apache-2.0`; `base_model` and `datasets` are ids there",
            )
        hf_raise_for_status(answer)

    try:
        with translate_errors(repo_id):
            retry(validate)
    except UnreadableError as error:
        if not dry_run or not gave_no_answer(error):
            raise
