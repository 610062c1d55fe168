"""Checks of a scan before it is used: each has a name, and says what is wrong and what to do about it.

=============  ================================================================================================
name           the scan ...
=============  ================================================================================================
readable       can be read at all: file, format, mask and colour image; the readers find this
preparation    becomes a sample; :func:`gsclip.data.preparation.prepare_sample` finds this
organised      has points (h, w, 3) with a grid worth the name, or (n, 3)
mask size      has one value of the mask for each point
colours        has 8 bit colours, one for each point
finite         has a measurement at enough of its points
points         has enough distinct points
scale          has coordinates that 32 bit numbers can hold and tell apart
extent         does not lie on one line, or in one place
coplanar       does not lie in one plane
mask           has a mask that agrees with its label
duplicate      is not the same as another one of the data set; see :class:`Duplicates`
=============  ================================================================================================
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from gsclip.data.preparation import MIN_RELATIVE_THICKNESS
from gsclip.data.sample import Scan
from gsclip.data.scan_files import MIN_POINTS, count_distinct
from gsclip.errors import GsclipError, InputError, printable

if TYPE_CHECKING:
    import pandas as pd

READABLE, PREPARATION, DUPLICATE = "readable", "preparation", "duplicate"
REJECTED_FILE = "rejected.csv"
REJECTED_COLUMNS = ("name", "path", "check", "problem", "remedy")

MIN_GRID_SIDE = 3  # pixels: with fewer, a point has no neighbours on two sides
MAX_MISSING_CLOUD = 0.5  # share of a cloud's rows: nobody writes so many empty ones on purpose
MAX_MISSING_GRID = 0.998  # share of an organised scan's pixels: small parts without background fill 1 % of theirs
MIN_EXTENT, MAX_EXTENT = 1e-9, 1e9  # in the scan's unit, whatever it is: squares of lengths must fit in float32
MIN_STEPS = 1000  # of the coordinates' last digit along the largest extent
Finding = tuple[str, str]  # problem and remedy


def check_organised(scan: Scan) -> Finding | None:
    """Points are (h, w, 3) with sides of at least :data:`MIN_GRID_SIDE`, or (n, 3)."""
    shape = scan.points.shape
    size = " x ".join(map(str, shape))
    if len(shape) not in (2, 3) or shape[-1] != 3:
        return f"the points have the shape {size}", "give height x width x 3, or n x 3"
    if scan.organised and min(shape[:2]) < MIN_GRID_SIDE:
        return f"the grid has the size {shape[0]} x {shape[1]}", "save an unorganised scan as n x 3"
    return None


def check_mask_size(scan: Scan) -> Finding | None:
    """The mask, where there is one, has a value for each point."""
    if scan.mask is None or scan.mask.shape == scan.points.shape[:-1]:
        return None
    sizes = [" x ".join(map(str, shape)) for shape in (scan.mask.shape, scan.points.shape[:-1])]
    return f"the mask has {sizes[0]} values and the scan {sizes[1]} points", "give the mask that belongs to the scan"


def check_colours(scan: Scan) -> Finding | None:
    """Colours, where there are some, are 8 bit and one for each point."""
    colors = scan.colors
    if colors is None:
        return None
    if colors.shape != scan.points.shape:
        return "there is not one colour for each point", "give the colours that belong to the scan"
    if colors.dtype != np.uint8:
        return f"colours are {colors.dtype} instead of 0..255", "save them as 8 bit values"
    return None


def check_finite(scan: Scan) -> Finding | None:
    """Enough points are finite."""
    missing = 1 - _finite(scan).mean() if scan.points.size else 1.0
    if missing > (MAX_MISSING_GRID if scan.organised else MAX_MISSING_CLOUD):
        return f"{100 * missing:.4g} % of the points are missing (NaN, infinite or zero)", "scan or export it again"
    return None


def check_points(scan: Scan) -> Finding | None:
    """At least :data:`~gsclip.data.scan_files.MIN_POINTS` points are distinct."""
    distinct = count_distinct(_points(scan))
    if distinct < MIN_POINTS:
        return f"has only {distinct} distinct points", f"give a scan with {MIN_POINTS} or more"
    return None


def check_scale(scan: Scan) -> Finding | None:
    """The extent is neither absurdly small nor large, and the coordinates are fine enough to tell points apart."""
    points = _points(scan)
    extent = float(np.ptp(points.astype(np.float64), axis=0).max())
    if 0 < extent < MIN_EXTENT or extent > MAX_EXTENT:
        return f"the extent of {extent:.3g} is absurd", f"save it in a unit that gives {MIN_EXTENT:g} to {MAX_EXTENT:g}"
    step = float(np.spacing(np.abs(points).max()))
    if 0 < extent < MIN_STEPS * step:
        return (
            f"coordinates up to {np.abs(points).max():.3g} in steps of {step:.2g} cannot tell the points of an extent "
            f"of {extent:.3g} apart",
            "move it to the origin before it is saved, or save it with 64 bits",
        )
    return None


def check_extent(scan: Scan) -> Finding | None:
    """Points do not all lie on one line."""
    first, second, _ = _deviations(scan)
    if not second > MIN_RELATIVE_THICKNESS * first:
        return "all points lie on one line or in one place", "give a scan of a part that has a shape"
    return None


def check_coplanar(scan: Scan) -> Finding | None:
    """Points do not all lie in one plane."""
    first, _, third = _deviations(scan)
    if not third > MIN_RELATIVE_THICKNESS * first:
        return "all points lie in one plane", "give a scan of a part that has a shape"
    return None


def check_mask(scan: Scan, label: int) -> Finding | None:
    """The mask, where there is one, marks something on a defective scan and nothing on a good one."""
    if scan.mask is None or scan.mask.any() == bool(label):
        return None
    if label:
        return "the label says defect and the mask marks nothing", "correct one of them, or take the mask away"
    return f"the label says good and the mask marks {int(scan.mask.sum())} points", "correct one of them"


# In this order; those from `finite` on need the shapes to be right, those from `scale` on need points.
CHECKS: Mapping[str, Callable[[Scan], Finding | None]] = MappingProxyType(
    {
        "organised": check_organised,
        "mask size": check_mask_size,
        "colours": check_colours,
        "finite": check_finite,
        "points": check_points,
        "scale": check_scale,
        "extent": check_extent,
        "coplanar": check_coplanar,
    }
)
_SHAPES, _AMOUNT = ("organised", "mask size", "colours"), ("finite", "points")


def find_problems(scan: Scan, where: str, label: int | None = None) -> list[InputError]:
    """Run all checks that need one scan alone.

    Args:
        scan: as read.
        where: name of the scan in messages, such as its path.
        label: 0 or 1 where the mask has to agree with it; ``None``: it has not.

    Returns:
        All problems, most basic first; checks that make no sense after one of them are left out.
    """
    found: list[InputError] = []
    for names in (_SHAPES, _AMOUNT, [name for name in CHECKS if name not in _SHAPES + _AMOUNT]):
        for name in names:
            finding = CHECKS[name](scan)
            if finding is not None:
                found.append(InputError(where, *finding, name))
                if name in ("organised", "extent", "scale"):
                    break
        if found:
            break
    if label is not None and not any(error.check in ("organised", "mask size") for error in found):
        finding = check_mask(scan, label)
        if finding is not None:
            found.append(InputError(where, *finding, "mask"))
    return found


def usable(scan: Scan, where: str, label: int | None = None) -> Scan:
    """Return the scan; raise the first of :func:`find_problems`.

    Raises:
        InputError: when a check fails.
    """
    for error in find_problems(scan, where, label):
        raise error
    return scan


def fingerprint(scan: Scan) -> str:
    """Hexadecimal digest of a scan's points: two scans have the same one when their points are the same bits."""
    digest = hashlib.sha256(repr((scan.points.shape, str(scan.points.dtype))).encode())
    digest.update(np.ascontiguousarray(scan.points).tobytes())
    return digest.hexdigest()


