"""The scene: a part in a pose above a table, and the camera that sees it fill the view."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsclip.data.procedural.casting import ball_span, cast
from gsclip.data.procedural.part import Part
from gsclip.data.procedural.sdf import axis_rotation, column

DISTANCE = (600.0, 690.0)  # millimetres from the sensor to the part, as in MVTec 3D-AD
TILT = (8.0, 28.0)  # degrees between the line of sight and the table's normal (21 there)
COVER = (0.18, 0.27)  # of the grid's pixels, by the part: 10 to 16 thousand points of 240 x 240
LARGEST_SIDE = 0.76  # of the grid's side, by the part: the border belongs to the table
LIFT = (11.0, 20.0)  # pitches between table and part, which stands on a mount hidden beneath it
ROLLS = 6  # turns of the camera about its line of sight that are tried to fill the view
PILOT_SIDE = 52  # rays along the side of the coarse cast that frames the part


@dataclass(frozen=True)
class Scene:
    """One part before the camera; sensor frame of :mod:`gsclip.axes`, in millimetres.

    Attributes:
        rotation: (3, 3) float64 from the part's frame to the sensor's.
        position: (3,) float64 of the part's origin.
        directions: (3, h * w) float32 unit vectors along the pixels' rays, row-major.
        grid: (h, w).
        table: (h, w) float32 distance along the rays to the table.
        pitch: distance between neighbouring pixels' points on a frontal face at the part's origin.
        bound: radius of the ball about the part's origin that holds the part.
    """

    rotation: np.ndarray
    position: np.ndarray
    directions: Tensor
    grid: tuple[int, int]
    table: np.ndarray
    pitch: float
    bound: float

    def part_rays(self) -> tuple[Tensor, Tensor]:
        """Origins and directions (3, h * w) of the rays in the part's frame."""
        inverse = self.rotation.T
        turned = _turn(inverse, self.directions.numpy().astype(np.float64))
        directions = torch.from_numpy(turned.astype(np.float32))
        return column(inverse @ -self.position).expand_as(directions), directions


def compose(part: Part, rng: np.random.Generator, grid: tuple[int, int]) -> Scene:
    """Pose a part, and aim and zoom the camera so that the part fills the view.

    Args:
        part: the flawless part.
        rng: decides pose, tilt, distance and cover.
        grid: (h, w) of the scan.
    """
    to_table = _pose(part.pose, rng)
    tilt = axis_rotation("x", rng.uniform(*TILT)) @ axis_rotation("y", rng.uniform(-6.0, 6.0))
    to_sensor = tilt @ np.diag([1.0, -1.0, -1.0])  # looking down on the table
    rotation = to_sensor @ to_table
    distance = rng.uniform(*DISTANCE)
    seen, lowest = _pilot(part, rotation, to_table, distance)

    cover, best = rng.uniform(*COVER), None
    for angle in rng.uniform(0.0, 360.0, size=ROLLS):
        roll = axis_rotation("z", angle)
        image = _turn(roll, np.vstack([seen[0].T, np.ones(len(seen[0]))]))[:2].T
        low, high = image.min(axis=0), image.max(axis=0)
        fitting = LARGEST_SIDE * float(np.min(np.array(grid[::-1]) / (high - low)))
        filling = math.sqrt(cover * grid[0] * grid[1] / seen[1])
        if best is None or min(fitting, filling) > best[0] * 1.02:
            best = (min(fitting, filling), roll, (low + high) / 2)
        if filling <= fitting:
            break
    assert best is not None  # noqa: S101 - ROLLS is positive
    focal, roll, middle = best
    pitch = distance / focal
    middle = middle + rng.uniform(-0.03, 0.03, size=2) * min(grid) / focal
    directions = _pixel_rays(grid, focal, middle)
    position = np.array([0.0, 0.0, distance])
    up = roll @ to_sensor @ np.array([0.0, 0.0, 1.0])
    # The table: all x with up . x = level.
    level = float(up @ position) + lowest - rng.uniform(*LIFT) * pitch
    table = level / (up[:, None] * directions).sum(axis=0)
    return Scene(
        rotation=roll @ rotation,
        position=position,
        directions=torch.from_numpy(directions.astype(np.float32)),
        grid=grid,
        table=table.astype(np.float32).reshape(grid),
        pitch=pitch,
        bound=part.bound,
    )


