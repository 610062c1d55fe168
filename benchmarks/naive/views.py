"""Views one camera after the other: a window for each image, Python loops over all points for z-buffer and visibility.

The references render through Open3D's legacy window, find pixel and visibility of each point in two Python loops a
view, and make the depth images in a second pass over the scan, which projects the points again. Cameras, scale and
splats are ours (:mod:`gsclip.views.renderer`), so that all but the window's pictures agree. Normals are an input, as of
ours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gsclip.data.geometry import point_spacing
from gsclip.data.sample import Sample
from gsclip.views.cameras import camera_rotations
from gsclip.views.renderer import AMBIENT, BACKGROUND, LARGEST_SPLAT, LIGHT, MARGIN
from gsclip.views.views import Views

DEPTH_LEVELS = 65534
NOTHING = -1
GOOD, DEFECT = (0.6, 0.6, 0.6), (1.0, 0.0, 0.0)  # colours of the points in the window


def naive_views(
    sample: Sample,
    *,
    image_size: int,
    cameras: str = "front",
    views: int = 9,
    window: bool = False,
    splat: int | None = None,
) -> Views:
    """Views as of :func:`gsclip.views.renderer.render_views`.

    Args:
        sample: points and normals; the mask is drawn where there is one.
        image_size: height and width of the images in pixels.
        cameras: name of the camera list.
        views: number of views.
        window: take the rendered image from an Open3D window, and draw the mask in another one, as the references do.
            ``rendered`` is then the window's picture, of other shading and other pixels; the window's mask is drawn
            for its cost and dropped. ``False``: no window is opened, and all is as of ours.
        splat: side of a point's square; as ours where it is ``None``.
    """
    rotations = camera_rotations(cameras, views)
    centre = (sample.points.min(axis=0) + sample.points.max(axis=0)) / 2
    seen = [(sample.points - centre) @ rotation.T for rotation in rotations]
    pixel_length = 2 * max(np.abs(camera[:, :2]).max() for camera in seen) / np.float32(MARGIN * image_size)
    front = min(camera[:, 2].min() for camera in seen)
    side = splat
    if side is None:
        side = min(math.ceil(1.5 * point_spacing(sample.points) / float(pixel_length)) | 1, LARGEST_SPLAT)
    found = []
    for rotation, camera in zip(rotations, seen, strict=True):
        view = _view(sample, rotation, camera, camera[:, 2] - front, pixel_length, image_size, side)
        if window:
            view["rendered"] = window_image(sample, rotation, image_size)
            if sample.mask is not None:
                window_image(sample, rotation, image_size, masked=True)
        found.append(view)
    return Views(**{name: np.stack([view[name] for view in found]) for name in found[0]})


def naive_depths(sample: Sample, *, image_size: int, cameras: str = "front", views: int = 9) -> np.ndarray:
    """(v, h, w) float32 depths alone, infinite where there is nothing: a pass of its own, with its own z-buffer."""
    rotations = camera_rotations(cameras, views)
    centre = (sample.points.min(axis=0) + sample.points.max(axis=0)) / 2
    seen = [(sample.points - centre) @ rotation.T for rotation in rotations]
    pixel_length = 2 * max(np.abs(camera[:, :2]).max() for camera in seen) / np.float32(MARGIN * image_size)
    reach = min(math.ceil(1.5 * point_spacing(sample.points) / float(pixel_length)) | 1, LARGEST_SPLAT) // 2
    front = min(camera[:, 2].min() for camera in seen)
    depths = np.full((len(seen), image_size, image_size), np.inf, np.float32)
    for buffer, camera in zip(depths, seen, strict=True):
        depth = camera[:, 2] - front
        columns_rows = np.floor(camera[:, :2] / pixel_length + np.float32(image_size / 2)).astype(int)
        columns_rows = np.clip(columns_rows, 0, image_size - 1)
        for index in range(len(camera)):
            column, row = columns_rows[index]
            place = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
            buffer[place] = np.minimum(buffer[place], depth[index])
    return depths


def _view(
    sample: Sample, rotation: np.ndarray, camera: np.ndarray, depth: np.ndarray, pixel: np.float32, size: int, side: int
) -> dict[str, Any]:
    """The fields of :class:`Views` of one camera; lengths of ``pixel`` and ``depth`` are the scan's."""
    columns_rows = np.clip(np.floor(camera[:, :2] / pixel + np.float32(size / 2)).astype(int), 0, size - 1)
    own, own_winner = np.full((size, size), np.inf, np.float32), np.full((size, size), NOTHING)
    covering, winner = own.copy(), own_winner.copy()
    reach = side // 2
    for index in range(len(camera)):
        column, row = columns_rows[index]
        if depth[index] < own[row, column]:
            own[row, column], own_winner[row, column] = depth[index], index
        rows, columns = slice(max(row - reach, 0), row + reach + 1), slice(max(column - reach, 0), column + reach + 1)
        closer = depth[index] < covering[rows, columns]
        covering[rows, columns][closer] = depth[index]
        winner[rows, columns][closer] = index
    tolerance = pixel * np.float32(side + 1)
    pixels, visible = np.zeros((len(camera), 2), np.int16), np.zeros(len(camera), bool)
    for index in range(len(camera)):
        column, row = columns_rows[index]
        pixels[index] = row, column
        visible[index] = depth[index] <= covering[row, column] + tolerance

    hidden = (own_winner == NOTHING) | (own > covering + tolerance)
    surface, winner = np.where(hidden, covering, own), np.where(hidden, winner, own_winner)
    foreground = winner != NOTHING
    far, near = surface[foreground].max(), surface[foreground].min()
    nearness = np.clip((far - surface[foreground]) / max(far - near, np.float32(1e-12)), 0, 1)
    depth_image = np.zeros((size, size), np.uint16)
    depth_image[foreground] = 1 + np.round(nearness * np.float32(DEPTH_LEVELS))
    normals = sample.normals[winner[foreground]] @ rotation.T
    normals = np.where(normals[:, 2:] > 0, -normals, normals)
    normal_image = np.zeros((size, size, 2), np.int8)
    normal_image[foreground] = np.round(normals[:, :2] * 127)
    light = np.array(LIGHT, np.float32) / np.linalg.norm(LIGHT).astype(np.float32)
    rendered = np.full((size, size), BACKGROUND, np.uint8)
    rendered[foreground] = np.round((AMBIENT + (1 - AMBIENT) * np.clip(normals @ light, 0, None)) * 235)
    view = {
        "rendered": rendered,
        "normals": normal_image,
        "depth": depth_image,
        "relief": (far - near) / pixel,
        "foreground": foreground,
        "pixels": pixels,
        "visible": visible,
    }
    if sample.mask is not None:
        view["mask"] = foreground & sample.mask[winner]
    return view


