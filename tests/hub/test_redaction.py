"""What a server wrote is shown without tokens, passwords and signatures, and on one line."""

from __future__ import annotations

import logging
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import huggingface_hub.hf_api
import pytest
from huggingface_hub import constants

from sam21convert.hub.errors import translate_errors, translate_read_errors
from sam21convert.hub.redaction import redact, redacted_logs, redacted_warnings

SECRET = "S3cr3t-Value.x_y"
TEXTS = {  # each holds SECRET, or a token with a known beginning
    f"token hf_{SECRET} is invalid": "token hf_*** is invalid",
    "your token 'hf_abcdefghijklmnopqrstuvwxyzABCDEFGH' expired": "your token 'hf_***' expired",
    "hf_oauth_eyJhbGciOi.eyJzdWIiOi.c2ln was revoked": "hf_*** was revoked",
    f"use api_org_{SECRET.replace('.', '')} no more": "use api_org_*** no more",
    f"Authorization: Bearer {SECRET}": "Authorization: ***",
    f'{{"authorization": "Bearer {SECRET}"}}': '{"authorization": "***"}',
    f"Authorization: Basic {SECRET}==": "Authorization: ***",
    f"got Bearer {SECRET}, expected none": "got Bearer ***, expected none",
    f"got bearer%20{SECRET}": "got bearer ***",
    f"got Basic {SECRET}=": "got Basic ***",
    "not eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl": "not ***",
    f"see https://me:{SECRET}@hub.example/a/b@c": "see https://***@hub.example/a/b@c",
    f"see https://{SECRET}@hub.example/a": "see https://***@hub.example/a",
    f"see https://me:p@/ss{SECRET}@hub.example/a": "see https://***@hub.example/a",
    f"proxy me:{SECRET}@10.0.0.1:3128 says no": "proxy ***@10.0.0.1:3128 says no",
    f"GET https://s3.example:443/x?X-Amz-Signature={SECRET}&a=b failed": (
        "GET https://s3.example:443/x?*** failed"
    ),
    f"back to https://hub.example/#access_token={SECRET}": "back to https://hub.example/?***",
    f"GET /x/y?Expires=1&Signature={SECRET}": "GET /x/y?***",
    f"X-Amz-Signature={SECRET} does not match": "X-Amz-Signature=*** does not match",
    f'"access_token": "{SECRET}", "a": 1': '"access_token": "***", "a": 1',
    f"<Error><SignatureProvided>{SECRET}</SignatureProvided></Error>": (
        "<Error><SignatureProvided>***</SignatureProvided></Error>"
    ),
    f"password={SECRET};": "password=***;",
}
PROSE = [
    "Bearer token is missing; set HF_TOKEN or pass token",
    "basic authentication is not supported",
    "pip install huggingface_hub[hf_xet] hf_transfer",
    "hf_hub_download failed at 12:30, mail support@huggingface.co or mailto:support@huggingface.co",
    "see https://huggingface.co/org/name@refs/pr/1 and http://127.0.0.1:8080/a@b.",
    '"license" must be one of [apache-2.0, mit]; the policy: none',
    "Grüße aus 東京",
]


@pytest.fixture(autouse=True)
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a token; returns the path where one would be saved."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path / "token"


@pytest.mark.parametrize(("text", "shown"), TEXTS.items(), ids=range(len(TEXTS)))
def test_secrets_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(f"  {text}\n") == shown


@pytest.mark.parametrize("text", PROSE)
def test_prose_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("place", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "file", "argument"])
@pytest.mark.parametrize("token", ["plain", "a b+c/d=e", "Ünï", "0123-4567"])
def test_the_configured_token_is_hidden_whatever_it_looks_like(
    place: str, token: str, no_token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"1{token}2 {token.upper()} {quote(token, safe='')} {token[:3]}\n{token[3:]} end"
    assert redact(text) == " ".join(text.split())  # the negative control: no such token is known
    given: tuple[str, ...] = ()
    if place == "file":
        no_token.write_text(f"{token}\n")
    elif place == "argument":
        given = (token,)
    else:
        monkeypatch.setenv(place, f" {token}\n")
    assert redact(text, *given) == "1***2 *** *** *** end"


def test_it_is_one_line_of_limited_length() -> None:
    assert redact("a\r\n\tb\x1b[2J\u2028c\x00") == r"a b\x1b[2J c\x00"
    long = redact("word " * 1_000_000 + f"https://me:{SECRET}@host")
    assert len(long) < 5000
    assert long.endswith("word ...")
    for unit in ("a", "a:", "!", "://", "hf_", "?a=", "token", "a:b@", "bearer ", "eyJ.", "%20"):
        redact(unit * 20_000)  # every rule needs little time for any text


class Handler(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


@pytest.mark.parametrize(
    "block", [redacted_logs(), translate_errors("o/m"), translate_read_errors("o/m")]
)
def test_the_log_of_the_client_is_redacted(block: AbstractContextManager[None]) -> None:
    handler = Handler()
    client = logging.getLogger("huggingface_hub")
    client.addHandler(handler)
    log = logging.getLogger("huggingface_hub.utils._http")
    try:
        with block:
            with redacted_logs():
                url = f"http://h/x?{SECRET}\nb"
                log.warning("HTTP Error %d thrown while requesting %s", 503, url)
            log.warning("still within %s", f"http://h/x?{SECRET}")
        log.warning("afterwards %s", SECRET)
    finally:
        client.removeHandler(handler)
    told = "HTTP Error 503 thrown while requesting http://h/x?*** b"
    assert handler.seen == [told, "still within http://h/x?***", f"afterwards {SECRET}"]


def test_warnings_of_the_client_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda text, *_: shown.append(str(text)))

    def warn() -> None:
        client = huggingface_hub.hf_api.__file__
        warnings.warn_explicit(f"in README.md:\n- hf_{SECRET}", UserWarning, client, 1)
        warnings.warn_explicit("a\nb", UserWarning, __file__, 1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with redacted_warnings():
            warn()
        warn()
    assert shown == ["in README.md: - hf_***", "a\nb", f"in README.md:\n- hf_{SECRET}", "a\nb"]
