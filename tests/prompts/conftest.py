import open_clip
import pytest
import torch

from gsclip.features.backbone import build_embedded


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_embedded().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer(clip):
    return open_clip.tokenizer.SimpleTokenizer(context_length=clip.positional_embedding.shape[0])
