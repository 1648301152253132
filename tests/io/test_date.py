"""The date that an output states is now, or the one that makes the output reproducible."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from sam21convert.errors import UsageError
from sam21convert.io.date import date_of_output


def test_it_is_now_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    found = datetime.strptime(date_of_output(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - found) < timedelta(minutes=1)


def test_it_is_the_one_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    assert date_of_output() == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("value", ["", "today", "1.5", "9" * 30])
def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(UsageError, match=f"^SOURCE_DATE_EPOCH={value}: must be a number"):
        date_of_output()
