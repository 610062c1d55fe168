"""Images of the views as the backbone takes them: three channels in [0, 1].

``grey`` is the paper's: one picture in all channels, as CLIP expects. The other encodings put more of the geometry
into the channels, for a backbone that was trained on them (the embedded one):

- ``normals``, of the rendered stream: the normal towards the camera instead of its shading under one light, which
  hides edges that run along the light.
- ``contrast``, of the depth stream: beside the depth itself, by how much each pixel rises over its surroundings at a
  fine and at a coarse scale. In plain depth a dent of a millimetre is two hundredths of the range of grey.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from gsclip.features.types import DepthEncoding, RenderedEncoding
from gsclip.views.views import Views

DEPTH_LEVELS = 65535
PIXEL = 0.7  # pixels: sigma of what is compared, against the steps between pixels of a slope
FINE, COARSE = 2.5, 8.0  # pixels: sigma of the surroundings that it is compared with
FINE_RISE, COARSE_RISE = 1.0, 4.0  # pixels: rise at which the contrast begins to saturate


def rendered_images(views: Views, encoding: RenderedEncoding) -> Float[Tensor, "v 3 h w"]:
    """Rendered images, white background."""
    if encoding == "grey":
        return _three(torch.from_numpy(views.rendered).float() / 255)
    across = torch.from_numpy(views.normals).float().movedim(-1, 1) / 127
    towards = (1 - across.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
    coloured = torch.cat([0.5 + 0.5 * across, towards], 1)
    return torch.where(torch.from_numpy(views.foreground)[:, None], coloured, 1.0)


def depth_images(views: Views, encoding: DepthEncoding) -> Float[Tensor, "v 3 h w"]:
    """Depth images, near = bright, black background."""
    grey = views.depth.astype(np.float32) / DEPTH_LEVELS
    if encoding == "grey":
        return _three(torch.from_numpy(grey))
    height = grey * views.relief.astype(np.float32)[:, None, None]
    here, fine, coarse = _surroundings(height, views.foreground)
    fine, coarse = (here - fine) / FINE_RISE, (here - coarse) / COARSE_RISE
    coloured = np.stack([grey, 0.5 + 0.5 * np.tanh(fine), 0.5 + 0.5 * np.tanh(coarse)], 1)
    return torch.from_numpy(np.where(views.foreground[:, None], coloured, np.float32(0)))


def color_image(views: Views) -> Float[Tensor, "1 3 h w"] | None:
    """The scan's own colours as one more view, white background; ``None`` where it has none."""
    return None if views.colors is None else torch.from_numpy(views.colors).movedim(-1, 0)[None].float() / 255


def part_patches(views: Views, patches: int) -> Bool[Tensor, "v patches"]:
    """Patches of every view that the part's scores come from: those with a pixel of it, and their neighbours.

    A score of a pixel is interpolated between its patch and the neighbours of that.

    Args:
        views: square images.
        patches: of an image, row-major in a square.
    """
    rows = round(patches**0.5)
    part = functional.adaptive_max_pool2d(torch.from_numpy(views.foreground).float()[:, None], rows)
    return functional.max_pool2d(part, 3, stride=1, padding=1).flatten(1) > 0


def _three(grey: Tensor) -> Tensor:
    return grey[:, None].expand(-1, 3, -1, -1)


def _surroundings(height: np.ndarray, foreground: np.ndarray) -> list[np.ndarray]:
    """(v, h, w) mean height of the foreground about each pixel, within :data:`PIXEL`, ``FINE`` and ``COARSE``."""
    weight = foreground.astype(np.float32)
    # Beyond the box about the foreground of all views there is nothing to sum up.
    rows, columns = (_extent(np.asarray(foreground.any(axis=axes))) for axes in ((0, 2), (0, 1)))
    box = np.s_[:, rows, columns]
    means = []
    for width in (PIXEL, FINE, COARSE):
        mean = np.zeros_like(weight)
        mean[box] = _blur((height * weight)[box], width) / np.maximum(_blur(weight[box], width), 1e-6)
        means.append(mean)
    return means


def _extent(seen: np.ndarray) -> slice:
    """From the first place that is seen to the last."""
    places = np.flatnonzero(seen)
    return slice(places[0], places[-1] + 1) if places.size else slice(0)


def _blur(planes: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(gaussian_filter(planes, (0, sigma, sigma), mode="constant", truncate=3.0))
