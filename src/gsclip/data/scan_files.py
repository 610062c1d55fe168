"""Read scans, masks and colour images from files of the usual formats.

===============================  ==============================================================================
extension                        content
===============================  ==============================================================================
``.tiff`` ``.tif``               (h, w, 3) float, organised: one point for each pixel
``.npy`` ``.npz``                (h, w, 3) organised or (n, 3) float; in ``.npz`` under the key ``points``
``.ply`` ``.pcd`` ``.xyz``       point cloud, with colours where the file has them
``.xyzrgb`` ``.pts``
``.ply`` with triangles,         mesh: 50,000 points spread evenly over its surface
``.obj`` ``.stl`` ``.off``
===============================  ==============================================================================
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gsclip.data.sample import Scan
from gsclip.errors import InputError

MIN_POINTS = 100  # distinct ones; with fewer, a surface and its normals cannot be told
MESH_POINTS = 50_000  # about twice what a real part has on a 400 x 400 scan

_IMAGES = (".tiff", ".tif")
_ARRAYS = (".npy", ".npz")
_CLOUDS = (".ply", ".pcd", ".xyz", ".xyzrgb", ".pts")
_MESHES = (".obj", ".stl", ".off")
_MAX_HEADER = 100_000  # bytes
_PLY_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
SCAN_EXTENSIONS = _IMAGES + _ARRAYS + _CLOUDS + _MESHES


def read_scan(path: str | Path) -> Scan:
    """Read one scan.

    Organised scans get NaN where there is no measurement: at (0, 0, 0), the mark of MVTec 3D-AD, and wherever a
    coordinate is not finite. Unorganised clouds keep every row, so that labels by row stay valid; only what is not
    finite becomes NaN.

    Args:
        path: a file with one of :data:`SCAN_EXTENSIONS`, in upper or lower case.

    Returns:
        Scan with float32 points and, where the file has them, colours; without a mask.

    Raises:
        InputError: when the file is missing, empty, broken, of an unknown kind or does not hold what its extension
            says, or has fewer than :data:`MIN_POINTS` distinct points.
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension not in SCAN_EXTENSIONS:
        raise InputError(path, "unknown kind of scan file", f"use one of {', '.join(SCAN_EXTENSIONS)}")
    _check_file(path, "scan")
    colors: np.ndarray | None = None
    if extension in _IMAGES:
        points = _check_array(path, _read_tiff(path), organised=True)
    elif extension in _ARRAYS:
        points = _check_array(path, _read_numpy(path), organised=False)
    else:
        points, colors = _read_open3d(path, extension)
    missing = ~np.isfinite(points).all(axis=-1)
    if points.ndim == 3:
        missing |= (points == 0).all(axis=-1)
    with np.errstate(over="ignore"):
        points = points.astype(np.float32)
    missing |= ~np.isfinite(points).all(axis=-1)
    points[missing] = np.nan
    distinct = len(np.unique(points[~missing], axis=0))
    if distinct < MIN_POINTS:
        raise InputError(path, f"has only {distinct} distinct points", f"give a scan with {MIN_POINTS} or more")
    return Scan(points=points, colors=colors)


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
    image = _read_image(Path(path), "mask", shape)
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
    return np.array(_read_image(Path(path), "color image", shape).convert("RGB"))


def _check_file(path: Path, kind: str) -> None:
    if path.is_dir():
        raise InputError(path, "is a folder", f"name a {kind} file in it")
    if not path.is_file():
        raise InputError(path, f"{kind} file not found", "check the path")
    if not os.access(path, os.R_OK):
        raise InputError(path, f"{kind} file cannot be read", "check its permissions")
    if path.stat().st_size == 0:
        raise InputError(path, f"{kind} file is empty", "copy or export it again")


def _broken(path: Path, kind: str) -> InputError:
    return InputError(path, f"cannot be read as {kind}", "copy or export it again, or correct its extension")


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    try:
        return tifffile.imread(path)
    except Exception as error:  # the decoders' errors have no common base
        raise _broken(path, "TIFF") from error


def _read_numpy(path: Path) -> np.ndarray:
    try:
        # Opened here: of a broken archive NumPy would leave the file open.
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            if "points" in content.files:
                return content["points"]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise _broken(path, "a NumPy array of numbers") from error
    raise InputError(path, "has no array 'points'", "save it with numpy.savez(file, points=array)")


def _check_array(path: Path, array: np.ndarray, organised: bool) -> np.ndarray:
    """Return ``array`` if it is float and (h, w, 3), or (n, 3) unless ``organised``."""
    expected = "height x width x 3" if organised else "height x width x 3 or n x 3"
    if array.dtype.kind != "f":
        raise InputError(path, f"holds {array.dtype} instead of float coordinates", f"save x, y, z, {expected} float32")
    if array.ndim not in ((3,) if organised else (2, 3)) or array.shape[-1] != 3:
        shape = " x ".join(map(str, array.shape))
        raise InputError(path, f"has the shape {shape}", f"save x, y, z as {expected}")
    return array


