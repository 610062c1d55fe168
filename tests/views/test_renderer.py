import dataclasses

import numpy as np
import pytest

from gsclip.data.sample import Sample
from gsclip.views.cameras import camera_rotations
from gsclip.views.renderer import BACKGROUND, MARGIN, render_views, render_with_rotations

IDENTITY = np.eye(3, dtype=np.float32)[None]
SIZE = 64


def lattice(side, pitch=1.0):
    y, x = np.mgrid[:side, :side] * pitch
    return np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)


def make_sample(points, normals=None, mask=None):
    points = np.asarray(points, dtype=np.float32)
    if normals is None:
        normals = np.tile([0.0, 0.0, -1.0], (len(points), 1))
    return Sample(points=points, normals=np.asarray(normals, dtype=np.float32), mask=mask)


def fibonacci_sphere(count=6000):
    step = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * step / count), np.pi * (1 + 5**0.5) * step
    return np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1)


def cloud(count=600, seed=0):
    """Random points of random normals and mask: no two at one depth."""
    random = np.random.default_rng(seed)
    points = random.uniform(-1, 1, (count, 3))
    normals = random.standard_normal((count, 3))
    return make_sample(points, normals / np.linalg.norm(normals, axis=1, keepdims=True), random.random(count) < 0.3)


def splat_by_hand(camera, pixels, size, side, pixel_length):
    """Depth and point that each pixel shows: every point draws a square, then the seen ones their own pixel."""
    depth, winner = np.full((size, size), np.inf), np.full((size, size), -1)
    own, own_winner = depth.copy(), winner.copy()
    reach = side // 2
    for point, (row, column) in enumerate(pixels):
        for r in range(max(0, row - reach), min(size, row + reach + 1)):
            for c in range(max(0, column - reach), min(size, column + reach + 1)):
                if camera[point, 2] < depth[r, c]:
                    depth[r, c], winner[r, c] = camera[point, 2], point
        if camera[point, 2] < own[row, column]:
            own[row, column], own_winner[row, column] = camera[point, 2], point
    seen = (own_winner >= 0) & (own <= depth + pixel_length * (side + 1))
    return np.where(seen, own, depth), np.where(seen, own_winner, winner)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_z_buffer_is_that_of_a_brute_force_splat(side):
    sample = cloud()
    rotations = camera_rotations("front", 4)
    views = render_with_rotations(sample, rotations, image_size=SIZE, splat=side)
    centre = (sample.points.min(axis=0) + sample.points.max(axis=0)) / 2
    light = np.array([-0.35, -0.45, -0.82])
    light = light / np.linalg.norm(light)
    cameras = [(sample.points - centre) @ rotation.T for rotation in rotations.astype(np.float64)]
    pixel_length = 2 * np.abs(np.stack(cameras)[..., :2]).max() / (MARGIN * SIZE)
    for view, (rotation, camera) in enumerate(zip(rotations.astype(np.float64), cameras, strict=True)):
        depth, winner = splat_by_hand(camera, views.pixels[view], SIZE, side, pixel_length)
        drawn = winner >= 0
        np.testing.assert_array_equal(views.foreground[view], drawn)
        np.testing.assert_array_equal(views.mask[view], drawn & sample.mask[winner])
        near, far = depth[drawn].min(), depth[drawn].max()
        nearness = 1 + 65534 * (far - depth[drawn]) / (far - near)
        np.testing.assert_allclose(views.depth[view][drawn], nearness, atol=1)
        assert (views.depth[view][~drawn] == 0).all()
        np.testing.assert_allclose(views.relief[view], (far - near) / pixel_length, rtol=1e-5)
        normals = sample.normals @ rotation.T
        normals = np.where(normals[:, 2:] > 0, -normals, normals)
        brightness = 235 * (0.18 + 0.82 * (normals @ light).clip(min=0))
        np.testing.assert_allclose(views.rendered[view][drawn], brightness[winner[drawn]], atol=0.51)
        assert (views.rendered[view][~drawn] == BACKGROUND).all()
        np.testing.assert_allclose(views.normals[view][drawn], 127 * normals[winner[drawn], :2], atol=0.51)
        assert (views.normals[view][~drawn] == 0).all()


def test_pixels_are_the_orthographic_projection_at_one_scale():
    sample = cloud()
    rotations = camera_rotations("front")
    views = render_with_rotations(sample, rotations, image_size=SIZE)
    centre = (sample.points.min(axis=0) + sample.points.max(axis=0)) / 2
    camera = np.einsum("vij,nj->vni", rotations.astype(np.float64), sample.points - centre)
    scale = MARGIN * SIZE / 2 / np.abs(camera[..., :2]).max()
    exact = camera[..., [1, 0]] * scale + SIZE / 2  # row from y, column from x
    assert (views.pixels <= exact + 1e-4).all()
    assert (exact - 1e-4 <= views.pixels + 1).all()


