"""Interpret errors of ``huggingface_hub``: whether a retry may help, and what to tell the user.

The exception classes differ between versions of ``huggingface_hub``, and so does the HTTP library
that it uses. So most decisions are based on the request and the status code of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import RefusedError, Sam21ConvertError, UnreadableError, UsageError
from .redaction import redact, redacted_logs

BUSY = (408, 429, 500, 502, 503, 504)  # status codes after which a retry may succeed
_READ_METHODS = ("GET", "HEAD")
# Of the requests that make up a commit, those that huggingface_hub does not retry itself.
_SENT_ONCE = ("/commit/", "/api/validate-yaml")


@dataclass(frozen=True)
class Failure:
    """A request that failed and the answer to it, as far as the error tells.

    Attributes:
        error: the error itself, or the error of this machine that caused it.
        status: the status code of the answer, None when there was none.
        method: the HTTP method, in capitals; empty when no request is known.
        url: the address that was requested; empty when no request is known.
        credentials: the token that the request carried, which is never shown; may be empty.
        server_message: what the Hub wrote about the error, on one line and without secrets; may be
            empty.
    """

    error: Exception
    status: int | None = None
    method: str = ""
    url: str = ""
    credentials: str = field(default="", repr=False)
    server_message: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Collect what an error and its causes tell: uploads wrap the original error.

        Args:
            error: an error raised by a function of ``huggingface_hub``.

        Returns:
            The failure. Without a request in the chain of causes, it has only the error.
        """
        cause: BaseException | None = error
        while isinstance(cause, Exception):
            response = _attribute(cause, "response")
            request = _attribute(cause, "request") or _attribute(response, "request")
            if request is not None:
                status = _attribute(response, "status_code")
                message = _attribute(cause, "server_message") if status is not None else None
                sent = str(request.headers.get("authorization", "")).rpartition(" ")[2]
                said = redact(str(message or ""), sent)
                return cls(error, status, str(request.method), str(request.url), sent, said)
            if _is_local(cause):
                return cls(cause)
            cause = cause.__cause__
        return cls(error)

    @property
    def of_storage(self) -> bool:
        """Whether the request went to the host that stores large files, not to the Hub itself."""
        from huggingface_hub import constants

        return urlsplit(self.url).netloc not in ("", urlsplit(constants.ENDPOINT).netloc)

    @property
    def of_commit(self) -> bool:
        """Whether the commit request itself failed, not one of those that prepare it."""
        return "/commit/" in self.url

    @property
    def transient(self) -> bool:
        """Whether a retry may succeed: the Hub is busy, or gave no answer that can be read."""
        from huggingface_hub import errors

        if isinstance(self.error, errors.LocalEntryNotFoundError) or _is_local(self.error):
            return False  # a download raises the first only after several retries of its own
        if self.status is not None:
            return self.status in BUSY
        if self.url or isinstance(self.error, json.JSONDecodeError):
            return True  # errors of requests, which older clients use, are OSErrors as well
        return not isinstance(self.error, (ValueError, OSError))

    @property
    def repeated(self) -> bool:
        """For a request of a commit: whether ``huggingface_hub`` has already retried it."""
        return bool(self.url) and not any(path in self.url for path in _SENT_ONCE)

    @property
    def pending(self) -> bool:
        """Whether the Hub received the request and may still carry it out."""
        return self.status == 504 or type(self.error).__name__ == "ReadTimeout"


def _is_local(error: Exception) -> bool:
    """Whether it is an error of this package or of this machine, such as a full disk."""
    from socket import gaierror

    of_system = isinstance(error, OSError) and error.errno is not None
    of_network = isinstance(error, (ConnectionError, TimeoutError, gaierror))
    return (of_system and not of_network) or isinstance(error, Sam21ConvertError)


