import logging
from pathlib import Path

import numpy as np
import pytest

from gsclip.data.preparation import prepare_sample
from gsclip.data.sample import Scan
from gsclip.errors import InputError

REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data" / "mvtec_3d_ad"
SIDE = 120


def dome_on_a_table(radius=25):
    """A half ball on a flat table, seen from above along z; unit: pixels. Points (h, w, 3) and the ball's mask."""
    v, u = np.mgrid[:SIDE, :SIDE].astype(np.float64) - (SIDE - 1) / 2
    inside = u**2 + v**2 < radius**2
    rise = np.sqrt(np.where(inside, radius**2 - u**2 - v**2, 0))
    return np.stack([u, v, 500 - rise], axis=-1).astype(np.float32), inside


def sphere(count=2000):
    step = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * step / count), np.pi * (1 + 5**0.5) * step
    return np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1
    ).astype(np.float32)


def test_an_organised_scan_loses_its_table_and_keeps_the_pixel_of_every_point(caplog):
    points, inside = dome_on_a_table()
    truth = np.zeros((SIDE, SIDE), dtype=bool)
    truth[55:60, 50:62] = True
    truth[0, 0] = True  # on the table: no point of the part
    colors = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    with caplog.at_level(logging.DEBUG, "gsclip"):
        sample = prepare_sample(Scan(points, truth, colors), "dome.tiff")
    rows, columns = sample.pixels.T
    assert sample.pixels.dtype == np.int32
    assert sample.grid == (SIDE, SIDE)
    assert (np.diff(rows * SIDE + columns) > 0).all()  # row-major
    assert inside[rows, columns].all()
    assert len(rows) > 0.9 * inside.sum()  # all but the foot of the ball, which lies in the table's gate
    np.testing.assert_array_equal(sample.points, points[rows, columns])
    np.testing.assert_array_equal(sample.mask, truth[rows, columns])
    np.testing.assert_array_equal(sample.colors, colors[rows, columns])
    np.testing.assert_array_equal(sample.grid_mask, truth)
    assert "dome.tiff: table removed" in caplog.text


def test_normals_are_those_of_the_surface():
    points, _ = dome_on_a_table()
    sample = prepare_sample(Scan(points))
    outward = (sample.points - [0, 0, 500]) / 25
    near_the_top = outward[:, 2] < -0.7
    cosines = np.abs((sample.normals * outward).sum(axis=1))[near_the_top]
    assert np.degrees(np.arccos(cosines.clip(max=1))).max() < 2


def test_points_that_are_missing_do_not_come_back():
    points, inside = dome_on_a_table()
    missing = np.random.default_rng(1).random((SIDE, SIDE)) < 0.3
    points[missing] = np.nan
    sample = prepare_sample(Scan(points))
    assert np.isfinite(sample.points).all()
    assert not missing[tuple(sample.pixels.T)].any()
    assert len(sample.points) > 0.85 * (inside & ~missing).sum()


def test_every_finite_point_of_a_cloud_is_the_part_in_the_order_of_the_file():
    points = sphere()
    points[[3, 700]] = np.nan
    mask = np.arange(2000) % 2 == 0
    sample = prepare_sample(Scan(points, mask, np.zeros((2000, 3), dtype=np.uint8)))
    kept = np.isfinite(points).all(axis=1)
    np.testing.assert_array_equal(sample.points, points[kept])
    np.testing.assert_array_equal(sample.mask, mask[kept])
    assert sample.pixels is None
    assert sample.grid is None
    assert sample.grid_mask is None
    assert len(sample.colors) == 1998


def test_without_ground_truth_or_colours_there_are_none():
    for scan in (Scan(sphere()), Scan(dome_on_a_table()[0])):
        sample = prepare_sample(scan)
        assert sample.mask is None
        assert sample.grid_mask is None
        assert sample.colors is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_unit_of_length_does_not_matter(scale):
    points, _ = dome_on_a_table()
    expected = prepare_sample(Scan(points))
    sample = prepare_sample(Scan(points * np.float32(scale)))
    np.testing.assert_array_equal(sample.pixels, expected.pixels)
    cosines = np.abs((sample.normals * expected.normals).sum(axis=1))
    assert np.median(cosines) > 0.999


