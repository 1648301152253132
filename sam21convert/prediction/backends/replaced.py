"""Attributes of another package's objects, exchanged for as long as a context lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(target: object, **values: Any) -> Iterator[None]:
    """A context in which an object has other attributes or methods.

    Only this object changes, not its class. What it had before is restored, also after an error.

    Args:
        target: An instance or a module.
        **values: The new attributes.

    Yields:
        Nothing.
    """
    own = vars(target)
    before = {name: own[name] for name in values if name in own}
    own.update(values)
    try:
        yield
    finally:
        for name in values:
            del own[name]
        own.update(before)