def _read_open3d(path: Path, extension: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Points (n, 3) float64 and uint8 colours of a cloud or mesh. Open3D reports failure by an empty result."""
    import open3d as o3d

    kind = extension[1:].upper()
    promised = _promised_rows(path, extension)
    try:
        with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
            mesh = None
            if extension in _MESHES or extension == ".ply":
                mesh = o3d.io.read_triangle_mesh(path)
            if mesh is not None and (extension in _MESHES or mesh.has_triangles()):
                points, colors = _sample_mesh(mesh)
            else:
                cloud = o3d.io.read_point_cloud(path)
                points = np.array(cloud.points)
                colors = np.array(cloud.colors) if cloud.has_colors() else None
                if promised is not None and 0 < len(points) < promised:
                    raise InputError(path, f"only {len(points)} of {promised} rows hold points", "export it again")
    except RuntimeError as error:
        raise _broken(path, kind) from error
    if len(points) == 0:
        raise _broken(path, kind)
    if colors is not None:
        colors = np.clip(np.rint(colors * 255), 0, 255).astype(np.uint8)
    return points, colors


def _promised_rows(path: Path, extension: str) -> int | None:
    """Number of points that a cloud file promises; ``None`` where its format does not tell.

    Checks that the file goes on long enough to keep the promise: of a file that ends too early Open3D returns
    whatever the memory held before, without an error.
    """
    if extension in _MESHES:
        return None
    content = path.read_bytes()
    kind = extension[1:].upper()
    try:
        if extension == ".ply":
            count, complete = _inspect_ply(content)
        elif extension == ".pcd":
            count, complete = _inspect_pcd(content)
        else:
            rows = [row for row in content.splitlines() if row.strip() and not row.lstrip().startswith((b"#", b"//"))]
            count = int(rows[0]) if extension == ".pts" else len(rows)
            complete = extension != ".pts" or len(rows) > count
    except (ValueError, IndexError, KeyError, StopIteration) as error:
        raise _broken(path, kind) from error
    if not complete:
        raise InputError(path, f"ends before the {count} points that it promises", "copy or export it again")
    return count


def _inspect_ply(content: bytes) -> tuple[int, bool]:
    """Number of vertices, and whether a PLY file is as long as its header says (lists taken as triangles)."""
    header, body = _split(content, rb"\Aply\s.*?\nend_header[ \t]*\r?\n")
    lines = [line.split() for line in header.decode("latin-1").splitlines()]
    encoding = next(line[1] for line in lines if line[:1] == ["format"])
    elements: list[tuple[str, int]] = []
    needed = 0
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2])))
        elif line[:2] == ["property", "list"]:
            needed += elements[-1][1] * (_PLY_BYTES[line[2]] + 3 * _PLY_BYTES[line[3]])
        elif line[:1] == ["property"]:
            needed += elements[-1][1] * _PLY_BYTES[line[1]]
    if encoding == "ascii":
        return dict(elements)["vertex"], len(body.splitlines()) >= sum(count for _, count in elements)
    return dict(elements)["vertex"], len(body) >= needed


def _inspect_pcd(content: bytes) -> tuple[int, bool]:
    """Number of points, and whether an ASCII PCD file has that many rows (Open3D checks the binary kinds)."""
    header, body = _split(content, rb"\A.*?\n?DATA[ \t]+\w+[ \t]*\r?\n")
    fields = {line.split()[0]: line.split()[1:] for line in header.decode("latin-1").splitlines() if line.split()}
    count = int(fields["POINTS"][0])
    return count, fields["DATA"][0] != "ascii" or len(body.splitlines()) >= count


def _split(content: bytes, pattern: bytes) -> tuple[bytes, bytes]:
    """Header and body of a file. Raises ValueError when it does not begin with ``pattern``."""
    found = re.match(pattern, content[:_MAX_HEADER], flags=re.DOTALL)
    if found is None:
        raise ValueError("no header")
    return content[: found.end()], content[found.end() :]


def _sample_mesh(mesh: Any) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: ANN401 - Open3D has no types
    """Spread :data:`MESH_POINTS` points over an Open3D mesh: each has an equal share of the area to itself.

    Returns:
        (m, 3) float64 points and (m, 3) colours in 0..1 or ``None``; m is 0 when the mesh has no area.
    """
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    corners = vertices[triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
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
    points = np.einsum("nk,nkd->nd", weights, corners[chosen])
    colors = None
    if mesh.has_vertex_colors():
        colors = np.einsum("nk,nkd->nd", weights, np.asarray(mesh.vertex_colors)[triangles[chosen]])
    return points, colors


def _read_image(path: Path, kind: str, shape: tuple[int, int]) -> Any:  # noqa: ANN401 - PIL is imported late
    from PIL import Image

    _check_file(path, kind)
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken(path, f"a {kind}") from error
    if image.size != (shape[1], shape[0]):
        raise InputError(
            path,
            f"the {kind} has {image.size[1]} x {image.size[0]} pixels and the scan {shape[0]} x {shape[1]}",
            "give the one that belongs to the scan",
        )
    return image
