"""Thinned clouds: few points that cover all, whatever the order of the file, and a score for every point."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from tests.detectors import untrained_detector

from gsclip.data.preparation import part_points, prepare_sample
from gsclip.data.sample import Sample, Scan
from gsclip.data.thinning import FULL_ENOUGH, _cube_size, any_within, nearest_kept, thin
from gsclip.features.backbone import load_backbone
from gsclip.metrics.sample_scores import sample_scores
from gsclip.params import ScanParams
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack, write_pack

LIMIT = 1000
PARAMS = ScanParams(background="auto", max_points=LIMIT)


def ellipsoid(count=6000, seed=0):
    """Random points on an ellipsoid, many times denser at one end than at the other."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(count, 3))
    points[: count // 2, 0] = np.abs(points[: count // 2, 0]) * 5
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return (points * [3, 2, 1]).astype(np.float32)


def line(count=6000):
    return np.stack([np.linspace(0, 1, count)] * 3, axis=1).astype(np.float32)


def volume(count=6000):
    return np.random.default_rng(1).random((count, 3)).astype(np.float32)


def with_stray_points():
    return np.concatenate([ellipsoid(), [[500, 0, 0], [0, -900, 0]]]).astype(np.float32)


SHAPES = {"surface": ellipsoid, "line": line, "volume": volume, "stray points": with_stray_points}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limit", [50, 1000, 5000])
@pytest.mark.parametrize("place", [0.0, -4096.0])
def test_the_number_of_points_is_close_to_the_bound_and_never_above(shape, limit, place):
    points = SHAPES[shape]() + np.float32(place)
    kept = thin(points, limit)
    assert len(kept) <= limit
    possible = min(limit, len(np.unique(points, axis=0)))  # far from the origin points of the line coincide
    assert len(kept) >= (FULL_ENOUGH if limit > 50 else 0.5) * possible  # 50 cubes come in steps
    assert len(set(kept.tolist())) == len(kept)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_occupied_cube_keeps_the_point_nearest_to_its_centre_and_no_other(shape):
    points = SHAPES[shape]()
    low = points.min(axis=0).astype(np.float64)
    size = _cube_size(points, low, float((points.max(axis=0) - low).max()), LIMIT)
    place = (points - low) / size
    cubes = np.floor(place).astype(int)
    away = ((place - cubes - 0.5) ** 2).sum(axis=1)
    nearest = {}
    for row, cube in enumerate(map(tuple, cubes)):
        nearest[cube] = min(nearest.get(cube, np.inf), away[row])
    kept = thin(points, LIMIT)
    assert sorted(map(tuple, cubes[kept])) == sorted(nearest)
    np.testing.assert_allclose(away[kept], [nearest[tuple(cube)] for cube in cubes[kept]], atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_order_of_the_file_does_not_matter(shape):
    points = SHAPES[shape]()
    points = np.concatenate([points, points[:500], np.round(points[:500], 1)])  # coinciding points, and ties
    first = points[thin(points, LIMIT)]
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(points)
        np.testing.assert_array_equal(shuffled[thin(shuffled, LIMIT)], first)


def test_points_that_coincide_are_one():
    points = np.repeat(ellipsoid(20), 200, axis=0)
    kept = points[thin(points, LIMIT)]
    np.testing.assert_array_equal(np.unique(kept, axis=0), np.unique(points, axis=0))
    assert len(kept) == 20
    np.testing.assert_array_equal(thin(np.ones((5000, 3), dtype=np.float32), LIMIT), [0])


@pytest.mark.parametrize(("points", "limit"), [(np.zeros((0, 3), dtype=np.float32), 5), (ellipsoid(10), 0)])
def test_nothing_cannot_be_thinned_nor_anything_to_nothing(points, limit):
    with pytest.raises(ValueError, match="cannot thin"):
        thin(points, limit)


def test_the_nearest_kept_point_is_that_of_all_distances(monkeypatch):
    monkeypatch.setattr("gsclip.data.thinning.CHUNK", 700)  # several chunks, the last one not full
    points = ellipsoid()
    kept = points[thin(points, LIMIT)]
    nearest = nearest_kept(points, kept)
    distances = cdist(points.astype(np.float64), kept.astype(np.float64))
    np.testing.assert_allclose(distances[np.arange(len(points)), nearest], distances.min(axis=1), rtol=1e-12)
    mask = points[:, 0] > 2.9
    expected = np.zeros(len(kept), dtype=bool)
    for row in np.flatnonzero(mask):
        expected[nearest[row]] = True
    np.testing.assert_array_equal(any_within(mask, nearest, len(kept)), expected)


def scan_of(points, order=None):
    """A cloud with two missing points, a defect and colours, in that order of its points."""
    points = np.concatenate([points, np.full((2, 3), np.nan)]).astype(np.float32)
    order = np.arange(len(points)) if order is None else order
    colors = np.nan_to_num(np.abs(points) * 80).astype(np.uint8)
    return Scan(points[order], (points[:, 0] > 2.9)[order], colors[order])


def test_a_cloud_up_to_the_bound_is_left_as_it_is():
    scan = scan_of(ellipsoid(LIMIT))
    sample = prepare_sample(scan, params=PARAMS)
    np.testing.assert_array_equal(sample.points, scan.points[:LIMIT])
    assert sample.nearest is None
    assert sample.scan_mask is None
    values = np.arange(LIMIT)
    assert sample.spread(values) is values
    assert len(prepare_sample(scan_of(ellipsoid(LIMIT + 1)), params=PARAMS).points) <= LIMIT


def test_an_organised_scan_is_never_thinned():
    v, u = np.mgrid[:60, :60].astype(np.float32)
    scan = Scan(np.stack([u, v, 200 - (u - 30) ** 2 / 60], axis=-1))
    sample = prepare_sample(scan, params=ScanParams(background="none", max_points=LIMIT))
    assert len(sample.points) == 3600
    assert sample.nearest is None


def test_the_sample_of_a_shuffled_file_has_the_same_bytes():
    points = ellipsoid()
    first = prepare_sample(scan_of(points), params=PARAMS)
    order = np.random.default_rng(0).permutation(len(points) + 2)
    second = prepare_sample(scan_of(points, order), params=PARAMS)
    for name in ("points", "normals", "mask", "colors"):
        assert getattr(second, name).tobytes() == getattr(first, name).tobytes(), name
    finite = order[order < len(points)]
    np.testing.assert_array_equal(second.nearest, first.nearest[finite])
    np.testing.assert_array_equal(second.scan_mask, first.scan_mask[finite])


def test_every_point_of_the_scan_keeps_its_own_ground_truth():
    points = ellipsoid()
    sample = prepare_sample(scan_of(points), params=PARAMS)
    truth = points[:, 0] > 2.9
    np.testing.assert_array_equal(sample.scan_mask, truth)
    assert sample.mask[sample.nearest[truth]].all()
    assert sample.mask.sum() < 2 * truth.mean() * LIMIT
    np.testing.assert_array_equal(part_points(scan_of(points), sample).points, points)


def test_a_defect_of_one_point_is_not_lost():
    points = ellipsoid()
    mask = np.zeros(len(points), dtype=bool)
    mask[[11, 4711]] = True
    sample = prepare_sample(Scan(points, mask), params=PARAMS)
    assert sample.mask.sum() == 2
    assert set(np.flatnonzero(sample.mask)) == set(sample.nearest[[11, 4711]])


def test_evaluation_counts_all_points_of_the_scan(tmp_path):
    points = ellipsoid()
    truth = np.abs(points[:, 0]) > 2.6  # both ends: two regions
    with write_pack(tmp_path / "samples.h5") as pack:
        pack.add("a", prepare_sample(Scan(points, truth), params=PARAMS))
    with Pack(tmp_path / "samples.h5", Sample) as pack:
        sample = pack["a"]
    scores = np.random.default_rng(0).random(len(sample.points)).astype(np.float32)
    prediction = Prediction(
        object_score=0.5,
        point_scores=scores,
        view_probabilities=np.zeros(1, dtype=np.float32),
        view_maps=np.zeros((1, 2, 2), dtype=np.float32),
    )
    found = sample_scores("a", "part", "bulge", 1, prediction, sample)
    np.testing.assert_array_equal(found.point_mask, truth)
    np.testing.assert_array_equal(found.point_scores, scores[sample.nearest])
    assert {len(set(found.point_regions[truth & side])) for side in (points[:, 0] > 0, points[:, 0] < 0)} == {1}
    assert set(found.point_regions) == {0, 1, 2}


def test_every_finite_point_has_the_score_of_its_nearest_kept_point():
    detector = untrained_detector(load_backbone(), stage2={"depth_stream": False}, scan={"max_points": LIMIT})
    scan = scan_of(ellipsoid())
    sample = detector.prepare(scan)
    of_kept = detector.predict(sample, detector.render(sample)).point_scores
    scored = detector.score(scan.points)
    finite = scan.points[np.isfinite(scan.points).all(axis=1)]
    nearest = cdist(finite.astype(np.float64), sample.points.astype(np.float64)).argmin(axis=1)
    np.testing.assert_array_equal(scored.point_scores, of_kept[nearest])
    assert len(np.unique(scored.point_scores)) > 10
    order = np.random.default_rng(0).permutation(len(finite))
    again = detector.score(finite[order])
    assert again.object_score == scored.object_score
    np.testing.assert_array_equal(again.point_scores, scored.point_scores[order])
