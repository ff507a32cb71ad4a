"""Grid: which candidates a contract can have, and what each is compared with.

It decides names only, so that the graph can be loaded without scikit-learn;
the recipes are in `candidates`.
"""

from collections.abc import Callable

from loopbook.models import own_candidates, trial
from loopbook.project.contract import Contract, read_contract
from loopbook.project.paths import current

LIBRARY = (
    *("baseline", "ridge", "extra_trees", "hist_gradient_boosting", "ensemble"),
    *("with_history", "relative", "recalibrated"),
)
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
    has no level. Every other name is kept, in its order. A project's own
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
