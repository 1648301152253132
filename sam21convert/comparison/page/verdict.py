"""The answer, what was compared, and a row for each scenario."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from ...markup.document import verdict as coloured
from ...markup.elements import Markup, breakable, code, element, joined, lines
from ...report import counted
from ..findings import Diagnosis, ParityResult, ParitySide, ScenarioResult, short
from .numbers import ratio

_GLYPHS = {"same": "✓", "known difference": "≈", "differs": "✕", "not run": "–"}
_SHOWN = 3  # reasons that are not folded up


def verdict(report: ParityResult) -> Markup:
    """The answer in one sentence, with its reasons.

    Args:
        report: The results.

    Returns:
        A coloured ``section``. Differences of weights and settings come first, then other problems.
    """
    first = next(iter(report.differing), None)
    texts = {difference.text for difference in report.diagnosis}
    others = [breakable(problem) for problem in report.problems if problem not in texts]
    reasons = [_diagnosis(difference, first) for difference in report.diagnosis]
    reasons += others if first is None else others[1:]  # the first one is the sentence above
    return coloured(
        "In parity" if report.ok else "Not in parity",
        element("p", _sentence(report) if first is None else _first_difference(first)),
        lines(reasons[:_SHOWN]),
        _folded(reasons[_SHOWN:]),
        yes=report.ok,
    )


def sides(report: ParityResult) -> Markup:
    """What was compared.

    Args:
        report: The results.

    Returns:
        A table with a column for each side; rows in which the two differ are marked.
    """
    both = (report.left, report.right)
    rows: list[tuple[str, Sequence[str]]] = [
        ("backend", [f"{side.backend} {side.version}" for side in both]),
        ("file", [code(str(side.source)) for side in both]),
        ("format", [f"{side.dialect}, {side.container}" for side in both]),
        ("model", [breakable(f"SAM {side.generation}, {side.config}") for side in both]),
        ("image size", [f"{side.image_size} pixels" for side in both]),
        ("sha256", [_hashes(side) for side in both]),
    ]
    if any(side.notes for side in both):
        rows.append(("notes", [lines(map(breakable, side.notes)) for side in both]))
    heads = (
        element("th", side, " (the reference)" if report.reference == side else "", scope="col")
        for side in ("left", "right")
    )
    body = (
        element(
            "tr",
            element("th", name, scope="row"),
            *(element("td", text) for text in texts),
            cls="unlike" if texts[0] != texts[1] else "",
        )
        for name, texts in rows
    )
    head = element("thead", element("tr", element("td"), *heads))
    return element("table", head, element("tbody", *body), cls="sides")


def overview(report: ParityResult) -> Markup:
    """The status of each scenario, with its largest difference and the tolerance.

    Args:
        report: The results.

    Returns:
        A table with a row for each scenario.
    """
    heads = ("result", "scenario", report.noun, "difference", "tolerance", "× tolerance")
    head = element("tr", *(element("th", head, scope="col") for head in heads))
    rows = (_row(at, found, report.noun) for at, found in enumerate(report.scenarios))
    return element("table", element("thead", head), element("tbody", *rows), cls="overview")


def outcome(found: ScenarioResult) -> Markup:
    """The status of a scenario with a symbol.

    Args:
        found: The result of the scenario.

    Returns:
        A ``span`` element whose class is the status.
    """
    glyph = element("span", _GLYPHS[found.status], cls="glyph", aria_hidden="true")
    return element("span", glyph, found.status, cls=f"outcome {found.status.replace(' ', '-')}")


def _first_difference(found: ScenarioResult) -> Markup:
    at, where = found.first, element("b", found.title)
    if at is None:
        return joined("The two sides differ in ", where, ": ", breakable(found.why), ".")
    amount = f": difference {short(at.relative)}, tolerance {short(at.tolerance)}."
    return joined("The two sides first differ in ", where, " at ", code(at.name), amount)


def _sentence(report: ParityResult) -> Markup:
    """The answer when no scenario differs."""
    if not report.ok:
        text = f"No {report.noun} is out of tolerance, but there are other problems:"
        return Markup(text)
    same = [found for found in report.scenarios if found.status == "same"]
    apart = [
        (activation.relative / activation.tolerance, found.title, activation)
        for found in same
        for activation in found.activations
        if activation.relative
    ]
    number = sum(len(found.activations) for found in same)
    scope = f"{number:,} {report.noun}s of {counted(len(same), 'scenario')}"
    if not apart:
        equal = f"All {scope} are equal to the last bit." if same else ""
        return joined(equal, _exceptions(report))
    _, title, most = max(apart, key=itemgetter(0))
    return joined(
        f"All {scope} are within tolerance. Nearest to it is ",
        code(most.name),
        " of ",
        element("b", title),
        f": difference {short(most.relative)}, tolerance {short(most.tolerance)}.",
        _exceptions(report),
    )


def _exceptions(report: ParityResult) -> str:
    """Scenarios that a sentence about all the others does not speak of."""
    known = sum(found.status == "known difference" for found in report.scenarios)
    left_out = sum(found.status == "not run" for found in report.scenarios)
    texts = [f" With a known difference: {counted(known, 'scenario')}."] if known else []
    texts += [f" Not run: {counted(left_out, 'scenario')}."] if left_out else []
    return "".join(texts)


def _diagnosis(found: Diagnosis, differing: ScenarioResult | None) -> Markup:
    label = "Cause: " if differing and found.activation else "Difference before any run: "
    reach = joined("; changes ", code(found.activation), " and what follows")
    hint = f" {found.hint[0].upper()}{found.hint[1:]}." if found.hint else ""
    return joined(
        element("b", label), breakable(found.text), reach if found.activation else "", ".", hint
    )


def _folded(texts: Sequence[str]) -> Markup:
    if not texts:
        return Markup("")
    return element("details", element("summary", f"{len(texts)} more"), lines(texts))


def _hashes(side: ParitySide) -> Markup:
    """The hash of each file, with its name if there are several."""
    several = len(side.sha256) > 1
    return lines(
        joined(name if several else "", " " if several else "", element("code", value, cls="hash"))
        for name, value in side.sha256.items()
    )


def _row(at: int, found: ScenarioResult, noun: str) -> Markup:
    link = element("a", found.title, href=f"#s{at}")
    heads = (
        element("td", outcome(found)),
        element("th", link, " ", element("small", found.summary), scope="row"),
    )
    activation = found.furthest
    if activation is None:
        return element("tr", *heads, element("td", found.why, colspan="4", cls="why"))
    name = (
        code(activation.name)
        if activation.relative
        else f"all {counted(len(found.activations), noun)}"
    )
    cells = (name, short(activation.relative), short(activation.tolerance), ratio(activation))
    return element("tr", *heads, *(element("td", cell) for cell in cells))
