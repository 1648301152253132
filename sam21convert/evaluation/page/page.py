"""An evaluation as one HTML page, which runs no scripts and loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...markup.document import document, section, verdict
from ...markup.elements import Markup, breakable, code, element, joined, lines
from ...report import counted
from ..expect import published_of
from ..figures import FIGURES, SOURCE
from ..paired import Paired
from ..protocols import ObjectScore
from ..report import Evaluation
from .charts import steps
from .videos import videos

_STYLE = Path(__file__).with_name("page.css")
_SHOWN = 10  # objects in the table


def page(found: Evaluation, pictures: Path) -> str:
    """The page.

    Args:
        found: The evaluation.
        pictures: The folder with the pictures of the worst frames, as
            :func:`~sam21convert.evaluation.worst.draw_worst` makes them; it need not exist.

    Returns:
        A complete HTML document.
    """
    scored = bool(found.per_object)
    return document(
        f"How well {_named(found)[0][1]} tracks {_name_of(found.data)}",
        _STYLE,
        _answer(found),
        section(_figures_title(found), *_figures(found)) if scored else "",
        section(_title(found), *_objects(found)) if scored else "",
        section("The worst videos", _key(found), *videos(found, pictures)) if scored else "",
        section("What was done", _facts(found), lines(map(breakable, found.notes))),
    )


def _answer(found: Evaluation) -> Markup:
    counts = f"{counted(found.objects, 'object')} of {counted(found.videos, 'video')}"
    failed = [f"{one.video} was not evaluated: {one.reason}" for one in found.failed]
    if found.jf is None or found.j is None or found.f is None:
        return verdict("Tracked, and not scored", lines(map(breakable, failed)), yes=None)
    scope = f"{counts}, by the rules of {found.protocol}."
    expected = [f"Published: {found.expected.answer}."] if found.expected is not None else []
    remarks = lines(breakable(text) for text in [*expected, *failed])
    good = found.exit_code == 0
    if found.paired is not None and found.against is not None:
        (_, first), (_, second) = _named(found)
        said = element("p", *_difference(found.paired), f" First: {first}. Second: {second}.")
        same = found.paired.identical
        text = "Identical masks" if same else f"J&F {found.paired.jf:+.2f}"
        judged = None if good and not same else good
        both = f"J&F {found.jf:.1f} and {found.against.jf:.1f}, {scope}"
        return verdict(text, said, element("p", both), remarks, yes=judged)
    judged = good if found.expected is not None or failed else None
    single = f"J {found.j:.1f}, F {found.f:.1f}, {scope}"
    return verdict(f"J&F {found.jf:.1f}", element("p", single), remarks, yes=judged)


def _difference(paired: Paired) -> Iterator[str]:
    if paired.identical:
        yield f"None of {paired.of_pixels:,} pixels differs."
        return
    yield f"{paired.pixels:,} of {paired.of_pixels:,} pixels differ; "
    yield f"{counted(paired.changed, 'object')} changed."
    if paired.between is not None:
        low, high = paired.between
        yield f" The mean difference lies between {low:+.2f} and {high:+.2f} with 95 % confidence."


def _figures_title(found: Evaluation) -> str:
    published = any(published_of(one) for one, _ in _named(found))
    return "J&F beside the published figures" if published else "J&F"


def _figures(found: Evaluation) -> Iterator[Markup]:
    """J&F, J and F of each checkpoint, and the published figures of models of that size."""
    names = list(next(iter(FIGURES.values())))
    head = ["", "J&F", "J", "F", *names]
    rows = []
    for one, name in _named(found):
        here = [f"{value:.1f}" for value in (one.jf, one.j, one.f) if value is not None]
        rows.append(_row(breakable(name), [*here, *("" for _ in names)]))
    models = [published_of(one) for one, _ in _named(found)]
    published = dict.fromkeys(one.name for one in models if one is not None)
    for name in published:
        figures = [f"{FIGURES[name][of]:.1f}" for of in names]
        rows.append(_row(f"{name}, published", ["", "", "", *figures], cls="published"))
    yield _table(head if published else head[:4], rows, "figures")
    if not published:
        return
    yield element(
        "p",
        "Published figures are from ",
        element("a", "the README of SAM 2", href=SOURCE),
        ". They compare only with J&F of the whole of that benchmark.",
    )
    asked = [(name, one.expected) for one, name in _named(found)]
    answers = [f"{name}: {of.answer}" for name, of in asked if of is not None]
    notes = dict.fromkeys(note for _, of in asked if of is not None for note in of.notes)
    yield lines(map(breakable, [*answers, *notes]))


def _title(found: Evaluation) -> str:
    return "J&F of each object" if found.against is None else "Difference of J&F, object by object"


def _objects(found: Evaluation) -> Iterator[Markup]:
    """A chart of all objects, sorted, and a table of the worst."""
    first = found.per_object
    if found.against is None:
        order = sorted(first, key=lambda one: one.jf)
        values = [one.jf for one in order]
        yield steps(values, f"J&F of {counted(len(order), 'object')}: {_range(values)}")
        yield element("p", "J&F of all objects, the lowest first.", cls="key")
        cells = [(one, [f"{one.jf:.1f}", f"{one.j:.1f}", f"{one.f:.1f}"]) for one in order]
        yield _worst(cells, ["J&F", "J", "F"])
        return
    pairs = sorted(
        zip(first, found.against.per_object, strict=True),
        key=lambda pair: pair[1].jf - pair[0].jf,
    )
    values = [b.jf - a.jf for a, b in pairs]
    yield steps(values, f"Difference of {counted(len(pairs), 'object')}: {_range(values)}")
    yield element(
        "p",
        "J&F of the second checkpoint less that of the first, the largest loss first.",
        cls="key",
    )
    rows = [(a, [f"{b.jf - a.jf:+.1f}", f"{a.jf:.1f}", f"{b.jf:.1f}"]) for a, b in pairs]
    yield _worst(rows, ["difference", "first", "second"])


def _worst(cells: Sequence[tuple[ObjectScore, list[str]]], titles: list[str]) -> Markup:
    rows = [
        _row(breakable(one.video), [breakable(one.object), *values, f"{one.frames:,}"])
        for one, values in cells[:_SHOWN]
    ]
    return _table(["video", "object", *titles, "frames"], rows, "objects")


def _range(values: Sequence[float]) -> str:
    return f"from {min(values):.1f} to {max(values):.1f}"


def _key(found: Evaluation) -> Markup:
    if found.against is None:
        return element("p", "Those with the lowest J&F.")
    (_, first), (_, second) = _named(found)
    return element(
        "p",
        "Those that lost most, or have the lowest J&F. ",
        element("b", "First", cls="first"),
        f": {first}, an unbroken line. ",
        element("b", "Second", cls="second"),
        f": {second}, a dashed line.",
        cls="key",
    )


def _facts(found: Evaluation) -> Markup:
    rows = [
        ("data", joined(code(str(found.data)), f", layout {found.layout}")),
        ("rules", joined(f"{found.protocol}: {counted(found.frames, 'frame')} of objects")),
    ]
    for one in filter(None, (found, found.against)):
        rows.append(("tracked by" if one.checkpoint else "scored", code(str(_source(one)))))
        if one.checkpoint is not None:
            rows.append(
                ("with", joined(f"{one.backend}, in {one.dtype}, at {one.image_size} pixels"))
            )
        rows += [("sha256", code(digest)) for digest in one.sha256.values()]
        rows += [("on", breakable(device)) for device in one.tracked_on]
    body = (
        element("tr", element("th", name, scope="row"), element("td", text)) for name, text in rows
    )
    return element("table", element("tbody", *body), cls="facts")


def _source(found: Evaluation) -> Path:
    source = found.checkpoint or found.masks
    assert source is not None
    return source


def _named(found: Evaluation) -> list[tuple[Evaluation, str]]:
    """Each checkpoint with a name that tells it from the other."""
    sides = [one for one in (found, found.against) if one is not None]
    names = [f"{one.run_by}{_name_of(_source(one))}" for one in sides]
    if len({*names}) < len(names):
        names = [f"{one.run_by}{_source(one)}" for one in sides]
    return [*zip(sides, names, strict=True)]


def _name_of(path: Path) -> str:
    """The name of a file or folder, also of ``.`` and ``..``."""
    return path.resolve().name if path.name in ("", "..") else path.name


def _row(title: str, cells: Sequence[str], cls: str = "") -> Markup:
    shown = (element("td", cell) for cell in cells)
    return element("tr", element("th", title, scope="row"), *shown, cls=cls)


def _table(head: Sequence[str], rows: Sequence[Markup], cls: str) -> Markup:
    heads = (element("th", name, scope="col") if name else element("td") for name in head)
    table = element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        cls=cls,
    )
    return element("div", table, cls="scroll")
