import numpy as np
import pytest
import torch

from gsclip.scores.back_projection import back_project

VIEWS, POINTS, SIDE = 4, 50, 9


@pytest.fixture
def scene():
    random = torch.Generator().manual_seed(0)
    maps = torch.rand(VIEWS, 2, SIDE, SIDE, generator=random)
    pixels = torch.randint(SIDE, (VIEWS, POINTS, 2), generator=random).to(torch.int16)
    visible = torch.rand(VIEWS, POINTS, generator=random) < 0.4
    visible[:, 0] = False
    visible[:, 1] = True
    return maps, pixels, visible


def test_a_point_takes_the_mean_of_the_views_that_see_it(scene):
    maps, pixels, visible = scene
    scores, seen = back_project(maps, pixels, visible)
    assert scores.shape == (2, POINTS)
    for point in range(POINTS):
        views = np.flatnonzero(visible[:, point])
        assert seen[point] == (len(views) > 0)
        values = [maps[v, :, pixels[v, point, 0], pixels[v, point, 1]] for v in views]
        expected = torch.stack(values).mean(0) if values else torch.zeros(2)
        torch.testing.assert_close(scores[:, point], expected, rtol=0, atol=1e-6)
    assert not seen[0]


def test_a_map_without_channels_gives_one_score_a_point(scene):
    maps, pixels, visible = scene
    scores, seen = back_project(maps[:, 1], pixels, visible)
    expected, expected_seen = back_project(maps, pixels, visible)
    assert scores.shape == (POINTS,)
    torch.testing.assert_close(scores, expected[1], rtol=0, atol=1e-6)
    assert torch.equal(seen, expected_seen)


def test_pixels_are_row_and_column_in_this_order():
    maps = torch.zeros(1, SIDE, SIDE)
    maps[0, 2, 7] = 1
    scores, _ = back_project(maps, torch.tensor([[[2, 7], [7, 2]]]), torch.ones(1, 2, dtype=torch.bool))
    assert scores.tolist() == [1, 0]


def test_what_is_behind_the_surface_takes_nothing_from_the_pixel(scene):
    maps, pixels, visible = scene
    brighter = maps.clone()
    brighter[0] = 100
    first, _ = back_project(maps, pixels, visible)
    second, _ = back_project(brighter, pixels, visible)
    unseen = ~visible[0]
    torch.testing.assert_close(first[:, unseen], second[:, unseen], rtol=0, atol=0)
    assert (second[:, visible[0]] > first[:, visible[0]]).all()


def test_gradients_reach_the_seen_pixels_alone(scene):
    maps, pixels, visible = scene
    maps.requires_grad_()
    back_project(maps, pixels, visible)[0].sum().backward()
    touched = torch.zeros(VIEWS, SIDE, SIDE, dtype=torch.bool)
    for view in range(VIEWS):
        rows, columns = pixels[view][visible[view]].long().T
        touched[view, rows, columns] = True
    assert torch.equal((maps.grad > 0).all(1), touched)
    assert torch.equal((maps.grad != 0).any(1), touched)
