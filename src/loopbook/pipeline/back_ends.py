"""Back ends: whether the stores that the environment names can be used.

It decides what is asked before anything runs. A build meets the prediction log and
the feature store after minutes, or not at all until the service does.
"""

import os

from loopbook.project.contract import Contract
from loopbook.project.paths import Project


def refuse_unusable(project: Project, contract: Contract) -> None:
    """Refuse a log or a feature store that is away, of another kind, or not ours to use.

    Raises
    ------
    PredictionLogError, FeatureStoreError
        With the variable that names it. What lies below `var/` is not asked.
    """
    from loopbook.data import prediction_log  # a build without them need not wait for polars
    from loopbook.features import store as feature_store

    if os.environ.get(prediction_log.ADDRESS):
        prediction_log.connect(project, contract).close()
    if os.environ.get(feature_store.ADDRESS) and contract.history is not None:
        feature_store.connect(project, contract).close()
