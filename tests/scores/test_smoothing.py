import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gsclip.data.sample import Sample
from gsclip.scores.smoothing import smooth_scores

SIGMA = 2.0


def cloud_sample(points):
    points = np.asarray(points, dtype=np.float32)
    return Sample(points=points, normals=np.zeros_like(points))


def grid_sample(occupied):
    """The true pixels of a grid as an organised scan, in row-major order."""
    pixels = np.argwhere(occupied).astype(np.int32)
    points = np.column_stack([pixels[:, ::-1], np.zeros(len(pixels))]).astype(np.float32)
    return Sample(points=points, normals=np.zeros_like(points), pixels=pixels, grid=occupied.shape)


def random_scores(count, seed=0):
    return np.random.default_rng(seed).random(count).astype(np.float32)


@pytest.fixture(params=["grid", "space"])
def sample(request):
    random = np.random.default_rng(1)
    if request.param == "grid":
        return grid_sample(random.random((30, 40)) < 0.6)
    return cloud_sample(random.random((700, 3)) * [10, 10, 1])


def test_without_smoothing_scores_stay_as_they_are(sample):
    scores = random_scores(len(sample.points))
    np.testing.assert_array_equal(smooth_scores(sample, scores, 0.0), scores)


def test_equal_scores_stay_equal_up_to_the_rim(sample):
    scores = np.full(len(sample.points), 0.3, dtype=np.float32)
    smooth = smooth_scores(sample, scores, SIGMA)
    assert smooth.dtype == np.float32
    np.testing.assert_allclose(smooth, 0.3, atol=1e-6)


def test_smoothed_scores_lie_between_the_lowest_and_the_highest_and_vary_less(sample):
    scores = random_scores(len(sample.points))
    smooth = smooth_scores(sample, scores, SIGMA)
    assert scores.min() <= smooth.min()
    assert smooth.max() <= scores.max()
    assert smooth.std() < 0.5 * scores.std()


def permuted(sample, order):
    return Sample(
        points=sample.points[order],
        normals=sample.normals[order],
        pixels=None if sample.pixels is None else sample.pixels[order],
        grid=sample.grid,
    )


def test_the_order_of_the_points_does_not_matter(sample):
    scores = random_scores(len(sample.points))
    order = np.random.default_rng(2).permutation(len(scores))
    expected = smooth_scores(sample, scores, SIGMA)[order]
    np.testing.assert_allclose(smooth_scores(permuted(sample, order), scores[order], SIGMA), expected, atol=1e-6)


def test_the_scores_handed_over_are_not_changed(sample):
    scores = random_scores(len(sample.points))
    before = scores.copy()
    smooth_scores(sample, scores, SIGMA)
    np.testing.assert_array_equal(scores, before)


def test_a_full_grid_is_smoothed_as_by_scipy():
    sample = grid_sample(np.ones((50, 60), dtype=bool))
    scores = random_scores(3000)
    smooth = smooth_scores(sample, scores, SIGMA).reshape(50, 60)
    expected = gaussian_filter(scores.reshape(50, 60), SIGMA)
    inside = (slice(8, -8), slice(8, -8))  # scipy cuts the Gaussian at 4 sigma
    np.testing.assert_allclose(smooth[inside], expected[inside], atol=1e-5)


def test_a_grid_with_gaps_is_a_weighted_mean_over_its_points_alone():
    sample = grid_sample(np.random.default_rng(3).random((25, 25)) < 0.4)
    scores = random_scores(len(sample.points))
    smooth = smooth_scores(sample, scores, SIGMA)
    offset = sample.pixels[:, None].astype(float) - sample.pixels[None]
    weight = np.exp(-0.5 * (offset**2).sum(axis=2) / SIGMA**2) * (np.abs(offset).max(axis=2) <= 4 * SIGMA)
    np.testing.assert_allclose(smooth, weight @ scores / weight.sum(axis=1), atol=1e-5)


def test_neighbours_in_space_are_not_neighbours_in_the_file():
    """Two far-off clusters stored in turn: each keeps its own score."""
    random = np.random.default_rng(4)
    points = random.random((400, 3))
    points[1::2] += 100
    scores = (np.arange(400) % 2).astype(np.float32)
    smooth = smooth_scores(cloud_sample(points), scores, SIGMA)
    np.testing.assert_allclose(smooth, scores, atol=1e-6)


def plane(side):
    return np.stack(np.meshgrid(np.arange(side), np.arange(side), [0.0]), axis=-1).reshape(-1, 3)


def test_a_peak_in_space_is_spread_over_its_neighbours():
    scores = np.zeros(225, dtype=np.float32)
    scores[112] = 1  # the centre
    smooth = smooth_scores(cloud_sample(plane(15)), scores, SIGMA).reshape(15, 15)
    for row in (smooth[7], smooth[:, 7]):
        assert row[8] > row[9] > row[10] > 0
        assert row[6] > row[5] > row[4] > 0
        np.testing.assert_allclose(row, row[::-1], atol=0.02 * row[7])  # of equally far neighbours some are left out
    assert max(smooth[0].max(), smooth[:, 0].max()) < 0.01 * smooth[7, 7]


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_sigma_is_in_point_spacings_whatever_the_unit(unit):
    points = np.random.default_rng(5).random((500, 3)) * [10, 10, 1]
    scores = random_scores(500)
    expected = smooth_scores(cloud_sample(points), scores, SIGMA)
    np.testing.assert_allclose(smooth_scores(cloud_sample(points * unit), scores, SIGMA), expected, atol=1e-4)




def test_a_point_counts_most_for_itself_in_space():
    scores = np.zeros(225, dtype=np.float32)
    scores[112] = 1
    assert smooth_scores(cloud_sample(plane(15)), scores, SIGMA).argmax() == 112


def test_a_stray_point_far_from_the_cloud_keeps_its_score():
    points = np.concatenate([np.random.default_rng(6).random((300, 3)), [[500.0, 0, 0]]])
    scores = random_scores(301)
    smooth = smooth_scores(cloud_sample(points), scores, SIGMA)
    assert np.isfinite(smooth).all()
    assert smooth[300] == pytest.approx(scores[300], abs=1e-6)


def test_a_narrow_gaussian_in_space_changes_next_to_nothing():
    scores = random_scores(100)
    np.testing.assert_allclose(smooth_scores(cloud_sample(plane(10)), scores, 0.05), scores, atol=1e-5)


def test_a_plane_is_smoothed_alike_with_and_without_its_grid():
    side, sigma = 50, 4.0
    points, scores = plane(side), random_scores(side * side)
    organised = Sample(
        points=points.astype(np.float32),
        normals=np.zeros_like(points, dtype=np.float32),
        pixels=points[:, [1, 0]].astype(np.int32),
        grid=(side, side),
    )
    difference = smooth_scores(cloud_sample(points), scores, sigma) - smooth_scores(organised, scores, sigma)
    assert np.abs(difference).max() < 0.03  # scores from 0 to 1
