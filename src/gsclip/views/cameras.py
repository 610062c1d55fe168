"""The one list of cameras: rotations about the cloud's centre, shared by rendered and depth images."""

from __future__ import annotations

import numpy as np

from gsclip.errors import GsclipError

# Angles in degrees about the x and the y axis (method, views): front scans of MVTec 3D-AD and Eyecandies see one
# side only, so cameras stay within 45 degrees; full clouds are seen from all around.
CAMERA_ANGLES: dict[str, tuple[tuple[float, float], ...]] = {
    "front": (
        *((x, 0.0) for x in (-45.0, -15.0, 0.0, 15.0, 45.0)),
        *((0.0, y) for y in (-30.0, -15.0, 15.0, 30.0)),
    ),
    "full": tuple((float(x), 0.0) for x in range(-144, 145, 36)),
}

# With fewer views than the list holds, the most frontal ones are kept.
MAXIMUM_VIEWS = 9


# Of the fast profile: the front, and views near it and far from it (docs/speed.md).
FAST_VIEWS: dict[str, tuple[int, ...]] = {"front": (0, 1, 2, 7, 8), "full": (0, 3, 4, 7)}


def fast_views(cameras: str, views: int = MAXIMUM_VIEWS) -> tuple[int, ...]:
    """Which of the first ``views`` cameras of a list the fast profile takes, by their places in the list."""
    return tuple(place for place in FAST_VIEWS[cameras] if place < views)


def camera_angles(cameras: str, views: int = MAXIMUM_VIEWS) -> tuple[tuple[float, float], ...]:
    """Angles (about x, about y) in degrees of the first ``views`` cameras of a list, most frontal first.

    Args:
        cameras: ``front`` or ``full``.
        views: number of views, 1 to 9.

    Raises:
        GsclipError: for an unknown list or number.
    """
    if cameras not in CAMERA_ANGLES:
        raise GsclipError(f"render.cameras: no camera list {cameras!r}; choose one of {', '.join(CAMERA_ANGLES)}")
    if not 1 <= views <= MAXIMUM_VIEWS:
        raise GsclipError(f"render.views: {views} is out of range; choose 1 to {MAXIMUM_VIEWS}")
    ordered = sorted(CAMERA_ANGLES[cameras], key=lambda angles: (abs(angles[0]) + abs(angles[1]), angles))
    return tuple(ordered[:views])


def camera_rotations(cameras: str, views: int = MAXIMUM_VIEWS) -> np.ndarray:
    """(v, 3, 3) float32 rotations from the sensor frame to the camera frames, in the order of the angles."""
    return np.stack([_rotation(*np.deg2rad(angles)) for angles in camera_angles(cameras, views)]).astype(np.float32)


def _rotation(about_x: float, about_y: float) -> np.ndarray:
    cos_x, sin_x, cos_y, sin_y = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    x = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    y = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    return x @ y
