import base64
import io

import numpy as np
import pytest
from dashboards import figures
from PIL import Image

from gsclip.report.palette import TRUTH_COLOUR, colours


def drawn(content):
    """Places (m, 3) from 0 to 1, scores (m,), and the colours (m, 4) of both clouds, as the browser reads them."""
    count, content = content["count"], base64.b64decode(content["content"])
    places = np.frombuffer(content, "<u2", 4 * count).reshape(count, 4) / 65535
    colours = np.frombuffer(content, np.uint8, 8 * count, 8 * count).reshape(2, count, 4)
    return places[:, :3], places[:, 3], colours


def cloud(scores, mask=None, viewpoint="Sensor", limits=(0.0, 1.0), points=None, opacity=1.0, **options):
    count = len(scores)
    points = np.random.default_rng(0).normal(size=(count, 3)) if points is None else points
    normals = np.tile([0.0, 0.0, -1.0], (count, 1))
    style = {"viewpoint": viewpoint, "opacity": opacity, "limits": limits, **options}
    truth = figures.truth_colours(normals, mask)
    return figures.cloud_content(points, normals, np.array(scores, dtype=float), truth, **style)


def images(side=20):
    foreground = np.zeros((side, side), dtype=bool)
    foreground[5:15, 5:15] = True
    rendered = np.full((side, side), 90, dtype=np.uint8)
    depth = np.full((side, side), 200 * 257, dtype=np.uint16)
    anomaly_map = np.linspace(0, 1, side * side, dtype=np.float32).reshape(side, side)
    return rendered, depth, foreground, anomaly_map


def pixels(address):
    return np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_layers_of_a_view_cover_the_part_alone():
    rendered, depth, foreground, anomaly_map = images()
    layers = figures.view_layers(rendered, depth, foreground, anomaly_map, limits=(0.0, 1.0))
    assert set(layers) == {"rendered", "depth", "map"}
    for name, value in (("rendered", 90), ("depth", 200)):
        layer = pixels(layers[name])
        assert (layer[foreground] == [value, 255]).all()
        assert (layer[~foreground][:, 1] == 0).all()
    layer = pixels(layers["map"])
    np.testing.assert_array_equal(layer[foreground][:, :3], colours(anomaly_map, (0.0, 1.0))[foreground])
    assert (layer[~foreground][:, 3] == 0).all()


def test_the_outline_of_the_ground_truth_does_not_cover_it():
    rendered, depth, foreground, anomaly_map = images()
    truth = np.zeros_like(foreground)
    truth[8:11, 8:11] = True
    layers = figures.view_layers(rendered, depth, foreground, anomaly_map, limits=(0.0, 1.0), truth=truth)
    shown = pixels(layers["truth"])[..., 3] > 0
    assert shown[7, 9]
    assert not shown[truth].any()
    assert not shown[:5].any()
    none = figures.view_layers(rendered, depth, foreground, anomaly_map, limits=(0.0, 1.0), truth=truth & False)
    assert "truth" not in none


def test_a_thumbnail_shows_the_map_and_the_outline():
    rendered, _, foreground, anomaly_map = images(40)
    truth = np.zeros_like(foreground)
    truth[8:11, 8:11] = True
    content = figures.thumbnail(rendered, foreground, anomaly_map, limits=(0.0, 1.0), truth=truth, size=20)
    picture = np.array(Image.open(io.BytesIO(content)))
    assert picture.shape == (20, 20, 4)
    assert (picture[15:, 15:, 3] == 0).all()
    whole = figures.thumbnail(rendered, foreground, anomaly_map, limits=(0.0, 1.0), truth=truth, size=99)
    assert (np.array(Image.open(io.BytesIO(whole)))[7, 9] == [*TRUTH_COLOUR, 255]).all()


