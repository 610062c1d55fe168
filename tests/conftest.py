import os

import pytest

# Shapes in annotations are checked while the tests run, and only then.
from jaxtyping import install_import_hook

install_import_hook(
    [
        "gsclip.features.value_attention",
        "gsclip.prompts",
        "gsclip.scores.back_projection",
        "gsclip.scores.scoring",
        "gsclip.scores.similarity",
        "gsclip.streams",
        "gsclip.training.losses",
    ],
    "beartype.beartype",
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    torch.set_num_threads(1)  # tests run beside each other
