"""Sphere tracing: where rays meet the surface of a field (Hart 1996)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gsclip.data.procedural.sdf import Field

MAX_STEPS = 64
RELAXATION = 1.4  # of each step, taken back where two unbounding balls do not touch (Keinert et al. 2014)
TOLERANCE = 0.002  # millimetres at which a ray has arrived: below the noise of the sensor
LOST = 20.0  # tolerances: what is farther from the surface after the last step counts as passing by


@contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread: the last bit of its results depends on how it splits the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def ball_span(origins: Tensor, directions: Tensor, centre: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where rays cross a ball.

    Args:
        origins: (3, n) start of each ray.
        directions: (3, n) unit vectors.
        centre: (3, 1) of the ball.
        radius: of the ball.

    Returns:
        (n,) bool whether the ray crosses, (n,) distance of entry and of exit, from 0 on.
    """
    offset = origins - centre
    along = -(offset * directions).sum(dim=0)
    closest = (offset + directions * along).square().sum(dim=0)
    half = (radius * radius - closest).clamp(min=0).sqrt()
    near, far = (along - half).clamp(min=0), along + half
    return (closest < radius * radius) & (far > 0), near, far


def cast(field: Field, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Follow rays to the first surface.

    Args:
        field: the surface.
        origins: (3, n) float32, millimetres.
        directions: (3, n) unit vectors.
        near: (n,) distance at which each ray starts, outside the part.
        far: (n,) distance beyond which there is nothing.

    Returns:
        (n,) float32 distance to the surface, infinite where the ray meets none, NaN where it grazed the surface for
        more than :data:`MAX_STEPS` steps.
    """
    result = torch.full_like(near, torch.inf)
    rays = torch.arange(len(near))
    distance, relaxation = near, torch.full_like(near, RELAXATION)
    value = step = previous = torch.zeros_like(near)
    for _ in range(MAX_STEPS):
        if len(rays) == 0:
            break
        value = field(origins + directions * distance)
        overshot = (previous + value < step) & (step > 0)
        arrived = (value < TOLERANCE) & ~overshot & (distance <= far)
        result[rays[arrived]] = distance[arrived]
        going = ~arrived & (overshot | (distance < far))
        # Back to where the previous ball ends, and no more relaxed steps from there.
        relaxation = torch.where(overshot, 1.0, relaxation)[going]
        step = torch.where(overshot, previous - step, value)[going] * relaxation
        distance, previous = distance[going] + step, value[going]
        rays, far, value = rays[going], far[going], value[going]
        origins, directions = origins[:, going], directions[:, going]
    result[rays[value < LOST * TOLERANCE]] = torch.nan
    return result
