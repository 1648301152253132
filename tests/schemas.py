"""The JSON Schemas of all answers, made from the dataclasses: ``python -m tests.schemas``.

They are written to ``docs/schemas``, where a test compares them with the code.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sam21convert.checkpoint.diff.report import Difference, ModuleChange
from sam21convert.checkpoint.inspect import Inspection
from sam21convert.checkpoint.safety.policy import Rating
from sam21convert.checkpoint.safety.report import Global, Safety, SourceReport
from sam21convert.checkpoint.safety.verdict import Verdict
from sam21convert.checkpoint.stats import Statistics
from sam21convert.checkpoint.tree import Module
from sam21convert.checkpoint.validate import Validation
from sam21convert.comparison import findings
from sam21convert.conversion.report import Conversion
from sam21convert.conversion.sample import Sample
from sam21convert.evaluation.protocols import ObjectScore
from sam21convert.evaluation.report import Evaluation
from sam21convert.export.page.site import Page
from sam21convert.hub.listing import Listing
from sam21convert.prediction.image import FoundMask, ImagePrediction
from sam21convert.prediction.load import Loading
from sam21convert.prediction.video import FollowedObject, VideoPrediction
from sam21convert.workflows.batch.report import BatchReport
from sam21convert.workflows.demo import Demonstration
from sam21convert.workflows.exported import Exported
from sam21convert.workflows.finetune.report import Finetuned
from sam21convert.workflows.publish.publication import Publication
from sam21convert.workflows.publish.repository import Repository
from sam21convert.workflows.pull import Pulled
from sam21convert.workflows.selftest import SelfTest

from .support.paths import DOCS

FOLDER = DOCS / "schemas"


@dataclass(frozen=True)
class Maybe:
    """A field that is not always there."""

    type: Any


Shape = list[int]
ENTRY = {"name": str, "dtype": str, "shape": Shape}
FACTS: Mapping[str, Any] = {
    "safety": Rating,
    "pickle": list[Global],
    "doubts": list[str],
    "not_scanned": list[str],
    "unreadable": list[str],
    "other_entries": list[str],
}
FINITE = float | None  # JSON has no other numbers
# What to_dict() adds to the fields, or writes in another way.
WRITTEN: Mapping[type, Mapping[str, Any]] = {
    SourceReport: {"safety": Rating},
    Inspection: {
        **FACTS,
        "advice": str | None,
        "inventory": Maybe([ENTRY]),
        "tree": Maybe(Module),
        "stats": Maybe(Statistics),
    },
    Verdict: {**FACTS, "verdict": str},
    Validation: {
        "misshapen": get_type_hints(Validation)["mismatched"],
        "parity": Maybe(findings.ParityResult),
    },
    Conversion: {"parity": Maybe(findings.ParityResult), "evaluation": Maybe(Evaluation)},
    Difference: {"same": bool, "modules": list[ModuleChange]},
    BatchReport: {"totals": dict[str, int]},
    FollowedObject: {"seen_on": int},
    ObjectScore: {
        "jf": float,
        **dict.fromkeys(("v", "classic_f"), Maybe(float)),
        **dict.fromkeys(("disappear_jf", "reappear_jf"), Maybe(FINITE)),
    },
    ImagePrediction: {"masks": list[FoundMask]},
    FoundMask: {"iou": FINITE},
    Loading: {"resampled": [{"tensor": str, "stored": Shape, "shape": Shape, "how": str}]},
    findings.ActivationResult: {
        **dict.fromkeys(("max_abs", "relative", "cosine", "noise", "tolerance"), FINITE),
        "within": bool,
    },
    findings.ScenarioResult: {
        "taps": list[findings.ActivationResult],
        "first": str | None,
        "outcome": str,
    },
    findings.ParitySide: {"runner": str, "safety": Rating},
    findings.Diagnosis: {"tap": str | None},
    findings.NegativeControl: {"noticed": bool, "tap": str | None},
    findings.Sensitivity: {"unseen": list[str]},
    findings.ParityResult: {
        "ok": bool,
        "problems": list[str],
        "first_mismatch": tuple[str, str | None] | None,
        "first": tuple[str, str | None] | None,
        "causes": list[findings.Diagnosis],
        "controls": list[findings.NegativeControl],
        "proof": findings.Sensitivity | None,
    },
}
LEFT_OUT: Mapping[type, set[str]] = {
    ImagePrediction: {"arrays", "details", "draw"},
    findings.ScenarioResult: {"views"},
    ObjectScore: {"names", "j_of", "f_of", "more"},
    Repository: {"folder"},  # it was temporary
}
ANSWERS: tuple[type, ...] = (
    *(BatchReport, Conversion, Demonstration, Difference, Evaluation, Exported),
    *(Finetuned, ImagePrediction, Inspection),
    *(
        Listing,
        findings.ParityResult,
        Page,
        Publication,
        Pulled,
        Sample,
        SelfTest,
        Validation,
        Verdict,
    ),
    VideoPrediction,
)
# Of files that cannot be read, and of those that are only counted.
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "error/1": {
        "error": str,
        "hint": str | None,
        "path": Maybe(str),
        **{name: Maybe(kind) for name, kind in FACTS.items()},
    },
    "file/1": {"path": str, **FACTS},
    "counted/1": {"path": str},
}


def written(cls: type) -> dict[str, Any]:
    """The fields of a dataclass and their types, as ``to_dict()`` gives them."""
    # Imported for type checkers alone.
    late = {
        "Resampled": Any,
        "ParityReport": findings.ParityResult,
        "Statistics": Statistics,
        "Evaluation": Evaluation,
    }
    hints = get_type_hints(cls, localns=late)
    found = {field.name: hints[field.name] for field in fields(cls)}
    for base in reversed(cls.__mro__):
        found |= WRITTEN.get(base, {})
    return {name: kind for name, kind in found.items() if name not in LEFT_OUT.get(cls, ())}


def schema(kind: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; dataclasses are put into ``defs``."""
    origin, args = get_origin(kind), get_args(kind)
    plain = {str: "string", Path: "string", bool: "boolean", int: "integer", float: "number"}
    if kind is Any:
        return {}
    if kind is type(None):
        return {"type": "null"}
    if kind in plain:
        return {"type": plain[kind]}
    if kind is Safety:
        return schema(Rating, defs)
    if origin is Literal:
        return {"enum": [*args]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(one, defs) for one in args]}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema(args[1], defs)}
    if origin is tuple and Ellipsis not in args:
        items = {"prefixItems": [schema(one, defs) for one in args]}
        return {"type": "array", **items, "minItems": len(args), "maxItems": len(args)}
    if origin in (list, tuple):
        return {"type": "array", "items": schema(args[0], defs)}
    if not is_dataclass(kind) or not isinstance(kind, type):
        raise TypeError(f"what is {kind} in JSON?")
    if kind.__name__ not in defs:
        defs[kind.__name__] = {}  # it may hold others of its kind
        defs[kind.__name__] = fields_of(written(kind), defs)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def fields_of(found: Mapping[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these fields."""
    properties = {}
    for name, kind in found.items():
        kind = kind.type if isinstance(kind, Maybe) else kind
        if isinstance(kind, list):
            properties[name] = {"type": "array", "items": fields_of(kind[0], defs)}
        else:
            properties[name] = schema(kind, defs)
    required = [name for name, kind in found.items() if not isinstance(kind, Maybe)]
    return {"type": "object", "properties": properties, "required": required}


def whole(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an answer: what all have, and its own fields."""
    defs: dict[str, Any] = {}
    own = fields_of(found, defs)
    head = {
        "schema": {"const": f"sam21convert/{name}"},
        "ok": {"type": "boolean"},
        "exit_code": {"type": "integer"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"sam21convert/{name}",
        **own,
        "properties": {**head, **own["properties"]},
        "required": list(dict.fromkeys([*head, *own["required"]])),
        **({"$defs": defs} if defs else {}),
    }


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each answer, by the name of its file."""
    named = {cls._schema: written(cls) for cls in ANSWERS} | {**OTHERS}  # type: ignore[attr-defined]
    return {
        f"{name.replace('/', '-')}.json": whole(name, found)
        for name, found in sorted(named.items())
    }


def text(content: Mapping[str, Any]) -> str:
    """A schema as it is written."""
    return json.dumps(content, indent=1) + "\n"


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in schemas().items():
        (FOLDER / name).write_text(text(content))


if __name__ == "__main__":
    main()
