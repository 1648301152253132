"""The date that an output states."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from ..errors import UsageError

_VARIABLE = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch


def date_of_output() -> str:
    """Tell the time, or the time that outputs should state so that they can be reproduced.

    Returns:
        Date and time in UTC, such as ``2026-01-31T12:00:00Z``.

    Raises:
        UsageError: If ``SOURCE_DATE_EPOCH`` is set, and not to a number of seconds since 1970.
    """
    given = os.environ.get(_VARIABLE)
    try:
        moment = (
            datetime.now(timezone.utc)
            if given is None
            else datetime.fromtimestamp(int(given), timezone.utc)
        )
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{_VARIABLE}={given}: must be a number of seconds since 1970, such as 1767225600"
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
