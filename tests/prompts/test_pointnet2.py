import functools

import numpy as np
import pytest
import torch
from tests.explosive import Explosive

from gsclip.errors import InputError
from gsclip.prompts.grouping import group_cloud, stack_groupings
from gsclip.prompts.pointnet2 import PointNet2, convert_pointnet2_sem_seg, load_pointnet2_sem_seg
from gsclip.storage import sha256


def cloud(seed=0, count=600):
    points = np.random.default_rng(seed).standard_normal((count, 3))
    return (points / np.linalg.norm(points, axis=1).max()).astype(np.float32)


@functools.cache
def grouping(seed):
    return group_cloud(cloud(seed))


def batch(*seeds):
    return stack_groupings([grouping(seed) for seed in seeds])


@pytest.fixture
def encoder():
    """Random weights, and running statistics of the clouds used here: features then vary as those of a trained one."""
    torch.manual_seed(0)
    encoder = PointNet2()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 1.0
    with torch.no_grad():
        encoder(batch(0, 1, 2))
    return encoder.eval()


def test_the_same_cloud_gives_the_same_bits_in_evaluation_mode(encoder):
    with torch.no_grad():
        first, second = encoder(batch(0)), encoder(batch(0))
    for name in ("point", "object", "top"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_evaluation_leaves_the_encoder_as_it_was(encoder):
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with torch.no_grad():
        encoder(batch(0, 1))
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def test_clouds_of_a_batch_do_not_mix(encoder):
    with torch.no_grad():
        together = encoder(batch(0, 1, 2))
        for index in range(3):
            alone = encoder(batch(index))
            for name in ("point", "object", "top"):
                torch.testing.assert_close(getattr(together, name)[index], getattr(alone, name)[0], rtol=0, atol=1e-4)


def test_shapes_and_the_object_feature_is_the_maximum_over_the_top_centroids(encoder):
    with torch.no_grad():
        features = encoder(batch(0, 1))
    assert features.point.shape == (2, 600, 128)
    assert features.top.shape == (2, 16, 512)
    torch.testing.assert_close(features.object, features.top.max(dim=1).values, rtol=0, atol=0)
    assert (features.point[0] - features.point[1]).abs().max() > 1


def test_the_first_abstraction_is_the_maximum_over_relative_neighbours(encoder):
    first = grouping(0)
    seen = {}
    encoder.abstractions[0].register_forward_hook(lambda _, inputs, output: seen.update(inputs=inputs[0]))
    with torch.no_grad():
        encoder(batch(0))
    for centroid in (0, 5, 100):
        for place in (0, 31):
            point = first.cloud[first.neighbours_0[centroid, place]]
            offset = point - first.cloud[first.centroids_0[centroid]]
            expected = np.concatenate([offset, point, point, point])
            np.testing.assert_allclose(seen["inputs"][0, centroid, place], expected, atol=1e-7)


def test_every_parameter_has_a_gradient(encoder):
    features = encoder(batch(0, 1))
    random = torch.Generator().manual_seed(0)
    loss = (features.point * torch.randn(features.point.shape, generator=random)).sum()
    loss = loss + (features.object * torch.randn(features.object.shape, generator=random)).sum()
    loss.backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def sem_seg_state(encoder):
    """The encoder's own weights under the names and shapes of a ``pointnet2_sem_seg`` checkpoint."""
    state = {}
    for key, value in encoder.state_dict().items():
        part, *rest = key.split(".")
        if part == "head":
            name = {"linears": "conv1", "norms": "bn1"}[rest[0]]
            state[f"{name}.{rest[2]}"] = value[..., None] if value.dim() == 2 else value
            continue
        level, kind, place, tail = rest
        prefix = {"abstractions": "sa", "propagations": "fp"}[part] + str(int(level) + 1)
        name = {"linears": "mlp_convs", "norms": "mlp_bns"}[kind]
        if value.dim() == 2:
            value = value[..., None, None] if part == "abstractions" else value[..., None]
        state[f"{prefix}.{name}.{place}.{tail}"] = value
    return state | {"conv2.weight": torch.zeros(13, 128, 1), "conv2.bias": torch.zeros(13)}


def test_a_semantic_segmentation_checkpoint_is_converted_whole(encoder):
    torch.manual_seed(9)
    other = PointNet2().eval()
    other.load_state_dict(convert_pointnet2_sem_seg(sem_seg_state(encoder)), strict=True)
    for key, value in encoder.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("change", ["added", "missing"])
def test_a_checkpoint_that_does_not_fit_is_refused(encoder, change):
    state = sem_seg_state(encoder)
    if change == "added":
        state["sa5.mlp_convs.0.weight"] = torch.zeros(4, 4, 1, 1)
    else:
        del state["fp2.mlp_bns.1.running_var"]
    expected = {"added": r"abstractions\.4\.linears\.0\.weight", "missing": r"propagations\.1\.norms\.1\.running_var"}
    with pytest.raises(RuntimeError, match=expected[change]):
        PointNet2().load_state_dict(convert_pointnet2_sem_seg(state), strict=True)


def test_a_checkpoint_file_is_loaded_with_the_numbers_beside_the_weights(encoder, tmp_path):
    path = tmp_path / "best_model.pth"
    torch.save({"epoch": 3, "class_avg_iou": np.float64(0.5), "model_state_dict": sem_seg_state(encoder)}, path)
    torch.manual_seed(9)
    other = PointNet2().eval()
    load_pointnet2_sem_seg(other, path, sha256(path))
    for key, value in encoder.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_other_files_are_refused_and_never_unpickled(encoder, tmp_path):
    path = tmp_path / "model.pth"
    with pytest.raises(InputError, match=r"model\.pth: not found; name the file of a pointnet2_sem_seg"):
        load_pointnet2_sem_seg(encoder, path)
    torch.save({"model_state_dict": Explosive(tmp_path / "exploded")}, path)
    with pytest.raises(InputError, match=r"model\.pth: cannot be loaded"):
        load_pointnet2_sem_seg(encoder, path)
    assert not (tmp_path / "exploded").exists()
    torch.save(sem_seg_state(encoder), path)
    with pytest.raises(InputError, match=r"SHA-256 differs from stage1\.pointnet_sha256"):
        load_pointnet2_sem_seg(encoder, path, "0" * 64)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"model\.pth: cannot be loaded"):
        load_pointnet2_sem_seg(encoder, path)
