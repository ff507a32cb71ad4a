"""Grid: which candidates a contract can have, and what each is compared with.

It decides names only, so that the graph can be loaded without scikit-learn;
the recipes are in `candidates`.
"""

from collections.abc import Callable

from loopbook.project.contract import Contract, read_contract
from loopbook.project.paths import current

NEEDS: dict[str, Callable[[Contract], bool]] = {
    "with_history": lambda contract: bool(contract.trailing),
    "relative": lambda contract: contract.target.level is not None,
    "recalibrated": lambda contract: contract.event_time is not None,
}
# The same model without the one thing that a candidate adds.
WITHOUT = {
    "with_history": "hist_gradient_boosting",
    "relative": "hist_gradient_boosting",
    "recalibrated": "ensemble",
}


def candidates(names: list[str]) -> list[str]:
    """Those of `names` that the project's contract can have, for `pipeline.yaml`.

    A table without time has nothing to be recalibrated on; one without history
    has no level. Every other name is kept, in its order.
    """
    contract = read_contract(current().contract)
    return [name for name in names if NEEDS.get(name, lambda _: True)(contract)]
