import copy

import pytest
import torch
from torch import nn

from gsclip.prompts.norm_pooling import highest_of_normed


def of_torch(values, norm):
    return torch.relu(norm(values.flatten(0, 1))).view_as(values).max(1).values


def norm_of(channels, dtype=torch.float64):
    """Weights of both signs, and shifts that ReLU cuts."""
    norm = nn.BatchNorm1d(channels, dtype=dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        norm.weight[::2].abs_()
        norm.weight[1::2].abs_().neg_()
    return norm


@pytest.mark.parametrize("shape", [(6, 4, 5), (1, 2, 3), (40, 32, 64)])
def test_it_is_what_torch_computes_and_so_are_gradients_and_running_statistics(shape):
    torch.manual_seed(2)
    values = (3 * torch.randn(shape, dtype=torch.float64) + 2).requires_grad_()
    own = norm_of(shape[2])
    other = copy.deepcopy(own)
    for _ in range(2):
        expected, found = of_torch(values, own), highest_of_normed(values, other)
        torch.testing.assert_close(found, expected)
        weights = torch.randn_like(expected)
        for one, two in zip(
            torch.autograd.grad(found, (values, other.weight, other.bias), weights),
            torch.autograd.grad(expected, (values, own.weight, own.bias), weights),
            strict=True,
        ):
            torch.testing.assert_close(one, two)
    torch.testing.assert_close(dict(other.state_dict()), dict(own.state_dict()))


def test_its_gradient_is_that_of_differences():
    torch.manual_seed(3)
    norm = norm_of(3)
    values = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: highest_of_normed(given, norm), values)


def test_in_single_precision_large_means_do_not_matter():
    torch.manual_seed(4)
    values = 0.1 * torch.randn(50, 8, 16) + 10
    norm = norm_of(16, torch.float32)
    found, expected = highest_of_normed(values, copy.deepcopy(norm)), of_torch(values, norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_unusual_norms_are_those_of_torch(options):
    values = torch.randn(4, 3, 2)
    norm = nn.BatchNorm1d(2, **options)
    torch.testing.assert_close(highest_of_normed(values, copy.deepcopy(norm)), of_torch(values, norm))


def test_a_single_value_has_no_variance():
    with pytest.raises(ValueError, match="more than 1 value"):
        highest_of_normed(torch.randn(1, 1, 2), nn.BatchNorm1d(2))


def test_evaluation_reads_the_running_statistics():
    torch.manual_seed(5)
    norm = norm_of(7)
    highest_of_normed(torch.randn(5, 4, 7, dtype=torch.float64), norm)
    before = copy.deepcopy(norm.eval().state_dict())
    values = torch.randn(5, 4, 7, dtype=torch.float64)
    torch.testing.assert_close(highest_of_normed(values, norm), of_torch(values, norm))
    torch.testing.assert_close(dict(norm.state_dict()), dict(before))
    with torch.no_grad():
        torch.testing.assert_close(highest_of_normed(values, norm), of_torch(values, norm))