def test_a_frontal_plane_is_closed_seen_whole_and_evenly_lit():
    views = render_views(make_sample(lattice(20)), image_size=SIZE, views=1)
    rows, columns = np.nonzero(views.foreground[0])
    assert views.foreground[0][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
    assert np.ptp(rows) == np.ptp(columns)
    assert MARGIN * SIZE - 3 <= np.ptp(rows) + 1 <= SIZE
    assert views.visible.all()
    assert len(np.unique(views.rendered[0][views.foreground[0]])) == 1
    assert views.mask is None


def test_a_tilted_plane_fades_evenly_with_distance():
    points = lattice(40)
    points[:, 2] = 0.5 * points[:, 0]  # farther to the right
    views = render_views(make_sample(points), image_size=SIZE, views=1)
    middle = views.depth[0][SIZE // 2].astype(float)
    inside = np.flatnonzero(middle > 0)
    assert (np.diff(middle[inside]) <= 0).all()
    assert middle[inside[0]] == 65535
    assert middle[inside[-1]] == 1
    fit = np.polyfit(inside, middle[inside], 1)
    assert np.abs(np.polyval(fit, inside) - middle[inside]).max() < 2500  # within one point's step


def test_the_nearest_side_of_a_sphere_is_bright_and_its_back_unseen():
    points = fibonacci_sphere()
    views = render_views(make_sample(points, points), image_size=SIZE, views=1)
    depth = views.depth[0]
    assert depth[SIZE // 2 - 2 : SIZE // 2 + 2, SIZE // 2 - 2 : SIZE // 2 + 2].min() > 64000
    row, column = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    distance = np.hypot(row, column) / (MARGIN * SIZE / 2)
    assert views.foreground[0][distance < 0.97].all()
    assert not views.foreground[0][distance > 1.1].any()
    ring = (distance > 0.5) & (distance < 0.6)
    assert depth[ring].max() < depth[distance < 0.3].min()
    front, back = points[:, 2] < -0.5, points[:, 2] > 0.15  # up to 60 degrees from the line of sight
    assert views.visible[0][front].all()
    assert not views.visible[0][back].any()


def test_a_camera_behind_the_object_sees_its_other_side():
    points = fibonacci_sphere()
    half_turn = np.diag([1, -1, -1]).astype(np.float32)[None]
    views = render_with_rotations(make_sample(points, points), half_turn, image_size=SIZE)
    assert views.visible[0][points[:, 2] > 0.5].all()
    assert not views.visible[0][points[:, 2] < -0.15].any()


def test_a_cone_that_points_at_the_sensor_is_brightest_at_its_tip():
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 120, endpoint=False), np.linspace(0, 1, 60))
    points = np.stack([height * np.cos(angle), height * np.sin(angle), 5 + height], axis=-1).reshape(-1, 3)
    views = render_views(make_sample(points), image_size=SIZE, views=1)
    brightest = np.argwhere(views.depth[0] == 65535)
    assert np.abs(brightest - (SIZE - 1) / 2).max() <= 2


def step():
    """A square of 40 x 40 points, and 15 spacings before it another over its left half."""
    far = lattice(40)
    return far, far[far[:, 0] < 20] - np.array([0, 0, 15])


def test_a_step_hides_what_lies_behind_it():
    far, near = step()
    sample = make_sample(np.concatenate([far, near]))
    visible = render_views(sample, image_size=SIZE, views=1).visible[0]
    hidden = np.concatenate([far[:, 0] < 19, np.zeros(len(near), dtype=bool)])
    open_ = np.concatenate([far[:, 0] > 21, np.ones(len(near), dtype=bool)])
    assert visible[open_].all()
    assert not visible[hidden].any()


def test_a_view_from_the_side_sees_behind_the_step():
    far, near = step()
    sample = make_sample(np.concatenate([far, near]))
    rotations = camera_rotations("front")
    visible = render_with_rotations(sample, rotations, image_size=SIZE).visible
    behind = np.flatnonzero((far[:, 0] > 12) & (far[:, 0] < 16))
    seen = visible[:, behind].mean(axis=1)
    uncovered = [np.sign((rotation @ [0, 0, 1])[0]) for rotation in rotations]
    # A camera that moves what is far to the right, out from under the step, sees it; one that moves it left does not.
    turned_right = [view for view, side in enumerate(uncovered) if side > 0]
    turned_left = [view for view, side in enumerate(uncovered) if side < 0]
    assert max(seen[turned_right]) > 0.9
    assert max(seen[turned_left]) == 0


def test_the_mask_follows_the_points_of_the_defect():
    points = lattice(30)
    off = np.abs(points[:, :2] - [8, 20]).max(axis=1)
    views = render_views(make_sample(points, mask=off < 4), image_size=SIZE)
    for view in range(9):
        inner, outer = (views.mask[view][tuple(views.pixels[view][chosen].T)] for chosen in (off < 2, off > 5))
        assert inner.all()  # a splat reaches over up to two of its neighbours on a slope
        assert not outer.any()
    assert not (views.mask & ~views.foreground).any()


def test_a_hidden_defect_is_in_no_mask():
    points = np.concatenate([lattice(20), lattice(20) + np.array([0, 0, 30])])
    mask = np.arange(800) >= 400
    views = render_views(make_sample(points, mask=mask), image_size=SIZE, views=1)
    assert not views.mask.any()


def test_shading_does_not_depend_on_the_sign_of_the_normals():
    sample = cloud()
    flipped = make_sample(sample.points, -sample.normals, sample.mask)
    first = render_views(sample, image_size=SIZE)
    assert render_views(flipped, image_size=SIZE).rendered.tobytes() == first.rendered.tobytes()


def test_light_comes_from_the_upper_left():
    points = fibonacci_sphere()
    image = render_views(make_sample(points, points), image_size=SIZE, views=1).rendered[0].astype(int)
    third, last = SIZE // 3, SIZE - 1 - SIZE // 3
    assert image[third, third] > image[last, last] + 30
    assert image[third, third] > image[third, last] > image[last, last]
    assert image[last, third] > image[last, last]


def test_the_order_of_the_points_does_not_change_the_images():
    sample = cloud(2000)
    order = np.random.default_rng(1).permutation(2000)
    shuffled = make_sample(sample.points[order], sample.normals[order], sample.mask[order])
    first, second = render_views(sample, image_size=SIZE), render_views(shuffled, image_size=SIZE)
    for name in ("rendered", "normals", "depth", "relief", "foreground", "mask"):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name), err_msg=name)
    for name in ("pixels", "visible"):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name)[:, order], err_msg=name)


