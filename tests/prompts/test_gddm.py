import pytest
import torch

from gsclip.prompts.gddm import GeometricDefectDistillation


def make(tokens=1, outliers=12, width=32, seed=0):
    torch.manual_seed(seed)
    return GeometricDefectDistillation(width, prototypes=8, outliers=outliers, tokens=tokens).eval()


@pytest.fixture
def features():
    return torch.randn(2, 100, 128, generator=torch.Generator().manual_seed(1))


def test_the_outlier_score_is_the_distance_from_the_nearest_prototype():
    gddm = make()
    with torch.no_grad():
        gddm.prototypes[:] = torch.eye(8, 128)
    directions = torch.zeros(1, 4, 128)
    directions[0, 0, 3] = 5  # along a prototype, whatever the length
    directions[0, 1, 100] = 1  # at right angles to all
    directions[0, 2, [0, 100]] = 1  # at 45 degrees to one
    directions[0, 3, :8] = -1  # away from all
    expected = torch.tensor([[0, 1, 1 - 0.5**0.5, 1 + 8**-0.5]])
    torch.testing.assert_close(gddm.outlier_scores(directions), expected, rtol=0, atol=1e-6)


def test_only_the_most_deviating_points_count(features):
    gddm = make(outliers=5)
    with torch.no_grad():
        order = gddm.outlier_scores(features)[0].argsort(descending=True)
        expected = gddm(features)[0]
        changed = features.clone()
        changed[0, order[-1]] *= 0.5  # the same direction, so the same score
        torch.testing.assert_close(gddm(changed)[0], expected, rtol=0, atol=0)
        changed[0, order[0]] *= 0.5
        assert (gddm(changed)[0] - expected).abs().max() > 1e-3


def test_the_order_of_the_points_does_not_matter(features):
    gddm = make(tokens=3)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(gddm(features[:, order]), gddm(features), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 2, 12])
def test_tokens_are_those_of_the_most_deviating_points(features, tokens):
    with torch.no_grad():
        every = make(tokens=12)(features)
        some = make(tokens=tokens)(features)
    assert some.shape == (2, tokens, 32)
    torch.testing.assert_close(some, every[:, :tokens], rtol=0, atol=0)


def test_clouds_of_a_batch_do_not_mix(features):
    gddm = make(tokens=2)
    with torch.no_grad():
        together = gddm(features)
        for index in range(2):
            torch.testing.assert_close(gddm(features[index : index + 1])[0], together[index], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("tokens", "outliers"), [(0, 12), (13, 12)])
def test_more_tokens_than_outliers_are_refused(tokens, outliers):
    with pytest.raises(ValueError, match=f"{tokens} defect tokens cannot be taken from {outliers} outliers"):
        make(tokens=tokens, outliers=outliers)


def without_gradient(module, loss):
    loss.backward()
    return {name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def test_every_parameter_beside_the_prototypes_has_a_gradient(features):
    gddm = make(tokens=2)
    tokens = gddm(features)
    loss = (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3))).sum()
    assert without_gradient(gddm, loss) <= {"prototypes"}


def test_prototypes_have_a_gradient(features):
    gddm = make(tokens=2)
    tokens = gddm(features)
    loss = (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3))).sum()
    assert "prototypes" not in without_gradient(gddm, loss)