def test_the_same_scan_gives_the_same_bytes():
    points, _ = dome_on_a_table()
    first, second = prepare_sample(Scan(points)), prepare_sample(Scan(points.copy()))
    assert first.points.tobytes() == second.points.tobytes()
    assert first.normals.tobytes() == second.normals.tobytes()


QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # about z: x becomes y


def middle(points):
    return (points.min(axis=0).astype(np.float64) + points.max(axis=0)) / 2


def test_a_pose_turns_the_part_after_its_background_is_gone():
    points, _ = dome_on_a_table()
    truth = np.zeros((SIDE, SIDE), dtype=bool)
    truth[55:60, 50:62] = True
    plain, turned = prepare_sample(Scan(points, truth)), prepare_sample(Scan(points, truth), pose=QUARTER_TURN)
    np.testing.assert_array_equal(turned.pixels, plain.pixels)
    np.testing.assert_array_equal(turned.mask, plain.mask)
    x, y, z = (plain.points - middle(plain.points)).T
    np.testing.assert_allclose(turned.points, np.column_stack([-y, x, z]), atol=1e-5)
    cosines = np.abs((turned.normals * (plain.normals @ QUARTER_TURN.T)).sum(axis=1))
    assert cosines.min() > 0.999
    assert turned.points.dtype == turned.normals.dtype == np.float32