def test_a_cloud_keeps_its_points_undistorted_and_its_scores():
    points = np.random.default_rng(1).random((500, 3)) * [4.0, 2.0, 1.0] + [7, -3, 600]
    scores = np.linspace(0, 1, 500)
    places, kept, colours = drawn(cloud(scores, points=points))
    assert np.abs(places - 0.5).max() == pytest.approx(0.5, abs=1e-4)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    np.testing.assert_allclose((places - 0.5) * np.ptp(points[:, 0]) + middle, points, atol=1e-3)
    np.testing.assert_allclose(kept, scores, atol=1e-5)
    assert (colours[..., 3] == 255).all()


def test_the_sensor_sees_x_to_the_right_and_y_down():
    view = figures.VIEWPOINTS["Sensor"]
    eye, up = np.array(view["eye"]), np.array(view["up"])
    assert eye[2] < 0
    np.testing.assert_allclose(up, [0, -1, 0])
    np.testing.assert_allclose(np.cross(-eye, up), [1, 0, 0])


@pytest.mark.parametrize("viewpoint", figures.VIEWPOINTS)
def test_viewpoints_stand_upright_on_the_side_of_the_sensor(viewpoint):
    view = cloud([0.1, 0.2], viewpoint=viewpoint)["view"]
    eye, up = np.array(view["eye"]), np.array(view["up"])
    assert eye[2] < 0
    assert abs(eye @ up) < 0.01
    assert np.linalg.norm(eye) == pytest.approx(1, abs=0.01)


def test_the_colour_of_a_score_does_not_depend_on_the_other_scores():
    low_part, high_part = drawn(cloud([0.5, 0.1, 0.2]))[2], drawn(cloud([0.5, 0.9, 0.95]))[2]
    np.testing.assert_array_equal(low_part[0, 0], high_part[0, 0])
    expected = colours(np.array([0.1, 0.5, 0.9]), (0.0, 1.0))
    np.testing.assert_array_equal(drawn(cloud([0.1, 0.5, 0.9]))[2][0, :, :3], expected)


def test_the_ground_truth_is_coloured_by_the_mask():
    second = drawn(cloud([0.1, 0.2, 0.3], mask=np.array([False, True, False])))[2][1, :, :3]
    np.testing.assert_array_equal(second, [figures.SURFACE, TRUTH_COLOUR, figures.SURFACE])


def test_points_below_the_threshold_can_be_left_out_of_the_scores():
    first, second = drawn(cloud([0.1, 0.5, 0.9], lowest=0.5))[2][..., 3]
    assert list(first) == [0, 255, 255]
    assert list(second) == [255, 255, 255]


def test_alarms_are_the_points_at_or_above_the_threshold():
    normals = np.tile([0.0, 0.0, -1.0], (3, 1))
    decided = figures.decided_colours(normals, np.array([0.1, 0.5, 0.9]), 0.5)
    np.testing.assert_allclose(decided, [figures.SURFACE, figures.ALARM_COLOUR, figures.ALARM_COLOUR])


def test_surfaces_seen_edge_on_are_darker():
    normals = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    points = np.array([[0.0, 0, 0], [1.0, 1, 1]])
    style = {"viewpoint": "Sensor", "opacity": 0.5, "limits": (0.0, 1.0)}
    content = figures.cloud_content(points, normals, np.zeros(2), figures.truth_colours(normals, None), **style)
    for frontal, edge in drawn(content)[2][..., :3].astype(float):
        assert (edge < 0.7 * frontal).all()


def test_without_opacity_the_surface_alone_is_shown():
    first = drawn(cloud([0.1, 0.9], opacity=0.0))[2][0, :, :3]
    np.testing.assert_array_equal(first, [figures.SURFACE, figures.SURFACE])


def test_the_colour_bar_shows_the_limits_and_the_colours_of_the_points():
    content = cloud([0.2, 0.6], limits=(0.2, 0.6), opacity=0.7)
    assert content["limits"] == [0.2, 0.6]
    ends = [[int(part) for part in content["scale"][place][4:-1].split(",")] for place in (0, -1)]
    np.testing.assert_allclose(drawn(content)[2][0, :, :3], ends, atol=1)
