"""Statistics of a scan: known numbers on small parts, invariances, and speed at the size of a real scan."""

import time

import numpy as np
import pytest

from gsclip.data.geometry import estimate_normals, k_nearest, point_spacing
from gsclip.data.sample import Sample
from gsclip.features.encode import ViewTokens
from gsclip.monitoring.columns import EMBEDDING_COLUMNS, INPUT_COLUMNS, SCORE_COLUMNS
from gsclip.monitoring.statistics import (
    gap_ratio,
    normal_consistency,
    project_embedding,
    roughness,
    sample_statistics,
    score_statistics,
)
from gsclip.scores.prediction import Prediction
from gsclip.views.renderer import render_views
from gsclip.views.views import Views


def plate(side=12, length=0.002):
    """Points of a frontal square plate, ``length`` apart."""
    x, y = np.meshgrid(np.arange(side) * length, np.arange(side) * length)
    points = np.stack([x.ravel(), y.ravel(), np.full(side * side, 0.5)], 1).astype(np.float32)
    return Sample(points=points, normals=np.tile(np.float32([0, 0, 1]), (side * side, 1)))


def drawn_views(sample):
    """Two views of 2 x 2 pixels with known values, three of four pixels in the foreground."""
    count = len(sample.points)
    foreground = np.array([[[True, True], [True, False]]] * 2)
    rendered = np.array([[[51, 102], [153, 255]], [[51, 102], [153, 255]]], np.uint8)
    depth = np.array([[[65535, 65535], [65535, 0]], [[1, 1], [1, 0]]], np.uint16)
    visible = np.stack([np.ones(count, bool), np.arange(count) % 2 == 0])
    normals, relief = np.zeros((2, 2, 2, 2), np.int8), np.ones(2, np.float32)
    return Views(rendered, normals, depth, relief, foreground, np.zeros((2, count, 2), np.int16), visible)


def tokens(rng, views=2, dimension=128):
    return ViewTokens(rng.normal(size=(views, 5, dimension)).astype(np.float16))