def test_the_unit_and_the_place_of_the_cloud_do_not_change_the_images():
    points = (np.random.default_rng(2).integers(-512, 512, (800, 3)) / 512).astype(np.float32)  # exact when moved
    first = render_views(make_sample(points), image_size=SIZE)
    for moved in (points * 1024, points / 1024, points + np.float32(64)):
        views = render_views(make_sample(moved), image_size=SIZE)
        np.testing.assert_array_equal(views.pixels, first.pixels)
        np.testing.assert_array_equal(views.depth, first.depth)


def test_the_same_sample_gives_the_same_bytes_on_any_number_of_threads():
    import torch

    sample = cloud(3000)
    first = render_views(sample, image_size=SIZE)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        second = render_views(sample, image_size=SIZE)
    finally:
        torch.set_num_threads(threads)
    for name in ("rendered", "normals", "depth", "relief", "foreground", "pixels", "visible", "mask"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


def test_arrays_have_the_promised_shapes_and_types():
    sample = dataclasses.replace(cloud(500), colors=np.full((500, 3), 7, np.uint8))
    views = render_views(sample, image_size=48, views=5)
    assert views.colors.shape == (48, 48, 3)
    assert views.rendered.shape == views.depth.shape == views.foreground.shape == views.mask.shape == (5, 48, 48)
    assert views.normals.shape == (5, 48, 48, 2)
    assert views.relief.shape == (5,)
    assert views.pixels.shape == (5, 500, 2)
    assert views.visible.shape == (5, 500)
    assert [getattr(views, field.name).dtype for field in dataclasses.fields(views)] == [
        np.uint8, np.int8, np.uint16, np.float32, bool, np.int16, bool, bool, np.uint8
    ]  # fmt: skip
    assert views.pixels.min() >= 0
    assert views.pixels.max() < 48
    assert (views.depth[views.foreground] >= 1).all()
    assert (views.rendered[views.foreground] < BACKGROUND).all()


def test_chosen_views_are_those_of_all_views():
    sample = dataclasses.replace(cloud(), colors=np.random.default_rng(1).integers(0, 256, (600, 3)).astype(np.uint8))
    every = render_views(sample, image_size=SIZE)
    for chosen in ([0, 5, 6], [7, 2], list(range(9))):
        some = render_views(sample, image_size=SIZE, chosen=chosen)
        selected = every.select(chosen)
        assert len(some.rendered) == len(chosen)
        assert (some.colors is None) == (chosen[0] != 0)
        for name, value in vars(some).items():
            np.testing.assert_array_equal(value, getattr(selected, name), err_msg=name)
