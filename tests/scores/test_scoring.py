from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from gsclip.data.sample import Sample
from gsclip.scores.scoring import score_points, score_views
from gsclip.views.renderer import render_views
from gsclip.views.views import Views

VIEWS, SIDE, PATCHES, DIMENSION = 9, 24, 4, 6


def plane_sample(side=12):
    y, x = np.mgrid[:side, :side].astype(np.float32)
    points = np.stack([x, y, 0.1 * x], axis=-1).reshape(-1, 3)
    normals = np.tile(np.float32([0, 0, -1]), (len(points), 1))
    return Sample(points=points, normals=normals)


@pytest.fixture
def sample():
    return plane_sample()


@pytest.fixture
def views(sample):
    return render_views(sample, image_size=SIDE)


def tokens_and_prompts(seed=0):
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(VIEWS, 1 + PATCHES**2, DIMENSION, generator=random)
    return tokens, torch.randn(2, DIMENSION, generator=random)


def test_object_score_is_the_weighted_highest_point_and_mean_view(sample, views):
    tokens, prompts = tokens_and_prompts()
    unit = tokens.numpy() / np.linalg.norm(tokens.numpy(), axis=-1, keepdims=True)
    text = prompts.numpy() / np.linalg.norm(prompts.numpy(), axis=-1, keepdims=True)
    probabilities = softmax(unit @ text.T / 0.07, axis=-1)[..., 1]
    for weight in (0.0, 0.5, 1.0):
        prediction = score_views(sample, views, tokens, prompts, smoothing=0.0, map_weight=weight)
        np.testing.assert_allclose(prediction.view_probabilities, probabilities[:, 0], atol=1e-5)
        np.testing.assert_allclose(prediction.view_maps, probabilities[:, 1:].reshape(VIEWS, 4, 4), atol=1e-5)
        expected = weight * prediction.point_scores.max() + (1 - weight) * probabilities[:, 0].mean()
        assert prediction.object_score == pytest.approx(expected, abs=1e-5)


def test_the_maps_may_count_by_the_highest_patches_of_each_view(sample, views):
    tokens, prompts = tokens_and_prompts()
    prediction = score_views(
        sample, views, tokens, prompts, smoothing=1.0, map_weight=0.25, map_score="highest_patches"
    )
    highest = [np.mean(sorted(view.ravel())[-4:]) for view in prediction.view_maps]
    expected = 0.25 * np.mean(highest) + 0.75 * prediction.view_probabilities.mean()
    assert prediction.object_score == pytest.approx(expected, abs=1e-6)


def test_patches_that_were_not_encoded_hold_the_lowest_value_of_their_view(sample, views):
    tokens, prompts = tokens_and_prompts()
    kept = torch.rand(VIEWS, PATCHES**2, generator=torch.Generator().manual_seed(2)) > 0.4
    kept[3] = False
    whole = score_views(sample, views, tokens, prompts, smoothing=0.0, map_weight=0.5).view_maps
    some = score_views(sample, views, tokens, prompts, smoothing=0.0, map_weight=0.5, kept=kept).view_maps
    for before, after, chosen in zip(whole, some, kept.view(VIEWS, PATCHES, PATCHES).numpy(), strict=True):
        np.testing.assert_array_equal(after[chosen], before[chosen])
        assert (after[~chosen] == (before[chosen].min() if chosen.any() else 0)).all()


def test_scores_are_probabilities_for_every_point_in_its_order(sample, views):
    tokens, prompts = tokens_and_prompts()
    prediction = score_views(sample, views, tokens, prompts, smoothing=1.0, map_weight=0.5)
    assert prediction.point_scores.shape == (144,)
    assert prediction.point_scores.dtype == np.float32
    assert 0 <= prediction.point_scores.min() <= prediction.point_scores.max() <= 1
    assert 0 <= prediction.object_score <= 1


def test_the_same_tokens_give_the_same_bytes(sample, views):
    tokens, prompts = tokens_and_prompts()
    first, second = (score_views(sample, views, tokens, prompts, smoothing=1.0, map_weight=0.5) for _ in range(2))
    assert first.point_scores.tobytes() == second.point_scores.tobytes()
    assert first.object_score == second.object_score


