import copy
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from torch.nn import functional

from gsclip.features.value_attention import encode_images
from gsclip.scores.similarity import class_logits, enlarge_maps, patch_maps
from gsclip.streams.depth_lora import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FILE,
    build_depth_stream,
    load_depth_stream,
    merge_depth_stream,
)
from gsclip.streams.refinement import SynergisticRefinement
from gsclip.training.losses import classification_loss, segmentation_loss

BLOCKS, SIDE, PATCH, DIMENSION = 4, 24, 6, 16
OBJECTS, VIEWS, POINTS = 2, 2, 40


@pytest.fixture
def visual():
    """A small vision transformer whose random weights stand for the pretrained ones."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    torch.manual_seed(4)
    encoder = VisionTransformer(
        image_size=SIDE,
        patch_size=PATCH,
        width=32,
        layers=BLOCKS,
        heads=2,
        mlp_ratio=2,
        output_dim=DIMENSION,
        act_layer=QuickGELU,
    )
    return encoder.eval().requires_grad_(False)


@pytest.fixture
def stream(visual):
    torch.manual_seed(5)
    return build_depth_stream(visual, rank=4, alpha=8, dropout=0.1)


def images(seed=0):
    return torch.randn(OBJECTS * VIEWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def tokens_of(encoder, images):
    """Unit tokens (b, v, t, d), class token first."""
    encoded = encode_images(encoder, images, local_blocks=2, layers=(BLOCKS,))
    tokens = torch.cat([encoded.class_token[:, None], encoded.patch_tokens[:, 0]], 1)
    return functional.normalize(tokens, dim=-1).unflatten(0, (OBJECTS, VIEWS))


def lora(stream):
    return {name: parameter for name, parameter in stream.named_parameters() if "lora_" in name}


def losses(tokens):
    """L_cla and L_seg of random labels, masks and prompts."""
    random = torch.Generator().manual_seed(6)
    prompts = torch.randn(OBJECTS, 2, DIMENSION, generator=random)
    logits = class_logits(tokens, prompts)
    maps = enlarge_maps(patch_maps(logits[:, :, 1:].softmax(-1)), SIDE)
    masks = torch.rand(OBJECTS, VIEWS, SIDE, SIDE, generator=random) < 0.2
    pixels = [torch.randint(SIDE, (VIEWS, POINTS, 2), generator=random) for _ in range(OBJECTS)]
    visible = [torch.rand(VIEWS, POINTS, generator=random) < 0.8 for _ in range(OBJECTS)]
    point_masks = [torch.rand(POINTS, generator=random) < 0.2 for _ in range(OBJECTS)]
    classification = classification_loss(logits[:, :, 0], torch.tensor([[0, 0], [1, 0]]), torch.tensor([0, 1]))
    return {
        "classification": classification,
        "segmentation": segmentation_loss(maps, masks, pixels, visible, point_masks),
    }


def without_gradient(parameters):
    return {name for name, p in parameters.items() if p.grad is None or not p.grad.abs().sum() > 0}


def test_both_streams_are_equal_before_training(visual, stream):
    with torch.no_grad():
        rendered, depth = (
            encode_images(encoder, images(), local_blocks=2, layers=(1, 4)) for encoder in (visual, stream.eval())
        )
    assert torch.equal(rendered.class_token, depth.class_token)
    assert torch.equal(rendered.patch_tokens, depth.patch_tokens)


def test_the_pretrained_weights_are_copied_not_shared(visual, stream):
    base = dict(visual.named_parameters())
    copies = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): parameter
        for name, parameter in stream.named_parameters()
        if "lora_" not in name
    }
    assert copies.keys() == base.keys()
    for name, parameter in base.items():
        assert torch.equal(copies[name], parameter), name
        assert copies[name].data_ptr() != parameter.data_ptr(), name


def test_lora_sits_on_both_linears_of_the_mlp_of_every_block_and_nowhere_else(stream):
    expected = {
        f"base_model.model.transformer.resblocks.{block}.mlp.{linear}.lora_{side}.default.weight"
        for block in range(BLOCKS)
        for linear in ("c_fc", "c_proj")
        for side in "AB"
    }
    assert set(lora(stream)) == expected
    trained = {name for name, parameter in stream.named_parameters() if parameter.requires_grad}
    assert trained == expected
    assert all(4 in parameter.shape for parameter in lora(stream).values())  # the rank


def test_lora_adds_its_product_scaled_by_alpha_over_rank(visual, stream):
    linear = stream.base_model.model.transformer.resblocks[1].mlp.c_fc
    side_a, side_b = linear.lora_A.default.weight, linear.lora_B.default.weight
    with torch.no_grad():
        side_b.normal_(generator=torch.Generator().manual_seed(1))
        inputs = torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
        expected = visual.transformer.resblocks[1].mlp.c_fc(inputs) + 8 / 4 * inputs @ side_a.T @ side_b.T
        torch.testing.assert_close(linear.eval()(inputs), expected, rtol=0, atol=1e-4)


def fused(visual, stream, refinement):
    with torch.no_grad():
        rendered = tokens_of(visual, images())
    return refinement(rendered, tokens_of(stream, images(1)))


@pytest.fixture
def refinement():
    torch.manual_seed(7)
    return SynergisticRefinement(DIMENSION)


@pytest.mark.parametrize("term", ["classification", "segmentation"])
def test_either_loss_alone_reaches_all_of_lora_and_of_the_refinement(visual, stream, refinement, term):
    stream.train()
    losses(fused(visual, stream, refinement))[term].backward()
    sides_b = {name: parameter for name, parameter in lora(stream).items() if "lora_B" in name}
    assert not without_gradient(dict(refinement.named_parameters()))  # f1 and f2 included, from the first step
    assert not without_gradient(sides_b)  # B is zero at the start, so A has a gradient from the second step on
    optimizer = torch.optim.SGD([*lora(stream).values(), *refinement.parameters()], lr=0.1)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    losses(fused(visual, stream, refinement))[term].backward()
    assert not without_gradient(lora(stream))
    assert not without_gradient(dict(refinement.named_parameters()))


def test_training_changes_lora_alone_and_lowers_the_loss(visual, stream, refinement):
    before = {name: value.clone() for name, value in stream.named_parameters() if "lora_" not in name}
    frozen = {name: value.clone() for name, value in visual.named_parameters()}
    optimizer = torch.optim.Adam([*lora(stream).values(), *refinement.parameters()], lr=5e-3)
    stream.train()
    curve = []
    for _ in range(12):
        loss = sum(losses(fused(visual, stream, refinement)).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    assert curve[-1] < curve[0] - 0.1
    for name, parameter in stream.named_parameters():
        if "lora_" not in name:
            assert parameter.grad is None
            assert torch.equal(parameter, before[name]), name
    assert all(torch.equal(parameter, frozen[name]) for name, parameter in visual.named_parameters())


def test_the_depth_stream_changes_the_point_maps(visual, stream, refinement):
    """The segmentation map of stage 2 depends on LoRA: patch features are fused, not the class token alone."""
    with torch.no_grad():
        stream.eval()
        first = fused(visual, stream, refinement)
        for name, parameter in lora(stream).items():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(3))
        second = fused(visual, stream, refinement)
    assert (first[:, :, 1:] - second[:, :, 1:]).abs().max() > 0.01


@pytest.fixture
def saved(stream, tmp_path):
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in lora(stream).values():
            parameter.normal_(std=0.2)
    stream.eval().save_pretrained(tmp_path)
    return tmp_path


def test_a_saved_adapter_gives_the_same_tokens(visual, stream, saved):
    loaded = load_depth_stream(visual, saved)
    with torch.no_grad():
        assert torch.equal(tokens_of(loaded, images()), tokens_of(stream, images()))
        assert not torch.equal(tokens_of(loaded, images()), tokens_of(visual, images()))


def test_what_is_loaded_without_peft_is_what_peft_loads(visual, saved, tmp_path_factory):
    """Adapter, merged weights and the files that are saved again: the same bits."""
    before = {name: value.clone() for name, value in visual.state_dict().items()}
    ours, peft = load_depth_stream(visual, saved), PeftModel.from_pretrained(copy.deepcopy(visual), str(saved))
    theirs = get_peft_model_state_dict(peft)
    assert set(ours.adapter()) == set(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.adapter().items())
    merged = [merge_depth_stream(stream).state_dict() for stream in (ours, peft)]
    assert list(merged[0]) == list(merged[1])
    for name, value in merged[0].items():
        assert torch.equal(value, merged[1][name]), name
    again = tmp_path_factory.mktemp("again")
    ours.save_pretrained(again)
    for name in (ADAPTER_FILE, ADAPTER_CONFIG_FILE):
        assert (again / name).read_bytes() == (saved / name).read_bytes(), name
    assert all(torch.equal(value, before[name]) for name, value in visual.state_dict().items())


@pytest.mark.parametrize(
    ("name", "value"),
    [("use_dora", True), ("rank_pattern", {"c_fc": 2}), ("target_modules", ["c_fc"]), ("peft_type", "IA3")],
)
def test_an_adapter_that_is_no_plain_lora_of_the_mlps_is_refused(visual, saved, name, value):
    file = saved / ADAPTER_CONFIG_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(ValueError, match="is no plain LoRA of the MLPs' linears"):
        load_depth_stream(visual, saved)


def test_an_adapter_that_lacks_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    from gsclip.errors import InputError
    from gsclip.features.backbone import load_backbone
    from gsclip.params import load_params
    from gsclip.streams.streams import DEPTH_STREAM_FOLDER, build_streams, load_streams, save_streams

    stage2 = load_params(Path(__file__).parents[2] / "params.yaml").stage2
    backbone = load_backbone()
    save_streams(tmp_path, *build_streams(backbone, stage2))
    load_streams(tmp_path, backbone, stage2)
    adapter = tmp_path / DEPTH_STREAM_FOLDER / ADAPTER_FILE
    weights = load_file(adapter)
    save_file({name: weights[name] for name in sorted(weights)[1:]}, adapter)
    with pytest.raises(InputError, match="lacks or adds"):
        load_streams(tmp_path, backbone, stage2)
    save_file({**weights, "base_model.model.proj.lora_A.weight": torch.zeros(2)}, adapter)
    with pytest.raises(InputError, match=r"lacks or adds base_model\.model\.proj\.lora_A\.weight"):
        load_streams(tmp_path, backbone, stage2)
    save_file({name: value[:-1].contiguous() for name, value in weights.items()}, adapter)
    with pytest.raises(InputError, match="has shape"):
        load_streams(tmp_path, backbone, stage2)
    adapter.write_bytes(adapter.read_bytes()[:-100])
    with pytest.raises(InputError, match=ADAPTER_FILE):
        load_streams(tmp_path, backbone, stage2)


def test_an_adapter_of_another_rank_than_the_parameters_say_is_refused(tmp_path):
    from gsclip.errors import InputError
    from gsclip.features.backbone import load_backbone
    from gsclip.params import load_params
    from gsclip.streams.streams import build_streams, load_streams, save_streams

    stage2 = load_params(Path(__file__).parents[2] / "params.yaml").stage2
    backbone = load_backbone()
    save_streams(tmp_path, *build_streams(backbone, stage2))
    with pytest.raises(InputError, match="rank 8 and alpha 16 are not those of the parameters"):
        load_streams(tmp_path, backbone, stage2.model_copy(update={"lora_alpha": 32}))


def test_activations_computed_twice_give_the_same_gradients(visual, stream, refinement):
    calls = []
    stream.transformer.resblocks[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    gradients = {}
    for recompute in (False, True):
        stream.train().transformer.grad_checkpointing = recompute
        torch.manual_seed(8)  # of dropout
        calls.clear()
        stream.zero_grad(set_to_none=True)
        sum(losses(fused(visual, stream, refinement)).values()).backward()
        gradients[recompute] = {name: parameter.grad.clone() for name, parameter in lora(stream).items()}, len(calls)
    assert [count for _, count in gradients.values()] == [1, 2]
    for name, value in gradients[False][0].items():
        assert torch.equal(value, gradients[True][0][name]), name


def test_a_merged_stream_computes_the_same_and_leaves_the_stream_as_it_is(stream):
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in lora(stream).values():
            parameter.normal_(std=0.1)
    stream.eval()
    before = {name: value.clone() for name, value in stream.state_dict().items()}
    expected = tokens_of(stream, images())
    merged = merge_depth_stream(stream)
    torch.testing.assert_close(tokens_of(merged, images()), expected, atol=1e-5, rtol=0)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in stream.state_dict().items())
    tokens_of(stream.train(), images()).sum().backward()
    assert all(parameter.grad is not None for parameter in lora(stream).values())


def test_a_merged_stream_shares_what_lora_does_not_adapt(stream):
    merged, base = merge_depth_stream(stream), stream.get_base_model()
    assert merged.conv1.weight is base.conv1.weight
    block, adapted = merged.transformer.resblocks[0], base.transformer.resblocks[0]
    assert block.attn.in_proj_weight is adapted.attn.in_proj_weight
    assert block.mlp.c_fc.weight is not adapted.mlp.c_fc.base_layer.weight
