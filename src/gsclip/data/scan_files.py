"""Read scans, masks and colour images from files of the usual formats.

===============================  ==============================================================================
extension                        content
===============================  ==============================================================================
``.tiff`` ``.tif``               (h, w, 3) float, organised: one point for each pixel
``.npy`` ``.npz``                (h, w, 3) organised or (n, 3) float; in ``.npz`` under the key ``points``
``.png`` with a camera file      depth image, organised; see :mod:`gsclip.data.depth_images`
``.ply`` ``.pcd`` ``.xyz``       point cloud, with colours where the file has them; ``.pcd`` with a HEIGHT above 1
``.xyzrgb`` ``.pts``             is organised
``.ply`` with triangles,         mesh: 50,000 points spread evenly over its surface; without triangles, a cloud
``.obj`` ``.stl`` ``.off``
===============================  ==============================================================================

Files come from anywhere: whatever their bytes are, a scan or an :class:`~gsclip.errors.InputError` comes out.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gsclip.data.cloud_files import (
    MAX_POINTS,
    PARSERS,
    Cloud,
    ColorError,
    CommaError,
    IncompleteError,
    TooManyError,
    parse,
)
from gsclip.data.sample import Scan
from gsclip.errors import InputError

MIN_POINTS = 100  # distinct ones; with fewer, a surface and its normals cannot be told
MESH_POINTS = 50_000  # about twice what a real part has on a 400 x 400 scan
MAX_BYTES = 2**31  # of a file: 50 million points as text
MAX_PAGES = 20_000  # of a TIFF: rows of the scan, where each has a page
MAX_COMPRESSION = 2000  # Deflate reaches 1032: a file that promises more does not hold it
_PICTURES = ("PNG", "TIFF", "BMP", "JPEG")  # of Pillow's formats; some of the others start programs
# Of a scan's size: where float32 rounds coordinates by more, they stay float64 until the scan is moved to its origin.
MAX_ROUNDING = 2e-5

_TRIANGLES = 500_000  # of a mesh that are measured at a time

_IMAGES = (".tiff", ".tif")
_ARRAYS = (".npy", ".npz")
DEPTH_IMAGES = (".png",)
_MESHES = (".obj", ".stl", ".off")
LASER_SCANS = (".las", ".laz")
_CLOUDS = tuple(extension for extension in PARSERS if extension not in _MESHES)
SCAN_EXTENSIONS = _IMAGES + _ARRAYS + _CLOUDS + _MESHES
NAMED_AS_SCANS = SCAN_EXTENSIONS + DEPTH_IMAGES + LASER_SCANS  # whether they can be read or not


def is_scan_file(path: Path) -> bool:
    """Whether a file is named as a scan: by its extension, a ``.png`` also needs a camera file."""
    from gsclip.data.depth_images import find_camera_file

    extension = path.suffix.lower()
    return extension in SCAN_EXTENSIONS or (extension in DEPTH_IMAGES and find_camera_file(path) is not None)


def looks_like_scan(path: Path) -> bool:
    """Whether a file has an extension of scans, be it one that cannot be read or a ``.png`` without a camera file."""
    return path.suffix.lower() in NAMED_AS_SCANS


def is_named_as_scan(path: Path, *, folder: bool) -> bool:
    """Like :func:`looks_like_scan`; a folder that is named so has to be told, unless it has an extension of pictures.

    Args:
        path: of a file or a folder.
        folder: which one it is.
    """
    return path.suffix.lower() in SCAN_EXTENSIONS if folder else looks_like_scan(path)


def read_scan(path: str | Path) -> Scan:
    """Read one scan.

    Organised scans get NaN where there is no measurement: at (0, 0, 0), the mark of MVTec 3D-AD, and wherever a
    coordinate is not finite. Unorganised clouds keep every row, so that labels by row stay valid; only what is not
    finite becomes NaN.

    Args:
        path: a file with one of :data:`SCAN_EXTENSIONS`, or a depth image ``.png``, in upper or lower case.

    Returns:
        Scan with float32 points and, where the file has them, colours; without a mask. Points stay float64 where
        float32 would round them by more than :data:`MAX_ROUNDING` of the scan's size.

    Raises:
        InputError: when the file is missing, empty, broken, too large, of an unknown kind or does not hold what its
            extension says, or has fewer than :data:`MIN_POINTS` distinct points.
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension in LASER_SCANS:
        remedy = "export it as .ply or .xyz"
        raise InputError(path, "no installed library reads LAS and LAZ files", remedy, "readable")
    if extension not in SCAN_EXTENSIONS + DEPTH_IMAGES:
        known = f"use one of {', '.join(SCAN_EXTENSIONS)}, or .png with a camera file"
        raise InputError(path, "unknown kind of scan file", known, "readable")
    check_file(path, "scan")
    colors: np.ndarray | None = None
    sampled = False
    if extension in _IMAGES:
        points = _check_array(path, _read_tiff(path), organised=True)
    elif extension in _ARRAYS:
        points = _check_array(path, read_array(path), organised=False)
    elif extension in DEPTH_IMAGES:
        from gsclip.data.depth_images import read_depth

        points = read_depth(path)
    else:
        points, colors, sampled = _read_cloud(path, extension)
    missing = ~np.isfinite(points).all(axis=-1)
    if points.ndim == 3:
        missing |= (points == 0).all(axis=-1)
    with np.errstate(all="ignore"):  # values beyond float32, and NaN of any kind
        single = points.astype(np.float32, copy=not points.flags.writeable)
    missing |= ~np.isfinite(single).all(axis=-1)
    if points.dtype.itemsize > 4 and rounding_matters(points[~missing]):
        points = np.array(points, dtype=np.float64)
    else:
        points = single
    np.copyto(points, np.nan, where=missing[..., None])
    distinct = _count_present(points, missing)
    if distinct < MIN_POINTS:
        remedy = f"give a scan with {MIN_POINTS} or more"
        raise InputError(path, f"has only {distinct} distinct points", remedy, "points")
    return Scan(points=points, colors=colors, sampled=sampled)


