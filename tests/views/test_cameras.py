import numpy as np
import pytest

from gsclip.errors import GsclipError
from gsclip.views.cameras import camera_angles, camera_rotations, fast_views


def test_front_cameras_turn_about_one_axis_at_a_time():
    angles = set(camera_angles("front"))
    about_x = {(x, 0.0) for x in (-45.0, -15.0, 0.0, 15.0, 45.0)}
    about_y = {(0.0, y) for y in (-30.0, -15.0, 15.0, 30.0)}
    assert angles == about_x | about_y
    assert len(camera_angles("front")) == 9


def test_full_cameras_go_round_in_equal_steps():
    assert sorted(camera_angles("full")) == [(float(x), 0.0) for x in (-144, -108, -72, -36, 0, 36, 72, 108, 144)]


@pytest.mark.parametrize("cameras", ["front", "full"])
def test_fewer_views_are_the_most_frontal_ones(cameras):
    every = camera_angles(cameras)
    assert every[0] == (0.0, 0.0)
    for views in range(1, 10):
        assert camera_angles(cameras, views) == every[:views]
    sizes = [abs(x) + abs(y) for x, y in every]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("cameras", ["front", "full"])
def test_rotations_are_proper_and_all_different(cameras):
    rotations = camera_rotations(cameras)
    assert rotations.shape == (9, 3, 3)
    assert rotations.dtype == np.float32
    np.testing.assert_array_equal(rotations[0], np.eye(3))
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (9, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-6)
    assert len({rotation.tobytes() for rotation in rotations}) == 9


def test_each_rotation_is_the_one_of_its_angles():
    for (x, y), rotation in zip(camera_angles("front"), camera_rotations("front"), strict=True):
        # About x the y axis turns towards z, about y the z axis turns towards x.
        expected_z = [np.sin(np.deg2rad(y)), -np.sin(np.deg2rad(x)), np.cos(np.deg2rad(x)) * np.cos(np.deg2rad(y))]
        np.testing.assert_allclose(rotation @ [0, 0, 1], expected_z, atol=1e-6)


def test_unknown_cameras_and_numbers_of_views_are_refused():
    with pytest.raises(GsclipError, match="no camera list 'top'; choose one of front, full"):
        camera_angles("top")
    for views in (0, 10, -1):
        with pytest.raises(GsclipError, match=f"{views} is out of range; choose 1 to 9"):
            camera_rotations("front", views)


@pytest.mark.parametrize("cameras", ["front", "full"])
def test_the_fast_profile_takes_few_views_the_front_first(cameras):
    places = fast_views(cameras)
    assert places[0] == 0
    assert list(places) == sorted(set(places))
    assert len(places) < 6
    assert fast_views(cameras, 4) == tuple(place for place in places if place < 4)