class Duplicates:
    """Finds scans with the same points; memory grows with the number of scans alone.

    Scans come one after the other, with :meth:`add`: those that pass all other checks, in the order of the index. Of
    scans with the same points and the same label the first stays. Where the labels differ, it is not known which one is
    right: none of them stays.
    """

    def __init__(self) -> None:
        self._alike: dict[str, list[tuple[str, str, int]]] = defaultdict(list)

    def add(self, fingerprint: str, name: str, path: str, label: int) -> bool:
        """Take in a scan; false where it does not stay. One that came first may be found by :meth:`errors` later.

        Args:
            fingerprint: of the scan, by :func:`fingerprint`.
            name: of the sample.
            path: of the scan, for messages of others.
            label: 0 or 1.
        """
        alike = self._alike[fingerprint]
        alike.append((name, path, label))
        return len(alike) == 1

    def errors(self) -> dict[str, InputError]:
        """What is wrong with each scan, by name, that does not stay among those that have come."""
        return {name: error for alike in self._alike.values() for name, error in _duplicate_errors(alike)}


def _duplicate_errors(alike: Sequence[tuple[str, str, int]]) -> Iterator[tuple[str, InputError]]:
    """Names and errors, from names, paths and labels of scans with the same points."""
    first = {label: path for _, path, label in reversed(alike)}
    if len(first) == 1:
        for name, _, label in alike[1:]:
            yield name, InputError(name, f"holds the same points as {first[label]}", "keep one of them", DUPLICATE)
        return
    for name, _, label in alike:
        problem = f"holds the same points as {first[1 - label]}, which counts as {'good' if label else 'defective'}"
        remedy = "find out which of the two labels is right, and take the other scan away"
        yield name, InputError(name, problem, remedy, DUPLICATE)


