import numpy as np
import pytest
import torch
from torch.nn import functional

from gsclip.features.backbone import Backbone
from gsclip.features.encode import encode_views, rendered_tokens
from gsclip.features.images import rendered_images
from gsclip.features.inference import InferenceEncoder
from gsclip.features.value_attention import encode_images
from gsclip.views.views import Views

SIDE, PATCH = 32, 8


@pytest.fixture(scope="module")
def backbone():
    """A small vision-language model with random weights."""
    import open_clip

    torch.manual_seed(2)
    vision = {"image_size": SIDE, "patch_size": PATCH, "width": 32, "layers": 4, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    clip = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    clip.eval().requires_grad_(False)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    return Backbone("small", clip, None, SIDE, PATCH, 24, mean, std, "random weights")


def make_views(count=3, seed=0):
    random = np.random.default_rng(seed)
    return Views(
        rendered=random.integers(0, 256, (count, SIDE, SIDE)).astype(np.uint8),
        normals=np.zeros((count, SIDE, SIDE, 2), dtype=np.int8),
        depth=random.integers(0, 65536, (count, SIDE, SIDE)).astype(np.uint16),
        relief=np.ones(count, dtype=np.float32),
        foreground=np.ones((count, SIDE, SIDE), dtype=bool),
        pixels=np.zeros((count, 5, 2), dtype=np.int16),
        visible=np.ones((count, 5), dtype=bool),
    )


def encode(backbone, images, local_blocks=2, local_layers=(4,)):
    return encode_views(backbone, backbone.clip.visual, images, local_blocks=local_blocks, local_layers=local_layers)


def test_tokens_are_unit_vectors_class_token_first(backbone):
    grey = rendered_images(make_views(), "grey")
    tokens = encode(backbone, grey)
    assert tokens.shape == (3, 1 + (SIDE // PATCH) ** 2, 24)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(tokens.shape[:2]), rtol=0, atol=1e-6)
    class_token = backbone.clip.visual(backbone.normalise(grey))
    torch.testing.assert_close(tokens[:, 0], functional.normalize(class_token, dim=-1), rtol=0, atol=1e-6)


def test_patch_tokens_of_several_layers_count_alike(backbone):
    grey = rendered_images(make_views(), "grey")
    encoded = encode_images(backbone.clip.visual, backbone.normalise(grey), local_blocks=2, layers=(1, 3, 4))
    units = [functional.normalize(encoded.patch_tokens[:, place], dim=-1) for place in range(3)]
    expected = functional.normalize(sum(units) / 3, dim=-1)
    tokens = encode(backbone, grey, local_layers=(1, 3, 4))
    torch.testing.assert_close(tokens[:, 1:], expected, rtol=0, atol=1e-6)


def test_views_do_not_mix(backbone):
    grey = rendered_images(make_views(), "grey")
    together = encode(backbone, grey)
    for view in (2, 0, 1):
        torch.testing.assert_close(encode(backbone, grey[view : view + 1])[0], together[view], rtol=0, atol=1e-5)


def stored_tokens(backbone, views):
    encoder = InferenceEncoder(backbone, backbone.clip.visual, local_blocks=2, layers=(4,))
    return rendered_tokens(encoder, views, "grey").tokens


def test_stored_tokens_are_those_of_the_rendered_images_rounded_and_the_same_each_time(backbone):
    views = make_views()
    stored = stored_tokens(backbone, views)
    assert stored.dtype == np.float16
    expected = encode(backbone, rendered_images(views, "grey")).numpy()
    np.testing.assert_allclose(stored, expected, atol=5e-4)
    again = stored_tokens(backbone, make_views())
    assert stored.tobytes() == again.tobytes()


def test_rendered_tokens_do_not_depend_on_the_depth_images(backbone):
    views, other = make_views(), make_views()
    other.depth[:] = 0
    first, second = (stored_tokens(backbone, v) for v in (views, other))
    np.testing.assert_array_equal(first, second)
