import pytest
import torch
from torch.nn import functional

from gsclip.features.value_attention import encode_images

LAYERS, HEADS, WIDTH = 4, 2, 32


@pytest.fixture(scope="module")
def visual():
    from open_clip.transformer import QuickGELU, VisionTransformer

    torch.manual_seed(3)
    encoder = VisionTransformer(
        image_size=32,
        patch_size=8,
        width=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        mlp_ratio=2,
        output_dim=16,
        act_layer=QuickGELU,
    )
    for block in encoder.transformer.resblocks:  # biases are zero at the start: a forgotten one would not show
        torch.nn.init.normal_(block.attn.in_proj_bias, std=0.5)
        torch.nn.init.normal_(block.attn.out_proj.bias, std=0.5)
    return encoder.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def own_forward(visual, images):
    """open_clip's own class token, and its own patch tokens after ln_post and the projection."""
    visual.output_tokens = True
    try:
        pooled, tokens = visual(images)
    finally:
        visual.output_tokens = False
    return pooled, tokens @ visual.proj


def test_without_local_blocks_it_is_the_backbones_own_forward(visual, images):
    encoded = encode_images(visual, images, local_blocks=0, layers=(LAYERS,))
    pooled, patches = own_forward(visual, images)
    torch.testing.assert_close(encoded.class_token, pooled, rtol=0, atol=1e-6)
    torch.testing.assert_close(encoded.patch_tokens[:, 0], patches, rtol=0, atol=1e-6)


@pytest.mark.parametrize("local_blocks", [1, 2, LAYERS])
def test_the_local_path_leaves_the_class_token_alone(visual, images, local_blocks):
    encoded = encode_images(visual, images, local_blocks=local_blocks, layers=(LAYERS,))
    pooled, patches = own_forward(visual, images)
    torch.testing.assert_close(encoded.class_token, pooled, rtol=0, atol=1e-5)
    assert (encoded.patch_tokens[:, 0] - patches).abs().max() > 0.05


def value_value(block, tokens):
    """Attention in which queries and keys are the values, written out for one head after the other."""
    weight, bias = block.attn.in_proj_weight[-WIDTH:], block.attn.in_proj_bias[-WIDTH:]
    values = block.ln_1(tokens) @ weight.T + bias
    heads = []
    for value in values.split(WIDTH // HEADS, dim=-1):
        attention = (value @ value.transpose(1, 2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        heads.append(attention @ value)
    return block.attn.out_proj(torch.cat(heads, -1))


@pytest.mark.parametrize("local_blocks", [1, 3])
def test_the_local_path_adds_value_value_attention_and_no_mlp_to_its_own_residual(visual, images, local_blocks):
    tokens = visual._embeds(images)
    local = None
    for number, block in enumerate(visual.transformer.resblocks):
        if number >= LAYERS - local_blocks:
            local = (tokens if local is None else local) + value_value(block, tokens)
        tokens = block(tokens)
    expected = visual.ln_post(local[:, 1:]) @ visual.proj
    encoded = encode_images(visual, images, local_blocks=local_blocks, layers=(LAYERS,))
    torch.testing.assert_close(encoded.patch_tokens[:, 0], expected, rtol=0, atol=1e-5)


def test_layers_come_in_the_order_asked_for(visual, images):
    both = encode_images(visual, images, local_blocks=2, layers=(4, 1)).patch_tokens
    assert both.shape == (3, 2, 16, 16)
    for place, layer in enumerate((4, 1)):
        alone = encode_images(visual, images, local_blocks=2, layers=(layer,)).patch_tokens[:, 0]
        torch.testing.assert_close(both[:, place], alone, rtol=0, atol=0)


def test_patches_are_row_major(visual):
    image = torch.zeros(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 8:16, 24:32] = 3  # patch in row 1, column 3
    first, second = (encode_images(visual, x, local_blocks=0, layers=(1,)).patch_tokens[0, 0] for x in (image, changed))
    assert functional.cosine_similarity(first, second).argmin() == 1 * 4 + 3


def test_images_of_a_batch_do_not_mix(visual, images):
    together = encode_images(visual, images, local_blocks=2, layers=(2, 4))
    for index in range(3):
        alone = encode_images(visual, images[index : index + 1], local_blocks=2, layers=(2, 4))
        torch.testing.assert_close(together.class_token[index], alone.class_token[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.patch_tokens[index], alone.patch_tokens[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [(0,), (LAYERS + 1,), (1, 7)])
def test_layers_outside_the_transformer_are_refused(visual, images, layers):
    with pytest.raises(ValueError, match=f"must lie between 1 and {LAYERS}"):
        encode_images(visual, images, local_blocks=1, layers=layers)
