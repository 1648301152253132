"""Does what a command prints fit the JSON Schema in ``docs/schemas`` that it names?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .paths import DOCS

_TYPES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def conforms(text: str) -> dict[str, Any]:
    """Read an answer, and check it against the schema that it names.

    Args:
        text: The JSON.

    Returns:
        The answer.

    Raises:
        AssertionError: If something is missing, of another type, or not in the schema at all.
    """
    answer: dict[str, Any] = json.loads(text)
    name = answer["schema"].removeprefix("sam21convert/").replace("/", "-")
    schema = json.loads((DOCS / "schemas" / f"{name}.json").read_text())
    wrong = [*faults(answer, schema, schema.get("$defs", {}))]
    assert not wrong, "\n".join(wrong[:8])
    assert answer["ok"] == (answer["exit_code"] == 0)
    return answer


def faults(
    value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any], where: str = "answer"
) -> Iterator[str]:
    """Say where a value does not fit: the keywords that our schemas use, read strictly.

    Args:
        value: What was read from JSON.
        schema: The schema.
        defs: Its named parts.
        where: The place, for the message.

    Yields:
        A line for each fault. A field that the schema does not have is one.
    """
    if "$ref" in schema:
        yield from faults(value, defs[schema["$ref"].removeprefix("#/$defs/")], defs, where)
    elif "anyOf" in schema:
        if all([*faults(value, one, defs, where)] for one in schema["anyOf"]):
            yield f"{where}: {value!r:.60} fits none of several types"
    elif "enum" in schema or "const" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        if value not in allowed:
            yield f"{where}: {value!r:.60} is not one of {allowed}"
    elif "type" in schema:
        kinds = _TYPES[schema["type"]]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            yield f"{where}: {value!r:.60} is no {schema['type']}"
        elif isinstance(value, dict):
            yield from _of_object(value, schema, defs, where)
        elif isinstance(value, list):
            yield from _of_array(value, schema, defs, where)


def _of_object(
    value: dict[str, Any], schema: Mapping[str, Any], defs: Mapping[str, Any], where: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (f"{where}: {name} is missing" for name in {*schema.get("required", ())} - {*value})
    for name, item in value.items():
        inside = known.get(name, schema.get("additionalProperties"))
        if inside is None:
            yield f"{where}: {name} is not in the schema"
        else:
            yield from faults(item, inside, defs, f"{where}.{name}")


def _of_array(
    value: list[Any], schema: Mapping[str, Any], defs: Mapping[str, Any], where: str
) -> Iterator[str]:
    first = schema.get("prefixItems")
    if first is not None and len(value) != len(first):
        yield f"{where}: has {len(value)} items, not {len(first)}"
    for at, item in enumerate(value):
        inside = schema["items"] if first is None else first[min(at, len(first) - 1)]
        yield from faults(item, inside, defs, f"{where}[{at}]")
