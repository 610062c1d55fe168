"""The views of one part: what the cameras saw, and where each point went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Views:
    """All views of one sample, from the same cameras.

    Attributes:
        rendered: (v, h, w) uint8 grey image, shaded by the normals; the background is 255.
        normals: (v, h, w, 2) int8 x and y, in 127ths, of the unit normal that each pixel shows, turned towards the
            camera; 0 on the background.
        depth: (v, h, w) uint16 depth image, near = bright (65535), far = 1, background 0; normalised over the
            visible points of each view.
        relief: (v,) float32 distance between near and far in each view, in pixels.
        foreground: (v, h, w) bool, where the part is.
        pixels: (v, n, 2) int16 (row, column) of every point.
        visible: (v, n) bool, the visibility H of the paper: no other point hides it.
        mask: (v, h, w) bool rendered ground truth; ``None`` where it is unknown.
        colors: (h, w, 3) uint8 what the first, most frontal camera sees in the scan's own colours, on white;
            ``None`` where the scan has none.
    """

    rendered: np.ndarray
    normals: np.ndarray
    depth: np.ndarray
    relief: np.ndarray
    foreground: np.ndarray
    pixels: np.ndarray
    visible: np.ndarray
    mask: np.ndarray | None = None
    colors: np.ndarray | None = None

    def select(self, views: Sequence[int]) -> Views:
        """Some of the views, in the order given; ``colors`` are kept where the first of them is the first camera.

        Fields that were not read from a pack stay ``None``.
        """
        chosen = list(views)
        if chosen == list(range(len(self.rendered))):
            return self
        fields = ("rendered", "normals", "depth", "relief", "foreground", "pixels", "visible", "mask")
        known = {name: values for name in fields if (values := getattr(self, name)) is not None}
        colors = self.colors if chosen[0] == 0 else None
        return replace(self, colors=colors, **{name: values[chosen] for name, values in known.items()})