def test_a_bright_patch_marks_the_points_that_it_shows(sample, views):
    maps = torch.zeros(VIEWS, PATCHES, PATCHES)
    maps[:, 0, 0] = 1  # upper left corner of every view
    scores = score_points(sample, views, maps, smoothing=0.0)
    x, y = sample.points[:, 0], sample.points[:, 1]
    assert scores[(x < 1) & (y < 1)].min() > 0.5
    assert scores[(x > 6) | (y > 6)].max() == 0


def hand_made(visible):
    """Three points on a line, one view; the pixel of point i is (0, 8 i)."""
    points = np.float32([[0, 0, 0], [1, 0, 0], [5, 0, 0]])
    pixels = np.int16([[[0, 0], [0, 8], [0, 16]]])
    image = np.zeros((1, SIDE, SIDE), dtype=np.uint8)
    normals, relief = np.zeros((1, SIDE, SIDE, 2), np.int8), np.ones(1, np.float32)
    views = Views(image, normals, image.astype(np.uint16), relief, image > 0, pixels, np.array([visible]))
    return Sample(points=points, normals=np.zeros_like(points)), views


def test_a_point_seen_by_no_view_takes_the_score_of_the_nearest_seen_one():
    maps = torch.zeros(1, SIDE, SIDE)
    maps[0, 0, [0, 8, 16]] = torch.tensor([0.2, 0.6, 0.9])
    for visible, expected in (
        ([True, True, True], [0.2, 0.6, 0.9]),
        ([True, False, True], [0.2, 0.2, 0.9]),
        ([False, True, False], [0.6, 0.6, 0.6]),
        ([True, False, False], [0.2, 0.2, 0.2]),
        ([False, False, True], [0.9, 0.9, 0.9]),
    ):
        sample, views = hand_made(visible)
        np.testing.assert_allclose(score_points(sample, views, maps, smoothing=0.0), expected, atol=1e-6)


def test_unseen_points_are_filled_before_smoothing(sample):
    views = render_views(sample, image_size=SIDE, views=1)
    hidden = np.zeros_like(views.visible)
    hidden[:, 30:60] = True
    partly = replace(views, visible=views.visible & ~hidden)
    scores = score_points(sample, partly, torch.full((1, PATCHES, PATCHES), 0.4), smoothing=2.0)
    np.testing.assert_allclose(scores, 0.4, atol=1e-5)


def test_smoothing_lowers_the_highest_score(sample, views):
    tokens, prompts = tokens_and_prompts()
    highest = [
        score_views(sample, views, tokens, prompts, smoothing=sigma, map_weight=1.0).object_score
        for sigma in (0.0, 1.0, 4.0)
    ]
    assert highest[0] > highest[1] > highest[2]


def test_colours_count_as_one_more_view_and_half_of_every_point(sample, views):
    tokens, prompts = tokens_and_prompts()
    color_tokens = tokens_and_prompts(1)[0][:1]
    options = {"smoothing": 1.0, "map_weight": 0.5}
    geometry = score_views(sample, views, tokens, prompts, **options)
    frontal = render_views(sample, image_size=SIDE, views=1)  # the first camera alone, at a scale of its own
    moved = replace(frontal, pixels=views.pixels[:1], visible=views.visible[:1])
    color = score_views(sample, moved, color_tokens, prompts, **options)
    both = score_views(sample, views, tokens, prompts, **options, color_tokens=color_tokens)
    np.testing.assert_allclose(both.point_scores, (geometry.point_scores + color.point_scores) / 2, atol=1e-6)
    mean = (geometry.view_probabilities.sum() + color.view_probabilities.sum()) / (VIEWS + 1)
    assert both.object_score == pytest.approx(0.5 * both.point_scores.max() + 0.5 * mean, abs=1e-6)
    np.testing.assert_array_equal(both.view_maps, geometry.view_maps)


def test_the_order_of_the_views_does_not_change_the_scores(sample, views):
    tokens, prompts = tokens_and_prompts()
    order = np.random.default_rng(3).permutation(VIEWS)
    fields = ("rendered", "normals", "depth", "relief", "foreground", "pixels", "visible")
    shuffled = replace(views, **{name: getattr(views, name)[order] for name in fields})
    first = score_views(sample, views, tokens, prompts, smoothing=1.0, map_weight=0.5)
    second = score_views(sample, shuffled, tokens[torch.from_numpy(order)], prompts, smoothing=1.0, map_weight=0.5)
    assert second.object_score == pytest.approx(first.object_score, abs=1e-6)
    np.testing.assert_allclose(second.point_scores, first.point_scores, atol=1e-6)
