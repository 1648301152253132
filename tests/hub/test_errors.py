"""Errors of the Hub are explained correctly, whichever host sent them and for any request."""

from __future__ import annotations

import errno
from socket import gaierror

import httpx2
import pytest
from huggingface_hub import constants, errors
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError, UsageError
from sam21convert.hub.errors import Failure, translate_errors, translate_read_errors

HUB = constants.ENDPOINT
INFO, COMMIT = f"{HUB}/api/models/o/m/revision/main", f"{HUB}/api/models/o/m/commit/main"
PREUPLOAD = f"{HUB}/api/models/o/m/preupload/main"
STORAGE = "https://storage.example/object"
TOKEN = {"authorization": "Bearer hf_secret"}


def answered(
    method: str, url: str, status: int, code: str = "", message: str = "", signed: bool = True
) -> Exception:
    """The error that huggingface_hub raises for an answer of the Hub with this status."""
    request = httpx2.Request(method, url, headers=TOKEN if signed else {})
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    with pytest.raises(errors.HfHubHTTPError) as caught:
        hf_raise_for_status(httpx2.Response(status, headers=headers, request=request))
    return caught.value


def unanswered(kind: type[httpx2.RequestError], url: str = COMMIT) -> Exception:
    return kind("no answer", request=httpx2.Request("POST", url))


def unanswered_by_requests() -> Exception:
    """As its exceptions, by which huggingface_hub tells of it before 1.0."""
    error = OSError("Connection aborted")
    error.request = httpx2.Request("POST", COMMIT)  # type: ignore[attr-defined]
    return error


def wrapped(cause: Exception, error: Exception | None = None) -> Exception:
    """An error as huggingface_hub wraps it during an upload."""
    error = error or RuntimeError("Error while uploading")
    error.__cause__ = cause
    return error


WRITE = "does not let you write it"
CASES = [
    (answered("GET", INFO, 401, signed=False), UnreadableError, "requires you to sign in"),
    (answered("POST", COMMIT, 401), UnreadableError, "does not accept your token"),
    (errors.LocalTokenNotFoundError("none"), UnreadableError, "requires you to sign in"),
    (answered("GET", INFO, 403), RefusedError, "does not let you read it"),
    (answered("POST", COMMIT, 403), RefusedError, f"{WRITE}\n"),
    (
        answered("POST", PREUPLOAD, 403, message="quota spent"),
        RefusedError,
        f"{WRITE}: quota spent\n",
    ),
    (answered("GET", INFO, 403, "GatedRepo"), UnreadableError, "is gated"),
    (
        answered("POST", COMMIT, 403, message="Access to this resource is disabled."),
        RefusedError,
        "has disabled it",
    ),
    *(
        (error(answered("PUT", STORAGE, status, signed=False)), UnreadableError, "the storage of")
        for error in (wrapped, lambda error: error)
        for status in (400, 401, 403, 404)
    ),
    (wrapped(answered("PUT", STORAGE, 503)), UnreadableError, "status 503"),
    (answered("POST", COMMIT, 404), UnreadableError, "not found on the Hub"),
    (
        answered("POST", COMMIT, 404, "RepoNotFound"),
        UnreadableError,
        "not found on the Hub .status 404",
    ),
    (answered("POST", PREUPLOAD, 404, "RevisionNotFound"), UnreadableError, "no such revision"),
    (answered("POST", COMMIT, 409), RefusedError, "in the meantime"),
    (answered("POST", COMMIT, 412), RefusedError, "in the meantime"),
    (answered("POST", f"{HUB}/api/repos/create", 409, message="busy"), RefusedError, "409.: busy"),
    (answered("POST", COMMIT, 413), RefusedError, "rejected it .status 413"),
    (answered("POST", COMMIT, 400, message="bad card"), RefusedError, "rejected it.*: bad card"),
    (
        wrapped(answered("POST", f"{HUB}/api/validate-yaml", 400), ValueError("no such license")),
        RefusedError,
        "rejected it.*: no such license",
    ),
    (ValueError("Invalid\n metadata"), RefusedError, "rejected it: Invalid metadata"),
    (answered("POST", COMMIT, 429), UnreadableError, "status 429"),
    (unanswered(httpx2.ReadTimeout), UnreadableError, "no answer in time"),
    (unanswered(httpx2.ConnectError), UnreadableError, "cannot be reached: ConnectError"),
    (errors.LocalEntryNotFoundError("offline"), UnreadableError, "cannot be reached"),
    (ConnectionResetError(104, "reset"), UnreadableError, "cannot be reached: ConnectionReset"),
    (gaierror(-2, "Name or service not known"), UnreadableError, "cannot be reached: gaierror"),
]