def named(error: GsclipError, check: str) -> GsclipError:
    """Return the error with the name of a check, where it has none yet."""
    if isinstance(error, InputError) and not error.check:
        return InputError(error.where, error.problem, error.remedy, check)
    return error


def rejected_row(name: str, path: str, error: GsclipError) -> dict[str, str]:
    """Row of ``rejected.csv``.

    Args:
        name: of the sample.
        path: of its scan, where the error names no file.
        error: why it is set aside.
    """
    values = ("", str(error), "")
    if isinstance(error, InputError):
        path = path if error.where == printable(name) else error.where
        values = (error.check, error.problem, error.remedy)
    return dict(zip(REJECTED_COLUMNS, (name, path, *values), strict=True))


def rejected_table(rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Table of ``rejected.csv``, columns :data:`REJECTED_COLUMNS`; see :func:`rejected_rows`."""
    import pandas as pd

    return pd.DataFrame(rejected_rows(rows), columns=list(REJECTED_COLUMNS))


def rejected_rows(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Rows as ``rejected.csv`` holds them: names of any bytes become text."""
    return [{column: printable(row[column]) for column in REJECTED_COLUMNS} for row in rows]


def _finite(scan: Scan) -> np.ndarray:
    return np.isfinite(scan.points).all(axis=-1)


def _points(scan: Scan) -> np.ndarray:
    """(n, 3) finite points."""
    return scan.points[_finite(scan)]


def _deviations(scan: Scan) -> np.ndarray:
    """(3,) standard deviations along the principal axes, largest first, up to a factor."""
    points = _points(scan).astype(np.float64)
    points -= points.mean(axis=0)
    largest = np.abs(points).max()
    # The triangular factor has the singular values of the points, and 3 x 3 numbers.
    return np.linalg.svd(np.linalg.qr(points / largest if largest > 0 else points, mode="r"), compute_uv=False)
