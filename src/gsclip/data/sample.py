"""A sample: the points of one part, with whatever is known about each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One part, background removed.

    Attributes:
        points: (n, 3) float32, sensor frame (see :mod:`gsclip.axes`), in the unit of the scan; finite.
        normals: (n, 3) float32 unit vectors; the sign is arbitrary (the renderer turns them to the camera).
        pixels: (n, 2) int32 (row, column) of each point in the organised scan; ``None`` for unorganised clouds.
        grid: (h, w) of the organised scan; ``None`` for unorganised clouds.
        mask: (n,) bool, true on defects; ``None`` where the ground truth is unknown.
        grid_mask: (h, w) bool ground truth of the organised scan, pixels without a point included.
        colors: (n, 3) uint8 RGB; ``None`` where there is none.
        nearest: (m,) int32 of a thinned cloud, for each finite point of the scan in its order: row of the nearest of
            the n points that were kept; ``None`` where nothing was thinned.
        scan_mask: (m,) bool ground truth of those m points; ``None`` where it is unknown or nothing was thinned.
    """

    points: np.ndarray
    normals: np.ndarray
    pixels: np.ndarray | None = None
    grid: tuple[int, int] | None = None
    mask: np.ndarray | None = None
    grid_mask: np.ndarray | None = None
    colors: np.ndarray | None = None
    nearest: np.ndarray | None = None
    scan_mask: np.ndarray | None = None

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (m, ...) of every point of the scan that belongs to the part, from those (n, ...) of the sample.

        Each point has the value of the nearest point that was kept; the values as they are where nothing was thinned.
        """
        return values if self.nearest is None else values[self.nearest]


@dataclass(frozen=True)
class Scan:
    """One scan as read from a file, before background removal.

    Attributes:
        points: (h, w, 3) float32 when organised, else (n, 3). Organised scans mark pixels without a
            measurement by NaN (readers turn the (0, 0, 0) of MVTec 3D-AD into NaN).
        mask: (h, w) or (n,) bool ground truth, or ``None``.
        colors: (h, w, 3) or (n, 3) uint8 RGB, or ``None``.
        sampled: whether the points were sampled on a mesh: then they are no rows of its file.
    """

    points: np.ndarray
    mask: np.ndarray | None = None
    colors: np.ndarray | None = None
    sampled: bool = False

    @property
    def organised(self) -> bool:
        """Whether the points lie on a sensor grid."""
        return self.points.ndim == 3
