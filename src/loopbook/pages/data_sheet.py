"""Data sheet: which rows made a version, which leaks were looked for, what drift is measured from.

It decides what a dossier says of the data. What was not recorded is said so.
"""

from collections.abc import Iterator

from loopbook.pages.blocks import Part, Person, Row, Section, Table, text
from loopbook.pages.formats import Amount, cell, instant, share
from loopbook.pages.recorded import Records


def section(told: Records) -> Section:
    """The data sheet, the leaks that were looked for, and what drift is measured from."""
    left = ("build", "validation", "left_out")
    return Section(
        "2 (d)",
        "Data",
        [
            Table(
                ("", ""),
                [
                    ("a row", told("card", "contract", "meaning")),
                    ("snapshot (SHA-256)", told("card", "snapshot_sha256")),
                    ("its rows", told("decision", "snapshot_rows")),
                    ("known as of (UTC)", told("card", "as_of", form=instant)),
                    ("first row in use (UTC)", told("run", "tags", "window_start", form=instant)),
                    (
                        "last row in use, before (UTC)",
                        told("run", "tags", "window_end", form=instant),
                    ),
                    ("rows that taught", told("build", "split", "counts", "train")),
                    ("rows that compared", told("build", "split", "counts", "validation")),
                    ("rows that judged", told("build", "split", "counts", "test")),
                    ("rows set aside", _count_of(told, "build", "validation", "set_aside")),
                    ("days until the truth is known", told("card", "contract", "label_delay_days")),
                ],
                "Data sheet",
            ),
            Table(
                ("rows left out by the contract", "reason"),
                [
                    (told(*left, place, "rows"), told(*left, place, "reason"))
                    for place in range(len(told.get(*left, default=[])))
                ],
            ),
            text(
                "Leaks were looked for: columns that are the target, a function of it or follow it "
                "too well, are known only afterwards, or tell it by being missing; rows that stand "
                "on both sides of the split."
            ),
            Table(
                ("about", "what was found", "accepted because"),
                list(_leaks(told)),
                "Leaks",
                _no_leaks(told),
            ),
            Table(
                ("column", "rows", "missing", "mean", "1 %", "median", "99 %"),
                [_usual(told, name) for name in told.get("card", "reference", default={})],
                "Drift baseline: the rows of the last fit",
            ),
            Person("Where do the rows come from, who gave them, and by which right are they used?"),
            Person("Who labelled them, how were they cleaned before, and whom do they represent?"),
        ],
    )


def _count_of(told: Records, *way: str) -> Part:
    """How many stand in a list of the record; the list itself is what is pointed to."""
    found = told.get(*way)
    return told(*way, form=lambda some: cell(len(some))) if found is not None else told(*way)


def _no_leaks(told: Records) -> str:
    """What is said where the table of leaks is empty."""
    places = {"of the table": ("build", "validation"), "of the split": ("decision",)}
    unknown = [what for what, way in places.items() if "leaks" not in told.get(*way, default={})]
    if unknown:
        return f"What was found {' and '.join(unknown)} is not with the run."
    return "None was found."


def _leaks(told: Records) -> Iterator[Row]:
    for name in told.get("card", "accepted_leaks", default={}):
        yield name, "knows the target", told("card", "accepted_leaks", name)
    for way in (("build", "validation", "leaks"), ("decision", "leaks")):
        for place, leak in enumerate(told.get(*way, default=[])):
            about = ", ".join(leak["columns"]) or "rows"
            why = told(*way, place, "accepted") if leak.get("accepted") else "not accepted"
            yield about, told(*way, place, "evidence"), why


def _usual(told: Records, name: str) -> Row:
    way = ("card", "reference", name)
    per_cent = lambda value: Amount(share(value, 1))  # noqa: E731
    start = name, told(*way, "n"), told(*way, "missing_share", form=per_cent)
    if told.get(*way, "quantiles") is None:
        return *start, "a category", "", "", ""
    ends = [told(*way, "quantiles", at) for at in ("0.01", "0.5", "0.99")]
    return *start, told(*way, "mean"), *ends