def _attribute(owner: object, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except RuntimeError:  # httpx raises it for the request of an error that has none
        return None


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Inside the block, turn errors of ``huggingface_hub`` into ours, with a hint what to do.

    Errors of this machine, such as a full disk, are raised as they are. What ``huggingface_hub``
    logs is redacted.

    Args:
        what: the repository or file that the block works on; messages begin with it.

    Yields:
        Nothing.

    Raises:
        UnreadableError: when the Hub cannot be reached, is busy, does not have the repository, or
            requires a sign-in.
        RefusedError: when the Hub refuses the request for good.
    """
    try:
        with redacted_logs():
            yield
    except Exception as error:
        failure = Failure.of(error)
        if failure.error is error and _is_local(error):
            raise
        if _is_local(failure.error):
            raise failure.error from error
        raise _error_for(what, failure) from error


def gave_no_answer(error: Sam21ConvertError) -> bool:
    """Tell whether an error says nothing about what the Hub has.

    Args:
        error: what :func:`translate_errors` raised.

    Returns:
        True when the Hub was not reached, is busy, or wants to know first who asks.
    """
    cause = error.__cause__
    return isinstance(cause, Exception) and Failure.of(cause).status in (None, 401, *BUSY)


def _error_for(what: str, failure: Failure) -> Sam21ConvertError:
    """The error to raise for a failure to read or write ``what``."""
    from huggingface_hub import errors

    error, status = failure.error, failure.status
    detail = f": {failure.server_message}" if failure.server_message else ""
    if failure.of_storage and status is not None and status not in BUSY:
        return UnreadableError(
            f"{what}: the storage of the Hub refused a file, with status {status}",
            hint="the links to it expire: run again; what has arrived is not sent again",
        )
    if isinstance(error, errors.GatedRepoError):
        return _gated_error(what)
    if isinstance(error, errors.DisabledRepoError):
        return RefusedError(
            f"{what}: the Hub has disabled it{detail}", hint="see its page for the reason"
        )
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return UnreadableError(
            f"{what}: the Hub does not accept your token"
            if failure.credentials
            else f"{what}: the Hub requires you to sign in",
            hint="sign in with hf auth login, or set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnreadableError(f"{what}: no such revision", hint="give a branch or refs/pr/N")
    if status == 403:
        return _forbidden_error(what, failure, detail)
    if status == 404:
        return UnreadableError(
            f"{what}: not found on the Hub (status 404){detail}",
            hint="the repository or the revision may have been deleted or renamed: check its page",
        )
    if failure.of_commit and status in (409, 412):
        return RefusedError(
            f"{what}: was changed by somebody else in the meantime; nothing was written",
            hint="run again to compare with what is there now",
        )
    if status is not None and status < 500 and status not in BUSY:
        if type(error) is ValueError:  # an invalid model card: the text lists what is wrong in it
            detail = f": {redact(str(error), failure.credentials)}"
        return RefusedError(f"{what}: the Hub rejected it (status {status}){detail}")
    return _no_answer_error(what, failure, detail)


def _gated_error(what: str) -> UnreadableError:
    return UnreadableError(
        f"{what}: is gated on the Hub",
        hint="request access on its page, then sign in with hf auth login or set HF_TOKEN",
    )


def _forbidden_error(what: str, failure: Failure, detail: str) -> RefusedError:
    """For status 403: a missing permission, a spent quota, ...; only the Hub's message tells."""
    if failure.method in _READ_METHODS:
        return RefusedError(
            f"{what}: the Hub does not let you read it{detail}",
            hint="use a token that can read it",
        )
    # A pull request cannot help where one was just refused, or where the repository is missing.
    no_proposal = "create_pr" in failure.url or "/repos/create" in failure.url
    proposal = "" if no_proposal else ", or propose the change with `create_pr=True`"
    return RefusedError(
        f"{what}: the Hub does not let you write it{detail}",
        hint=f"if your token cannot write to this namespace, use one that can{proposal}",
    )


def _no_answer_error(what: str, failure: Failure, detail: str) -> Sam21ConvertError:
    error = failure.error
    if failure.status is not None:
        problem = f"the Hub answered with status {failure.status}{detail}"
    elif isinstance(error, json.JSONDecodeError):
        problem = "the Hub gave an answer that cannot be read"
    elif isinstance(error, ValueError) and not isinstance(error, OSError):
        return RefusedError(f"{what}: the Hub rejected it: {redact(str(error))}")
    elif type(error).__name__.endswith("Timeout"):
        problem = "the Hub gave no answer in time"
    else:
        problem = f"the Hub cannot be reached: {type(error).__name__}"
    return UnreadableError(
        f"{what}: {problem}", hint="run again later; what has arrived is not sent again"
    )


@contextmanager
def translate_read_errors(what: str) -> Iterator[None]:
    """Do the same as :func:`translate_errors` for a block that only reads.

    The messages consider that ``what`` may have been meant as a local path, and that an error of
    this machine comes from writing to the cache.

    Args:
        what: the repository or file that the block reads; messages begin with it.

    Yields:
        Nothing.

    Raises:
        UsageError: when ``what`` cannot be the name of a repository.
        UnreadableError: for everything else that goes wrong.
    """
    try:
        with redacted_logs():
            yield
    except Exception as error:
        if isinstance(error, Sam21ConvertError):
            raise
        raise _read_error(what, error) from error


def _read_error(what: str, error: Exception) -> Sam21ConvertError:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.HFValidationError):
        return invalid_id_error(what)
    if isinstance(error, errors.GatedRepoError):
        return _gated_error(what)
    if isinstance(error, errors.RepositoryNotFoundError):
        return UnreadableError(
            f"{what}: no such repository on the Hub, and no such local path",
            hint="check the spelling; for a private repository sign in with hf auth login",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnreadableError(
            f"{what}: no such revision on the Hub",
            hint="give a branch, a tag, refs/pr/N or a full commit hash",
        )
    failure = Failure.of(error)
    unanswered = isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled))
    if unanswered and failure.status is None:  # else the answer is the cause of the first
        return UnreadableError(
            f"{what}: not a local path, not in the cache, and the Hub cannot be reached",
            hint="check the connection and HF_HUB_OFFLINE, or give the path of a local copy",
        )
    if isinstance(error, errors.EntryNotFoundError) and not unanswered:
        return UnreadableError(
            f"{what}: the repository does not hold this file",
            hint="check the name, or give another revision as org/name@revision",
        )
    if isinstance(failure.error, OSError) and _is_local(failure.error):
        return UnreadableError(
            f"{what}: cannot be saved in {constants.HF_HUB_CACHE}: {failure.error.strerror}",
            hint="free some space there, or set HF_HOME to a folder on another disk",
        )
    problem = f"the Hub cannot be reached: {type(error).__name__}"
    hint = "try again later, or give the path of a local copy"
    if failure.status is not None:
        detail = f": {failure.server_message}" if failure.server_message else ""
        problem = f"the Hub answered with status {failure.status}{detail}"
    if failure.status == 403:
        hint = "use a token that can read it (hf auth login, or HF_TOKEN)"
    return UnreadableError(f"{what}: {problem}", hint=hint)


def invalid_id_error(model_id: str) -> UsageError:
    """Make the error for a text that is neither a path nor the form of a repository id.

    Args:
        model_id: the text.

    Returns:
        The error, to be raised by the caller.
    """
    return UsageError(
        f"{model_id}: no such file or folder, and not a repository id of the Hub",
        hint="give a path that exists, or an id such as facebook/sam2.1-hiera-tiny",
    )
