"""A deterministic z-buffer splat renderer: all views of a cloud at once, without OpenGL.

Every point of every view writes a 64-bit key, depth bits above and point index below, to the pixels of a small
square; the smallest key wins. One ``scatter_reduce`` therefore gives depth *and* winning point of each pixel, and
its result does not depend on the order in which the points are written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gsclip.data.sample import Sample
from gsclip.views.cameras import MAXIMUM_VIEWS, camera_rotations
from gsclip.views.views import Views

BACKGROUND = 255
MARGIN = 0.94  # share of the image that the part may fill, in its widest view
LARGEST_SPLAT = 9
LIGHT = (-0.35, -0.45, -0.82)  # from the upper left, towards the part: grooves and dents cast a gradient
AMBIENT = 0.18
_EMPTY = torch.iinfo(torch.int64).max
_UPPER = 1 if sys.byteorder == "little" else 0  # half of a key that holds the depth


def render_views(
    sample: Sample,
    *,
    image_size: int,
    cameras: str = "front",
    views: int = MAXIMUM_VIEWS,
    splat: int | None = None,
    chosen: Sequence[int] | None = None,
) -> Views:
    """Render one sample from every camera.

    Args:
        sample: n points, at least 3, not all equal.
        image_size: height and width of the images in pixels.
        cameras: name of the camera list.
        views: number of views.
        splat: side of a point's square in pixels, odd; by default just large enough to close the surface.
        chosen: which of the views to render, to the same bits as if all were; by default all. Colours are seen
            where the first of them is the first camera.

    Returns:
        Images and correspondence of all views; orthographic, the same scale in every view.

    Source: method, section 2 (views); the depth image is normalised over the visible points of its view.
    """
    rotations = camera_rotations(cameras, views)
    return render_with_rotations(sample, rotations, image_size=image_size, splat=splat, chosen=chosen)


def render_with_rotations(
    sample: Sample,
    rotations: np.ndarray,
    *,
    image_size: int,
    splat: int | None = None,
    chosen: Sequence[int] | None = None,
) -> Views:
    """Render one sample under (v, 3, 3) rotations; see :func:`render_views`."""
    rotation = torch.from_numpy(np.ascontiguousarray(rotations))
    points = torch.from_numpy(sample.points)
    centre = (points.amin(0) + points.amax(0)) / 2
    camera = torch.einsum("vij,nj->vni", rotation, points - centre)
    pixel_length = 2 * camera[..., :2].abs().amax() / (MARGIN * image_size)
    nearest = camera[..., 2].amin()
    if chosen is not None:  # the scale stays that of all views, which the encoder was trained on
        rotation, camera = rotation[list(chosen)], camera[list(chosen)]
    position = camera[..., :2] / pixel_length + image_size / 2
    column_row = position.floor().long().clamp_(0, image_size - 1)
    rows, columns = column_row[..., 1], column_row[..., 0]
    depth = camera[..., 2] - nearest

    side = splat if splat is not None else _splat_side(sample, float(pixel_length))
    own, covering = _rasterise(rows, columns, depth, image_size, side)
    # A square reaches over its neighbours on a slope: a point counts as seen within the depth the square spans.
    tolerance = pixel_length * (side + 1)
    at_point = (rows * image_size + columns).flatten(1)
    visible = depth <= _depth_of(covering.flatten(1).gather(1, at_point)) + tolerance

    # Squares hide what lies behind and close gaps. A seen point of the pixel's own goes before those of its
    # neighbours: the images stay as sharp as the cloud.
    hidden = _depth_of(own) > _depth_of(covering) + tolerance
    shown = torch.where((own == _EMPTY) | hidden, covering, own)
    foreground = shown != _EMPTY
    # Masks are multiplied where they can be: torch.where takes ten times as long.
    winner = (shown & 0xFFFFFFFF) * foreground
    surface = _depth_of(shown).contiguous()

    colors = None
    if sample.colors is not None and (chosen is None or chosen[0] == 0):
        colors = _color_image(sample.colors, winner[0], foreground[0]).numpy()

    normals = _facing_normals(sample, rotation)
    nearness, span = _nearness(surface, foreground)
    return Views(
        rendered=_shade(normals, winner, foreground).numpy(),
        normals=_normal_image(normals, winner, foreground).numpy(),
        depth=((1 + (nearness * 65534).round()).to(torch.int32) * foreground).to(torch.uint16).numpy(),
        relief=(span / pixel_length).numpy(),
        foreground=foreground.numpy(),
        pixels=torch.stack([rows, columns], -1).to(torch.int16).numpy(),
        visible=visible.numpy(),
        mask=None if sample.mask is None else (torch.from_numpy(sample.mask)[winner] & foreground).numpy(),
        colors=colors,
    )


def _splat_side(sample: Sample, pixel_length: float) -> int:
    from gsclip.data.geometry import point_spacing

    # 1.5 spacings: the diagonal neighbour of a square grid, so that a frontal face closes.
    side = int(np.ceil(1.5 * point_spacing(sample.points) / pixel_length))
    return int(np.clip(side | 1, 1, LARGEST_SPLAT))


def _rasterise(rows: Tensor, columns: Tensor, depth: Tensor, image_size: int, side: int) -> tuple[Tensor, Tensor]:
    """(v, h, w) int64 smallest key of each pixel, of its own points and of all squares that reach it.

    ``_EMPTY`` where nothing was drawn.
    """
    views, count = rows.shape
    # Bits of a non-negative float32 order like the number itself.
    key = (depth.contiguous().view(torch.int32).long() << 32) | torch.arange(count)
    image = torch.full((views, image_size * image_size), _EMPTY)
    image.scatter_reduce_(1, rows * image_size + columns, key, "amin")
    # The smallest key of a square window, one axis after the other, is what drawing squares would give.
    own = image = image.view(views, image_size, image_size)
    for axis in (1, 2):
        result = image.clone()
        for offset in range(1, side // 2 + 1):
            for low, high in ((offset, 0), (0, offset)):
                target = result.narrow(axis, low, image_size - offset)
                source = image.narrow(axis, high, image_size - offset)
                torch.minimum(target, source, out=target)
        image = result
    return own, image


def _depth_of(keys: Tensor) -> Tensor:
    """Depth of keys, in their memory; NaN, which compares false with everything, of empty ones."""
    return keys.view(torch.float32).unflatten(-1, (-1, 2))[..., _UPPER]


def _facing_normals(sample: Sample, rotation: Tensor) -> Tensor:
    """(v, n, 3) normals in the cameras' frames, towards the camera."""
    normals = torch.einsum("vij,nj->vni", rotation, torch.from_numpy(sample.normals))
    return normals.mul_(torch.where(normals[..., 2:] > 0, -1.0, 1.0))


