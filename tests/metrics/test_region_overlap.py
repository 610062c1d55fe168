from pathlib import Path

import numpy as np
import pytest
from tests.metrics import direct

from gsclip.metrics.region_overlap import (
    grid_point_regions,
    image_regions,
    per_region_overlap,
    point_regions,
    pro_paper_protocol,
)

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "pro_paper_protocol.npz"


def random_samples(seed, levels=None):
    rng = np.random.default_rng(seed)
    for _ in range(4):
        regions = image_regions(rng.random((14, 17)) < 0.15)
        regions[0, :3] = -1
        scores = rng.random(regions.shape).astype(np.float32) + 0.3 * (regions > 0).astype(np.float32)
        yield (scores if levels is None else np.round(scores * levels).astype(np.float32) / levels), regions


@pytest.mark.parametrize("limit", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("levels", [None, 5, 20])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_brute_force_with_and_without_ties(seed, levels, limit):
    expected = direct.per_region_overlap(random_samples(seed, levels), limit)
    assert per_region_overlap(random_samples(seed, levels), limit) == pytest.approx(expected, abs=1e-9)


def test_hand_computed_curve_with_interpolation_at_the_limit():
    # Two regions, of 1 and 2 elements, four defect-free elements. Descending: region 1 (0.9) -> overlap 0.5 at
    # rate 0; free (0.8) -> rate 0.25; half of region 2 (0.7) -> 0.75; free (0.6) -> 0.5; ...
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    regions = np.array([1, 0, 2, 0, 2, 0, 0])
    assert per_region_overlap([(scores, regions)], 0.3) == pytest.approx((0.25 * 0.5 + 0.05 * 0.75) / 0.3)


def test_small_and_large_regions_count_alike():
    regions = np.array([0] * 100 + [1] * 2 + [2] * 50)
    small_found = np.where(regions == 1, 1.0, np.where(regions == 0, 0.5, 0.0))
    large_found = np.where(regions == 2, 1.0, np.where(regions == 0, 0.5, 0.0))
    for scores in (small_found, large_found):
        # All defect-free elements tie: one straight step from rate 0 to rate 1, overlap stays 0.5.
        assert per_region_overlap([(scores, regions)]) == pytest.approx(0.5)


def test_all_scores_equal_is_the_diagonal():
    regions = np.array([0] * 90 + [1] * 10)
    assert per_region_overlap([(np.full(100, 0.2), regions)], 0.3) == pytest.approx(0.15)


def test_perfect_scores_give_one_and_inverted_scores_give_zero():
    regions = np.array([0] * 50 + [1] * 10 + [2] * 5)
    assert per_region_overlap([(regions > 0, regions)]) == pytest.approx(1.0)
    assert per_region_overlap([(regions == 0, regions)], 0.3) == pytest.approx(0.0)


def test_depends_on_the_order_of_scores_alone_where_the_paper_protocol_does_not():
    maps, masks = paper_like_maps()
    regions = [image_regions(mask) for mask in masks]

    def exact(transformed):
        return per_region_overlap(zip(transformed, regions, strict=True))

    stretched = np.exp(8 * maps)
    assert exact(stretched) == pytest.approx(exact(maps), abs=1e-6)
    assert abs(pro_paper_protocol(stretched, masks) - pro_paper_protocol(maps, masks)) > 0.05


def paper_like_maps():
    rng = np.random.default_rng(5)
    masks = np.zeros((3, 32, 32), dtype=bool)
    masks[:, 5:11, 8:14] = True
    masks[:, 20:23, 20:30] = True
    return np.round(rng.normal(0.4 * masks, 0.3), 3), masks


def test_ignored_elements_change_nothing():
    rng = np.random.default_rng(0)
    scores, regions = rng.random(200), np.repeat([0, 1, 0, 2], 50)
    with_ignored = per_region_overlap([(np.append(scores, [9.0, -9.0]), np.append(regions, [-1, -1]))])
    assert with_ignored == per_region_overlap([(scores, regions)])


def test_without_region_or_without_defect_free_element_it_is_nan():
    assert np.isnan(per_region_overlap([(np.ones(3), np.zeros(3, dtype=int))]))
    assert np.isnan(per_region_overlap([(np.ones(3), np.ones(3, dtype=int))]))
    assert np.isnan(per_region_overlap([]))


@pytest.mark.parametrize("limit", [0.0, 1.5])
def test_rejects_limits_that_are_no_rates(limit):
    with pytest.raises(ValueError, match="limit"):
        per_region_overlap([], limit)


def test_rejects_scores_and_regions_of_different_size():
    with pytest.raises(ValueError, match="3 scores but 2"):
        per_region_overlap([(np.ones(3), np.zeros(2))])


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1]], dtype=bool)
    assert image_regions(mask).tolist() == [[1, 0, 0, 0], [0, 1, 0, 2]]


def test_two_dents_in_a_sphere_are_two_regions():
    index = np.arange(4000) + 0.5
    inclination, azimuth = np.arccos(1 - 2 * index / 4000), np.pi * (1 + 5**0.5) * index
    points = np.stack(
        [np.cos(azimuth) * np.sin(inclination), np.sin(azimuth) * np.sin(inclination), np.cos(inclination)], axis=1
    )
    north, south = points[:, 2] > 0.97, points[:, 2] < -0.95
    regions = point_regions(points, north | south)
    assert set(regions[north]) == {1}
    assert set(regions[south]) == {2}
    assert set(regions[~(north | south)]) == {0}


def test_few_or_no_defect_points_are_still_labelled():
    points = np.arange(30.0).reshape(10, 3)
    assert point_regions(points, np.zeros(10, dtype=bool)).tolist() == [0] * 10
    assert point_regions(points, np.arange(10) == 4).tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_missing_pixels_do_not_cut_a_region_of_the_grid():
    grid_mask = np.zeros((5, 9), dtype=bool)
    grid_mask[2, 1:8] = True
    grid_mask[0, 8] = True
    pixels = np.array([[2, 1], [2, 7], [0, 8], [4, 4]])  # nothing was measured between columns 1 and 7
    regions = grid_point_regions(grid_mask, pixels)
    assert regions[0] == regions[1] > 0
    assert regions[2] not in (0, regions[0])
    assert regions[3] == 0


def test_paper_protocol_agrees_with_the_golden_number():
    if not GOLDEN.exists():
        pytest.skip("the golden numbers are not there: ../shared/golden")
    golden = np.load(GOLDEN)
    assert pro_paper_protocol(golden["maps"], golden["masks"]) == pytest.approx(float(golden["pro"]), abs=1e-4)


def test_paper_protocol_agrees_with_its_definition():
    maps, masks = paper_like_maps()
    maps[0, 3:20] = 0.0
    maps, masks = maps.astype(np.float32), masks.copy()
    masks[2] = False
    assert pro_paper_protocol(maps, masks) == pytest.approx(direct.pro_paper_protocol(maps, masks), abs=1e-12)


def test_paper_protocol_is_the_same_in_any_order_of_the_samples():
    maps, masks = paper_like_maps()
    order = [2, 0, 1]
    assert pro_paper_protocol(maps[order], masks[order]) == pro_paper_protocol(maps, masks)


def test_paper_protocol_is_undefined_where_its_curve_has_no_length():
    mask = np.zeros((1, 4, 4), dtype=bool)
    assert np.isnan(pro_paper_protocol(np.random.default_rng(0).random((1, 4, 4)), mask))
    mask[0, 0, 0] = True
    assert np.isnan(pro_paper_protocol(np.ones((1, 4, 4)), mask))
