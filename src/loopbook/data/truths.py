"""Truths: ground truth on its way into the prediction log.

It decides what a truth is to the log (accepted, corrected, unchanged, unknown or
set aside) and when one without a time of its own became known. Nothing that was
told before is changed: a correction is one more row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopbook.data.log_tables import COLUMNS, read_truth, stored
from loopbook.project.clock import to_micros
from loopbook.project.database import Database

DAY_US = 86_400_000_000
FIRST_US, LAST_US = -62_104_060_800_000_000, 253_339_228_800_000_000  # years 2 and 9998 begin
UNKNOWN, SET_ASIDE = "unknown", "set_aside"
ASKED_AT_ONCE = 500

Name = tuple[str, str]  # a column of the ground truth, and what stands there
Outcome = tuple[str, int | None]  # a word, and when the truth became known


@dataclass(frozen=True, slots=True)
class Truth:
    """One observed target, for a prediction's id or for all predictions of a key.

    `observed` is a number, or the class as a text.
    Without `known_us` it became known when it was received, by the clock of its
    answer: see `when_known`. One that `is_aside` is looked up and not written.
    """

    prediction_id: str | None
    key: str | None
    observed: float | str
    known_us: int | None
    received_us: int
    older_key: str | None = None  # as `RowKeys.older`, to find answers from before
    is_aside: bool = False

    @property
    def names(self) -> list[Name]:
        """What its answers may be found by: answers of one key may stand under both of its texts."""
        if self.prediction_id:
            return [("prediction_id", self.prediction_id)]
        return [("key", key) for key in (self.key, self.older_key) if key is not None]


def tell(database: Database, truths: Sequence[Truth], *, delay_us: int) -> list[Outcome]:
    """Write truths, all or none, and what became of each.

    All are looked up together: others wait for the log as long as this takes,
    and with a question for each, ten thousand took a second.
    """
    with database.transaction() as cursor:
        names = dict.fromkeys(name for truth in truths for name in truth.names)
        log = _Log(_answers(cursor, database, names), _newest(cursor, database, names), delay_us)
        outcomes = [log.told(truth) for truth in truths]
        put = database.sql(
            "INSERT INTO ground_truth "
            "(prediction_id, key, observed, observed_class, known_us, received_us) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        if log.written:
            cursor.executemany(put, log.written)
    return outcomes


@dataclass
class _Log:
    """What the log holds of some names, and what is to be written.

    Parameters
    ----------
    answers : for which moment each name was answered, and when it was asked
    newest : the truth of each name that became known last, and when
    """

    answers: dict[Name, tuple[int, int]]
    newest: dict[Name, tuple[float | str, int]]
    delay_us: int
    written: list[tuple] = field(default_factory=list)

    def told(self, truth: Truth) -> Outcome:
        outcomes = [self._told_by(name, truth) for name in truth.names]
        return next((one for one in outcomes if one[0] != UNKNOWN), (UNKNOWN, None))

    def _told_by(self, name: Name, truth: Truth) -> Outcome:
        answer = self.answers.get(name)
        if answer is None:
            return UNKNOWN, None
        if truth.is_aside:
            return SET_ASIDE, None
        before = self.newest.get(name)
        if before and before[0] == truth.observed:
            return "unchanged", before[1]
        known = truth.known_us
        if known is None:
            known = when_known(truth.received_us, *answer, delay_us=self.delay_us)
        key = None if truth.prediction_id else name[1]
        told = stored(truth.observed)
        row = (truth.prediction_id, key, *told, known, truth.received_us)
        self.written.append(row)
        if before is None or known >= before[1]:
            self.newest[name] = truth.observed, known
        return ("corrected" if before else "accepted"), known


def _answers(cursor: Any, database: Database, names: Iterable[Name]) -> dict[Name, tuple[int, int]]:
    ids = [text for column, text in names if column == "prediction_id"]
    found: dict[Name, tuple[int, int]] = {}
    for part in parts(ids, ASKED_AT_ONCE):
        marks = ", ".join("?" * len(part))
        asked = f"SELECT id, as_of_us, received_us FROM predictions WHERE id IN ({marks})"
        for name, *at in cursor.execute(database.sql(asked), part).fetchall():
            found["prediction_id", name] = tuple(at)
    newest = database.sql(
        "SELECT as_of_us, received_us FROM predictions WHERE key = ? ORDER BY as_of_us DESC LIMIT 1"
    )
    for column, text in names:
        # a key may have any number of answers, so each is asked for its newest
        if column == "key" and (at := cursor.execute(newest, (text,)).fetchone()):
            found[column, text] = at
    return found


def _newest(
    cursor: Any, database: Database, names: Iterable[Name]
) -> dict[Name, tuple[float | str, int]]:
    found: dict[Name, tuple[float | str, int]] = {}
    for wanted in ("prediction_id", "key"):
        texts = [text for column, text in names if column == wanted]
        for part in parts(texts, ASKED_AT_ONCE):
            marks = ", ".join("?" * len(part))
            asked = database.sql(
                f"SELECT {wanted}, observed, observed_class, known_us FROM ground_truth "
                f"WHERE {wanted} IN ({marks}) ORDER BY known_us, seq"
            )
            for name, number, text, known in cursor.execute(asked, part).fetchall():
                found[wanted, name] = (number if text is None else text), known
    return found


def known_truths(
    database: Database,
    answers: Sequence[tuple],
    classes: Sequence[str] | None,
    *,
    known_until: datetime | None = None,
) -> dict[str, list[tuple[float | str, int]]]:
    """Ground truth of logged answers by their ids, in the order in which it became known.

    Parameters
    ----------
    answers : sequence of tuple
        Rows of `predictions`, in the order of COLUMNS.
    classes : sequence of str or None
        Those of the target; see `log_tables.read_truth`.
    """
    wanted = [(row[0], row[COLUMNS.index("key")]) for row in answers]
    by: dict[str, dict[str, list[tuple[float | str, int]]]] = {"prediction_id": {}, "key": {}}
    latest = to_micros(known_until) if known_until else 2**62
    for column, names in (
        ("prediction_id", [i for i, _ in wanted]),
        ("key", sorted({k for _, k in wanted if k is not None})),
    ):
        for part in parts(names, ASKED_AT_ONCE):
            marks = ", ".join("?" * len(part))
            asked = database.sql(
                f"SELECT {column}, observed, observed_class, known_us FROM ground_truth "
                f"WHERE {column} IN ({marks}) AND known_us <= ? ORDER BY known_us, seq"
            )
            for name, number, text, known in database.read(asked, (*part, latest)):
                observed = read_truth(number, text, classes)
                if observed is not None:
                    by[column].setdefault(name, []).append((observed, known))
    return {
        i: sorted(by["prediction_id"].get(i, []) + by["key"].get(k, []), key=lambda t: t[1])
        for i, k in wanted
    }


def parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Values in their order, at most `size` at a time."""
    return (values[start : start + size] for start in range(0, len(values), size))


def when_known(now_us: int, as_of_us: int, received_us: int, *, delay_us: int) -> int:
    """When a ground truth without a `known_at` became known, by the clock of its answer.

    An answer for the moment at which it was asked lives by the clock on the
    wall, and so does its truth: it is known now. An answer for another time (last
    year's row) has a clock that began with it: its truth is known as much later
    as it came later, and after the label delay at the earliest. Both are in
    microseconds, and never earlier than they could have been known.
    """
    if abs(as_of_us - received_us) <= DAY_US:
        return now_us
    known = as_of_us + max(delay_us, now_us - received_us)
    return min(max(known, FIRST_US), LAST_US)
