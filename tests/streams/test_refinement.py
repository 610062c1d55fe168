import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn import functional

from gsclip.streams.refinement import SynergisticRefinement

DIMENSION = 12


@pytest.fixture
def refinement():
    torch.manual_seed(0)
    return SynergisticRefinement(DIMENSION)


def tokens(seed, objects=2, views=3, count=5):
    random = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(objects, views, count, DIMENSION, generator=random), dim=-1)


def test_it_is_the_attention_of_both_streams_over_tokens(refinement):
    """Written out for one view in numpy: rows of S read the depth stream, columns the rendered one."""
    torch.nn.init.normal_(refinement.merge[2].weight)  # large enough to show
    rendered, depth = tokens(1), tokens(2)
    with torch.no_grad():
        ours = refinement(rendered, depth).numpy()
        key_r, key_d = refinement.rendered_key(rendered).numpy(), refinement.depth_key(depth).numpy()
    for place in np.ndindex(2, 3):
        r, d = rendered[place].numpy(), depth[place].numpy()
        similarity = key_r[place] @ key_d[place].T * DIMENSION**0.5
        read_depth = np.stack([softmax(row) @ d for row in similarity])
        read_rendered = np.stack([softmax(column) @ r for column in similarity.T])
        with torch.no_grad():
            small = refinement.merge(torch.from_numpy(np.concatenate([r + read_depth, d + read_rendered], 1))).numpy()
        merged = (r + d) / 2 + small
        np.testing.assert_allclose(ours[place], merged / np.linalg.norm(merged, axis=1, keepdims=True), atol=1e-5)


def test_tokens_are_unit_vectors_near_the_mean_of_both_streams_before_training(refinement):
    rendered, depth = tokens(1), tokens(1) + 0.1 * tokens(2)
    with torch.no_grad():
        refined = refinement(rendered, depth)
    torch.testing.assert_close(refined.norm(dim=-1), torch.ones(2, 3, 5), rtol=0, atol=1e-6)
    assert functional.cosine_similarity(refined, rendered + depth, dim=-1).min() > 0.95


def test_objects_and_views_do_not_mix(refinement):
    rendered, depth = tokens(1), tokens(2)
    with torch.no_grad():
        together = refinement(rendered, depth)
        for b in range(2):
            for v in range(3):
                alone = refinement(rendered[b : b + 1, v : v + 1], depth[b : b + 1, v : v + 1])
                torch.testing.assert_close(alone[0, 0], together[b, v], rtol=0, atol=1e-6)


def test_attention_runs_over_tokens(refinement):
    """A change of one depth token is felt by every token of its view: no softmax over a sequence of one."""
    rendered, depth = tokens(1), tokens(2)
    changed = depth.clone()
    changed[0, 1, 3] = -changed[0, 1, 3]
    with torch.no_grad():
        difference = (refinement(rendered, changed) - refinement(rendered, depth)).abs().amax(-1)
    assert (difference[0, 1] > 1e-6).all()
    difference[0, 1] = 0
    assert (difference == 0).all()


def test_the_order_of_the_tokens_is_that_of_the_rendered_stream(refinement):
    rendered, depth = tokens(1), tokens(2)
    order = torch.tensor([0, 3, 1, 4, 2])
    with torch.no_grad():
        expected = refinement(rendered, depth)[:, :, order]
        permuted = refinement(rendered[:, :, order], depth[:, :, order])
    torch.testing.assert_close(permuted, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", [0, slice(1, None)], ids=["class token", "patches"])
def test_every_parameter_has_a_gradient_from_class_token_or_patches_alone(refinement, place):
    refined = refinement(tokens(1), tokens(2))[:, :, place]
    (refined * torch.randn(refined.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    for name, parameter in refinement.named_parameters():
        assert parameter.grad.abs().sum() > 1e-6, name


def test_gradients_reach_both_streams(refinement):
    rendered, depth = tokens(1).requires_grad_(), tokens(2).requires_grad_()
    refinement(rendered, depth)[:, :, 0].sum().backward()
    assert (rendered.grad.abs().sum(-1) > 0).all()
    assert (depth.grad.abs().sum(-1) > 0).all()


def test_for_inference_it_is_the_same(refinement):
    torch.nn.init.normal_(refinement.merge[2].weight)
    rendered, depth = tokens(1), tokens(2)
    with torch.no_grad():
        expected = refinement(rendered, depth)
    for place in range(len(rendered)):
        torch.testing.assert_close(refinement.refine(rendered[place], depth[place]), expected[place])


def test_patches_that_are_left_out_are_not_read(refinement):
    rendered, depth = tokens(1)[0], tokens(2)[0]
    kept = torch.tensor([[True, False, True, True], [False, False, False, False], [True, True, True, True]])
    refined = refinement.refine(rendered, depth, kept)
    for place, patches in enumerate(kept):
        chosen = torch.cat([torch.tensor([True]), patches])
        with torch.no_grad():
            alone = refinement(rendered[None, place : place + 1, chosen], depth[None, place : place + 1, chosen])
        torch.testing.assert_close(refined[place, chosen], alone[0, 0], rtol=0, atol=1e-5)
        assert not refined[place, ~chosen].any()