def _shade(normals: Tensor, winner: Tensor, foreground: Tensor) -> Tensor:
    light = torch.tensor(LIGHT) / torch.tensor(LIGHT).norm()
    brightness = AMBIENT + (1 - AMBIENT) * (normals @ light).clamp_min(0)
    shaded = brightness.gather(1, winner.flatten(1)).view(winner.shape)
    # The part stays a shade darker than the white background, which has all bits set.
    return (shaded * 235).round().to(torch.uint8) | (~foreground).to(torch.uint8) * BACKGROUND


def _normal_image(normals: Tensor, winner: Tensor, foreground: Tensor) -> Tensor:
    # Both levels of a point travel as one number.
    pairs = (normals[..., :2] * 127).round().to(torch.int8).contiguous().view(torch.int16)[..., 0]
    shown = pairs.gather(1, winner.flatten(1)).view(winner.shape) * foreground
    return shown[..., None].view(torch.int8)


def _color_image(colors: np.ndarray, winner: Tensor, foreground: Tensor) -> Tensor:
    return torch.where(foreground[..., None], torch.from_numpy(colors)[winner], BACKGROUND).to(torch.uint8)


def _nearness(surface: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """(v, h, w) from 0, the farthest visible point, to 1, the nearest; and the distance (v,) between both."""
    # Their bits order like the depths; those of an empty pixel are the largest.
    bits = surface.view(torch.int32).flatten(1)
    low, high = bits.amin(1).view(torch.float32), (bits * foreground.flatten(1)).amax(1).view(torch.float32)
    span = high - low
    nearness = (high[:, None, None] - surface) / span.clamp_min(1e-12)[:, None, None]
    return nearness.clamp(0, 1), span