def window_available() -> bool:
    """Whether Open3D can open an invisible window here: with a display, or with the EGL libraries."""
    import open3d

    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        visualizer = open3d.visualization.Visualizer()
        opened = visualizer.create_window(width=32, height=32, visible=False)
        if opened:
            visualizer.destroy_window()
    return bool(opened)


def window_image(sample: Sample, rotation: np.ndarray, size: int, *, masked: bool = False) -> np.ndarray:
    """(size, size) uint8 grey picture of a cloud in a window of its own; ``masked``: defects in their own colour."""
    import open3d

    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(sample.points.astype(np.float64)))
        cloud.normals = open3d.utility.Vector3dVector(sample.normals.astype(np.float64))
        colours = np.tile(np.array(GOOD), (len(sample.points), 1))
        if masked and sample.mask is not None:
            colours[sample.mask] = DEFECT
        cloud.colors = open3d.utility.Vector3dVector(colours)
        cloud.rotate(rotation.astype(np.float64), center=cloud.get_center())
        visualizer = open3d.visualization.Visualizer()
        visualizer.create_window(width=size, height=size, visible=False)
        visualizer.add_geometry(cloud)
        visualizer.poll_events()
        visualizer.update_renderer()
        picture = np.asarray(visualizer.capture_screen_float_buffer(do_render=True))
        visualizer.destroy_window()
    return np.asarray((picture.mean(axis=-1) * 255).astype(np.uint8))
