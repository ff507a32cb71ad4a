"""Task: what the contract's target asks of all that fits, compares and shows models.

It decides how a target is encoded, how a model's numbers become answers, the
one loss a row, the signed error, parity, and the words for all of these. It is
the only place that knows whether a target is a `number` or of `classes`, and
these have the same methods. It imports no training library, so that the
service can ask it.

Answers are float64 of shape (n,) for a number, in the target's unit, and
probabilities of shape (n, K) for classes, in the contract's order. `observed`
is of shape (n,): the number, or the place of the class.
"""

from loopbook.models.classes import Classes
from loopbook.models.number import Number
from loopbook.project.contract import Contract

Task = Number | Classes


def task_of(contract: Contract) -> Task:
    """What the contract's target asks for."""
    return Classes(contract) if contract.target.classes else Number(contract)