def test_known_numbers_of_a_plate():
    sample = plate()
    result = sample_statistics(sample, drawn_views(sample), tokens(np.random.default_rng(0)))
    expected = {
        "points": 144,
        "spacing": 0.002,
        "extent_x": 0.022,
        "extent_y": 0.022,
        "extent_z": 0,
        "normal_consistency": 1,
        "roughness": 0,
        "gap_ratio": 1.30171,  # 1.2071 within, more at edges and corners
        "visible_share": 0.75,
        "rendered_mean": 0.4,
        "rendered_std": np.std([0.2, 0.4, 0.6]),
        "depth_mean": 0.5,
        "depth_std": 0.5,
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_columns_are_those_of_the_file_in_its_order():
    sample = plate()
    result = sample_statistics(sample, drawn_views(sample), tokens(np.random.default_rng(0)))
    assert tuple(result) == INPUT_COLUMNS + EMBEDDING_COLUMNS
    assert all(type(value) is float for value in result.values())
    prediction = Prediction(0.5, np.zeros(3, np.float32), np.zeros(2, np.float32), np.zeros((2, 1, 1), np.float32))
    assert ("object_score", *score_statistics(prediction)) == SCORE_COLUMNS


def test_score_statistics_of_known_scores():
    prediction = Prediction(
        object_score=0.7,
        point_scores=np.linspace(0, 1, 101, dtype=np.float32),
        view_probabilities=np.float32([0.2, 0.4, 0.9]),
        view_maps=np.zeros((3, 2, 2), np.float32),
    )
    expected = {"map_max": 1, "map_mean": 0.5, "score_p99": 0.99, "view_probability_mean": 0.5}
    assert score_statistics(prediction) == pytest.approx(expected, rel=1e-6)


def test_normals_of_either_sign_are_consistent_and_random_ones_are_not():
    rng = np.random.default_rng(0)
    sample = plate(side=40)
    signs = rng.choice([-1, 1], len(sample.points)).astype(np.float32)
    _, neighbours = k_nearest(sample.points, 8)
    assert normal_consistency(sample.normals * signs[:, None], neighbours) == pytest.approx(1)
    random = rng.normal(size=sample.points.shape)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    assert normal_consistency(random, neighbours) == pytest.approx(0.5, abs=0.02)


def test_roughness_is_the_noise_across_flat_places_whatever_the_rest_is():
    rng = np.random.default_rng(0)
    flat = plate(side=40)
    noise = 0.0001 * rng.normal(size=flat.points.shape) * np.float32([0.2, 0.2, 1])
    waves = np.zeros_like(flat.points)
    waves[:, 2] = 0.003 * np.sin(flat.points[:, 0] / 0.002) * (flat.points[:, 0] > 0.04)
    found = []
    for bend, factor in ((0, 1), (0, 2), (1, 1), (1, 2)):
        points = (flat.points + bend * waves + factor * noise).astype(np.float32)
        found.append(roughness(points, flat.normals, k_nearest(points, 8)[1]))
    # Two points differ by the noise of both; mean square distance to eight neighbours: 1.5 spacings squared.
    typical = np.sqrt(2) * 0.0001 / (0.002 * np.sqrt(1.5))
    assert 0.5 * typical < found[0] < 0.9 * typical
    assert found[1] / found[0] == pytest.approx(2, rel=0.05)
    assert found[2:] == pytest.approx(found[:2], rel=0.2)


def test_gaps_show_when_points_are_missing():
    flat = plate(side=40).points
    kept = flat[np.random.default_rng(0).random(len(flat)) < 0.7]
    full, thinner = (gap_ratio(k_nearest(points, 8)[0], point_spacing(points)) for points in (flat, kept))
    assert full == pytest.approx((4 + 4 * np.sqrt(2)) / 8, rel=0.03)
    assert thinner > 1.1 * full


def test_unit_and_place_of_the_scan_change_lengths_only():
    points = np.random.default_rng(1).normal(size=(400, 3))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    vectors = tokens(np.random.default_rng(0), views=9)

    def statistics(factor, offset):
        moved = (points * factor + offset).astype(np.float32)
        sample = Sample(moved, points)
        return sample_statistics(sample, render_views(sample, image_size=64), vectors)

    metres, millimetres = statistics(0.05, 0), statistics(50, np.float32([8, -4, 512]))
    lengths = {"spacing", "extent_x", "extent_y", "extent_z"}
    for name in metres:
        factor = 1000 if name in lengths else 1
        assert millimetres[name] == pytest.approx(metres[name] * factor, rel=2e-3), name


def test_projection_is_orthonormal_and_keeps_distances_on_average():
    directions = np.stack([project_embedding(unit) for unit in np.eye(128)])
    np.testing.assert_allclose(directions.T @ directions, np.eye(16), atol=1e-12)
    pairs = np.random.default_rng(2).normal(size=(500, 128))
    ratio = np.linalg.norm(pairs @ directions, axis=1) / np.linalg.norm(pairs, axis=1)
    assert ratio.mean() == pytest.approx(np.sqrt(16 / 128), rel=0.02)


def test_projection_never_changes():
    """Values recorded once: tables of earlier runs must stay comparable."""
    projected = project_embedding(np.eye(20)[0])
    np.testing.assert_allclose(
        projected[:3], [0.03516509669390566, -0.13057706087873788, -0.2056134533739059], atol=1e-12
    )


def test_embedding_is_the_mean_class_token_of_the_views():
    sample = plate()
    stored = tokens(np.random.default_rng(3))
    result = sample_statistics(sample, drawn_views(sample), stored)
    expected = project_embedding(stored.tokens[:, 0].astype(np.float64).mean(0))
    np.testing.assert_array_equal([result[name] for name in EMBEDDING_COLUMNS], expected)
    patches = stored.tokens.copy()
    patches[:, 1:] = 0
    assert sample_statistics(sample, drawn_views(sample), ViewTokens(patches)) == result


def test_too_small_an_embedding_is_refused():
    with pytest.raises(ValueError, match="16 dimensions or more, got 8"):
        project_embedding(np.zeros(8))


def test_a_scan_of_25_000_points_takes_a_tenth_of_a_second():
    x, y = np.meshgrid(np.linspace(0, 1, 158), np.linspace(0, 1, 158))
    points = np.stack([x.ravel(), y.ravel(), 0.1 * np.sin(5 * x.ravel())], 1).astype(np.float32)
    sample = Sample(points, estimate_normals(points))
    views = render_views(sample, image_size=240)
    vectors = tokens(np.random.default_rng(0), views=9)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        sample_statistics(sample, views, vectors)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.2, "about 0.06 s on an idle core"
