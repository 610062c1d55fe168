import numpy as np
import pytest
import torch
from scipy.special import softmax

from gsclip.scores.similarity import TEMPERATURE, class_logits, enlarge_maps, patch_maps


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_logits_are_cosines_over_the_temperature():
    features = torch.tensor([[[3.0, 0.0], [1.0, 1.0]]])  # one object, two views, not unit
    prompts = torch.tensor([[[0.5, 0.0], [0.0, -2.0]]])
    expected = torch.tensor([[[1, 0], [0.5**0.5, -(0.5**0.5)]]]) / 0.07
    torch.testing.assert_close(class_logits(features, prompts), expected, rtol=0, atol=1e-5)
    assert TEMPERATURE == 0.07


@pytest.mark.parametrize("shape", [(3, 4, 8), (3, 4, 7, 8)])
def test_every_object_meets_its_own_prompts(shape):
    features, prompts = randn(*shape), randn(3, 2, 8, seed=1)
    logits = class_logits(features, prompts)
    assert logits.shape == (*shape[:-1], 2)
    for index in np.ndindex(shape[:-1]):
        feature, pair = features[index].numpy(), prompts[index[0]].numpy()
        cosines = pair @ feature / np.linalg.norm(pair, axis=1) / np.linalg.norm(feature)
        np.testing.assert_allclose(logits[index], cosines / 0.07, rtol=1e-4, atol=1e-5)
    # The probabilities that the scores are made of.
    np.testing.assert_allclose(logits.softmax(-1), softmax(logits.numpy(), axis=-1), atol=1e-6)


def test_objects_of_different_features_do_not_mix():
    constants = torch.eye(3)[:, None, None].expand(3, 4, 5, 3)  # object b holds e_b everywhere
    prompts = torch.stack([torch.eye(3), -torch.eye(3)], 1)
    probabilities = class_logits(constants, prompts).softmax(-1)
    assert (probabilities[..., 0] > 0.999).all()
    assert (class_logits(constants, prompts.roll(1, 0)) == 0).all()


def test_patches_are_laid_out_row_by_row_normal_before_abnormal():
    probabilities = torch.arange(2 * 3 * 16 * 2.0).view(2, 3, 16, 2)
    maps = patch_maps(probabilities)
    assert maps.shape == (2, 3, 2, 4, 4)
    assert torch.equal(maps[1, 2, 0], probabilities[1, 2, :, 0].view(4, 4))
    assert torch.equal(maps[0, 1, 1], probabilities[0, 1, :, 1].view(4, 4))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2)])
def test_maps_are_enlarged_one_by_one(shape):
    maps = randn(*shape, 4, 4)
    large = enlarge_maps(maps, 12)
    assert large.shape == (*shape, 12, 12)
    for index in np.ndindex(shape):
        torch.testing.assert_close(large[index], bilinear(maps[index], 12), rtol=0, atol=1e-5)


def bilinear(image, size):
    """Bilinear interpolation between the centres of the pixels, held constant beyond them."""
    position = ((np.arange(size) + 0.5) * image.shape[0] / size - 0.5).clip(0, image.shape[0] - 1)
    low = np.floor(position).astype(int).clip(max=image.shape[0] - 2)
    weight = torch.zeros(size, image.shape[0])
    weight[np.arange(size), low] = torch.from_numpy(1 - (position - low)).float()
    weight[np.arange(size), low + 1] = torch.from_numpy(position - low).float()
    return weight @ image @ weight.T
