"""Separate the part from the table it lies on.

A plane is fitted to the border of the organised scan; what does not lie on it falls into components of neighbouring
pixels; every component that stays clear of the scan's edge belongs to the part, unless it is a fleck of the table.
Keeping the largest component alone would lose what lies behind a shadow, such as one half of a nut.

A fleck is where the noise of a dark table, or light that the part throws on it, rises above the gate of the plane. It
lies low *and* is full of holes; a low piece of the part is dense, a perforated one stands high. A small piece is kept
where it is high and dense and beside the part: the tip of a bent fin, of which the sensor sees little.

The gate, wide where the table is noisy, would cut the foot off a part that touches its table. From what is kept the
part grows back down: over neighbours that are smooth and dense where the table is neither, and over dense ones that
stand half a gate off it. On a table as smooth as the part only the latter grow; its gate is narrow and cuts little.
What would grow by more than a fifth is no foot but a smooth patch of the table, such as a mat: then nothing grows.

All lengths are in units of the pitch (the median distance between neighbouring pixels' points), so that the scan's
unit and resolution do not matter. The values were chosen on MVTec 3D-AD's cable_gland, where the pitch is 0.27 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, mean, median, minimum, uniform_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BORDER_SHARE = 0.1  # of the side: 40 of 400 pixels
MIN_BORDER_FILL = 0.2  # of the border's pixels: fewer belong to a part without a table (dark tables give 0.5)
MIN_PLANE_SHARE = 0.5  # of the border's points: fewer show no table
MAX_PLANE_GATE = 8.0  # pitches, 2.1 mm there: 0.1 % of that dark and uneven table rises higher
MIN_PLANE_GATE = 3.0  # pitches: a cleaner table costs less of the part's foot
PLANE_GATE_DEVIATIONS = 5.0  # standard deviations of the table, between those two
WINDOW_RADIUS = 3  # pixels: a 7 x 7 window bridges the gaps that dropout leaves
COMPONENT_GATE = 22.0  # pitches, 6 mm there: the steps between neighbours on steep slopes
MIN_COMPONENT_POINTS = 50
MAX_FLECK_HEIGHT = 1.5  # gates of the plane, the median of its points: flecks reach 1.4, most pieces of a part more
MAX_FLECK_FILL = 0.63  # of the 3 x 3 pixels around its points: flecks reach 0.54, pieces of a part begin at 0.73
MIN_PIECE_POINTS = 10  # of a small piece; sprays at the rim of a part have as many, but are thin
MIN_PIECE_FILL = 0.5  # of the 3 x 3 pixels around its points: pieces have 0.57 and more, sprays at most 0.35
PIECE_REACH = 10.0  # pixels from a small piece to the large ones: pieces reach 7.2
FOOT_FILL = 0.6  # of the 3 x 3 pixels around a point of the part's foot
FOOT_ROUGHNESS = 0.35  # of the table's: a foot has about 0.2 there; with 0.35, 57 parts without a foot grow by nothing
MIN_TABLE_ROUGHNESS = 0.1  # pitches, 0.34 there: of a smoother table, 0.001 in rendered scans, no smooth foot is told
FOOT_GATE = 0.5  # gates of the plane: 2.5 standard deviations of the table, as a rule
FOOT_STEP = 4.0  # pitches between neighbours, the 99th percentile on parts
MAX_FOOT_SHARE = 0.2  # of the part: feet have up to 0.023 there
MIN_CLEAR_SHARE = 0.05  # of what the edge cuts: less is crumbs beside a part larger than the view
RANSAC_TRIALS = 200
RANSAC_POINTS = 2000


@dataclass(frozen=True)
class Background:
    """What :func:`remove_background` found.

    Attributes:
        part: (h, w) bool, true on the points of the part; false where there is no point.
        plane: (4,) float64 ``(a, b, c, d)``, unit normal towards the sensor, ``a x + b y + c z + d = 0`` on the
            table; ``None`` where the border shows no plane.
        note: one line on what was done, for logs and reports.
    """

    part: np.ndarray
    plane: np.ndarray | None
    note: str


def remove_background(points: np.ndarray) -> Background:
    """Find the part in an organised scan.

    Without a plane at the border every finite point is kept. Where next to nothing off the plane is clear of the
    edge, the components that the edge cuts are kept too (a part larger than the view), and where there are none
    either, every finite point; ``note`` tells.

    Args:
        points: (h, w, 3) float, sensor frame, NaN where there is no measurement.

    Returns:
        The part's mask, the table's plane and a note. Same points, same result: the plane's random trials are
        seeded.

    Raises:
        ValueError: when ``points`` is not (h, w, 3).
    """
    if points.ndim != 3 or points.shape[2] != 3:
        raise ValueError(f"background removal needs an organised scan (h, w, 3), got {points.shape}")
    finite = np.isfinite(points).all(axis=2)
    pitch = _pitch(points)
    frame = _frame(finite.shape, BORDER_SHARE)
    border = finite & frame
    if not pitch > 0 or border.sum() < MIN_BORDER_FILL * frame.sum():
        return Background(finite, None, "hardly a point at the border, so no table: all finite points kept")
    plane = _fit_plane(points[border].astype(np.float64), MAX_PLANE_GATE * pitch)
    if plane is None:
        return Background(finite, None, "the border shows no plane: all finite points kept")

    height = np.zeros(finite.shape)
    height[finite] = np.abs(points[finite] @ plane[:3] + plane[3])
    deviation = 1.4826 * np.median(height[border])  # standard deviation of a normal distribution, robustly
    gate = np.clip(PLANE_GATE_DEVIATIONS * deviation, MIN_PLANE_GATE * pitch, MAX_PLANE_GATE * pitch)
    off_plane = finite & (height > gate)
    labels = _components(points, off_plane, COMPONENT_GATE * pitch, WINDOW_RADIUS)
    sizes = np.bincount(labels[off_plane], minlength=1)
    large = sizes >= MIN_COMPONENT_POINTS
    large[_flecks(labels, off_plane, height / gate, sizes)] = False
    cut = np.zeros(len(sizes), dtype=bool)
    cut[labels[off_plane & _frame(finite.shape, 0.0)]] = True
    clear = large & ~cut
    if sizes[clear].sum() > MIN_CLEAR_SHARE * sizes[large & cut].sum():
        kept, note = clear, "table removed; components clear of the edge kept"
    else:
        kept, note = large, "table removed; the part reaches the edge of the scan"
    kept[_small_pieces(labels, off_plane, height / gate, sizes, kept)] = True
    part = off_plane & kept[np.where(off_plane, labels, 0)]
    if not part.any():
        return Background(finite, plane, "nothing stands off the plane: all finite points kept")
    foot = finite & ~off_plane & _foot(points @ plane[:3] + plane[3], finite, border, gate, pitch)
    joined = _components(points, part | foot, FOOT_STEP * pitch, 1)
    foot &= np.isin(joined, joined[part])
    if foot.sum() <= MAX_FOOT_SHARE * part.sum():
        part |= foot
    return Background(part, plane, f"{note} ({int(kept.sum())} components, {int(part.sum())} points)")


def _pitch(points: np.ndarray) -> float:
    """Median distance between horizontal and vertical neighbours; NaN where no two neighbours are finite."""
    steps = np.concatenate([np.linalg.norm(np.diff(points, axis=axis), axis=2).ravel() for axis in (0, 1)])
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) if steps.size else float("nan")


def _frame(shape: tuple[int, ...], share: float) -> np.ndarray:
    """(h, w) bool, true within ``share`` of the side from the edge; the outermost ring at least."""
    rows, columns = (max(1, round(share * side)) for side in shape)
    frame = np.ones(shape, dtype=bool)
    frame[rows:-rows, columns:-columns] = False
    return frame


def _fit_plane(points: np.ndarray, gate: float) -> np.ndarray | None:
    """Plane (4,) with most of ``points`` (n, 3) within ``gate``, its normal towards the sensor at the origin.

    RANSAC (Fischler and Bolles, 1981) on an even selection of the points, then least squares on the inliers.
    """
    selection = points[:: max(1, len(points) // RANSAC_POINTS)]
    trials = selection[np.random.default_rng(0).integers(len(selection), size=(RANSAC_TRIALS, 3))]
    normals = np.cross(trials[:, 1] - trials[:, 0], trials[:, 2] - trials[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    usable = lengths > gate**2  # else the three points are too close together, or in line
    if not usable.any():
        return None
    normals = normals[usable] / lengths[usable, None]
    distances = np.abs(normals @ selection.T - np.sum(normals * trials[usable, 0], axis=1)[:, None])
    best = int(np.count_nonzero(distances < gate, axis=1).argmax())
    normal, centre = normals[best], trials[usable][best, 0]
    for _ in range(3):
        inliers = points[np.abs((points - centre) @ normal) < gate]
        centre = inliers.mean(axis=0)
        normal = np.linalg.eigh(np.cov((inliers - centre).T))[1][:, 0]
    if np.mean(np.abs((points - centre) @ normal) < gate) < MIN_PLANE_SHARE:
        return None
    if normal[2] > 0:  # z points away from the sensor
        normal = -normal
    return np.append(normal, -normal @ centre)


def _components(points: np.ndarray, members: np.ndarray, gate: float, radius: int) -> np.ndarray:
    """Label (h, w) int64 the components of ``members``; -1 outside ``members``.

    Two members are connected when they lie in one window of ``radius`` pixels and not farther apart than ``gate``.
    Direct neighbours are joined first: what remains to be compared over longer offsets is little.
    """
    offsets = [
        (row, column)
        for row in range(radius + 1)
        for column in range(-radius, radius + 1)
        if row > 0 or column > 0
    ]
    near = [offset for offset in offsets if max(map(abs, offset)) == 1]
    far = [offset for offset in offsets if offset not in near]
    labels = np.full(members.shape, -1, dtype=np.int64)
    labels[members] = np.arange(members.sum())
    # Beyond the box about them there is nothing to compare.
    box = find_objects(members.astype(np.int8))[0] if members.any() else np.s_[:0, :0]
    for group in filter(None, (near, far)):
        edges = np.concatenate([_edges(points[box], labels[box], offset, gate) for offset in group], axis=1)
        count = int(labels.max(initial=-1)) + 1
        graph = coo_array((np.ones(edges.shape[1], dtype=np.int8), tuple(edges)), shape=(count, count))
        labels[members] = connected_components(graph, directed=False)[1][labels[members]]
    return labels


def _flecks(labels: np.ndarray, off_plane: np.ndarray, gates: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Labels of the components that belong to the table; see the head of this module.

    The largest component is none: where all of the part is low and full of holes, it is still the part.

    Args:
        labels: (h, w) component of each pixel in ``off_plane``.
        off_plane: (h, w) pixels whose point passes the gate.
        gates: (h, w) distance from the plane in gates.
        sizes: number of points of each component.
    """
    candidates = np.flatnonzero((sizes >= MIN_COMPONENT_POINTS) & (sizes < sizes.max()))
    if not candidates.size:
        return candidates
    members = labels[off_plane]
    fill = uniform_filter(off_plane.astype(np.float64), 3)
    low = median(gates[off_plane], members, candidates) < MAX_FLECK_HEIGHT
    sparse = mean(fill[off_plane], members, candidates) < MAX_FLECK_FILL
    return candidates[low & sparse]


