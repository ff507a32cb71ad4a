"""Formulas from several threads at once, as a service with a shadow computes them."""

import subprocess
import sys

import pytest
from small_house import ROOT, environment

DERIVE = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from loopbook.features import rows as row_features
from loopbook.project.contract import read_contract
from loopbook.project.formulas import EVENT_YEAR
table = read_contract("contract.yaml")
names = [*table.numbers, *table.trailing, EVENT_YEAR]
def many(seed):
    draw = np.random.default_rng(seed)
    for _ in range(800):
        rows = {n: draw.uniform(1, 2, 3) for n in names}
        for name, value in row_features.derive(rows, table).items():
            assert value.shape == (3,), name
list(ThreadPoolExecutor(4).map(many, range(4)))
"""


@pytest.mark.medium
def test_formulas_can_be_computed_by_several_threads():
    words = [sys.executable, "-c", DERIVE]
    done = subprocess.run(words, cwd=ROOT, env=environment(ROOT), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
