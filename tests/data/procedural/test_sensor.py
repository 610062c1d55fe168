import numpy as np
import pytest

from gsclip.data.background import remove_background
from gsclip.data.procedural.camera import DISTANCE, LARGEST_SIDE, compose
from gsclip.data.procedural.families import FAMILIES
from gsclip.data.procedural.part import Part, Repeat
from gsclip.data.procedural.sdf import sphere, translate, union
from gsclip.data.procedural.sensor import CHANGED, changed, measure, retrace, trace

GRID = (96, 96)


def ball(radius=15.0):
    """A part that is a ball: its one element lies within it."""
    return Part(body=sphere(radius), element=sphere(1.0), repeat=Repeat(), bound=1.2 * radius)


@pytest.fixture(scope="module")
def ball_scene():
    part = ball()
    scene = compose(part, np.random.default_rng(1), GRID)
    return part, scene, trace(part.field(), scene)


def analytic_range(scene, centre, radius):
    """Distance (h, w) along the rays to a ball given in the part's frame; infinite where it is missed."""
    directions = scene.directions.numpy().astype(np.float64)
    middle = scene.rotation @ np.asarray(centre, dtype=np.float64) + scene.position
    along = middle @ directions
    left = radius**2 - (middle @ middle - along**2)
    return np.where(left > 0, along - np.sqrt(np.maximum(left, 0)), np.inf).reshape(scene.grid)


