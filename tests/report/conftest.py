"""The run of :mod:`tests.report.plates`, made once for all tests of the report."""

import numpy as np
import pandas as pd
import pytest
from tests.report.plates import make_items, make_run


@pytest.fixture(scope="session")
def items():
    return make_items()


@pytest.fixture(scope="session")
def run(items):
    epochs = np.arange(1, 4)
    stage1 = pd.DataFrame({"epoch": epochs, "loss": 1 / epochs, "classification": 0.4 / epochs})
    return make_run(
        items,
        learning={"stage1": stage1},
        rejected=pd.DataFrame({"name": ["ring/test/good/009"], "problem": ["only 3 distinct points"]}),
        parameters={"render": {"views": 4, "image_size": 64}, "stage1": {"learning_rate": 0.002, "shape_prompt": True}},
    )
