import base64
import io

import numpy as np
import pytest
from dashboards import figures
from PIL import Image

from gsclip.report.palette import TRUTH_COLOUR, colours


def colours_of(trace):
    """(m, 3) colours that plotly gives the points of a trace."""
    palette = np.array([[int(part) for part in name[4:-1].split(",")] for _, name in trace.marker.colorscale])
    ends = [place for place, _ in trace.marker.colorscale]
    share = (np.array(trace.marker.color) - trace.marker.cmin) / (trace.marker.cmax - trace.marker.cmin)
    return np.stack([np.interp(share, ends, palette[:, channel]) for channel in range(3)], axis=1)


def cloud(scores, mask=None, viewpoint="Sensor", limits=(0.0, 1.0), points=None, opacity=1.0, **options):
    count = len(scores)
    points = np.random.default_rng(0).normal(size=(count, 3)) if points is None else points
    normals = np.tile([0.0, 0.0, -1.0], (count, 1))
    style = {"titles": ("scores", "truth"), "viewpoint": viewpoint, "opacity": opacity, "limits": limits, **options}
    truth = figures.truth_colours(normals, mask)
    return figures.cloud_figure(points, normals, np.array(scores, dtype=float), truth, **style)


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


def test_both_clouds_show_all_points_undistorted_under_one_camera():
    points = np.random.default_rng(1).random((500, 3)) * [4.0, 2.0, 1.0] + [7, -3, 600]
    figure = cloud(np.linspace(0, 1, 500), viewpoint="Left", points=points)
    first, second = figure.data[:2]
    assert (first.scene, second.scene) == ("scene", "scene2")
    assert figure.layout.scene.camera == figure.layout.scene2.camera
    for trace in (first, second):
        drawn = np.stack([trace.x, trace.y, trace.z], axis=1)
        assert np.abs(drawn).max() == pytest.approx(1, abs=1e-3)
        scale = np.ptp(points, axis=0) / np.ptp(drawn, axis=0)
        assert scale == pytest.approx(np.repeat(scale[0], 3), rel=1e-3)
    assert figure.layout.scene.aspectmode == "cube"
    assert figure.layout.scene.xaxis.range == figure.layout.scene.yaxis.range == figure.layout.scene.zaxis.range


def test_the_sensor_sees_x_to_the_right_and_y_down():
    camera = figures.camera("Sensor")
    eye, up = (np.array([camera[key][axis] for axis in "xyz"]) for key in ("eye", "up"))
    right = np.cross(-eye, up)
    assert eye[2] < 0
    np.testing.assert_allclose(up, [0, -1, 0])
    np.testing.assert_allclose(right / np.linalg.norm(right), [1, 0, 0])


@pytest.mark.parametrize("viewpoint", figures.VIEWPOINTS)
def test_viewpoints_stand_upright_on_the_side_of_the_sensor(viewpoint):
    camera = figures.camera(viewpoint)
    eye, up = (np.array([camera[key][axis] for axis in "xyz"]) for key in ("eye", "up"))
    assert eye[2] < 0
    assert abs(eye @ up) < 0.01
    assert np.linalg.norm(eye) == pytest.approx(np.linalg.norm([figures.camera("Sensor")["eye"]["z"]]), rel=0.01)


def test_the_colour_of_a_score_does_not_depend_on_the_other_scores():
    low_part, high_part = cloud([0.5, 0.1, 0.2]), cloud([0.5, 0.9, 0.95])
    np.testing.assert_array_equal(colours_of(low_part.data[0])[0], colours_of(high_part.data[0])[0])
    expected = colours(np.array([0.1, 0.5, 0.9]), (0.0, 1.0))
    drawn = colours_of(cloud([0.1, 0.5, 0.9]).data[0])
    assert np.abs(drawn - expected).max() <= figures.COLOUR_STEP


def test_the_ground_truth_is_coloured_by_the_mask():
    figure = cloud([0.1, 0.2, 0.3], mask=np.array([False, True, False]))
    drawn = colours_of(figure.data[1])
    assert np.abs(drawn[1] - TRUTH_COLOUR).max() <= figures.COLOUR_STEP
    assert np.abs(drawn[[0, 2]] - figures.SURFACE).max() <= figures.COLOUR_STEP


def test_points_below_the_threshold_can_be_left_out_of_the_scores():
    figure = cloud([0.1, 0.5, 0.9], lowest=0.5)
    assert list(figure.data[0].text) == [0.5, 0.9]
    assert len(figure.data[1].x) == 3
    assert list(cloud([0.1, 0.2], lowest=0.5).data[0].x) == [None]


def test_alarms_are_the_points_at_or_above_the_threshold():
    normals = np.tile([0.0, 0.0, -1.0], (3, 1))
    drawn = figures.decided_colours(normals, np.array([0.1, 0.5, 0.9]), 0.5)
    np.testing.assert_allclose(drawn, [figures.SURFACE, figures.ALARM_COLOUR, figures.ALARM_COLOUR])


def test_surfaces_seen_edge_on_are_darker():
    normals = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    points = np.array([[0.0, 0, 0], [1.0, 1, 1]])
    style = {"titles": ("", ""), "viewpoint": "Sensor", "opacity": 0.5, "limits": (0.0, 1.0)}
    figure = figures.cloud_figure(points, normals, np.zeros(2), figures.truth_colours(normals, None), **style)
    for trace in figure.data[:2]:
        frontal, edge = colours_of(trace)
        assert (edge < 0.7 * frontal).all()


def test_without_opacity_the_surface_alone_is_shown():
    drawn = colours_of(cloud([0.1, 0.9], opacity=0.0).data[0])
    assert np.abs(drawn - figures.SURFACE).max() <= figures.COLOUR_STEP


def test_the_colour_bar_shows_the_limits_and_the_colours_of_the_points():
    figure = cloud([0.2, 0.6], limits=(0.2, 0.6), opacity=0.7)
    bar = figure.data[2].marker
    assert (bar.cmin, bar.cmax, bar.showscale) == (0.2, 0.6, True)
    ends = [[int(part) for part in bar.colorscale[place][1][4:-1].split(",")] for place in (0, -1)]
    assert np.abs(colours_of(figure.data[0]) - ends).max() <= figures.COLOUR_STEP