@pytest.mark.parametrize(("error", "kind", "says"), CASES, ids=lambda value: str(value)[:40])
def test_each_error_is_explained(
    error: Exception, kind: type[Sam21ConvertError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught, translate_errors("o/m"):
        raise error
    assert caught.value.message.startswith("o/m: ")
    assert caught.value.hint or kind is RefusedError
    assert "hf_secret" not in str(caught.value)


def missed(cause: Exception) -> Exception:
    """The error of a download of a file that is not in the cache either."""
    error = errors.LocalEntryNotFoundError("not in the cache")
    error.__cause__ = cause
    return error


READS = [
    (OSError(errno.ENOSPC, "No space left"), UnreadableError, "cannot be saved in .*: No space"),
    (ConnectionResetError(104, "reset"), UnreadableError, "cannot be reached: ConnectionReset"),
    (unanswered(httpx2.ConnectError), UnreadableError, "cannot be reached: ConnectError"),
    (answered("GET", HUB, 500), UnreadableError, "answered with status 500"),
    (errors.LocalEntryNotFoundError("offline"), UnreadableError, "Hub cannot be reached"),
    (missed(answered("HEAD", HUB, 429)), UnreadableError, "answered with status 429"),
    (missed(answered("HEAD", HUB, 403, message="No.")), UnreadableError, "status 403: No."),
    (missed(unanswered(httpx2.ConnectError)), UnreadableError, "Hub cannot be reached"),
    (
        errors.HFValidationError("no id"),
        UsageError,
        "no such file or folder, and not a repository id",
    ),
    (RefusedError("o/m: said already"), RefusedError, "said already"),
]


@pytest.mark.parametrize(("error", "kind", "says"), READS, ids=lambda value: str(value)[:40])
def test_an_error_of_reading_is_explained(
    error: Exception, kind: type[Sam21ConvertError], says: str
) -> None:
    with pytest.raises(kind, match=f"^o/m: .*{says}"), translate_read_errors("o/m"):
        raise error


def echoed(status: int, text: str) -> Exception:
    """The error for an answer whose JSON repeats what was sent."""
    request = httpx2.Request("POST", COMMIT, headers={"authorization": "Bearer own-Secret"})
    answer = httpx2.Response(status, json={"error": text}, request=request)
    with pytest.raises(errors.HfHubHTTPError) as caught:
        hf_raise_for_status(answer)
    return caught.value


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 500, 503])
@pytest.mark.parametrize(
    "secret", ["own-Secret", "Bearer other", "hf_abcdefgh", "me:other@proxy:1", "x://h/a?sig=other"]
)
def test_what_a_server_repeats_is_shown_without_secrets_on_one_line(
    status: int, secret: str
) -> None:
    text = f"first\n\x1b[31msecond {secret} third"
    error = echoed(status, text)
    failure = Failure.of(error)
    assert failure.server_message.startswith(r"first \x1b[31msecond ")
    assert failure.server_message.endswith(" third")
    invalid_card = wrapped(error, ValueError(text)), ValueError(text.replace("own-", "hf_"))
    for one in (error, *(invalid_card if status == 400 else ())):
        with pytest.raises(Sam21ConvertError) as caught, translate_errors("o/m"):
            raise one
        assert not any(part in caught.value.message for part in ("ecret", "other", "abcdef", "\n"))
        assert status == 409 or r"first \x1b[31msecond " in caught.value.message


def test_a_pull_request_is_not_suggested_where_it_cannot_help() -> None:
    create = f"{HUB}/api/repos/create"
    for url, advised in ((COMMIT, True), (f"{COMMIT}?create_pr=1", False), (create, False)):
        with pytest.raises(RefusedError) as caught, translate_errors("o/m"):
            raise answered("POST", url, 403)
        assert ("`create_pr=True`" in str(caught.value)) == advised


@pytest.mark.parametrize("outer", [wrapped, lambda error: error])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RefusedError("said already")]
)
def test_errors_that_are_not_of_the_hub_are_raised_unchanged(
    outer: object, error: Exception
) -> None:
    assert callable(outer)
    with pytest.raises(type(error)) as caught, translate_errors("o/m"):
        raise outer(error)
    assert caught.value is error
    assert not Failure.of(outer(error)).transient


@pytest.mark.parametrize(
    ("error", "transient", "repeated", "pending"),
    [
        (answered("POST", COMMIT, 503), True, False, False),
        (answered("POST", COMMIT, 504), True, False, True),
        (unanswered(httpx2.ReadTimeout), True, False, True),
        (unanswered(httpx2.ConnectTimeout), True, False, False),
        (unanswered_by_requests(), True, False, False),
        (answered("POST", COMMIT, 412), False, False, False),
        (answered("POST", PREUPLOAD, 503), True, True, False),
        (wrapped(answered("PUT", STORAGE, 503)), True, True, False),
        (wrapped(unanswered(httpx2.ReadError, STORAGE)), True, True, False),
        (answered("POST", f"{HUB}/api/validate-yaml", 500), True, False, False),
        (errors.LocalEntryNotFoundError("after many tries"), False, False, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_which_failures_are_transient(
    error: Exception, transient: bool, repeated: bool, pending: bool
) -> None:
    failure = Failure.of(error)
    assert (failure.transient, failure.repeated, failure.pending) == (transient, repeated, pending)
