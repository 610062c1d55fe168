"""The encoder for inference gives what the one for training gives."""

import pytest
import torch
from torch.nn import functional

from gsclip.features import inference
from gsclip.features.backbone import load_backbone
from gsclip.features.encode import encode_views
from gsclip.features.inference import InferenceEncoder, linear, with_class_token
from gsclip.features.value_attention import encode_embedded, encode_images

BLOCKS, SIDE, PATCH = 4, 24, 6


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


def transformer(quick, scale):
    """A small vision transformer with random weights."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    torch.manual_seed(4)
    encoder = VisionTransformer(
        image_size=SIDE,
        patch_size=PATCH,
        width=32,
        layers=BLOCKS,
        heads=2,
        mlp_ratio=2,
        ls_init_value=scale,
        output_dim=16,
        act_layer=QuickGELU if quick else torch.nn.GELU,
    )
    for parameter in encoder.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return encoder.eval().requires_grad_(False)


def images(count=3, side=SIDE):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["torch", "oneDNN"])
def products(request, monkeypatch):
    """Whose products in float32 are taken, whatever this processor would take."""
    if request.param == "oneDNN" and not torch.backends.mkldnn.is_available():
        pytest.skip("torch without oneDNN")
    monkeypatch.setattr(inference, "_ONEDNN_TYPES", {torch.float32} if request.param == "oneDNN" else set())


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize(("local_blocks", "layers"), [(1, (4,)), (2, (4, 1)), (3, (2,)), (4, (3, 2)), (0, (4, 2))])
def test_tokens_are_those_of_training(backbone, products, quick, scale, local_blocks, layers):
    visual = transformer(quick, scale)
    expected = encode_images(visual, images(), local_blocks=local_blocks, layers=layers)
    encoder = InferenceEncoder(backbone, visual, local_blocks=local_blocks, layers=layers)
    encoded = encoder.encode(images())
    torch.testing.assert_close(encoded.class_token, expected.class_token, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(encoded.patch_tokens, expected.patch_tokens, atol=2e-5, rtol=1e-5)


def test_unit_tokens_of_the_embedded_backbone_differ_by_rounding_alone_and_by_little_in_bfloat16(backbone):
    pictures = images(2, backbone.image_size).sigmoid()
    expected = encode_views(backbone, backbone.clip.visual, pictures, local_blocks=1, local_layers=(4,))
    exact, coarse = (
        InferenceEncoder(backbone, backbone.clip.visual, local_blocks=1, layers=(4,), precision=precision)(pictures)
        for precision in (torch.float32, torch.bfloat16)
    )
    torch.testing.assert_close(exact, expected, atol=2e-6, rtol=0)
    assert 1e-6 < (coarse - expected).abs().max() < 0.03
    assert coarse.dtype == torch.float32


def test_patches_that_are_left_out_take_no_part(backbone):
    visual = transformer(quick=True, scale=None)
    encoder = InferenceEncoder(backbone, visual, local_blocks=2, layers=(4, 2))
    kept = torch.rand(3, (SIDE // PATCH) ** 2, generator=torch.Generator().manual_seed(1)) > 0.5
    tokens = encoder(images().sigmoid(), kept)
    assert torch.equal((tokens == 0).all(-1)[:, 1:], ~kept)
    for place, chosen in enumerate(with_class_token(one) for one in kept):
        embedded = visual._embeds(backbone.normalise(images().sigmoid()[place : place + 1]))[:, chosen]
        expected = encode_embedded(visual, embedded, local_blocks=2, layers=(4, 2))
        patches = functional.normalize(expected.patch_tokens, dim=-1).mean(1)
        unit = functional.normalize(torch.cat([expected.class_token[:, None], patches], 1), dim=-1)
        torch.testing.assert_close(tokens[place, chosen], unit[0], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(encoder(images(), torch.ones_like(kept)), encoder(images()), atol=1e-6, rtol=0)


def test_weights_stay_as_they_are(backbone):
    visual = transformer(quick=True, scale=None)
    before = {name: value.clone() for name, value in visual.state_dict().items()}
    InferenceEncoder(backbone, visual, local_blocks=1, layers=(4,), precision=torch.bfloat16).encode(images())
    assert all(torch.equal(value, before[name]) for name, value in visual.state_dict().items())


def test_a_layer_outside_the_transformer_is_refused(backbone):
    with pytest.raises(ValueError, match="layers"):
        InferenceEncoder(backbone, transformer(quick=True, scale=None), local_blocks=1, layers=(5,))


def test_linear_is_the_linear_of_torch(products):
    x, weight, bias = torch.randn(2, 5, 8), torch.randn(3, 8), torch.randn(3)
    torch.testing.assert_close(linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))
    torch.testing.assert_close(linear(x, weight), torch.nn.functional.linear(x, weight))