def test_the_camera_stands_where_the_sensor_of_real_scans_does(ball_scene):
    _, scene, _ = ball_scene
    assert DISTANCE[0] <= np.linalg.norm(scene.position) <= DISTANCE[1]
    np.testing.assert_allclose(scene.rotation @ scene.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(scene.rotation) == pytest.approx(1.0)
    # x to the right and y down: columns and rows of the grid.
    x, y, z = scene.directions.numpy().reshape(3, *GRID)
    assert (np.diff(x, axis=1) > 0).all()
    assert (np.diff(y, axis=0) > 0).all()
    assert (z > 0.9).all()


def test_the_table_lies_below_the_part_and_level(ball_scene):
    _, scene, _ = ball_scene
    points = scene.directions.numpy().T * scene.table.reshape(-1, 1)
    centred = points - points.mean(axis=0)
    normal = np.linalg.svd(centred, full_matrices=False)[2][2]
    assert np.abs(centred @ normal).max() < 1e-3
    clearance = abs((scene.position - points.mean(axis=0)) @ normal) - 15.0
    assert 10 * scene.pitch < clearance < 22 * scene.pitch


def test_a_ball_is_seen_where_geometry_says(ball_scene):
    _, scene, hits = ball_scene
    expected = analytic_range(scene, (0, 0, 0), 15.0)
    clear = np.isfinite(analytic_range(scene, (0, 0, 0), 14.8))  # off the silhouette
    both = hits.part & clear
    assert both.sum() > 0.9 * hits.part.sum()
    np.testing.assert_allclose(hits.range[both], expected[both], atol=0.02)
    beside = ~hits.part & ~np.isnan(hits.range)
    np.testing.assert_array_equal(hits.range[beside], scene.table[beside])
    assert not hits.part[np.isinf(expected)].any()


def test_the_ground_truth_of_a_bulge_is_exact(ball_scene):
    _, scene, before = ball_scene
    towards = -scene.rotation.T @ scene.position / np.linalg.norm(scene.position)
    centre = 15.0 * towards
    field = union(sphere(15.0), translate(sphere(3.0), centre))
    mask = changed(before, retrace(field, scene, before, sphere(15.0), centre, 3.5))
    flawless = np.minimum(analytic_range(scene, (0, 0, 0), 15.0), scene.table)
    gain = flawless - np.minimum(flawless, analytic_range(scene, centre, 3.0))
    sure = np.abs(gain - CHANGED) > 0.01
    np.testing.assert_array_equal(mask[sure], (gain > CHANGED)[sure])
    assert sure.mean() > 0.99
    assert mask.sum() > 20


@pytest.mark.parametrize("name", ["spur_gear", "vase", "bracket"])
def test_casting_again_what_has_not_changed_changes_nothing(name):
    part = FAMILIES[name].build(np.random.default_rng(2))
    scene = compose(part, np.random.default_rng(3), GRID)
    before = trace(part.field(), scene)
    after = retrace(part.field(), scene, before, part.field(), np.zeros(3), 0.5 * part.bound)
    sure = ~np.isnan(before.range) & ~np.isnan(after.range)
    assert sure.mean() > 0.99
    # The last bits depend on a ray's place among those cast together.
    np.testing.assert_allclose(before.range[sure], after.range[sure], atol=1e-3)
    np.testing.assert_array_equal(before.part[sure], after.part[sure])
    np.testing.assert_allclose(before.normals[:, sure.ravel()], after.normals[:, sure.ravel()], atol=2e-2)
    assert not changed(before, after).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_part_fills_the_view_and_stays_clear_of_its_border(name):
    part = FAMILIES[name].build(np.random.default_rng(4))
    scene = compose(part, np.random.default_rng(5), GRID)
    hits = trace(part.field(), scene)
    rows, columns = np.nonzero(hits.part)
    assert max(np.ptp(rows), np.ptp(columns)) < (LARGEST_SIDE + 0.06) * GRID[0]
    assert min(rows.min(), columns.min(), *(GRID[0] - 1 - axis.max() for axis in (rows, columns))) > 0.05 * GRID[0]
    assert 0.1 < hits.part.mean() < 0.36
    assert np.isnan(hits.range).mean() < 0.02


def test_the_measurement_has_the_noise_of_the_real_sensor():
    part = ball()
    scene = compose(part, np.random.default_rng(1), (240, 240))
    hits = trace(part.field(), scene)
    points = measure(scene, hits, np.random.default_rng(0))
    assert points.dtype == np.float32
    assert points.shape == (240, 240, 3)
    valid = np.isfinite(points).all(axis=2)
    np.testing.assert_array_equal(valid, np.isfinite(points).any(axis=2))
    # Metres, on the pixels' rays, z away from the sensor.
    ranges = np.linalg.norm(points, axis=2)
    directions = scene.directions.numpy().T.reshape(240, 240, 3)
    np.testing.assert_allclose(points[valid], (ranges[..., None] * directions)[valid], atol=1e-6)
    face = hits.part & valid & (hits.incidence < 40)
    off = ranges[face] * 1e3 - hits.range[face]
    deviation = 1.4826 * np.median(np.abs(off - np.median(off)))
    assert 0.015 * scene.pitch < deviation < 0.06 * scene.pitch
    # Dropout: little on the face, half of the table, everything that is seen edge on.
    assert 0.001 < 1 - valid[hits.part & (hits.incidence < 40)].mean() < 0.03
    assert 0.35 < 1 - valid[~hits.part].mean() < 0.6
    assert not valid[hits.part & (hits.incidence > 85)].any()
    table = ~hits.part & valid
    rough = np.std(ranges[table] * 1e3 - hits.range[table])
    assert 1.0 * scene.pitch < rough < 2.6 * scene.pitch


def test_the_shadow_falls_beside_the_part_away_from_the_projector():
    part = ball()
    scene = compose(part, np.random.default_rng(1), (120, 120))
    hits = trace(part.field(), scene)
    seen = np.mean([np.isfinite(measure(scene, hits, np.random.default_rng(k))[..., 2]) for k in range(6)], axis=0)
    rows = np.flatnonzero(hits.part.sum(axis=1) > 0.8 * hits.part.sum(axis=1).max())
    first, last = hits.part.argmax(axis=1), 119 - hits.part[:, ::-1].argmax(axis=1)
    left = np.mean([seen[row, first[row] - 4 : first[row] - 1].mean() for row in rows])
    right = np.mean([seen[row, last[row] + 2 : last[row] + 5].mean() for row in rows])
    assert left < 0.05
    assert right > 0.35


def test_the_background_is_removed_and_the_part_kept():
    part = FAMILIES["heat_sink"].build(np.random.default_rng(0))
    scene = compose(part, np.random.default_rng(0), (120, 120))
    hits = trace(part.field(), scene)
    points = measure(scene, hits, np.random.default_rng(0))
    true = hits.part & np.isfinite(points[..., 2])
    found = remove_background(points).part
    assert (found & true).sum() > 0.98 * true.sum()
    assert not (found & ~true).any()


def test_noise_follows_its_generator():
    part = ball()
    scene = compose(part, np.random.default_rng(1), GRID)
    hits = trace(part.field(), scene)
    first, same, other = (measure(scene, hits, np.random.default_rng(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other, equal_nan=True)