def _count_present(points: np.ndarray, missing: np.ndarray) -> int:
    """Like :func:`count_distinct` of the points that are not missing; selects few of them where these are enough."""
    step = max(1, missing.size // (20 * MIN_POINTS))
    some = points.reshape(-1, 3)[::step][~missing.reshape(-1)[::step]]
    few = len(np.unique(some, axis=0))
    return few if few >= MIN_POINTS else count_distinct(points[~missing])


def rounding_matters(points: np.ndarray) -> bool:
    """Whether float32 rounds finite points (n, 3) by a length that matters, :data:`MAX_ROUNDING` of their size."""
    if not len(points):
        return False
    centre = np.median(points, axis=0)
    size = np.median(np.abs(points - centre).max(axis=1))
    return bool(np.spacing(np.abs(centre).max().astype(np.float32)) > MAX_ROUNDING * size)


def count_distinct(points: np.ndarray) -> int:
    """Count distinct rows of (n, 3) points; where there are :data:`MIN_POINTS`, not necessarily all of them."""
    few = len(np.unique(points[:: max(1, len(points) // (20 * MIN_POINTS))], axis=0))
    return few if few >= MIN_POINTS else len(np.unique(points, axis=0))


def read_mask(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a ground-truth image; any value above 0 is a defect (MVTec 3D-AD stores class numbers).

    Args:
        path: PNG or another image file.
        shape: (h, w) of the scan it belongs to.

    Returns:
        (h, w) bool, true on defects.

    Raises:
        InputError: when the file is missing, no image, or of another size than the scan.
    """
    image = open_image(Path(path), "mask", shape)
    bands = image.getbands()
    values = np.asarray(image)
    if "A" in bands:  # opaque everywhere, as a rule: says nothing about defects
        values = values[..., : bands.index("A")]
    return np.asarray(values.reshape(*shape, -1).any(axis=2))


def read_color(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the colour image that belongs to an organised scan.

    Args:
        path: PNG or another image file; grey images are taken as colours.
        shape: (h, w) of the scan it belongs to.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        InputError: when the file is missing, no image, or of another size than the scan.
    """
    return np.array(open_image(Path(path), "color image", shape).convert("RGB"))


def check_file(path: Path, kind: str) -> None:
    """Refuse what cannot be opened and read to its end."""

    def refuse(problem: str, remedy: str) -> InputError:
        return InputError(path, problem, remedy, "readable")

    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise refuse("has a name that is not UTF-8", "rename it") from error
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
    except (OSError, ValueError) as error:
        if path_is_link(path):
            raise refuse("is a link that leads to no file", "copy the file itself") from error
        raise refuse(f"{kind} file not found", "check the path") from error
    if stat.S_ISDIR(mode):
        raise refuse("is a folder", f"name a {kind} file in it")
    if not stat.S_ISREG(mode):
        raise refuse("is a pipe or a device, no file", "copy its content to a file")
    if not os.access(path, os.R_OK):
        raise refuse(f"{kind} file cannot be read", "check its permissions")
    if size == 0:
        raise refuse(f"{kind} file is empty", "copy or export it again")
    if size > MAX_BYTES:
        raise refuse(f"{kind} file has {size / 2**30:.1f} GiB, more than {MAX_BYTES / 2**30:g}", "thin it out")


def path_is_link(path: Path) -> bool:
    """Whether the path itself is a symbolic link; never an error."""
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def _broken(path: Path, kind: str) -> InputError:
    remedy = "copy or export it again, or correct its extension"
    return InputError(path, f"cannot be read as {kind}", remedy, "readable")


def _too_large(path: Path, shape: tuple[int, ...]) -> InputError:
    size = " x ".join(map(str, shape))
    return InputError(path, f"says to hold {size} values, more than can be read", "thin it out", "readable")


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    try:
        # tifffile logs each oddity of a damaged file; the error says enough.
        with _silent("tifffile"), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            with tifffile.TiffFile(path) as file:
                page = file.pages[0]
                if len(page.shape) != 3:  # one page for each row, or the like
                    _check_pages(path)
                    page = file.series[0]
                shape = tuple(int(side) for side in page.shape)
                if math.prod(shape) > 3 * MAX_POINTS:
                    raise _too_large(path, shape)
                if math.prod(shape) * page.dtype.itemsize > MAX_COMPRESSION * path.stat().st_size:
                    raise _broken(path, "TIFF")
                return np.asarray(page.asarray(maxworkers=1))
    except InputError:
        raise
    except Exception as error:  # the decoders' errors have no common base
        raise _broken(path, "TIFF") from error


def _check_pages(path: Path) -> None:
    """Follow the chain of a TIFF's pages; raise ValueError where it comes back to a page (tifffile would go round)."""
    content = path.read_bytes()
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    link, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (place,) = struct.unpack_from(order + link, content, 8 if big else 4)
    seen: set[int] = set()
    while place:
        if place in seen or len(seen) >= MAX_PAGES:
            raise ValueError("pages in a circle")
        seen.add(place)
        (tags,) = struct.unpack_from(order + count, content, place)
        (place,) = struct.unpack_from(order + link, content, place + struct.calcsize(order + count) + entry * tags)


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep a library's log quiet."""
    log = logging.getLogger(name)
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled


def read_array(path: Path, key: str = "points") -> np.ndarray:
    """Read an array from ``.npy``, or under ``key`` from ``.npz``; objects are never unpickled.

    Raises:
        InputError: when the file is broken, holds objects, is too large or lacks the key.
    """
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".npy" and not zipfile.is_zipfile(path):
                return _array_of(path, file)
            with zipfile.ZipFile(file) as archive:
                names = {name.removesuffix(".npy"): name for name in archive.namelist()}
                if key not in names:
                    remedy = f"save it with numpy.savez(file, {key}=array)"
                    raise InputError(path, f"has no array {key!r}", remedy, "readable")
                with archive.open(names[key]) as member:
                    return _array_of(path, member)
    except InputError:
        raise
    except Exception as error:  # of headers, archives and compression: no common base
        raise _broken(path, "a NumPy array of numbers") from error


def _array_of(path: Path, file: BinaryIO | Any) -> np.ndarray:  # noqa: ANN401 - zipfile's members are streams too
    """Array of a stream in NumPy's format. The header is read first: memory is taken for what is there alone."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape, fortran, kind = read_header(file)
    if kind.hasobject or kind.itemsize == 0 or any(side < 0 for side in shape):
        raise ValueError("no numbers")
    if math.prod(shape) * kind.itemsize > 24 * MAX_POINTS:
        raise _too_large(path, shape)
    size = math.prod(shape) * kind.itemsize
    content = file.read(size)
    if len(content) < size:
        raise ValueError("ends too early")
    array = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")
    return array.astype(kind.newbyteorder("="), copy=False) if kind.names is None else array


def _check_array(path: Path, array: np.ndarray, organised: bool) -> np.ndarray:
    """Return ``array`` if it is float and (h, w, 3), or (n, 3) unless ``organised``."""
    expected = "height x width x 3" if organised else "height x width x 3 or n x 3"
    if array.dtype.kind != "f":
        remedy = f"save x, y, z, {expected} float32"
        raise InputError(path, f"holds {array.dtype} instead of float coordinates", remedy, "readable")
    if array.ndim not in ((3,) if organised else (2, 3)) or array.shape[-1] != 3:
        shape = " x ".join(map(str, array.shape))
        raise InputError(path, f"has the shape {shape}", f"save x, y, z as {expected}", "organised")
    return array


def read_cloud_file(path: Path) -> Cloud:
    """Read a cloud or mesh as it is in the file.

    Raises:
        InputError: when it is broken, has colours out of range or more than :data:`MAX_POINTS` points.
    """
    extension = path.suffix.lower()
    try:
        cloud = parse(path.read_bytes(), extension)
    except (IncompleteError, TooManyError, ColorError, CommaError) as error:
        problem, remedy = error.args
        check = "colours" if isinstance(error, ColorError) else "readable"
        raise InputError(path, problem, remedy, check) from error
    except (OSError, ValueError, MemoryError) as error:
        raise _broken(path, extension[1:].upper()) from error
    if len(cloud.points) > MAX_POINTS:
        raise _too_large(path, cloud.points.shape)
    return cloud


def _read_cloud(path: Path, extension: str) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Points float64, uint8 colours, and whether they were sampled on a mesh; (h, w, 3) if organised, else (n, 3)."""
    cloud = read_cloud_file(path)
    points, colors = cloud.points, cloud.colors
    if cloud.triangles is not None:
        points, colors = _sample_mesh(points, cloud.triangles, colors)
    if len(points) == 0:
        raise _broken(path, extension[1:].upper())
    if colors is not None:
        colors = np.clip(np.rint(colors * 255), 0, 255).astype(np.uint8)
    if cloud.grid is not None:
        points, colors = points.reshape(*cloud.grid, 3), None if colors is None else colors.reshape(*cloud.grid, 3)
    return points, colors, cloud.triangles is not None


def _sample_mesh(
    vertices: np.ndarray, triangles: np.ndarray, vertex_colors: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Spread :data:`MESH_POINTS` points over a mesh: each has an equal share of the area to itself.

    Args:
        vertices: (v, 3) float64; triangles with one that is not finite are left out.
        triangles: (t, 3) rows of ``vertices``.
        vertex_colors: (v, 3) in 0..1, or ``None``.

    Returns:
        (m, 3) float64 points and (m, 3) colours in 0..1 or ``None``; m is 0 when the mesh has no area.
    """
    largest = 0.0
    areas = np.empty(len(triangles))
    blocks = [slice(start, start + _TRIANGLES) for start in range(0, len(triangles), _TRIANGLES)]
    for block in blocks:
        lengths = np.abs(vertices[triangles[block]])
        largest = max(largest, float(np.max(lengths, initial=0.0, where=np.isfinite(lengths))))
    with np.errstate(all="ignore"):
        for block in blocks:
            # Relative to the largest length: areas of very large meshes would overflow.
            scaled = vertices[triangles[block]] / largest
            sides = scaled[:, 1] - scaled[:, 0], scaled[:, 2] - scaled[:, 0]
            areas[block] = np.linalg.norm(np.cross(*sides), axis=1)
    areas = np.where(np.isfinite(areas), areas, 0.0)
    if not areas.sum() > 0:
        return np.empty((0, 3)), None
    random = np.random.default_rng(0)
    # Systematic sampling: one draw in each of equal slices of the total area.
    slices = (np.arange(MESH_POINTS) + random.random(MESH_POINTS)) / MESH_POINTS
    cumulated = np.cumsum(areas)
    chosen = np.searchsorted(cumulated, slices * cumulated[-1], side="right").clip(max=np.flatnonzero(areas)[-1])
    root, along = np.sqrt(random.random(MESH_POINTS)), random.random(MESH_POINTS)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)  # uniform on a triangle
    points = np.einsum("nk,nkd->nd", weights, vertices[triangles[chosen]])
    colors = None
    if vertex_colors is not None:
        colors = np.einsum("nk,nkd->nd", weights, vertex_colors[triangles[chosen]])
    return points, colors


def open_image(path: Path, kind: str, shape: tuple[int, int] | None = None) -> Any:  # noqa: ANN401 - PIL is imported late
    """Read an image whole; what its header says is checked before memory is taken for its pixels.

    Args:
        path: image file.
        kind: what it is, for messages.
        shape: (h, w) that it must have, if any.

    Raises:
        InputError: when the file is missing, no image, too large or of another size.
    """
    from PIL import Image

    check_file(path, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_PICTURES) as image:
                width, height = image.size
                if shape is not None and (height, width) != shape:
                    raise InputError(
                        path,
                        f"the {kind} has {height} x {width} pixels and the scan {shape[0]} x {shape[1]}",
                        "give the one that belongs to the scan",
                        "mask size" if kind == "mask" else "readable",
                    )
                if width * height > MAX_POINTS:
                    raise _too_large(path, (height, width))
                image.load()
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(path, "says to hold more pixels than can be read", "thin it out", "readable") from error
    except Exception as error:  # the decoders' errors have no common base
        raise _broken(path, f"a {kind}") from error
    return image
