"""No background leaks a label: scores depend on the part's points alone, whatever lies around them."""

from pathlib import Path

import numpy as np
import pytest
from tests.detectors import untrained_detector

from gsclip.data.background import remove_background
from gsclip.data.procedural.dataset import generate_scan
from gsclip.data.sample import Scan
from gsclip.data.scan_files import read_color, read_scan
from gsclip.features.backbone import load_backbone

REAL_DATA = Path(__file__).parents[2] / "shared" / "data" / "mvtec_3d_ad"
SIDE = 120
FAMILIES = ("elbow", "castle_nut")
# Table behind the part, in sizes of the scene: distance, tilts, noise in pitches, share of missing pixels.
TABLES = {
    "clean": (0.4, (0.0, 0.0), 0.0, 0.0),
    "far": (2.0, (0.0, 0.0), 0.1, 0.1),
    "tilted": (0.6, (0.3, -0.2), 0.1, 0.1),
    "noisy": (0.6, (0.0, 0.0), 1.5, 0.1),
    "full of holes": (0.6, (0.1, 0.1), 1.0, 0.5),
}


@pytest.fixture(scope="module", params=FAMILIES)
def scene(request):
    """A generated scan with colours, and its part (h, w)."""
    points = generate_scan(request.param, 0, None, 0, grid=(SIDE, SIDE)).points
    colors = np.random.default_rng(0).integers(0, 256, points.shape).astype(np.uint8)
    return Scan(points, colors=colors), remove_background(points).part


@pytest.fixture(scope="module")
def detector():
    """Both streams, and colours count."""
    return untrained_detector(load_backbone(), predict={"rgb": True})


@pytest.fixture(scope="module")
def expected(scene, detector):
    return detector.score(scene[0].points, scene[0].colors)


def rays(points):
    """(h, w, 3) viewing rays with z = 1, fitted to the points of a pin-hole camera."""
    finite = np.isfinite(points).all(axis=2)
    places = np.mgrid[: points.shape[0], : points.shape[1]]
    direction = np.ones(points.shape)
    for axis, place in enumerate(places[::-1]):
        line = np.polyfit(place[finite], points[finite][:, axis] / points[finite][:, 2], 1)
        direction[..., axis] = np.polyval(line, place)
    return direction


def before_another_table(scan, part, table):
    """The scan with every point that is not of the part replaced by another table, in other colours."""
    away, tilts, noise, missing = TABLES[table]
    random = np.random.default_rng(5)
    direction = rays(scan.points)
    size = float(np.ptp(scan.points[part], axis=0)[:2].max())
    pitch = size / SIDE
    distance = scan.points[part][:, 2].max() + away * size
    normal = np.array([*np.sin(tilts), 1.0])
    depth = distance / (direction @ normal) + noise * pitch * random.standard_normal(part.shape)
    depth[random.random(part.shape) < missing] = np.nan
    points = np.where(part[..., None], scan.points, depth[..., None] * direction).astype(np.float32)
    others = random.integers(0, 256, points.shape).astype(np.uint8)
    return Scan(points, colors=np.where(part[..., None], scan.colors, others))


def same_scores(detector, scan, expected):
    found = detector.score(scan.points, scan.colors)
    assert found.object_score == expected.object_score
    np.testing.assert_array_equal(found.point_scores, expected.point_scores)
    np.testing.assert_array_equal(found.view_maps, expected.view_maps)


@pytest.mark.parametrize("table", TABLES)
def test_another_table_changes_no_bit_of_the_scores(scene, detector, expected, table):
    scan, part = scene
    other = before_another_table(scan, part, table)
    background = ~part & np.isfinite(scan.points).all(axis=2)
    assert (other.points[background] != scan.points[background]).any(axis=1).all()
    np.testing.assert_array_equal(remove_background(other.points).part, part)
    same_scores(detector, other, expected)


def test_no_table_changes_no_bit_of_the_scores(scene, detector, expected):
    scan, part = scene
    points = np.where(part[..., None], scan.points, np.nan).astype(np.float32)
    same_scores(detector, Scan(points, colors=scan.colors), expected)


def test_colours_beside_the_part_change_no_bit_of_the_scores(scene, detector, expected):
    scan, part = scene
    same_scores(detector, Scan(scan.points, colors=np.where(part[..., None], scan.colors, 255 - scan.colors)), expected)


def test_new_noise_on_the_table_changes_the_part_at_its_rim_alone(scene):
    scan, part = scene
    table = ~part & np.isfinite(scan.points).all(axis=2)
    shifts = 1 + 2e-4 * np.random.default_rng(3).standard_normal(part.shape)  # of the distance: 0.12 mm
    points = np.where(table[..., None], scan.points * shifts[..., None], scan.points).astype(np.float32)
    changed = remove_background(points).part != part
    assert changed.sum() <= 0.01 * part.sum()
    inner = part.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(part, step, axis=axis)
    assert not (changed & inner).any()


def test_colours_and_shape_of_the_part_itself_count(scene, detector, expected):
    scan, part = scene
    colors = detector.score(scan.points, np.where(part[..., None], 255 - scan.colors, scan.colors))
    assert np.abs(colors.point_scores - expected.point_scores).max() > 1e-3
    points = scan.points.copy()
    rows, columns = np.argwhere(part)[part.sum() // 2 :][:60].T
    points[rows, columns] *= 0.99
    shape = detector.score(points, scan.colors)
    assert shape.object_score != expected.object_score


@pytest.fixture(scope="module", params=["hole", "good"])
def real_scene(request):
    """A real scan with colours, and its part (h, w)."""
    folder = REAL_DATA / "cable_gland" / "test" / request.param
    path = next(iter(sorted(folder.glob("xyz/*.tiff"))), None)
    if path is None:
        pytest.skip("the real scans are not there: ../shared/data/mvtec_3d_ad")
    scan = read_scan(path)
    colors = read_color(folder / "rgb" / f"{path.stem}.png", scan.points.shape[:2])
    return Scan(scan.points, colors=colors), remove_background(scan.points).part


def rim(part):
    """Pixels of the part with a neighbour that is none of it, and those neighbours."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(part, 1), (3, 3))
    return around.any(axis=(2, 3)) & ~around.all(axis=(2, 3))


def test_the_background_of_a_real_scan_does_not_count(real_scene, detector):
    scan, part = real_scene
    expected = detector.score(scan.points, scan.colors)
    others = np.where(part[..., None], scan.colors, 255 - scan.colors)
    same_scores(detector, Scan(scan.points, colors=others), expected)
    nothing = np.where(part[..., None], scan.points, np.nan).astype(np.float32)
    same_scores(detector, Scan(nothing, colors=others), expected)
    # A real part touches its table: with another one, a few pixels at its foot may be told from it otherwise.
    for table in TABLES:
        other = before_another_table(scan, part, table)
        changed = remove_background(other.points).part != part
        assert changed.sum() <= 2e-4 * part.sum(), table
        assert not (changed & ~rim(part)).any(), table
        if changed.any():
            found = detector.score(other.points, other.colors)
            # Another number of points: other ones are drawn for the comparison of the part with itself.
            assert found.object_score == pytest.approx(expected.object_score, abs=5e-3)
        else:
            same_scores(detector, other, expected)
