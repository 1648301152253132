"""What an error of ``huggingface_hub`` means: whether it may pass, and what to tell the user.

Its classes differ between versions, as its HTTP library does: mostly the request and the status
of the answer decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import gaierror
from typing import Any
from urllib.parse import urlsplit

from ..errors import RefusedError, Sam21ConvertError, UnreadableError, UsageError

BUSY = (408, 429, 500, 502, 503, 504)  # statuses of a server that may answer later
_READING = ("GET", "HEAD")
_ONCE = ("/commit/", "/api/validate-yaml")  # of a commit's requests, those that it sends once


@dataclass(frozen=True)
class Failure:
    """The request that failed and the answer to it, as far as the error tells.

    ``signed`` is whether the request had a token, ``said`` what the Hub wrote, on one line.
    """

    error: Exception
    status: int | None = None
    method: str = ""
    url: str = ""
    signed: bool = False
    said: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """From an error, or from what caused it: an upload wraps its own."""
        cause: BaseException | None = error
        while isinstance(cause, Exception):
            response = _held(cause, "response")
            request = _held(cause, "request") or _held(response, "request")
            if request is not None:
                status = _held(response, "status_code")
                said = _held(cause, "server_message") if status is not None else None
                return cls(
                    error,
                    status,
                    str(request.method),
                    str(request.url),
                    "authorization" in request.headers,
                    " ".join(str(said or "").split()),
                )
            if _at_home(cause):
                return cls(cause)
            cause = cause.__cause__
        return cls(error)

    @property
    def elsewhere(self) -> bool:
        """Whether it was not the Hub that was asked, but the host that has its large files."""
        from huggingface_hub import constants

        return urlsplit(self.url).netloc not in ("", urlsplit(constants.ENDPOINT).netloc)

    @property
    def of_commit(self) -> bool:
        """Whether it was the commit itself that failed, not what goes before."""
        return "/commit/" in self.url

    @property
    def transient(self) -> bool:
        """Whether it may pass: the Hub is busy, or gave no answer that can be read."""
        from huggingface_hub import errors

        if isinstance(self.error, errors.LocalEntryNotFoundError) or _at_home(self.error):
            return False  # the first is of a download, after many tries of the client
        if self.status is not None:
            return self.status in BUSY
        garbled = isinstance(self.error, json.JSONDecodeError)
        return garbled or not isinstance(self.error, (ValueError, OSError))

    @property
    def repeated(self) -> bool:
        """Whether the client has sent it several times itself, for a request of a commit."""
        return bool(self.url) and not any(path in self.url for path in _ONCE)

    @property
    def pending(self) -> bool:
        """Whether the Hub has the request, and may still carry it out."""
        return self.status == 504 or type(self.error).__name__ == "ReadTimeout"


def _at_home(error: Exception) -> bool:
    """Whether it is one of ours, or of this machine, such as a full disk."""
    local = isinstance(error, OSError) and error.errno is not None
    distant = isinstance(error, (ConnectionError, TimeoutError, gaierror))
    return (local and not distant) or isinstance(error, Sam21ConvertError)


def _held(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except RuntimeError:  # of httpx, where there was no request
        return None


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turn what ``huggingface_hub`` raises into an error that says what to do.

    Errors of this machine, such as a full disk, stay what they are.
    """
    try:
        yield
    except Exception as error:
        failure = Failure.of(error)
        if failure.error is error and _at_home(error):
            raise
        if _at_home(failure.error):
            raise failure.error from error
        raise translated(what, failure) from error


