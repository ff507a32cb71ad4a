"""Target functions: columns that the target is made of, or that are made of the target.

It decides what follows from the values alone, in (nearly) all rows: a copy, an
order, a class for each value, two columns or more that come to the target. It
never judges a column by how much it explains; `leaks` does.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from loopbook.models.explained import Columns
from loopbook.models.leaks import LEAST_ROWS, PROVEN, SUSPECTED, Leak, counts_time

MOST_PAIRED = 40  # numeric columns of which every two are tried
LEAST_OTHERS = 10  # rows beside the commonest value: fewer prove nothing
COPY = 0.9995  # of the rows: a copy may have a slip of the pen
WIDE = 5  # times the usual step: classes so far apart are apart by themselves
CLIFF = 0.2  # an eighth where rows lie evenly, a third where they thin out as a bell does
LEAST_CLIFF, LEAST_PAIRED_CLIFF = 30, 100  # rows; of two columns many more are tried
LEAST_STEPS = 30  # from value to value, before an order is one
NEIGHBOURS = 20  # values around a cut that say what a usual step is
OPERATIONS = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


def copies(table: Columns) -> Iterator[Leak]:
    """Columns that are the target, or a straight line of it."""
    for name in table.values if table.is_class else table.numbers:
        values = table.values[name]
        share, line = _on_a_line(values, table.target)
        if share >= COPY and not (line and counts_time(table, name)):
            rows = int(np.isfinite(values).sum())
            evidence = f"{name} is the target{line} in {100 * share:.1f} % of {rows:,} rows"
            yield Leak((name,), "copy", PROVEN, evidence)


def _on_a_line(values: np.ndarray, target: np.ndarray) -> tuple[float, str]:
    """In which share of the rows the target is a straight line of the values, and which."""
    there = np.isfinite(values)
    x, y = values[there], target[there]
    if x.size < LEAST_ROWS or np.ptp(x) == 0:
        return 0.0, ""
    # a line through robust points: the ends of the middle half
    low, high = np.quantile(x, [0.1, 0.9], method="nearest")
    if low == high:
        low, high = x.min(), x.max()
    at_low, at_high = np.median(y[x == low]), np.median(y[x == high])
    slope = (at_high - at_low) / (high - low)
    if slope == 0:
        return 0.0, ""
    shift = at_low - slope * low
    is_same = abs(slope - 1) < 1e-9 and abs(shift) <= 1e-9 * np.abs(y).max()
    return agreement(slope * x + shift, y), "" if is_same else f" times {1 / slope:.4g}"


def agreement(said: np.ndarray, y: np.ndarray) -> float:
    """In which share of the rows two numbers are the same, the commonest value left out.

    Where nearly all rows are zero, any two columns are nearly the same; so rows
    in which both have the target's commonest value tell nothing.
    """
    there = np.isfinite(said)
    if there.sum() < LEAST_ROWS:
        return 0.0
    said, y = said[there], y[there]
    same = np.isclose(said, y, rtol=1e-6, atol=1e-9 * np.median(np.abs(y)))
    told = (y != _commonest(y)) | ~same
    return float(same[told].mean()) if told.sum() >= LEAST_OTHERS else 0.0


def _commonest(y: np.ndarray) -> float:
    values, counts = np.unique(y, return_counts=True)
    return values[counts.argmax()]


def together(table: Columns) -> Iterator[Leak]:
    """Two columns whose sum, difference, product or quotient is the target, or parts its classes."""
    names = [n for n in table.numbers if np.unique(table.values[n]).size > 2][:MOST_PAIRED]
    if table.is_class and np.unique(table.target).size > MOST_PAIRED:
        return
    few = _few(table)
    for one, other in combinations(names, 2):
        for sign in "+-" if table.is_class else OPERATIONS:
            # turned round, a difference parts classes as well
            turned = sign in "-/" and not table.is_class
            for first, second in [(one, other), (other, one)] if turned else [(one, other)]:
                if not _told(table, first, sign, second, few):
                    continue
                if told := _told(table, first, sign, second, None):
                    yield Leak((first, second), "together", PROVEN, told, "put both under ignored")


def _few(table: Columns) -> np.ndarray:
    """Some rows that tell soon what is not so: of each class some, or most with rare values."""
    order = np.random.default_rng(0).permutation(table.target.size)
    y = table.target[order]
    if not table.is_class:
        is_rare = y != _commonest(y)
        return np.concatenate([order[is_rare][:150], order[~is_rare][:50]])
    return np.concatenate([order[y == kind][:100] for kind in np.unique(y)])


def _told(table: Columns, one: str, sign: str, other: str, few: np.ndarray | None) -> str:
    """What two columns come to, of all rows or of a few; nothing, where it is not the target."""
    rows = slice(None) if few is None else few
    with np.errstate(all="ignore"):
        made = OPERATIONS[sign](table.values[one][rows], table.values[other][rows])
    there = np.isfinite(made)
    made, y = made[there], table.target[rows][there]
    if made.size < LEAST_ROWS or np.ptp(made) == 0:
        return ""
    if not table.is_class:
        share = agreement(made, y)
        is_made = share >= COPY
        return (
            f"{one} {sign} {other} is the target in {100 * share:.1f} % of the rows"
            if is_made
            else ""
        )
    cuts, is_made = clean_cuts(made, y, LEAST_PAIRED_CLIFF)
    if not cuts or (few is None and not is_made):
        return ""
    return f"{one} {sign} {other} tells the classes apart at {cuts} in all {made.size:,} rows"


def joint(table: Columns) -> Iterator[Leak]:
    """Three columns or more of which the target is a straight sum, each with its weight."""
    names = [n for n in table.numbers if np.isfinite(table.values[n]).mean() > 0.9]
    if table.is_class or len(names) < 3:
        return
    X = np.column_stack([table.values[n] for n in names])
    there = np.isfinite(X).all(axis=1)
    X, y = X[there], table.target[there]
    names = [n for n, column in zip(names, X.T, strict=True) if y.size and np.ptp(column) > 0]
    if y.size < max(LEAST_ROWS, 10 * len(names)) or np.ptp(y) == 0:
        return
    parts = {n: _standard(table.values[n][there]) for n in names}
    left = dict(parts)
    if not _is_summed(left, y):
        return
    for name in names:  # what the others do without is no part of it
        without = {n: part for n, part in left.items() if n != name}
        if len(without) > 1 and _is_summed(without, y):
            left = without
    if len(left) > 2:
        told = f"{', '.join(left)} together come to the target, each with one weight, in all rows"
        yield Leak(tuple(left), "together", PROVEN, told, "put them under ignored")


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _is_summed(parts: dict[str, np.ndarray], y: np.ndarray) -> bool:
    X = np.column_stack([*parts.values(), np.ones(y.size)])
    weights = np.linalg.lstsq(X, y, rcond=None)[0]
    return agreement(X @ weights, y) >= COPY


def functions(table: Columns) -> Iterator[Leak]:
    """Columns from which the target follows, without being a line of it."""
    for name, values in table.values.items():
        there = np.isfinite(values)
        x, y = values[there], table.target[there]
        if x.size < LEAST_ROWS or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        looks = (_parted, _ordered, _each, _made_of)
        some = [leak for look in looks if (leak := look(table, name, x, y))]
        yield from sorted(some, key=lambda leak: leak.certainty != PROVEN)[:1]


def _parted(table: Columns, name: str, x: np.ndarray, y: np.ndarray) -> Leak | None:
    """A number that tells the classes apart without an exception."""
    if not table.is_class or name in table.categories:
        return None
    cuts, is_made = clean_cuts(x, y)
    if not cuts:
        return None
    told = f"{name} tells the classes apart at {cuts} in all {x.size:,} rows"
    if is_made:
        return Leak((name,), "function", PROVEN, told)
    told += ", which may be apart in it by nature"
    return Leak((name,), "function", SUSPECTED, told, "if it is known later: ignored", False)


def clean_cuts(x: np.ndarray, y: np.ndarray, least: int = LEAST_CLIFF) -> tuple[str, bool]:
    """Where a number parts all classes without an exception, and whether that made them.

    A class that a threshold made begins where the other ends, and at once: it
    is cut out of rows that go on. Classes that are apart by nature leave a gap,
    or thin out towards each other.

    Parameters
    ----------
    least : int
        Rows of a class that show how it begins; with fewer nothing is said to be made.
    """
    kinds, places, counts = np.unique(y, return_inverse=True, return_counts=True)
    if not 2 <= kinds.size <= MOST_PAIRED or np.sort(counts)[-2] < LEAST_OTHERS:
        return "", False
    low, high = _ends(x, places, kinds.size)
    order = np.argsort(low)
    low, high = low[order], high[order]
    if not (high[:-1] < low[1:]).all():
        return "", False
    cuts = (high[:-1] + low[1:]) / 2
    values = np.unique(x)
    are_made = [
        begin - end <= WIDE * _usual_step(values, begin)
        and any(_begins_at_once(x[places == kind], cut, least) for kind in pair)
        for end, begin, cut, pair in zip(
            high[:-1], low[1:], cuts, np.column_stack([order[:-1], order[1:]]), strict=True
        )
    ]
    told = " and ".join(f"{cut:,.6g}" for cut in cuts[:3])
    return told + (" and others" if cuts.size > 3 else ""), all(are_made)


def _usual_step(values: np.ndarray, at: float) -> float:
    place = int(np.searchsorted(values, at))
    return float(np.median(np.diff(values[max(0, place - NEIGHBOURS) : place + NEIGHBOURS])))


def _begins_at_once(x: np.ndarray, cut: float, least: int) -> bool:
    """Whether rows lie as closely at a cut as further away: a tenth of them within a fifth."""
    if x.size < least:
        return False
    near, far = np.quantile(np.abs(x - cut), [0.1, 0.8])
    return bool(near <= CLIFF * far)


def _ordered(table: Columns, name: str, x: np.ndarray, y: np.ndarray) -> Leak | None:
    """A number whose order is that of the target; one that only counts time has it by itself."""
    if table.is_class or name in table.categories or np.unique(y).size < 20:
        return None
    _, places = np.unique(x, return_inverse=True)
    low, high = _ends(y, places, places.max() + 1)
    is_ordered = (high[:-1] <= low[1:]).all() or (low[:-1] >= high[1:]).all()
    if low.size <= LEAST_STEPS or not is_ordered or counts_time(table, name):
        return None
    told = f"the order of the rows by {name} is that by the target, in {x.size:,} rows"
    return Leak((name,), "function", PROVEN, told)


def _each(table: Columns, name: str, x: np.ndarray, y: np.ndarray) -> Leak | None:
    """A column of which each value has one target only."""
    values, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    repeated = counts[places] > 1
    others = repeated & (y != _commonest(y))
    if values.size < 2 or repeated.mean() < 0.5 or others.sum() < LEAST_OTHERS:
        return None
    is_measure = table.is_class and name not in table.categories
    if is_measure and values.size > np.unique(y).size and clean_cuts(x, y)[0]:
        return None  # a measure whose classes stand one after the other, coarsely read
    low, high = _ends(y, places, values.size)
    is_one = (low == high)[places]
    if min(is_one[repeated].mean(), is_one[others].mean()) < COPY:
        return None
    told = f"each value of {name} ({values.size:,}) has one target only"
    certain = PROVEN if values.size <= 0.2 * x.size else SUSPECTED
    return Leak((name,), "function", certain, told)


def _made_of(table: Columns, name: str, x: np.ndarray, y: np.ndarray) -> Leak | None:
    """A column that follows from the target: ranges of a number, or names for some of its classes."""
    if not table.is_class:
        cuts, is_made = clean_cuts(y, x)
        if not is_made or counts_time(table, name):
            return None
        told = f"the values of {name} are ranges of the target, which meet at {cuts}"
        return Leak((name,), "function", PROVEN, told)
    kinds, of_kind = np.unique(y, return_inverse=True)
    low, high = _ends(x, of_kind, kinds.size)
    if kinds.size == 2 or (low != high).any():
        return None
    return Leak((name,), "function", SUSPECTED, f"each class has one value of {name} only")


def _ends(y: np.ndarray, places: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each group, the least and the greatest."""
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low, places, y)
    np.maximum.at(high, places, y)
    return low, high