def _pose(pose: str, rng: np.random.Generator) -> np.ndarray:
    """Rotation (3, 3) from the part to the table, whose z axis points up."""
    if pose == "any":
        pose = str(rng.choice(["upright", "lying", "leaning"]))
    spin, heading = axis_rotation("z", rng.uniform(0, 360)), axis_rotation("z", rng.uniform(0, 360))
    lean = {"upright": rng.uniform(-4, 4), "lying": 90 + rng.uniform(-6, 6), "leaning": rng.uniform(20, 60)}[pose]
    return heading @ axis_rotation("y", lean) @ spin


def _pilot(
    part: Part, rotation: np.ndarray, to_table: np.ndarray, distance: float
) -> tuple[tuple[np.ndarray, float], float]:
    """Cast coarsely at the part from the camera and from below.

    Returns:
        Image points (n, 2) of the part at unit focal length with the area they cover, and the part's lowest height
        over its origin.
    """
    ticks = (np.arange(PILOT_SIDE) + 0.5) / PILOT_SIDE * 2 - 1
    x, y = (axis.ravel() for axis in np.meshgrid(ticks, ticks))
    reach = part.bound / math.sqrt(distance**2 - part.bound**2)
    image = np.stack([x, y], axis=1) * reach
    forward = np.concatenate([image, np.ones((len(image), 1))], axis=1).T
    forward /= np.linalg.norm(forward, axis=0)
    upward = np.tile([[0.0], [0.0], [1.0]], (1, len(x)))
    beneath = np.stack([x, y, np.full_like(x, -1.1)]) * part.bound
    sensor = np.tile(rotation.T @ [[0.0], [0.0], [-distance]], (1, len(x)))
    origins = np.concatenate([sensor, _turn(to_table.T, beneath)], axis=1)
    directions = np.concatenate([_turn(rotation.T, forward), _turn(to_table.T, upward)], axis=1)
    hits = _cast_in_ball(part, origins, directions)
    front, below = hits[: len(x)], hits[len(x) :]
    met = np.isfinite(front)
    lowest = -1.1 * part.bound + float(np.min(below[np.isfinite(below)]))
    return (image[met], float(met.sum()) * (2 * reach / PILOT_SIDE) ** 2), lowest


def _cast_in_ball(part: Part, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    start = torch.from_numpy(origins.astype(np.float32))
    along = torch.from_numpy(directions.astype(np.float32))
    crossing, near, far = ball_span(start, along, torch.zeros(3, 1), part.bound)
    result = torch.full_like(near, torch.inf)
    result[crossing] = cast(part.field(), start[:, crossing], along[:, crossing], near[crossing], far[crossing])
    return result.numpy()


def _pixel_rays(grid: tuple[int, int], focal: float, middle: np.ndarray) -> np.ndarray:
    """(3, h * w) unit vectors through the pixels' centres; ``middle`` is the image point at the grid's centre."""
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    x = (columns - (grid[1] - 1) / 2) / focal + middle[0]
    y = (rows - (grid[0] - 1) / 2) / focal + middle[1]
    rays = np.stack([x.ravel(), y.ravel(), np.ones(grid[0] * grid[1])])
    return np.asarray(rays / np.linalg.norm(rays, axis=0))


def _turn(rotation: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rotate (3, n) vectors, the same to the last bit on any number of threads (unlike a matrix product)."""
    x, y, z = rotation.T[:, :, None]
    return np.asarray(x * vectors[0] + y * vectors[1] + z * vectors[2])
