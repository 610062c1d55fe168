import io
import struct
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from tests.report.plates import make_sample

from gsclip.features.images import DEPTH_LEVELS
from gsclip.report import palette
from gsclip.report.overlays import overlay_image, png_bytes, points_panel, truth_panel, verdict
from gsclip.report.palette import OPACITY, TRUTH_COLOUR, anomaly_maps, blend_map, colours, depth_panel
from gsclip.scores.similarity import enlarge_maps
from gsclip.views.renderer import render_views
from gsclip.views.views import Views

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def dented(items):
    return next(item for item in items if item.row["defect"] == "dent")


def draw(item, **options):
    return overlay_image(item.sample, item.views, item.prediction, name=item.row["name"], **options)


@pytest.mark.parametrize(("side", "size"), [(15, 240), (24, 336), (6, 48), (1, 20), (9, 9)])
def test_maps_are_enlarged_as_the_scores_are(dented, side, size):
    maps = np.random.default_rng(0).random((2, side, side)).astype(np.float32)
    enlarged = anomaly_maps(replace(dented.prediction, view_maps=maps), size)
    np.testing.assert_allclose(enlarged, enlarge_maps(torch.from_numpy(maps)[None], size)[0], atol=1e-5)


def test_depth_has_one_range():
    assert palette.DEPTH_LEVELS == DEPTH_LEVELS


def test_brightness_rises_with_the_score_and_stays_at_the_ends_of_the_range():
    brightness = colours(np.linspace(0.2, 0.6, 60), (0.2, 0.6)) @ GREY_WEIGHTS
    assert (np.diff(brightness) > 0).all()
    ends = colours(np.array([-5.0, 0.2, 0.6, 5.0]), (0.2, 0.6))
    np.testing.assert_array_equal(ends[[0, 3]], ends[[1, 2]])


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match="range of scores is empty"):
        colours(np.zeros(3), (0.5, 0.5))


def test_blending_mixes_the_colour_of_the_score_over_the_part_alone():
    rendered = np.full((4, 4), 100, np.uint8)
    foreground = np.zeros((4, 4), bool)
    foreground[1:3] = True
    rendered[~foreground] = 255
    anomaly_map = np.full((4, 4), 0.9)
    blended = blend_map(rendered, foreground, anomaly_map, (0.0, 1.0))
    colour = colours(np.array(0.9), (0.0, 1.0)).astype(float)
    expected = np.rint((1 - OPACITY) * 100 + OPACITY * colour)
    np.testing.assert_array_equal(blended[foreground], np.tile(expected, (8, 1)))
    assert (blended[~foreground] == 255).all()
    clear = blend_map(rendered, foreground, anomaly_map, (0.0, 1.0), opacity=0)
    np.testing.assert_array_equal(clear, np.repeat(rendered[..., None], 3, axis=-1))


def test_the_dent_is_the_brightest_place_of_a_good_map(dented):
    maps = anomaly_maps(dented.prediction, 64)
    assert maps.shape == (4, 64, 64)
    pure = blend_map(dented.views.rendered[0], dented.views.foreground[0], maps[0], (0.2, 1.0), opacity=1)
    brightness = pure @ GREY_WEIGHTS
    mask = dented.views.mask[0]
    assert brightness[mask].mean() > 1.5 * brightness[dented.views.foreground[0] & ~mask].mean()


def test_points_show_their_score_in_pure_colours_and_hidden_ones_do_not():
    foreground = np.zeros((1, 5, 5), bool)
    foreground[0, 1:4, 1:4] = True
    pixels = np.array([[[1, 1], [3, 3], [3, 3], [3, 3]]], np.int16)
    visible = np.array([[True, True, True, False]])
    blank = np.zeros((1, 5, 5), np.uint8)
    normals, relief = np.zeros((1, 5, 5, 2), np.int8), np.ones(1, np.float32)
    views = Views(blank, normals, blank.astype(np.uint16), relief, foreground, pixels, visible)
    panel = points_panel(views, np.array([0.1, 0.3, 0.5, 0.9]), (0.0, 1.0))
    np.testing.assert_array_equal(panel[1, 1], colours(np.array(0.1), (0, 1)))
    np.testing.assert_array_equal(panel[3, 3], colours(np.array(0.5), (0, 1)))
    np.testing.assert_array_equal(panel[1, 2], panel[1, 1])  # between points: the nearest one's
    assert (panel[~foreground[0]] == 255).all()


def test_ground_truth_is_tinted_where_it_is_known(dented):
    panel = truth_panel(dented.views).astype(float)
    mask = dented.views.mask[0]
    distance = np.abs(panel - TRUTH_COLOUR).sum(axis=-1)
    assert distance[mask].max() < distance[~mask].min()
    sample = make_sample()
    unknown = render_views(type(sample)(sample.points, sample.normals), image_size=64, views=1)
    np.testing.assert_array_equal(truth_panel(unknown), np.repeat(unknown.rendered[0][..., None], 3, axis=-1))


def test_depth_keeps_near_bright_and_the_background_black():
    panel = depth_panel(np.array([[0, 1, 32768, 65535]], np.uint16))
    assert panel[0, :, 0].tolist() == [0, 0, 128, 255]


def test_pictures_are_the_same_bytes_each_time_and_carry_no_metadata(dented):
    data = png_bytes(draw(dented, defect="dent", threshold=0.5, score_range=(0.2, 0.9)))
    assert data == png_bytes(draw(dented, defect="dent", threshold=0.5, score_range=(0.2, 0.9)))
    assert set(chunk_names(data)) == {b"IHDR", b"IDAT", b"IEND"}
    assert Image.open(io.BytesIO(data)).mode == "RGB"


def chunk_names(data):
    place = 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        yield data[place + 4 : place + 8]
        place += 12 + length


def test_size_does_not_depend_on_words_and_number_of_views_is_bounded(dented):
    three = draw(dented)
    hostile = overlay_image(dented.sample, dented.views, dented.prediction, name="a\nb\x00\u202e" * 200, defect="<b>\t")
    assert hostile.size == three.size
    assert draw(dented, views_shown=9).size == draw(dented, views_shown=4).size
    assert draw(dented, views_shown=4).width > three.width


@pytest.mark.parametrize(
    ("score", "defect", "threshold", "expected"),
    [
        (0.7, "hole", 0.5, "decision: abnormal (correct)"),
        (0.7, "good", 0.5, "decision: abnormal (false alarm)"),
        (0.3, "hole", 0.5, "decision: normal (missed)"),
        (0.3, "good", 0.5, "decision: normal (correct)"),
        (0.5, "", 0.5, "decision: abnormal   "),
        (0.3, "", None, "object score 0.300   ·   kind: not known"),
    ],
)
def test_verdict_names_score_threshold_and_mistakes(score, defect, threshold, expected):
    line = verdict(score, defect, threshold)
    assert expected in line
    assert f"{score:.3f}" in line


def test_the_colours_are_those_of_matplotlib():
    scores = np.arange(256) / 255
    expected = matplotlib.colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_array_equal(colours(scores, (0.0, 1.0)), expected)
