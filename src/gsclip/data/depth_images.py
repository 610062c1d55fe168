"""Depth images: ``<name>.png`` with the camera beside it, in ``<name>.json`` or ``camera.json``.

``camera.json`` may lie in a folder above, too: one camera for a data set. Its keys: ``fx``, ``fy``, ``cx``, ``cy``
(pixels) and ``depth_scale`` (units of length per grey level), and, if wanted, ``width`` and ``height`` (pixels); others
are ignored. Level 0 is no measurement. The model is the pinhole of Hartley and Zisserman (2004, section 6.1).
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gsclip.errors import InputError, one_line

CAMERA_FILE = "camera.json"
CAMERA_LEVELS = 4  # folders that are searched: defect, split, category and data set
_MAX_CAMERA_BYTES = 1_000_000
_BLOCK = 2**20  # pixels that become points at a time
_SAMPLE = 2**18  # pixels, about, that tell whether float32 is enough
_KEYS = "give numbers for fx, fy, cx, cy and depth_scale"


class Camera(BaseModel):
    """Pinhole camera; lengths in pixels, ``depth_scale`` in units of length per grey level."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float
    depth_scale: float = Field(gt=0)
    width: int | None = Field(default=None, gt=0)
    height: int | None = Field(default=None, gt=0)


def find_camera_file(path: Path) -> Path | None:
    """Camera file of a depth image: ``<name>.json``, else the nearest ``camera.json``; ``None`` where there is none."""
    folder = path.parent
    candidates = [path.with_suffix(".json")]
    for _ in range(CAMERA_LEVELS):
        candidates.append(folder / CAMERA_FILE)
        folder = folder.parent
    # Path.is_file raises where the name is too long.
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)


def read_camera(path: Path) -> Camera:
    """Read a camera file.

    Raises:
        InputError: when it is no JSON, or lacks a value or holds a wrong one; the message names it.
    """
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_CAMERA_BYTES))
        return Camera.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "content"
        raise InputError(path, f"{name}: {first['msg']}", _KEYS, "readable") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"cannot be read as JSON ({one_line(error, 80)})", _KEYS, "readable") from error


def read_depth(path: Path) -> np.ndarray:
    """Points of a depth image.

    Args:
        path: 8 or 16 bit grey ``.png``.

    Returns:
        (h, w, 3), sensor frame of :mod:`gsclip.axes`, in the unit of ``depth_scale``; NaN at level 0. float32, or
        float64 where float32 would round by a length that matters.

    Raises:
        InputError: when there is no camera file, when it does not fit, or when the image is broken or no grey one.
    """
    from gsclip.data.scan_files import open_image, rounding_matters

    image = open_image(path, "depth image")
    camera_file = find_camera_file(path)
    if camera_file is None:
        problem = f"is a depth image without a camera file {path.stem}.json or {CAMERA_FILE}"
        raise InputError(path, problem, f"{_KEYS}, or take the image away if it is none", "readable")
    if image.mode not in ("L", "I", "I;16", "I;16B", "I;16L"):
        raise InputError(path, f"is an image of mode {image.mode}", "save depth as 16 bit grey values", "readable")
    camera = read_camera(camera_file)
    levels = np.asarray(image)
    height, width = levels.shape
    if (camera.height or height, camera.width or width) != (height, width):
        problem = f"is for {camera.height} x {camera.width} pixels and {path.name} has {height} x {width}"
        raise InputError(camera_file, problem, "give the camera that took the image", "readable")
    points = _points(levels, camera, np.dtype(np.float32))
    step = max(1, math.isqrt(height * width // _SAMPLE))
    few = points[::step, ::step].reshape(-1, 3).astype(np.float64)
    if rounding_matters(few[np.isfinite(few).all(axis=1)]):
        return _points(levels, camera, np.dtype(np.float64))
    return points


def _points(levels: np.ndarray, camera: Camera, kind: np.dtype) -> np.ndarray:
    """(h, w, 3) points of grey levels (h, w), computed in float64 some rows at a time; NaN at level 0."""
    height, width = levels.shape
    points = np.empty((height, width, 3), dtype=kind)
    across = (np.arange(width) - camera.cx) / camera.fx
    along = (np.arange(height) - camera.cy) / camera.fy
    rows = max(1, _BLOCK // max(1, width))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, height, rows):
            block = slice(start, start + rows)
            depth = np.where(levels[block] > 0, levels[block].astype(np.float64), np.nan) * camera.depth_scale
            points[block, :, 0] = across * depth
            points[block, :, 1] = along[block, None] * depth
            points[block, :, 2] = depth
    return points
