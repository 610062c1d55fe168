import dataclasses

import numpy as np
import pytest

from gsclip.prompts.grouping import (
    CENTROIDS,
    INTERPOLATED,
    NEIGHBOURS,
    RADII,
    farthest_points,
    group_cloud,
    group_points,
    stack_groupings,
)


def cloud(count=1500, seed=0):
    """Points in the unit ball, dense at one side so that some radii hold many more than 32."""
    random = np.random.default_rng(seed)
    points = random.standard_normal((count, 3)) * [0.3, 0.2, 0.1] + [0.2, 0, 0]
    return (points / max(1, np.linalg.norm(points, axis=1).max())).astype(np.float32)


@pytest.fixture(scope="module")
def grouping():
    return group_cloud(cloud())


def levels(grouping):
    """Points, centroids and their indices of each level."""
    points = grouping.cloud
    for level in range(len(CENTROIDS)):
        centroids = points[getattr(grouping, f"centroids_{level}")]
        yield level, points, centroids
        points = centroids


def test_each_centroid_is_the_point_farthest_from_those_before_it(grouping):
    for level, points, centroids in levels(grouping):
        index = getattr(grouping, f"centroids_{level}").astype(int)
        assert index[0] == 0
        assert len(set(index)) == CENTROIDS[level]
        distance = np.linalg.norm(points[:, None].astype(np.float64) - centroids[None], axis=2)
        for place in range(1, CENTROIDS[level], 7):
            nearest = distance[:, :place].min(axis=1)
            assert nearest[index[place]] == pytest.approx(nearest.max(), rel=1e-5)


def test_neighbours_are_the_first_points_within_the_radius_repeated_where_there_are_few(grouping):
    for level, points, centroids in levels(grouping):
        distance = np.linalg.norm(points[None].astype(np.float64) - centroids[:, None], axis=2)
        neighbours = getattr(grouping, f"neighbours_{level}")
        assert neighbours.shape == (CENTROIDS[level], NEIGHBOURS)
        for row, found in enumerate(neighbours):
            inside = np.flatnonzero(distance[row] <= RADII[level])[:NEIGHBOURS]
            expected = np.concatenate([inside, np.full(NEIGHBOURS - len(inside), inside[0])])
            np.testing.assert_array_equal(np.sort(found), np.sort(expected))


def test_both_kinds_of_neighbourhood_occur(grouping):
    distinct = [len(set(row)) for row in grouping.neighbours_0]
    assert min(distinct) < 5
    assert max(distinct) == NEIGHBOURS


def test_interpolation_takes_the_three_nearest_centroids_by_inverse_square_distance(grouping):
    for level, points, centroids in levels(grouping):
        distance = np.linalg.norm(points[:, None].astype(np.float64) - centroids[None], axis=2)
        index = getattr(grouping, f"interpolation_{level}").astype(int)
        weights = getattr(grouping, f"weights_{level}")
        nearest = np.sort(distance, axis=1)[:, :INTERPOLATED]
        np.testing.assert_allclose(np.take_along_axis(distance, index, axis=1), nearest, atol=1e-6)
        inverse = 1 / (nearest**2 + 1e-8)
        np.testing.assert_allclose(weights, inverse / inverse.sum(axis=1, keepdims=True), rtol=1e-3)
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_indices_are_small_integers_within_the_level_above(grouping):
    for level, points, centroids in levels(grouping):
        for name, limit in (("centroids", points), ("neighbours", points), ("interpolation", centroids)):
            index = getattr(grouping, f"{name}_{level}")
            assert index.dtype == np.int16
            assert 0 <= index.min() <= index.max() < len(limit)


def same(first, second):
    return all(
        getattr(first, field.name).tobytes() == getattr(second, field.name).tobytes()
        for field in dataclasses.fields(first)
    )


def test_the_same_cloud_gives_the_same_bytes(grouping):
    assert same(grouping, group_cloud(cloud()))
    assert not same(grouping, group_cloud(cloud(seed=1)))


def test_a_cloud_of_fewer_points_than_centroids_repeats_points():
    grouping = group_cloud(cloud(300))
    assert grouping.centroids_0.shape == (1024,)
    assert set(grouping.centroids_0) == set(range(300))
    assert all(np.isfinite(getattr(grouping, f"weights_{level}")).all() for level in range(4))


@pytest.mark.parametrize("count", [255, 32768])
def test_clouds_too_small_or_too_large_are_refused(count):
    with pytest.raises(ValueError, match=f"a cloud of {count} points cannot be grouped; give 256 to 32767"):
        group_cloud(np.zeros((count, 3)))


def test_chosen_points_are_spread_over_the_part_and_scaled_to_the_unit_sphere():
    points = np.random.default_rng(3).uniform(0.5, 0.6, (20000, 3)) * [1, 2, 1]
    grouping = group_points(points, 1200)
    assert grouping.cloud.shape == (1200, 3)
    assert len(np.unique(grouping.cloud, axis=0)) == 1200
    assert np.linalg.norm(grouping.cloud, axis=1).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(grouping.cloud.mean(axis=0), 0, atol=1e-5)
    halves = (grouping.cloud > 0).mean(axis=0)
    np.testing.assert_allclose(halves, 0.5, atol=0.06)
    assert same(grouping, group_points(points.copy(), 1200))


def test_few_points_are_repeated_to_the_wanted_number():
    assert group_points(cloud(400), 1200).cloud.shape == (1200, 3)


def test_farthest_points_of_a_line_halve_its_gaps():
    points = np.stack([np.arange(9.0), np.zeros(9), np.zeros(9)], axis=1)
    np.testing.assert_array_equal(farthest_points(points, 5), [0, 8, 4, 2, 6])


def test_stacking_adds_a_leading_axis(grouping):
    other = group_cloud(cloud(seed=1))
    stacked = stack_groupings([grouping, other])
    for field in dataclasses.fields(grouping):
        array = getattr(stacked, field.name)
        np.testing.assert_array_equal(array[0], getattr(grouping, field.name))
        np.testing.assert_array_equal(array[1], getattr(other, field.name))
