"""From a scan as read to a sample: the points of the part alone, with normals."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from gsclip.data.background import remove_background
from gsclip.data.geometry import distinct_points, estimate_normals
from gsclip.data.sample import Sample, Scan
from gsclip.data.scan_files import MIN_POINTS
from gsclip.data.thinning import any_within, nearest_kept, thin
from gsclip.errors import InputError
from gsclip.params import ScanParams

# Smallest over largest standard deviation along the principal axes. Coordinates in float32, 0.6 m from the sensor,
# give a flat part of 30 mm about 1e-6; the noise of a real sensor gives it 3e-4.
MIN_RELATIVE_THICKNESS = 1e-5
# From so many times its size on, a scan is moved to the origin: there the steps of float32 reach 1e-4 of its size, and
# points would fall into other pixels of the views.
FAR = 1000.0
# Of a pose's rows from unit length and right angles: float32 or six decimals are exact enough.
POSE_TOLERANCE = 1e-5

# Of commands without a model; a model's own are in its configuration.
DEFAULT_SCAN_PARAMS = ScanParams(background="auto", max_points=200_000)

_log = logging.getLogger(__name__)


def prepare_sample(
    scan: Scan, where: str = "scan", pose: np.ndarray | None = None, params: ScanParams = DEFAULT_SCAN_PARAMS
) -> Sample:
    """Keep the part's points and give each a normal.

    An organised scan loses its background and keeps each point's pixel; points are in row-major order. Of an
    unorganised one every finite point is taken to belong to the part, in the order of the file. A cloud of more than
    ``max_points`` of them is thinned (:func:`gsclip.data.thinning.thin`): its sample does not depend on the order of
    the file, and knows the nearest kept point of every finite point. A kept point is defective where any point is
    whose nearest it is, since a defect may be smaller than the spacing of the kept points.

    Points keep the coordinates of the scan but in two cases: a ``pose`` turns them, and puts the part's centre at the
    origin; a scan farther from its origin than :data:`FAR` times its size is moved there. Both happen in float64, so
    that a scan moved or turned as a whole gives the same sample.

    Args:
        scan: the scan, in any unit of length; points float32, or float64 where the scan is far from its origin.
        where: name of the scan in error messages, such as its path.
        pose: (3, 3) rotation from the scan's frame to the sensor frame of :mod:`gsclip.axes`, in which the cameras are
            defined: ``pose @ point`` has x to the right, y down and z away from the sensor. ``None``: they are the
            same.
        params: whether a background is removed, and from how many points on a cloud is thinned.

    Returns:
        The sample, (n, ...) arrays in one order; ``grid_mask`` is the whole ground truth of an organised scan.

    Raises:
        InputError: when the points are no (h, w, 3) or (n, 3), when the mask or the colours do not fit them, when the
            pose is no rotation, when fewer than :data:`MIN_POINTS` distinct points remain, or when they lie in one
            plane, on one line or in one place.
    """
    if scan.points.ndim not in (2, 3) or scan.points.shape[-1] != 3:
        problem = f"the points have the shape {scan.points.shape}"
        raise InputError(where, problem, "give (h, w, 3) for an organised scan or (n, 3) for a cloud")
    rotation = None if pose is None else _rotation(pose, where)
    shape = scan.points.shape[:-1]
    for name, values, expected in (("mask", scan.mask, shape), ("color image", scan.colors, (*shape, 3))):
        if values is not None and values.shape != expected:
            raise InputError(
                where,
                f"the {name} has the shape {values.shape} instead of {expected}",
                "give one value for each point",
            )
    scanned = _near_origin(scan.points)
    part = np.isfinite(scanned).all(axis=-1)
    if scan.organised and params.background == "auto":
        background = remove_background(scanned)
        _log.debug("%s: %s", where, background.note)
        part = background.part
    points = scanned[part] if rotation is None else _turned(scan.points[part], rotation)
    if not scan.organised and len(points) > params.max_points:
        return _thinned(scan, part, points, where, params.max_points)
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


class PartPoints(NamedTuple):
    """The points of a scan that belong to the part, in the order of :meth:`Sample.spread`.

    Attributes:
        points: (m, 3) float32.
        rows: (m,) int64 row of each among all points of the scan, missing ones counted; of an organised scan (h, w, 3)
            that of its points one after the other: ``row * w + column``.
        offset: (3,) float64, which was taken from the coordinates.
    """

    points: np.ndarray
    rows: np.ndarray
    offset: np.ndarray


def part_points(scan: Scan, sample: Sample) -> PartPoints:
    """Find the points of the part.

    Args:
        scan: as it was read; unorganised where the sample was thinned.
        sample: of this scan, prepared without a pose.
    """
    taken = _offset(scan.points)
    if sample.pixels is not None:
        row, column = sample.pixels.astype(np.int64).T
        return PartPoints(sample.points, row * scan.points.shape[1] + column, taken)
    scanned = _moved(scan.points, taken)
    rows = np.flatnonzero(np.isfinite(scanned).all(axis=1))
    return PartPoints(sample.points if sample.nearest is None else scanned[rows], rows, taken)


def _offset(points: np.ndarray) -> np.ndarray:
    """(3,) float64: what :func:`prepare_sample` takes from the coordinates (..., 3) of a scan; zeros near its origin.

    Centre and size are medians of the finite points: a stray point far off changes neither.
    """
    finite = points[np.isfinite(points).all(axis=-1)].astype(np.float64)
    if len(finite) > 0:
        centre: np.ndarray = np.median(finite, axis=0)
        if np.linalg.norm(centre) > FAR * np.median(np.linalg.norm(finite - centre, axis=1)):
            return centre
    return np.zeros(3)


def _thinned(scan: Scan, part: np.ndarray, points: np.ndarray, where: str, max_points: int) -> Sample:
    """Sample of a cloud with too many points; arguments as in :func:`prepare_sample`."""
    kept = thin(points, max_points)
    thinned = points[kept]
    _check_shape(thinned, where)
    _log.debug("%s: thinned from %d to %d points", where, len(points), len(kept))
    nearest = nearest_kept(points, thinned)
    mask = None if scan.mask is None else scan.mask[part]
    return Sample(
        points=thinned,
        normals=estimate_normals(thinned),
        mask=None if mask is None else any_within(mask, nearest, len(kept)),
        colors=None if scan.colors is None else scan.colors[part][kept],
        nearest=nearest,
        scan_mask=mask,
    )


def _rotation(pose: np.ndarray, where: str) -> np.ndarray:
    """(3, 3) float64; an error where it is no rotation."""
    remedy = "give a (3, 3) matrix with orthonormal rows and the determinant 1"
    try:
        rotation = np.asarray(pose, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(where, "the pose holds no numbers", remedy) from error
    if rotation.shape != (3, 3):
        raise InputError(where, f"the pose has the shape {rotation.shape}", remedy)
    # NaN compares false with everything.
    if not np.abs(rotation @ rotation.T - np.eye(3)).max() <= POSE_TOLERANCE:
        raise InputError(where, "the rows of the pose are not orthonormal", remedy)
    if np.linalg.det(rotation) < 0:
        raise InputError(where, "the pose mirrors: its determinant is -1", remedy)
    return rotation


def _near_origin(points: np.ndarray) -> np.ndarray:
    """(..., 3) float32 points, moved to the origin where they lie far from it; not finite ones stay so.

    In float64 the median of float32 numbers and the differences from it are exact: the result is the same for every
    place far away.
    """
    return _moved(points, _offset(points))


def _moved(points: np.ndarray, offset: np.ndarray) -> np.ndarray:
    if offset.any():
        return (points.astype(np.float64) - offset).astype(np.float32)
    return points.astype(np.float32, copy=False)


def _turned(points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(n, 3) float32 points turned in float64, with the middle of their extents at the origin."""
    # Centred before, for the digits of a far scan, and after, since extents depend on the direction.
    return _centred(_centred(points.astype(np.float64)) @ rotation.T).astype(np.float32)


def _centred(points: np.ndarray) -> np.ndarray:
    return points - (points.min(axis=0) + points.max(axis=0)) / 2 if len(points) else points


def _check_shape(points: np.ndarray, where: str) -> None:
    distinct = distinct_points(points).astype(np.float64)
    if len(distinct) < MIN_POINTS:
        raise InputError(
            where,
            f"only {len(distinct)} distinct points on the part",
            f"give a scan with {MIN_POINTS} or more, and the part whole in view",
        )
    deviations = np.linalg.svd(distinct - distinct.mean(axis=0), compute_uv=False)
    if not deviations[2] > MIN_RELATIVE_THICKNESS * deviations[0]:
        raise InputError(where, "all points of the part lie in one plane", "give a scan of a part that has a shape")


def assumptions(extents: np.ndarray) -> str:
    """What is assumed of scans whose unit and pose are not known, in one line.

    Args:
        extents: (s, 3) extent of each part along x, y and z, in the unit of its scan.
    """
    sides = " x ".join(f"{side:.3g}" for side in np.median(extents, axis=0))
    many = "extent" if len(extents) == 1 else f"median extent of {len(extents)} scans"
    return f"{many} {sides}: taken as it is; scores do not depend on the unit; the cameras look along +z"
