"""Families of soft, food-like bodies with uneven skins and toppings."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gsclip.data.procedural.part import Part, Repeat
from gsclip.data.procedural.sdf import (
    axis_rotation,
    capsule,
    cylinder,
    displace,
    noise,
    radial,
    rotate,
    smooth_minimum,
    smooth_union,
    torus,
    translate,
)


def biscuit(rng: np.random.Generator) -> Part:
    """Biscuit: scalloped disc with docking holes, a raised border and a baked skin."""
    r = rng.uniform(16, 30)
    half, lobes = r * rng.uniform(0.1, 0.18), int(rng.integers(12, 30))
    disc, border = cylinder(r, half, 0.6 * half), translate(torus(0.86 * r, 0.07 * r), (0, 0, half))

    def scallop(p: Tensor) -> Tensor:
        fade = ((radial(p) / r - 0.45) / 0.4).clamp(0.0, 1.0)  # towards the middle, where the lobes would crowd
        return torch.cos(torch.atan2(p[1], p[0]) * lobes) * fade * (0.025 * r)

    n = int(rng.integers(4, 6))
    texture = noise(rng, 0.16 * r, 0.006 * r * rng.uniform(0.6, 1.8))
    return Part(
        body=smooth_union(displace(disc, scallop, 0.95), border, 0.06 * r),
        element=cylinder(r * rng.uniform(0.045, 0.07), 2 * r),
        repeat=Repeat(grid=(n, n), spacing=(1.15 * r / n, 1.15 * r / n)),
        bound=1.12 * r,
        removes=True,
        blend=0.05 * r,
        finish=lambda field: displace(field, texture, 0.3),
        pose="upright",
    )


def ring_cake(rng: np.random.Generator) -> Part:
    """Doughnut: torus of dough, wavy icing over its upper half, sprinkles in a ring, uneven skin."""
    r = rng.uniform(14, 24)
    tube = r * rng.uniform(0.42, 0.55)
    dough, icing = torus(r, tube), torus(r, tube * 1.06)
    phases = rng.uniform(0, 2 * math.pi, size=3)

    def body(p: Tensor) -> Tensor:
        angle = torch.atan2(p[1], p[0])
        waves = [torch.sin(angle * k + float(f)) for k, f in zip((3, 7, 11), phases, strict=True)]
        edge = (waves[0] + waves[1] + waves[2]) * (0.08 * tube) * (radial(p) / r).clamp(max=1.0) - p[2]
        coat = -smooth_minimum(-icing(p), -edge * 0.7, 0.2 * tube)
        return torch.minimum(dough(p), coat)

    lengthwise = float(rng.choice([0.0, 90.0]))  # askew, they would not be symmetric in their cells
    turn = rotate(capsule((-0.2 * tube, 0, 0), (0.2 * tube, 0, 0), 0.11 * tube), axis_rotation("z", lengthwise))
    across = float(rng.uniform(-0.35, 0.35)) * tube
    texture = noise(rng, 0.5 * tube, 0.012 * tube)
    return Part(
        body=body,
        element=translate(turn, (r + across, 0, math.sqrt((1.06 * tube) ** 2 - across**2) + 0.03 * tube)),
        repeat=Repeat(polar=int(rng.integers(12, 19))),
        bound=1.1 * (r + 1.1 * tube),
        blend=0.03 * tube,
        finish=lambda field: displace(field, texture, 0.2),
        pose="upright",
    )


def starfish(rng: np.random.Generator) -> Part:
    """Star-shaped pastry: tapering arms with knobs along a ring, a domed centre, uneven skin."""
    r = rng.uniform(16, 28)
    arms = int(rng.integers(5, 8))
    step = 2 * math.pi / arms
    texture = noise(rng, 0.2 * r, 0.008 * r)

    def body(p: Tensor) -> Tensor:
        turns = torch.round(torch.atan2(p[1], p[0]) / step) * step
        x = torch.cos(turns) * p[0] + torch.sin(turns) * p[1]
        y = torch.cos(turns) * p[1] - torch.sin(turns) * p[0]
        along = (x / r).clamp(0.0, 1.0)
        arm = torch.sqrt((x - along * r) ** 2 + y * y + (1.4 * p[2]) ** 2) - r * (0.26 - 0.16 * along)
        ridge = 0.02 * r * torch.cos(x * (40.0 / r)) * ((along - 0.25) / 0.15).clamp(0.0, 1.0)
        return (arm - ridge) * 0.5

    knob = smooth_union(cylinder(0.055 * r, 0.1 * r, 0.05 * r), torus(0.09 * r, 0.03 * r), 0.02 * r)
    return Part(
        body=body,
        element=translate(knob, (0.42 * r, 0, 0.16 * r)),
        repeat=Repeat(polar=arms),
        bound=1.2 * r,
        blend=0.03 * r,
        finish=lambda field: displace(field, texture, 0.3),
        pose="upright",
    )
