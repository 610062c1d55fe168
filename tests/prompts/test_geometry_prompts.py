import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from gsclip.errors import InputError
from gsclip.params import load_params
from gsclip.prompts.geometry_prompts import GeometryAwarePrompts, load_encoder
from gsclip.prompts.grouping import group_points, stack_groupings

SETTINGS = {
    "shape_prompt": True,
    "defect_prompt": True,
    "context_tokens": 12,
    "deep_tokens": 4,
    "prototypes": 8,
    "outliers": 12,
    "defect_tokens": 2,
}


@pytest.fixture
def make(clip, tokenizer):
    def build(**changes):
        torch.manual_seed(1)
        prompts = GeometryAwarePrompts(clip, tokenizer, **{**SETTINGS, **changes})
        for module in prompts.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.momentum = 1.0  # running statistics of the clouds used here, as after a training
        with torch.no_grad():
            prompts(clip, batch(0, 1, 2))
        return prompts.eval()

    return build


def ellipsoid(seed):
    random = np.random.default_rng(seed)
    directions = random.standard_normal((3000, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True) * random.uniform(0.2, 1, 3)


@functools.cache
def grouping(seed):
    return group_points(ellipsoid(seed), 500)


def batch(*seeds):
    return stack_groupings([grouping(seed) for seed in seeds])


def test_the_same_cloud_scored_twice_is_bit_identical(clip, make):
    prompts = make()
    with torch.no_grad():
        first, second = (prompts(clip, stack_groupings([group_points(ellipsoid(0), 500)])) for _ in range(2))
    assert torch.equal(first, second)


def test_every_object_has_its_own_pair_of_unit_prompts(clip, make):
    prompts = make()
    with torch.no_grad():
        together = prompts(clip, batch(0, 1, 2))
        assert together.shape == (3, 2, 128)
        torch.testing.assert_close(together.norm(dim=-1), torch.ones(3, 2), rtol=0, atol=1e-6)
        assert (together[0] - together[1]).abs().max() > 1e-3
        for index in range(3):
            torch.testing.assert_close(prompts(clip, batch(index))[0], together[index], rtol=0, atol=1e-5)


def test_shape_and_defect_tokens_come_from_the_features_of_object_and_points(clip, make):
    prompts, handed = make(), []
    prompts.prompts.register_forward_pre_hook(lambda _, arguments: handed.extend(arguments[2:]))
    linear, _, norm = prompts.shape
    with torch.no_grad():
        prompts(clip, batch(0, 1))
        features = prompts.encoder(batch(0, 1))
        projected = functional.gelu(features.object @ linear.weight.T + linear.bias)
        centred = projected - projected.mean(1, keepdim=True)
        shape = centred / (projected.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
        defect = prompts.defect(features.point)
    torch.testing.assert_close(handed[0], shape[:, None], rtol=0, atol=1e-5)
    torch.testing.assert_close(handed[1], defect, rtol=0, atol=1e-5)


def parts(prompts):
    return {name.split(".")[0] for name, _ in prompts.named_parameters()}


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, {"prompts", "encoder", "shape", "defect"}),
        ({"defect_prompt": False}, {"prompts", "encoder", "shape"}),
        ({"shape_prompt": False}, {"prompts", "encoder", "defect"}),
        ({"shape_prompt": False, "defect_prompt": False}, {"prompts"}),
    ],
)
def test_a_switch_removes_its_parameters(clip, make, switches, expected):
    prompts = make(**switches)
    assert parts(prompts) == expected
    with torch.no_grad():
        features = prompts(clip, batch(0, 1))
    assert features.shape == (2, 2, 128)
    sides_differ = [bool((features[0, side] != features[1, side]).any()) for side in range(2)]
    # The shape is in both prompts, the defect in the abnormal one.
    assert sides_differ == ["shape" in expected, "encoder" in expected]


def test_the_backbone_is_neither_trained_nor_saved_along(clip, make):
    prompts = make()
    own = {id(parameter) for parameter in clip.parameters()}
    assert not own & {id(parameter) for parameter in prompts.parameters()}
    assert not any("transformer" in key or "visual" in key for key in prompts.state_dict())


def test_saved_state_gives_the_same_prompts(clip, make):
    first, second = make(), make()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1)
        expected = first(clip, batch(0))
        assert not torch.equal(second(clip, batch(0)), expected)
        second.load_state_dict(first.state_dict(), strict=True)
        assert torch.equal(second(clip, batch(0)), expected)


def without_gradient(clip, prompts):
    features = prompts(clip, batch(0, 1))
    (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    return {name for name, p in prompts.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def test_every_parameter_beside_the_prototypes_has_a_gradient_pointnet_included(clip, make):
    assert without_gradient(clip, make()) <= {"defect.prototypes"}


def test_prototypes_have_a_gradient(clip, make):
    assert "defect.prototypes" not in without_gradient(clip, make())


def test_without_geometry_every_parameter_has_a_gradient(clip, make):
    assert not without_gradient(clip, make(shape_prompt=False, defect_prompt=False))


def test_pointnet_starts_from_the_checkpoint_that_the_parameters_name(clip, make, tmp_path):
    stage1 = load_params(Path(__file__).parents[2] / "params.yaml").stage1
    with pytest.raises(InputError, match=r"weights\.pth: not found"):
        load_encoder(make(), stage1.model_copy(update={"pointnet_weights": str(tmp_path / "weights.pth")}))
    before = make().state_dict()
    prompts = make()
    load_encoder(prompts, stage1)
    assert all(torch.equal(value, before[name]) for name, value in prompts.state_dict().items())
