"""From a scan as read to a sample: the points of the part alone, with normals."""

from __future__ import annotations

import logging

import numpy as np

from gsclip.data.background import remove_background
from gsclip.data.geometry import estimate_normals
from gsclip.data.sample import Sample, Scan
from gsclip.data.scan_files import MIN_POINTS
from gsclip.errors import InputError

# Smallest over largest standard deviation along the principal axes. Coordinates in float32, 0.6 m from the sensor,
# give a flat part of 30 mm about 1e-6; the noise of a real sensor gives it 3e-4.
MIN_RELATIVE_THICKNESS = 1e-5

_log = logging.getLogger(__name__)


def prepare_sample(scan: Scan, where: str = "scan") -> Sample:
    """Keep the part's points and give each a normal.

    An organised scan loses its background and keeps each point's pixel; points are in row-major order. Of an
    unorganised one every finite point is taken to belong to the part, in the order of the file.

    Args:
        scan: the scan, in any unit of length.
        where: name of the scan in error messages, such as its path.

    Returns:
        The sample, (n, ...) arrays in one order; ``grid_mask`` is the whole ground truth of an organised scan.

    Raises:
        InputError: when the mask or the colours do not fit the points, when fewer than :data:`MIN_POINTS` distinct
            points remain, or when they lie in one plane, on one line or in one place.
    """
    shape = scan.points.shape[:-1]
    for name, values, expected in (("mask", scan.mask, shape), ("color image", scan.colors, (*shape, 3))):
        if values is not None and values.shape != expected:
            raise InputError(
                where,
                f"the {name} has the shape {values.shape} instead of {expected}",
                "give one value for each point",
            )
    if scan.organised:
        background = remove_background(scan.points)
        _log.debug("%s: %s", where, background.note)
        part = background.part
    else:
        part = np.isfinite(scan.points).all(axis=1)
    points = scan.points[part].astype(np.float32)
    _check_shape(points, where)
    return Sample(
        points=points,
        normals=estimate_normals(points),
        pixels=np.argwhere(part).astype(np.int32) if scan.organised else None,
        grid=(shape[0], shape[1]) if scan.organised else None,
        mask=None if scan.mask is None else scan.mask[part],
        grid_mask=scan.mask if scan.organised else None,
        colors=None if scan.colors is None else scan.colors[part],
    )


def _check_shape(points: np.ndarray, where: str) -> None:
    distinct = np.unique(points, axis=0).astype(np.float64)
    if len(distinct) < MIN_POINTS:
        raise InputError(
            where,
            f"only {len(distinct)} distinct points on the part",
            f"give a scan with {MIN_POINTS} or more, and the part whole in view",
        )
    deviations = np.linalg.svd(distinct - distinct.mean(axis=0), compute_uv=False)
    if not deviations[2] > MIN_RELATIVE_THICKNESS * deviations[0]:
        raise InputError(where, "all points of the part lie in one plane", "give a scan of a part that has a shape")
