"""Decisions: from which probability on the yes is answered.

It decides by what wrong answers cost, on rows that the model has not seen. It
knows arrays only; who keeps the threshold is the card's matter.
"""

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Threshold:
    """From which probability on the yes is answered, and what that costs a row.

    `cost` is the mean cost of a row with this threshold, `cost_at_half` with
    0.5, `cost_of_no` and `cost_of_yes` if every row were answered alike, all on
    the same `rows` and in the unit of the contract's costs.
    """

    threshold: float
    cost: float
    cost_at_half: float
    cost_of_no: float
    cost_of_yes: float
    rows: int

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


def cheapest(
    is_yes: np.ndarray, probabilities: np.ndarray, *, false_positive: float, false_negative: float
) -> Threshold:
    """The threshold with the least mean cost on some rows.

    Parameters
    ----------
    is_yes : array of shape (n,), n >= 1
        Whether the yes happened.
    probabilities : array of shape (n,)
        Of the yes.
    false_positive, false_negative : float
        What a wrong yes and a wrong no cost.

    Returns
    -------
    Threshold
        A probability of at least it is a yes. Where a cheapest one agrees with
        false_positive / (false_positive + false_negative), which is best where
        probabilities are right (Elkan, 2001), it is that. Otherwise it lies in
        the middle of the probabilities around the cheapest place that is nearest
        to it; of two as near, the lower. Just above 1 where no yes is worth it.
    """
    order = np.argsort(probabilities, kind="stable")
    said, happened = probabilities[order], np.asarray(is_yes, bool)[order]
    # with the first k rows answered no: their yes are missed, the others' no are wrong
    missed = np.concatenate([[0], np.cumsum(happened)])
    wrong = (~happened).sum() - np.concatenate([[0], np.cumsum(~happened)])
    costs = (false_negative * missed + false_positive * wrong) / len(said)
    # equal probabilities are answered alike, so no threshold lies between them
    cuts = np.flatnonzero(np.concatenate([[True], said[1:] > said[:-1], [True]]))
    # the threshold of a cut is above `low` and at most `high`
    low = np.concatenate([[0.0], said])[cuts]
    high = np.concatenate([said, [max(1.0, np.nextafter(said[-1], 2.0))]])[cuts]
    best = np.flatnonzero(costs[cuts] <= costs[cuts].min() + 1e-12)
    usual = false_positive / (false_positive + false_negative)
    away = np.maximum(np.maximum(low[best] - usual, usual - high[best]), 0.0)
    place = best[int(away.argmin())]
    is_inside = low[place] < usual <= high[place]
    middle = (low[place] + high[place]) / 2
    threshold = usual if is_inside else max(middle, np.nextafter(low[place], high[place]))

    def cost(answered_yes: np.ndarray) -> float:
        false = answered_yes & ~happened
        return float((false_positive * false + false_negative * (~answered_yes & happened)).mean())

    return Threshold(
        threshold=float(threshold),
        cost=cost(said >= threshold),
        cost_at_half=cost(said >= 0.5),
        cost_of_no=cost(said > np.inf),
        cost_of_yes=cost(said >= 0.0),
        rows=len(said),
    )
