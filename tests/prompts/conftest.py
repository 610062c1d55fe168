import pytest
import torch

from gsclip.features.backbone import EMBEDDED_MODEL, build_embedded


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_embedded().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer(clip):
    import open_clip

    return open_clip.get_tokenizer(EMBEDDED_MODEL)