def _small_pieces(
    labels: np.ndarray, off_plane: np.ndarray, gates: np.ndarray, sizes: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Labels of small components that belong to the part; see the head of this module.

    Args:
        labels: (h, w) component of each pixel in ``off_plane``.
        off_plane: (h, w) pixels whose point passes the gate.
        gates: (h, w) distance from the plane in gates.
        sizes: number of points of each component.
        kept: whether each component is kept already.
    """
    candidates = np.flatnonzero((sizes >= MIN_PIECE_POINTS) & (sizes < MIN_COMPONENT_POINTS))
    if not candidates.size or not kept.any():
        return candidates[:0]
    members = labels[off_plane]
    fill = uniform_filter(off_plane.astype(np.float64), 3)
    away = distance_transform_edt(~(off_plane & kept[np.where(off_plane, labels, 0)]))
    high = median(gates[off_plane], members, candidates) > MAX_FLECK_HEIGHT
    dense = mean(fill[off_plane], members, candidates) > MIN_PIECE_FILL
    near = minimum(away[off_plane], members, candidates) < PIECE_REACH
    return candidates[high & dense & near]


def _foot(heights: np.ndarray, finite: np.ndarray, border: np.ndarray, gate: float, pitch: float) -> np.ndarray:
    """(h, w) bool, points that may be the part's foot; see the head of this module.

    Args:
        heights: (h, w) distance from the table's plane, positive towards the sensor, NaN where there is no point.
        finite: (h, w) pixels with a point.
        border: (h, w) those at the border, which show the table.
        gate: distance from the plane within which points were taken for the table.
        pitch: distance between neighbouring points.
    """
    heights = np.where(finite, heights, 0.0)
    fill = uniform_filter(finite.astype(np.float64), 3, mode="constant")
    filled = np.maximum(fill, 1 / 9)  # of a pixel with a point it is never less
    # On a plane, tilted or not, a point lies at the mean of its neighbours.
    offset = np.where(finite, np.abs(heights - uniform_filter(heights, 3, mode="constant") / filled), 0.0)
    roughness = uniform_filter(offset, 3, mode="constant") / filled
    of_table = np.median(roughness[border])
    smooth = (roughness < FOOT_ROUGHNESS * of_table) & (fill > FOOT_FILL) & (of_table > MIN_TABLE_ROUGHNESS * pitch)
    standing = finite & (heights > FOOT_GATE * gate)  # above the table, never in a dip of it
    return smooth | (standing & (uniform_filter(standing.astype(np.float64), 3, mode="constant") > FOOT_FILL))


def _edges(points: np.ndarray, labels: np.ndarray, offset: tuple[int, int], gate: float) -> np.ndarray:
    """(2, m) pairs of different labels whose points are ``offset`` apart on the grid and within ``gate``."""
    rows, columns = offset
    height, width = labels.shape
    if height <= rows or width <= abs(columns):
        return np.empty((2, 0), dtype=labels.dtype)
    here = (slice(0, height - rows), slice(max(0, -columns), width - max(0, columns)))
    there = (slice(rows, height), slice(max(0, columns), width + min(0, columns)))
    first, second = labels[here], labels[there]
    pairs = (first >= 0) & (second >= 0) & (first != second)
    close = np.linalg.norm(points[here][pairs] - points[there][pairs], axis=1) < gate
    return np.stack([first[pairs][close], second[pairs][close]])