def test_a_scan_turned_and_moved_as_a_whole_gives_the_same_bytes_with_its_pose():
    points, _ = dome_on_a_table()
    points = np.round(points * 64) / 64  # so that moving it rounds nothing
    moved = (points @ QUARTER_TURN.T + [512, -1024, 8192]).astype(np.float32)
    first, second = prepare_sample(Scan(points), pose=np.eye(3)), prepare_sample(Scan(moved), pose=QUARTER_TURN.T)
    for name in ("points", "normals", "pixels"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


def test_a_far_scan_is_moved_to_the_origin_without_rounding():
    points = sphere().astype(np.float64)
    near = prepare_sample(Scan(points.astype(np.float32)))
    for place in (1e4, 1e6):
        far = prepare_sample(Scan(points + place))
        np.testing.assert_allclose(far.points - middle(far.points), near.points - middle(near.points), atol=1e-6)
        assert np.abs(middle(far.points)).max() < 0.1


def test_one_stray_point_does_not_keep_a_scan_far():
    points = sphere().astype(np.float64) + 1e5
    points[7, 2] = 0
    others = np.delete(prepare_sample(Scan(points)).points, 7, axis=0)
    assert np.abs(others).max() < 1.1


def test_the_same_far_scan_in_another_place_gives_the_same_bytes():
    points = (np.round(sphere() * 64) / 64 + 4096).astype(np.float32)
    samples = [prepare_sample(Scan(points + np.float32(place))) for place in (0, 8192)]
    assert samples[0].points.tobytes() == samples[1].points.tobytes()
    assert samples[0].normals.tobytes() == samples[1].normals.tobytes()


@pytest.mark.parametrize("stray", [None, 1e6])
def test_a_scan_within_reach_of_its_origin_keeps_its_coordinates(stray):
    points = sphere() + np.float32(500)
    if stray is not None:
        points[7, 2] = stray
    np.testing.assert_array_equal(prepare_sample(Scan(points)).points, points)
    np.testing.assert_array_equal(prepare_sample(Scan(points.astype(np.float64))).points, points)


def message_of(scan, pose=None):
    with pytest.raises(InputError) as caught:
        prepare_sample(scan, "bolt.ply", pose)
    message = str(caught.value)
    assert message.startswith("bolt.ply: ")
    assert "\n" not in message
    return message.removeprefix("bolt.ply: ")


def test_masks_and_colours_of_another_shape_are_refused():
    points = sphere()
    assert message_of(Scan(points, np.zeros(1999, dtype=bool))) == (
        "the mask has the shape (1999,) instead of (2000,); give one value for each point"
    )
    assert message_of(Scan(points, None, np.zeros((2000, 4), dtype=np.uint8))).startswith(
        "the color image has the shape (2000, 4) instead of (2000, 3)"
    )
    organised, _ = dome_on_a_table()
    assert message_of(Scan(organised, np.zeros((SIDE, SIDE - 1), dtype=bool))).startswith("the mask has the shape")


@pytest.mark.parametrize(
    ("pose", "problem"),
    [
        (np.diag([1.0, 1.0, -1.0]), "the pose mirrors: its determinant is -1"),
        (np.diag([1.0, 1.0, 1.001]), "the rows of the pose are not orthonormal"),
        (np.full((3, 3), np.nan), "the rows of the pose are not orthonormal"),
        ([[1, 1e-3, 0], [0, 1, 0], [0, 0, 1]], "the rows of the pose are not orthonormal"),
        (np.eye(4), "the pose has the shape (4, 4)"),
        ([["a", 0, 0], [0, 1, 0], [0, 0, 1]], "the pose holds no numbers"),
        ([[1, 0], [0, 1, 0], [0, 0, 1]], "the pose holds no numbers"),
    ],
)
def test_a_pose_that_is_no_rotation_is_refused(pose, problem):
    message = message_of(Scan(sphere()), pose)
    assert message == f"{problem}; give a (3, 3) matrix with orthonormal rows and the determinant 1"


def test_a_pose_rounded_to_six_decimals_is_a_rotation():
    angle = np.deg2rad(27)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    exact, rounded = (prepare_sample(Scan(sphere()), pose=pose) for pose in (rotation, rotation.round(6)))
    np.testing.assert_allclose(rounded.points, exact.points, atol=2e-6)


@pytest.mark.parametrize("shape", [(500,), (500, 2), (20, 25, 4), (2, 20, 25, 3)])
def test_points_of_another_shape_are_refused(shape):
    assert message_of(Scan(np.ones(shape, dtype=np.float32))) == (
        f"the points have the shape {shape}; give (h, w, 3) for an organised scan or (n, 3) for a cloud"
    )


def test_too_few_points_on_the_part_are_refused():
    repeated = np.repeat(sphere(60), 40, axis=0)
    assert message_of(Scan(repeated)).startswith("only 60 distinct points on the part")
    assert message_of(Scan(np.full((50, 50, 3), np.nan, dtype=np.float32))).startswith("only 0 distinct points")


@pytest.mark.parametrize("distance", [0.0, 600.0])
def test_points_in_one_plane_or_on_one_line_are_refused(distance):
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), axis=-1).reshape(-1, 2)
    tilted = np.column_stack([grid, 0.3 * grid[:, 0] + 0.2 * grid[:, 1] + distance]).astype(np.float32)
    line = np.outer(np.arange(500.0), [1.0, 2.0, 3.0]).astype(np.float32)
    for points in (tilted, line):
        assert message_of(Scan(points)).startswith("all points of the part lie in one plane")


def test_a_plate_with_the_noise_of_a_sensor_is_accepted():
    random = np.random.default_rng(0)
    plate = np.column_stack([random.uniform(-15, 15, (3000, 2)), 600 + 0.008 * random.standard_normal(3000)])
    assert len(prepare_sample(Scan(plate.astype(np.float32))).points) == 3000


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real scans of MVTec 3D-AD are not on this machine")
def test_nothing_of_the_table_is_left_in_a_real_sample():
    from gsclip.data.mvtec3d import mvtec_3d_ad_index, read_row

    index = mvtec_3d_ad_index(REAL_DATA, ["cable_gland"]).set_index("name", drop=False)
    name = "cable_gland/test/thread/000"
    sample = prepare_sample(read_row(REAL_DATA, index.loc[name]), name)
    assert 22_500 < len(sample.points) < 27_500
    # Width, length and visible depth in metres; the streak of the table beside it would add 0.015 to the width.
    assert np.ptp(sample.points, axis=0) == pytest.approx([0.042, 0.046, 0.029], abs=0.002)
    assert sample.mask.sum() == 508
    assert sample.mask.sum() <= sample.grid_mask.sum()
    np.testing.assert_allclose(np.linalg.norm(sample.normals, axis=1), 1, atol=1e-5)
