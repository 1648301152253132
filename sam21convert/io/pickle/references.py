"""The globals that a pickle names, and what it does with each."""

from __future__ import annotations

from dataclasses import dataclass, field

COMPUTED = "?"  # a part of a name that the pickle computes before it imports it


@dataclass(slots=True, eq=False)
class GlobalReference:
    """A global that a pickle names.

    Attributes:
        module: The module, as the pickle spells it; empty for an extension code.
        name: The name in the module, possibly with dots.
        offset: Bytes from the start of the pickle's file or entry to the opcode that names it.
        called: Whether it is called, as a function or to make an object, or given to something
            that may call it.
        changed: Whether attributes or items of it are set. The program then has something else
            under this name afterwards.
        computed: Whether the name is written in a way that two programs may read differently.
        count: How often it is put on the stack.
        naming: How often it is called only to name a part of a class, as ``pickle`` does.
        arguments: What the first calls are given, each as text of a limited length.
        calls: How often it is called, apart from ``naming``.
    """

    module: str
    name: str
    offset: int
    called: bool = False
    changed: bool = False
    computed: bool = False
    count: int = 0
    naming: int = 0
    arguments: list[str] = field(default_factory=list)
    calls: int = 0
