"""Quality: which inputs of a window are broken, as against merely different.

It decides what a fault is: a column that has gone empty, values that the
reference hardly ever had, categories that are nearly all new, answers that are
all the same. A fault asks for a person: a model that is trained on broken
inputs learns what is broken. Pure: no file, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.stats import beta

from loopbook.data.units import mistaken_for
from loopbook.models.measures import decimal
from loopbook.project.contract import Contract
from loopbook.project.counts import per_cent

RARE = 0.0005  # of the reference's rows lie beyond each end of the plausible range
NEW_SHARE = 0.2  # of rows with categories never seen: not a new entity, but another coding
CONFIDENCE = 0.99
# By how much values may leave the reference's ends, as a factor or as a share of their distance:
BEYOND = 1.25  # an input, such as the warmth of a season that training has not seen
GROWTH = 2  # the target: up to there it has moved and is not broken
MISSING, NEW, IMPLAUSIBLE = "missing", "new category", "implausible"
MATERIALIZE = "loopbook features materialize"


@dataclass(frozen=True)
class Fault:
    """Something about a column. `is_broken`: it asks for a person; else it is only told."""

    column: str
    kind: str
    share: float
    reference_share: float
    sentence: str
    is_broken: bool


def least_share(count: int, rows: int) -> float:
    """What a share is at least, beyond reasonable doubt.

    Notes
    -----
    The lower end of the interval of Clopper and Pearson, Biometrika 26 (1934),
    one-sided at 99 per cent.
    """
    return float(beta.ppf(1 - CONFIDENCE, count, rows - count + 1)) if count else 0.0


def faults(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    contract: Contract,
    names: Sequence[str],
    *,
    margin: float,
    expected: Mapping[str, pl.Series] | None = None,
) -> list[Fault]:
    """What is wrong with a window's columns, the largest share first.

    Parameters
    ----------
    reference, current : polars.DataFrame
        Both with all of `names`; nothing is found in an empty window.
    margin : float in [0, 1]
        By how much a share must surely exceed the reference's to be a fault.
    expected : mapping from column to Boolean series
        The rows of the window whose value need not be one of the reference's:
        it came with the calendar.
    """
    if current.is_empty():
        return []
    column_faults: list[Fault] = []
    for name in names:
        before, now = reference[name], current[name]
        column_faults += _missing(name, before, now, margin)
        told, is_text = (expected or {}).get(name), now.dtype == pl.String
        asked = now if told is None else now.zip_with(~told, now.clear(1))
        column_faults += (
            _new(name, before, asked)
            if is_text
            else _implausible(name, before, asked, contract, margin)
        )
    return sorted(
        column_faults, key=lambda fault: (not fault.is_broken, -fault.share, fault.column)
    )


def _missing(name: str, before: pl.Series, now: pl.Series, margin: float) -> list[Fault]:
    usual, count = _missing_share(before), round(_missing_share(now) * now.len())
    if least_share(count, now.len()) <= usual + margin:
        return []
    share = count / now.len()
    sentence = f"{name} is missing in {per_cent(share)} of the rows; it was in {per_cent(usual)} of the reference"
    return [Fault(name, MISSING, share, usual, sentence, is_broken=True)]


def _missing_share(column: pl.Series) -> float:
    if column.dtype == pl.String:
        return column.null_count() / column.len()
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return float(1 - np.isfinite(values).mean())


def _new(name: str, before: pl.Series, now: pl.Series) -> list[Fault]:
    known = set(before.drop_nulls().unique())
    strange = now.drop_nulls().filter(~now.drop_nulls().is_in(list(known)))
    if strange.is_empty():
        return []
    share = strange.len() / now.len()
    first = strange.value_counts(sort=True).row(0)[0]
    is_broken = least_share(strange.len(), now.len()) > NEW_SHARE
    sentence = f"in {per_cent(share)} of the rows {name} is one that training has not seen, most often {first}"
    return [Fault(name, NEW, share, 0.0, sentence, is_broken)]


def _implausible(
    name: str, before: pl.Series, now: pl.Series, contract: Contract, margin: float
) -> list[Fault]:
    was, is_now = _finite(before), _finite(now)
    if not was.size or not is_now.size:
        return []
    is_outcome = name not in contract.features and name not in contract.trailing
    low, high = _ends(was, GROWTH if is_outcome else BEYOND)
    strange = is_now[(is_now < low) | (is_now > high)]
    usual = float(((was < low) | (was > high)).mean())
    if least_share(strange.size, now.len()) <= usual + margin:
        return []
    share = strange.size / now.len()
    sentence = (
        f"{name} lies outside {decimal(low)} to {decimal(high)} in {per_cent(share)} of the rows, where nearly "
        f"all of the reference was{_mixed_up(strange, was, _unit_of(name, contract))}"
    )
    return [Fault(name, IMPLAUSIBLE, share, usual, sentence, is_broken=True)]


def _ends(usual: np.ndarray, reach: float) -> tuple[float, float]:
    """From where to where a value is plausible, `reach` beyond the reference's ends.

    A value beyond the ends by a little has moved, and is no other unit: drift
    and error tell of it. What is predicted may grow more than an input: that
    calls for retraining. Where values are 0 or less, no factor says how far
    that is, but the distance between the ends does.
    """
    low, high = np.quantile(usual, [RARE, 1 - RARE])
    if low > 0:
        return low / reach, high * reach
    room = (reach - 1) * (high - low)
    return low - room, high + room


def _finite(column: pl.Series) -> np.ndarray:
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values[np.isfinite(values)]


def _unit_of(name: str, contract: Contract) -> str | None:
    if name in contract.trailing:
        return contract.history.unit
    return contract.features.get(name, contract.target).unit


def _mixed_up(strange: np.ndarray, usual: np.ndarray, unit: str | None) -> str:
    """A guess at the unit that came, where the typical strange value is what that would be."""
    middle, came = float(np.median(usual)), float(np.median(strange))
    other = mistaken_for(unit, middle, came)
    return (
        f"; typically {decimal(came, 4)} where {decimal(middle, 4)} is usual, as with {other}"
        if other
        else ""
    )


def weighed(
    column_faults: Sequence[Fault], unused: Sequence[str], contract: Contract
) -> list[Fault]:
    """The same faults, with what to type where a value is missing; the broken ones first.

    What is missing and changes no answer of the champion asks for nobody: it is told.

    Parameters
    ----------
    unused : sequence of str
        The columns that the champion does not use.
    """
    told = [_remedied(f, unused, contract) if f.kind == MISSING else f for f in column_faults]
    return sorted(told, key=lambda fault: not fault.is_broken)


def _remedied(fault: Fault, unused: Sequence[str], contract: Contract) -> Fault:
    sentence = fault.sentence
    if fault.column in unused:
        sentence += "; the champion does not use it, so no answer changed"
    if fault.column in contract.trailing:
        sentence += f"; if the feature store is not up to date: {MATERIALIZE}"
    is_broken = fault.is_broken and fault.column not in unused
    return replace(fault, sentence=sentence, is_broken=is_broken)


def answer_faults(answers: np.ndarray) -> list[Fault]:
    """What is wrong with the answers themselves: all the same, though many were asked."""
    if len(answers) < 30 or np.ptp(answers, axis=0).max() > 0:
        return []
    same = "the same probabilities" if answers.ndim > 1 else decimal(float(answers[0]))
    sentence = f"all {len(answers):,} answers are {same}"
    return [Fault("answer", "constant", 1.0, 0.0, sentence, is_broken=True)]
