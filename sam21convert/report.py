"""What every answer of this package is: plain data that prints, and that a machine can read."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any


class Report:
    """Base of the report dataclasses. ``str()`` is for people, ``to_dict()`` for machines."""

    @property
    def exit_code(self) -> int:
        """0 when the answer is yes, 1 when it is no."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """The fields, with paths as text."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    def to_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def size_text(nbytes: int) -> str:
    """A number of bytes in decimal units, as file managers give it."""
    size = float(nbytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns, the first as wide as its longest entry; later lines are indented."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(
        f"{label:<{width}}  " + text.replace("\n", "\n" + " " * (width + 2)) for label, text in rows
    )
