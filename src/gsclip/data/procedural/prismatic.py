"""Families of prismatic and moulded parts: heat sinks, brackets, housings, connectors, pipes, bricks."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gsclip.data.procedural.part import Part, Repeat
from gsclip.data.procedural.sdf import (
    Field,
    axis_rotation,
    box,
    capsule,
    cylinder,
    displace,
    lathe,
    noise,
    prism,
    rotate,
    shell,
    smooth_union,
    subtract,
    thread,
    torus,
    translate,
    union,
)


def corners(x: float, y: float, tool: Field) -> Field:
    """Four copies of ``tool`` at (± x, ± y), by mirroring."""
    moved = translate(tool, (x, y, 0))
    return lambda p: moved(torch.stack([p[0].abs(), p[1].abs(), p[2]]))


def heat_sink(rng: np.random.Generator) -> Part:
    """Heat sink: a base plate with mounting holes and a field of pins or interrupted fins."""
    a = rng.uniform(12, 26)
    b, plate = a * rng.uniform(0.6, 1.0), a * rng.uniform(0.06, 0.12)
    nx, ny = int(rng.integers(6, 11)), int(rng.integers(3, 8))
    sx, sy = 1.9 * a / nx, 1.5 * b / ny
    tall = a * rng.uniform(0.15, 0.35)
    pin = box((0.5 * sx * rng.uniform(0.4, 0.6), 0.5 * sy * rng.uniform(0.6, 0.85), tall), 0.08 * sx)
    hole = corners(0.92 * a, 0.9 * b, cylinder(0.05 * a, a))
    slot = translate(box((2 * a, 0.03 * a, 0.03 * a)), (0, 0, -plate))
    return Part(
        body=box((a, b, plate), 0.02 * a),
        element=translate(pin, (0, 0, plate + 0.9 * tall)),
        repeat=Repeat(grid=(nx, ny), spacing=(sx, sy)),
        bound=1.02 * math.hypot(a, b, plate + 2 * tall),
        blend=0.1 * sx,
        finish=lambda field: subtract(field, hole, slot),
        pose="upright",
    )


def bracket(rng: np.random.Generator) -> Part:
    """Angle bracket: base plate with a pattern of holes, upright plate, gussets, bosses and stamped ribs."""
    a = rng.uniform(12, 24)
    b, wall = a * rng.uniform(0.5, 0.8), a * rng.uniform(0.06, 0.1)
    tall = a * rng.uniform(0.4, 0.7)
    upright = translate(box((wall, b, tall), 0.03 * a), (-a + wall, 0, tall - wall))
    body = smooth_union(box((a, b, wall), 0.03 * a), upright, 0.12 * a)
    slope = rotate(box((0.6 * tall, 0.04 * a, 0.6 * tall), 0.01 * a), axis_rotation("y", 45))
    gussets = [translate(slope, (-a + wall, s * b * 0.8, 0.0)) for s in (-1, 1)]
    boss = translate(cylinder(0.2 * b, 0.35 * tall, 0.03 * a), (-0.2 * a, 0, 0.3 * tall))
    bore = translate(thread(0.11 * b, tall, 0.05 * b, 0.02 * b), (-0.2 * a, 0, 0.9 * tall))
    window = translate(rotate(cylinder(0.3 * tall, 4 * wall), axis_rotation("y", 90)), (-a + wall, 0, 1.2 * tall))
    beads = [capsule((-0.3 * a, s * 0.45 * b, wall), (0.2 * a, s * 0.45 * b, wall), 0.05 * a) for s in (-1, 1)]
    grid = (2, int(rng.integers(3, 6)))
    spacing = (0.3 * a, 1.7 * b / grid[1])
    hole = min(spacing) * rng.uniform(0.2, 0.3)
    cut = union(cylinder(hole, 3 * wall), translate(cylinder(1.4 * hole, 0.4 * wall), (0, 0, wall)))
    return Part(
        body=union(smooth_union(body, union(*gussets, boss), 0.06 * a), *beads),
        element=cut,
        repeat=Repeat(grid=grid, spacing=spacing, origin=(0.62 * a, 0, 0)),
        bound=1.05 * math.hypot(a, b, 2 * tall),
        removes=True,
        blend=0.02 * a,
        finish=lambda field: subtract(field, window, bore, blend=0.02 * a),
        pose="any" if rng.random() < 0.5 else "upright",
    )


def connector(rng: np.random.Generator) -> Part:
    """Plug connector: shrouded housing with a field of contact pins, side ribs, latch and key slots."""
    a = rng.uniform(9, 18)
    b, tall, wall = a * rng.uniform(0.4, 0.7), a * rng.uniform(0.3, 0.5), a * rng.uniform(0.07, 0.1)
    cavity = translate(box((a - wall, b - wall, tall), 0.05 * a), (0, 0, 0.5 * tall))
    ribs = [translate(box((0.03 * a, 0.05 * a, 0.8 * tall), 0.015 * a), (x * a, -b, 0)) for x in (-0.7, -0.5, 0.5, 0.7)]
    latch = translate(box((0.25 * a, 0.1 * a, 0.3 * tall), 0.04 * a), (0, b, 0.3 * tall))
    ears = [translate(box((0.2 * a, 0.35 * b, 0.15 * tall), 0.03 * a), (s * 1.1 * a, 0, -0.85 * tall)) for s in (-1, 1)]
    bores = [translate(cylinder(0.1 * a, tall), (s * 1.16 * a, 0, -0.85 * tall)) for s in (-1, 1)]
    key = [translate(box((0.06 * a, wall, tall), 0.01 * a), (x * a, -b, 0.8 * tall)) for x in (-0.3, 0.1)]
    grid = (int(rng.integers(4, 8)), int(rng.integers(2, 4)))
    spacing = (1.7 * (a - wall) / grid[0], 1.6 * (b - wall) / grid[1])
    thick = min(spacing) * rng.uniform(0.24, 0.34)
    pin = (
        box((thick, thick, 0.75 * tall), 0.5 * thick)
        if rng.random() < 0.5
        else cylinder(thick, 0.75 * tall, 0.4 * thick)
    )
    return Part(
        body=union(subtract(box((a, b, tall), 0.05 * a), cavity, *key), *ribs, latch, *ears),
        element=translate(pin, (0, 0, 0.15 * tall)),
        repeat=Repeat(grid=grid, spacing=spacing),
        bound=1.05 * math.hypot(1.3 * a, b * 1.2, tall),
        finish=lambda field: subtract(field, *bores, blend=0.02 * a),
        pose="upright",
    )


def cast_housing(rng: np.random.Generator) -> Part:
    """Cast housing: ribbed box with a lid edge, screw bosses, cable entry and casting skin."""
    a = rng.uniform(14, 28)
    b, tall = a * rng.uniform(0.6, 0.9), a * rng.uniform(0.25, 0.45)
    shellbox = box((a, b, tall), 0.12 * a)
    seam = displace(shellbox, lambda p: -0.02 * a * torch.exp(-(((p[2] - 0.3 * tall) / (0.025 * a)) ** 2)), 0.8)
    boss = union(
        cylinder(0.13 * a, tall * 1.05, 0.03 * a),
        translate(cylinder(0.08 * a, 0.06 * a, 0.02 * a), (0, 0, tall * 1.08)),
    )
    drive = corners(0.82 * a, b - 0.18 * a, translate(prism(6, 0.04 * a, 0.1 * a), (0, 0, 1.15 * tall)))
    entry = translate(
        rotate(thread(0.45 * tall, 0.25 * a, 0.1 * a, 0.04 * a), axis_rotation("y", 90)), (1.15 * a, 0, 0)
    )
    hole = translate(rotate(cylinder(0.28 * tall, 0.5 * a), axis_rotation("y", 90)), (1.2 * a, 0, 0))
    panel = translate(box((0.55 * a, 0.5 * b, 0.05 * a), 0.03 * a), (0, 0, tall))
    texture = noise(rng, 0.15 * a, 0.004 * a * rng.uniform(0.5, 1.5))
    grid = (int(rng.integers(5, 9)), 2)
    rib = box((0.035 * a, 0.26 * b, 0.07 * a), 0.02 * a)
    return Part(
        body=subtract(
            union(smooth_union(seam, corners(0.82 * a, b - 0.18 * a, boss), 0.06 * a), entry), panel, blend=0.04 * a
        ),
        element=translate(rib, (0, 0, tall - 0.01 * a)),
        repeat=Repeat(grid=grid, spacing=(1.05 * a / grid[0], 0.52 * b)),
        bound=1.05 * math.hypot(1.35 * a, b, tall * 1.15),
        blend=0.04 * a,
        finish=lambda field: displace(subtract(field, drive, hole), texture, 0.16),
        pose="any" if rng.random() < 0.5 else "upright",
    )


def elbow(rng: np.random.Generator) -> Part:
    """Pipe elbow: quarter bend with a bolted flange, a ribbed socket and a threaded end."""
    tube = rng.uniform(6, 11)
    bend = tube * rng.uniform(1.7, 2.3)
    quarter = torus(bend, tube)

    def curve(p: Tensor) -> Tensor:
        # The bend lies in the frame's x-z plane, from (bend, 0, 0) to (0, 0, bend), cut by two planes.
        value = quarter(torch.stack([p[0], p[2], p[1]]))
        return torch.maximum(value, torch.maximum(-p[0], -p[2]))

    plate = 0.28 * tube
    flange = cylinder(2.0 * tube, plate, 0.06 * tube)
    rings = [translate(torus(1.35 * tube, 0.08 * tube), (0, 0, plate))]
    stub = union(translate(cylinder(tube, 0.4 * tube), (0, 0, -0.3 * tube)), flange)
    stub = translate(subtract(stub, *rings), (bend, 0, -0.6 * tube))
    pitch = 0.24 * tube
    outlet = rotate(thread(1.12 * tube, 0.8 * tube, pitch, 0.5 * pitch), axis_rotation("y", 90))
    collar = rotate(prism(6, 1.3 * tube, 0.3 * tube, 0.05 * tube), axis_rotation("y", 90))
    body = union(curve, stub, translate(outlet, (-0.7 * tube, 0, bend)), translate(collar, (0.1 * tube, 0, bend)))
    bolt = union(prism(6, 0.22 * tube, 0.18 * tube, 0.03 * tube), cylinder(0.3 * tube, 0.06 * tube))
    bores = [
        translate(cylinder(0.75 * tube, 1.5 * tube), (bend, 0, -1.5 * tube)),
        translate(rotate(cylinder(0.75 * tube, 1.5 * tube), axis_rotation("y", 90)), (-2.0 * tube, 0, bend)),
    ]
    texture = noise(rng, 1.5 * tube, 0.012 * tube)
    centre = (-0.45 * bend, 0.0, -0.35 * bend)
    repeat = Repeat(
        polar=int(rng.integers(5, 9)),
        origin=(bend + centre[0], 0.0, -0.6 * tube + plate + centre[2]),
    )
    return Part(
        body=translate(body, centre),
        element=translate(bolt, (1.68 * tube, 0, 0.15 * tube)),
        repeat=repeat,
        bound=1.05 * math.hypot(0.55 * bend + 2.1 * tube, 0.65 * bend + 1.4 * tube),
        finish=lambda field: displace(subtract(field, *(translate(t, centre) for t in bores)), texture, 0.1),
        pose="any",
    )


def stud_brick(rng: np.random.Generator) -> Part:
    """Building brick: box with studs on top, an embossed ring on each, side grooves and a hollow underside."""
    pitch = rng.uniform(5, 9)
    nx, ny = int(rng.integers(4, 7)), int(rng.integers(2, 5))
    a, b, tall = nx * pitch / 2, ny * pitch / 2, pitch * rng.uniform(0.4, 0.8)
    stud = union(
        cylinder(0.3 * pitch, 0.22 * pitch, 0.03 * pitch),
        translate(shell(cylinder(0.2 * pitch, 0.05 * pitch), 0.04 * pitch), (0, 0, 0.22 * pitch)),
    )
    grooves = [
        translate(box((2 * a, 0.06 * pitch, 0.06 * pitch)), (0, s * b, z * tall)) for s in (-1, 1) for z in (-0.4, 0.3)
    ]
    cavity = translate(box((a - 0.2 * pitch, b - 0.2 * pitch, tall)), (0, 0, -0.4 * tall))
    tubes = [
        translate(shell(cylinder(0.35 * pitch, 0.9 * tall), 0.15 * pitch), ((k - (nx - 2) / 2) * pitch, 0, 0))
        for k in range(nx - 1)
    ]
    body = union(subtract(box((a, b, tall), 0.04 * pitch), cavity, *grooves), *tubes)
    return Part(
        body=body,
        element=translate(stud, (0, 0, tall + 0.18 * pitch)),
        repeat=Repeat(grid=(nx, ny), spacing=(pitch, pitch)),
        bound=1.02 * math.hypot(a, b, tall + 0.6 * pitch),
        pose="any" if rng.random() < 0.4 else "upright",
    )


def jar_lid(rng: np.random.Generator) -> Part:
    """Screw lid: knurled skirt, embossed rings and letters' worth of ticks on top, hollow with a thread inside."""
    r = rng.uniform(14, 26)
    half = r * rng.uniform(0.22, 0.38)
    skirt = lathe([(0, -half), (r, -half), (r, 0.8 * half), (0.92 * r, half), (0, half)], 0.02 * r)
    rings = [translate(torus(f * r, 0.03 * r), (0, 0, half * 1.02)) for f in (0.8, 0.45)]
    inside = translate(thread(0.93 * r, half, 0.3 * half, 0.05 * r), (0, 0, -0.3 * half))
    tick = translate(box((0.11 * r, 0.035 * r, 0.04 * r), 0.015 * r), (0.62 * r, 0, half * 1.02))
    ridges = rng.integers(22, 36)
    rib = translate(capsule((0, 0, -0.8 * half), (0, 0, 0.6 * half), 0.05 * r), (1.02 * r, 0, 0))
    ribs = Repeat(polar=int(ridges))

    def body(p: Tensor) -> Tensor:
        return torch.minimum(union(skirt, *rings)(p), rib(ribs.fold(p)[0]))

    return Part(
        body=body,
        element=tick,
        repeat=Repeat(polar=int(rng.integers(9, 18))),
        bound=1.1 * math.hypot(1.06 * r, half),
        blend=0.02 * r,
        finish=lambda field: subtract(field, inside),
        pose="upright" if rng.random() < 0.6 else "any",
    )
