"""Point scores rise where the part is unlike the rest of itself."""

import dataclasses

import numpy as np
import pytest
from tests.experiments.test_comparison import sphere_sample

from gsclip.scores.self_similarity import QUICK, raised_scores, smooth_unlikeness, unlikeness


@pytest.fixture(scope="module")
def bumpy():
    return sphere_sample(0.1)


def test_the_bump_of_a_sphere_is_unlike_the_rest_also_when_few_points_are_compared(bumpy):
    whole, quick = (
        unlikeness(bumpy, dataclasses.replace(QUICK, kept=kept, radius=8.0)) for kept in (None, 6000)
    )
    for unlike in (whole, quick):
        assert unlike.shape == (len(bumpy.points),)
        assert unlike.dtype == np.float32
        assert unlike[bumpy.mask].mean() > 2 * unlike[~bumpy.mask].mean()
    assert len(bumpy.points) > 6000


def test_scores_rise_where_the_part_is_unlike_and_stay_probabilities(bumpy):
    scores = np.full(len(bumpy.points), 0.2, np.float32)
    scores[:2] = 0, 1
    unlike = smooth_unlikeness(bumpy, 2.0)
    raised = raised_scores(scores, unlike, exponent=1.0)
    assert raised.dtype == np.float32
    assert raised[0] == 0
    assert raised[1] == 1
    assert 0 <= raised.min() <= raised.max() <= 1
    rest = ~bumpy.mask
    rest[:2] = False
    assert raised[bumpy.mask].mean() > 0.4
    assert raised[rest].mean() < 0.2
    np.testing.assert_array_equal(unlike, smooth_unlikeness(bumpy, 2.0))


def test_small_scores_become_their_product_with_the_unlikeness(bumpy):
    scores = np.full(len(bumpy.points), 1e-5, np.float32)
    unlike = smooth_unlikeness(bumpy, 0.0)
    np.testing.assert_array_equal(unlike, unlikeness(bumpy, QUICK))
    raised = raised_scores(scores, unlike, exponent=0.5)
    np.testing.assert_allclose(raised, 1e-5 * (unlike / unlike.mean()) ** 0.5, rtol=1e-3)


def test_an_exponent_of_zero_and_parts_without_distant_places_leave_the_scores(bumpy):
    scores = np.linspace(0, 1, len(bumpy.points), dtype=np.float32)
    assert raised_scores(scores, smooth_unlikeness(bumpy, 2.0), exponent=0.0) is scores
    small = dataclasses.replace(bumpy, points=bumpy.points[:60], normals=bumpy.normals[:60], mask=None)
    unlike = smooth_unlikeness(small, 2.0)
    np.testing.assert_array_equal(raised_scores(scores[:60], unlike, exponent=1.0), scores[:60])