def translated(what: str, failure: Failure) -> Sam21ConvertError:
    """The error that tells of a failure to do something with ``what``."""
    from huggingface_hub import errors

    error, status = failure.error, failure.status
    said = f": {failure.said}" if failure.said else ""
    if failure.elsewhere and status is not None and status not in BUSY:
        return UnreadableError(
            f"{what}: the storage of the Hub refused a file, with status {status}",
            hint="its links are good for a while only: run again, what has arrived is not sent "
            "twice",
        )
    if isinstance(error, errors.GatedRepoError):
        return _gated(what)
    if isinstance(error, errors.DisabledRepoError):
        return RefusedError(f"{what}: the Hub has disabled it{said}", hint="its page says more")
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return UnreadableError(
            f"{what}: the Hub does not accept your token"
            if failure.signed
            else f"{what}: the Hub asks who you are",
            hint="sign in: hf auth login, or set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnreadableError(f"{what}: no such revision", hint="a branch, or refs/pr/N")
    if status == 403:
        return _forbidden(what, failure, said)
    if status == 404:
        return UnreadableError(
            f"{what}: is not on the Hub, or no longer (status 404){said}",
            hint="the repository or the revision may have been deleted or renamed: see its page, "
            "and run again",
        )
    if failure.of_commit and status in (409, 412):
        return RefusedError(
            f"{what}: was changed by somebody else in the meantime; nothing was written",
            hint="run again, to see what stands there now",
        )
    if status is not None and status < 500 and status not in BUSY:
        if type(error) is ValueError:  # of a card that is not valid: the client lists what is not
            said = f": {' '.join(str(error).split())}"
        return RefusedError(f"{what}: the Hub does not take it (status {status}){said}")
    return _unanswered(what, failure, said)


def _gated(what: str) -> UnreadableError:
    return UnreadableError(
        f"{what}: is gated on the Hub",
        hint="ask for access on its page, then sign in: hf auth login, or set HF_TOKEN",
    )


def _forbidden(what: str, failure: Failure, said: str) -> RefusedError:
    """The Hub says no: for want of a right, of space, of money; only its own words tell."""
    if failure.method in _READING:
        return RefusedError(
            f"{what}: the Hub does not let you read it{said}",
            hint="use a token that may read it",
        )
    hopeless = "create_pr" in failure.url or "/repos/create" in failure.url
    proposal = "" if hopeless else ", or propose the change: `create_pr=True`"
    return RefusedError(
        f"{what}: the Hub does not let you write it{said}",
        hint=f"if it is for want of the right: use a token that may write there{proposal}",
    )


def _unanswered(what: str, failure: Failure, said: str) -> Sam21ConvertError:
    error = failure.error
    again = "run again later: what has arrived is not sent twice"
    if failure.status is not None:
        told = f"the Hub answered with status {failure.status}{said}"
    elif isinstance(error, json.JSONDecodeError):
        told = "the Hub gave an answer that cannot be read"
    elif isinstance(error, ValueError) and not isinstance(error, OSError):
        return RefusedError(f"{what}: the Hub does not take it: {' '.join(str(error).split())}")
    elif type(error).__name__.endswith("Timeout"):
        told = "the Hub gave no answer in time"
    else:
        told = f"the Hub cannot be reached: {type(error).__name__}"
    return UnreadableError(f"{what}: {told}", hint=again)


@contextmanager
def translate_read_errors(what: str) -> Iterator[None]:
    """As :func:`translate_errors`, where ``what`` is only read, and may have been meant as a path.

    Then an error of this machine is that of the cache, where what is read is kept.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, Sam21ConvertError):
            raise
        raise _unread(what, error) from error


def _unread(what: str, error: Exception) -> Sam21ConvertError:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.HFValidationError):
        return no_id(what)
    if isinstance(error, errors.GatedRepoError):
        return _gated(what)
    if isinstance(error, errors.RepositoryNotFoundError):
        return UnreadableError(
            f"{what}: no such repository on the Hub, nor a local path",
            hint="check the spelling; a private one is seen only after signing in: hf auth login",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnreadableError(
            f"{what}: no such revision on the Hub",
            hint="a branch, a tag, refs/pr/N or a whole commit hash",
        )
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        return UnreadableError(
            f"{what}: no local path, not in the cache, and the Hub cannot be reached",
            hint="check the connection and HF_HUB_OFFLINE, or give the path of a local copy",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return UnreadableError(
            f"{what}: the repository does not hold this file",
            hint="another revision may: org/name@revision",
        )
    failure = Failure.of(error)
    if isinstance(failure.error, OSError) and _at_home(failure.error):
        return UnreadableError(
            f"{what}: cannot be kept in {constants.HF_HUB_CACHE}: {failure.error.strerror}",
            hint="free space there, or set HF_HOME to a folder elsewhere",
        )
    again = "try again later, or give the path of a local copy"
    if failure.status is not None:
        return UnreadableError(f"{what}: the Hub answered with status {failure.status}", hint=again)
    reason = type(error).__name__
    return UnreadableError(f"{what}: the Hub cannot be reached: {reason}", hint=again)


def no_id(model_id: str) -> UsageError:
    """What was given is neither a path nor can it be an id."""
    return UsageError(
        f"{model_id}: no such file or folder, and no id of the Hub",
        hint="give a path that exists, or an id such as facebook/sam2.1-hiera-tiny",
    )
