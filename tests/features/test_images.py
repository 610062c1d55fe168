from dataclasses import replace

import numpy as np
import pytest
import torch

from gsclip.data.sample import Sample
from gsclip.features.images import color_image, depth_images, part_patches, rendered_images
from gsclip.views.renderer import render_views

SIZE = 96


def surface(height, side=SIZE, length=1.0):
    """Views of z = -height(x, y) over a square: higher is nearer."""
    x, y = (axis.ravel() * length for axis in np.meshgrid(np.arange(side) - side / 2, np.arange(side) - side / 2))
    points = np.stack([x, y, -height(x / length, y / length) * length], 1)
    step = 1e-3
    slope = [
        (height(x / length + dx, y / length + dy) - height(x / length - dx, y / length - dy)) / (2 * step)
        for dx, dy in ((step, 0), (0, step))
    ]
    normals = np.stack([-slope[0], -slope[1], -np.ones_like(x)], 1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return render_views(Sample(points.astype(np.float32), normals.astype(np.float32)), image_size=SIZE, views=1)


def bump(x, y):
    return 2 * np.exp(-(x**2 + y**2) / 18)


def ball(x, y):
    return np.sqrt(np.maximum(45.0**2 - x**2 - y**2, 0))


@pytest.mark.parametrize(
    ("images", "encodings"), [(rendered_images, ("grey", "normals")), (depth_images, ("grey", "contrast"))]
)
def test_images_have_three_channels_between_zero_and_one(images, encodings):
    views = surface(bump)
    for encoding in encodings:
        made = images(views, encoding)
        assert made.shape == (1, 3, SIZE, SIZE)
        assert made.dtype == torch.float32
        assert 0 <= made.min() <= made.max() <= 1


def test_grey_is_the_view_in_every_channel():
    views = surface(bump)
    for made, plane in (
        (rendered_images(views, "grey"), views.rendered / 255),
        (depth_images(views, "grey"), views.depth / 65535),
    ):
        for channel in range(3):
            np.testing.assert_allclose(made[:, channel], plane, atol=1e-6)


def test_background_is_white_when_rendered_and_black_in_depth():
    views = surface(ball)
    outside = torch.from_numpy(~views.foreground)[:, None].expand(-1, 3, -1, -1)
    assert outside.any()
    for encoding in ("grey", "normals"):
        assert (rendered_images(views, encoding)[outside] == 1).all()
    for encoding in ("grey", "contrast"):
        assert (depth_images(views, encoding)[outside] == 0).all()


def test_normals_point_to_where_the_surface_faces():
    middle = SIZE // 2
    for height, expected in (
        (lambda x, y: 0 * x, (0.0, 0.0, 1.0)),
        (lambda x, y: x, (-(0.5**0.5), 0.0, 0.5**0.5)),  # rises to the right: faces left
        (lambda x, y: -y, (0.0, 0.5**0.5, 0.5**0.5)),  # falls downwards: faces down
    ):
        x, y, towards = rendered_images(surface(height), "normals")[0, :, middle, middle].tolist()
        assert (2 * x - 1, 2 * y - 1, towards) == pytest.approx(expected, abs=0.01)


def test_contrast_is_level_on_a_plane_however_it_leans():
    for height in (lambda x, y: 0 * x, lambda x, y: 0.5 * x - 0.3 * y):
        views = surface(height)
        inside = depth_images(views, "contrast")[0, 1:, 30:66, 30:66]  # clear of the border's own surroundings
        assert (inside - 0.5).abs().max() < 0.12  # steps of the leaning plane between pixels


def test_contrast_shows_bumps_and_dents_far_better_than_depth():
    middle = SIZE // 2
    leaning = [surface(lambda x, y, sign=sign: 0.8 * x + sign * bump(x, y)) for sign in (1, -1)]
    up, down = (depth_images(views, "contrast")[0, :, middle, middle] for views in leaning)
    assert up[1] > 0.7
    assert down[1] < 0.3
    assert up[2] > down[2] + 0.3
    assert abs(up[0] - down[0]) < 0.1


def test_the_unit_of_length_does_not_matter():
    first, second = (surface(bump, length=length) for length in (1.0, 1 / 1024))
    torch.testing.assert_close(depth_images(second, "contrast"), depth_images(first, "contrast"), rtol=0, atol=1e-4)
    torch.testing.assert_close(rendered_images(second, "normals"), rendered_images(first, "normals"), rtol=0, atol=0)


def test_colours_are_seen_by_the_first_camera_on_white():
    side = 24
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(side), np.arange(side)))
    points = np.stack([x, y, 0.01 * (x - side / 2) ** 2], 1).astype(np.float32)
    colors = np.stack([10 * x, 10 * y, np.full_like(x, 77)], 1).astype(np.uint8)
    sample = Sample(points, np.tile(np.float32([0, 0, -1]), (len(points), 1)), colors=colors)
    views = render_views(sample, image_size=SIZE)
    image = color_image(views)
    assert image.shape == (1, 3, SIZE, SIZE)
    assert (image[0, :, ~torch.from_numpy(views.foreground[0])] == 1).all()
    row, column = views.pixels[0].T
    seen = image[0, :, row, column].numpy().T * 255
    assert np.abs(seen - colors).max() <= 11  # its own point, or a neighbour in the same pixel
    assert color_image(surface(bump)) is None


def test_the_patches_of_the_part_are_those_with_a_pixel_of_it_and_their_neighbours():
    views = replace(surface(bump), foreground=np.zeros((2, SIZE, SIZE), bool))
    views.foreground[0, 40, 95] = True  # of 12 x 12 patches that in row 5, in the last column
    expected = np.zeros((2, 12, 12), bool)
    expected[0, 4:7, 10:] = True
    np.testing.assert_array_equal(part_patches(views, 144).view(2, 12, 12).numpy(), expected)
