"""Grid: which candidates a contract can have, and what each is compared with.

It decides names only, so that the graph can be loaded without scikit-learn;
the recipes are in `candidates`.
"""

from collections.abc import Callable

from loopbook.models import own_candidates, trial
from loopbook.models.task import task_of
from loopbook.project.contract import Contract, read_contract
from loopbook.project.paths import current

LIBRARY = (
    *("baseline", "ridge", "extra_trees", "hist_gradient_boosting", "ensemble"),
    *("with_history", "robust"),
)
MOST_BOOSTED = 50  # classes: beyond, a tree for each class in each round takes too long


def _is_treed(contract: Contract) -> bool:
    return task_of(contract).width <= MOST_BOOSTED


NEEDS: dict[str, Callable[[Contract], bool]] = {
    "extra_trees": _is_treed,
    "hist_gradient_boosting": _is_treed,
    "robust": lambda contract: task_of(contract).centre == "median",
    "ensemble": _is_treed,
    "with_history": lambda contract: _is_treed(contract) and bool(contract.trailing),
}
# The same model without the one thing that a candidate adds.
WITHOUT = {"robust": "hist_gradient_boosting", "with_history": "ensemble"}


def candidates(names: list[str]) -> list[str]:
    """Those of `names` that the project's contract can have, for `pipeline.yaml`.

    A table without history has none that knows it; classes, and numbers with a
    squared error, have no robust candidate; of more than 50 classes only straight
    lines are fitted. Every other name is kept, in its order. A project's own
    candidates are tried on made-up rows, where they changed since the last time.

    Raises
    ------
    CandidateError
        Before any task runs: a name or candidates.py is wrong, or one of the
        project's own candidates cannot be trained or served.
    """
    project = current()
    contract = read_contract(project.contract)
    trial.check(own_candidates.check_names(names, LIBRARY, project), project)
    return [name for name in names if NEEDS.get(name, lambda _: True)(contract)]
