import numpy as np
import pytest
from scipy.spatial import cKDTree

from gsclip.data.geometry import (
    distinct_points,
    estimate_normals,
    farthest_points,
    k_nearest,
    normalise_unit_sphere,
    point_spacing,
)


def lattice(rows, columns, pitch):
    y, x = np.mgrid[:rows, :columns] * pitch
    return np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)


def sphere(count, radius=1.0):
    """Fibonacci sphere: even spacing, exact normals."""
    step = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * step / count), np.pi * (1 + 5**0.5) * step
    return radius * np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1
    )


def test_spacing_of_a_lattice_is_its_pitch():
    assert point_spacing(lattice(10, 12, 0.25)) == pytest.approx(0.25)


def test_repeated_points_do_not_shrink_the_spacing():
    points = lattice(10, 12, 0.25)
    assert point_spacing(np.concatenate([points, points, points])) == pytest.approx(0.25)


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.ones((1, 3)), np.ones((50, 3))])
def test_spacing_without_two_distinct_points_is_zero(points):
    assert point_spacing(points) == 0.0


def test_nearest_neighbours_of_points_on_a_line():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]])
    distances, indices = k_nearest(points, 2)
    np.testing.assert_array_equal(indices, [[1, 2], [0, 2], [1, 0], [2, 1]])
    np.testing.assert_array_equal(distances, np.array([[1, 3], [1, 2], [2, 3], [4, 6]], dtype=np.float32))


def test_nearest_neighbours_never_hold_the_point_itself_even_among_duplicates():
    points = np.repeat(lattice(4, 4, 1.0), 6, axis=0)
    distances, indices = k_nearest(points, 3)
    assert not (indices == np.arange(len(points))[:, None]).any()
    assert (distances == 0).all()


def test_more_neighbours_than_points_gives_all_others():
    distances, indices = k_nearest(lattice(2, 2, 1.0), 10)
    assert distances.shape == indices.shape == (4, 3)


@pytest.mark.parametrize(("count", "k"), [(1, 1), (4, 0)])
def test_impossible_neighbourhoods_are_refused(count, k):
    with pytest.raises(ValueError, match="k_nearest needs"):
        k_nearest(np.zeros((count, 3)), k)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_normals_of_a_sphere_are_radial_whatever_the_unit(scale):
    directions = sphere(4000)
    offset = np.array([0.3, -0.2, 5.0]) * scale
    normals = estimate_normals((directions * scale + offset).astype(np.float32))
    assert normals.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    cosines = np.abs((normals * directions).sum(axis=1))
    assert np.degrees(np.arccos(cosines.clip(max=1))).max() < 2


def test_normals_do_not_reach_across_a_gap():
    lower = lattice(20, 20, 1.0)
    upper = lower[:, [0, 2, 1]] + [0, 40, 0]  # a wall 20 spacings behind the floor
    normals = np.abs(estimate_normals(np.concatenate([lower, upper])))
    np.testing.assert_allclose(normals[:400], np.tile([0, 0, 1], (400, 1)), atol=1e-6)
    np.testing.assert_allclose(normals[400:], np.tile([0, 1, 0], (400, 1)), atol=1e-6)


@pytest.mark.parametrize(
    "points",
    [np.ones((5, 3)), np.zeros((1, 3)), np.array([[0.0, 0, 0], [1, 0, 0], [50, 0, 0], [51, 0, 0]])],
    ids=["coinciding", "single", "sparse"],
)
def test_normals_of_degenerate_clouds_point_along_z(points):
    np.testing.assert_array_equal(estimate_normals(points), np.tile([0, 0, 1], (len(points), 1)))


def test_normals_of_points_on_a_line_are_unit_vectors():
    line = np.outer(np.arange(40), [1.0, 2.0, 3.0])
    normals = estimate_normals(line)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_normals_are_the_same_each_time():
    points = sphere(500)
    assert estimate_normals(points).tobytes() == estimate_normals(points).tobytes()


def test_unit_sphere_has_its_centroid_at_the_origin_and_radius_one():
    points = normalise_unit_sphere(sphere(300, radius=0.02) + np.array([4.0, 5.0, 6.0]))
    assert points.dtype == np.float32
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-6)


def test_coinciding_points_become_the_origin():
    np.testing.assert_array_equal(normalise_unit_sphere(np.full((3, 3), 7.0)), np.zeros((3, 3)))


def test_farthest_points_of_a_line_halve_its_gaps():
    points = np.stack([np.arange(9.0), np.zeros(9), np.zeros(9)], axis=1)
    np.testing.assert_array_equal(farthest_points(points, 5), [0, 8, 4, 2, 6])
    np.testing.assert_array_equal(farthest_points(points, 3, start=4), [4, 0, 8])


def test_farthest_points_cover_a_sphere_better_than_the_first_points():
    points = sphere(2000)
    chosen = points[farthest_points(points, 50)]
    gap = np.linalg.norm(points[:, None] - chosen[None], axis=2).min(axis=1).max()
    assert gap < 0.45  # 50 caps of angular radius 0.4 just cover a unit sphere with overlap


def test_farthest_points_are_distinct_even_when_points_coincide():
    chosen = farthest_points(np.ones((6, 3)), 10)
    assert sorted(chosen) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("count", "start"), [(-1, 0), (2, 4), (2, -1)])
def test_impossible_choices_of_points_are_refused(count, start):
    with pytest.raises(ValueError, match="cannot choose"):
        farthest_points(np.zeros((4, 3)), count, start)


@pytest.mark.parametrize("repeated", [False, True])
def test_points_that_coincide_count_once(repeated):
    points = np.random.default_rng(0).standard_normal((500, 3))
    points[0], points[1] = 0.0, 1.0
    given = np.concatenate([points, points[:2] * [1.0, -0.0 + 1, 1.0], [[-0.0, 0.0, -0.0]]]) if repeated else points
    found = distinct_points(given)
    np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(points, axis=0))
    assert len(found) == 500


def test_the_spacing_of_many_points_is_that_of_a_part_of_them():
    points = np.random.default_rng(0).normal(size=(60_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    assert point_spacing(points) == pytest.approx(np.median(nearest), rel=0.02)
    assert point_spacing(points) == point_spacing(points.copy())
