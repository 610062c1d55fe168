"""Families put together anew from flat walls, and from hollow bodies: printed parts and vessels.

They came last and train the backbone in its last part alone: thin walls, corners, rims and handles, which the other
families have few of.
"""

from __future__ import annotations

import math

import numpy as np

from gsclip.data.procedural.part import Part, Repeat
from gsclip.data.procedural.sdf import (
    Field,
    axis_rotation,
    box,
    capsule,
    cylinder,
    intersect,
    lathe,
    prism,
    rotate,
    shell,
    skin,
    smooth_union,
    sphere,
    subtract,
    torus,
    translate,
    union,
)


def printed_part(rng: np.random.Generator) -> Part:
    """Walls, blocks, tubes and wedges joined at right angles, with bores, slots and pockets; one row of features."""
    r = rng.uniform(14, 22)
    body, places = _wall(rng, r), [np.zeros(3)]
    for _ in range(int(rng.integers(1, 5))):
        turn = _quarter_turns(rng)
        place = places[int(rng.integers(len(places)))] + r * rng.uniform(-0.6, 0.6, size=3) * rng.integers(0, 2, size=3)
        place = np.clip(place, -0.8 * r, 0.8 * r)
        piece = translate(rotate(_piece(rng, r), turn), place)
        body = smooth_union(body, piece, r * rng.uniform(0.0, 0.06))
        places.append(place)
    tools: list[Field] = []
    for _ in range(int(rng.integers(1, 6))):
        place = places[int(rng.integers(len(places)))] + r * rng.uniform(-0.5, 0.5, size=3)
        tools.append(translate(rotate(_tool(rng, r), _quarter_turns(rng)), place))
    body = subtract(body, *tools, blend=r * rng.uniform(0.0, 0.02))
    wide = r * rng.uniform(0.05, 0.12)
    nx, ny = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    removes = bool(rng.random() < 0.6)
    feature = {
        "bore": lambda: cylinder(wide, 2 * r),
        "slot": lambda: box((0.6 * wide, 2 * wide, 2 * r), 0.2 * wide),
        "peg": lambda: cylinder(wide, 0.25 * r, 0.1 * wide),
        "rib": lambda: box((0.5 * wide, 2 * wide, 0.25 * r), 0.1 * wide),
    }[str(rng.choice(["bore", "slot"] if removes else ["peg", "rib"]))]()
    frame = _quarter_turns(rng)
    # One corner cut off by a plane, as printed brackets are.
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    cut = rotate(box((3 * r, 3 * r, 3 * r)), axis_rotation("z", 45) @ axis_rotation("x", rng.uniform(0, 90)))
    corner = translate(cut, normal * r * rng.uniform(4.0, 5.5))

    def finish(field: Field) -> Field:
        return subtract(intersect(field, sphere(1.75 * r)), corner, blend=0.01 * r)

    return Part(
        body=body,
        element=feature,
        repeat=Repeat(grid=(nx, ny), spacing=(5 * wide, 6 * wide), rotation=frame),
        bound=1.8 * r,
        removes=removes,
        blend=r * rng.uniform(0.0, 0.02),
        finish=finish,
        pose="any",
    )


def _quarter_turns(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) one of the rotations that map the axes onto each other."""
    turn = np.eye(3)
    for axis in "xyz":
        turn = axis_rotation(axis, 90.0 * rng.integers(0, 4)) @ turn
    return turn


def _wall(rng: np.random.Generator, r: float) -> Field:
    half = r * np.array([rng.uniform(0.5, 1.0), rng.uniform(0.3, 0.9), rng.uniform(0.06, 0.4)])
    return rotate(box(half, 0.3 * half.min() * rng.random()), _quarter_turns(rng))


def _piece(rng: np.random.Generator, r: float) -> Field:
    kind = rng.choice(["wall", "wall", "tube", "prism", "wedge"])
    long, wide = r * rng.uniform(0.3, 0.9), r * rng.uniform(0.12, 0.4)
    if kind == "wall":
        return _wall(rng, r)
    if kind == "tube":
        tube = cylinder(wide, long, 0.05 * wide)
        return subtract(tube, cylinder(wide * rng.uniform(0.4, 0.75), 2 * long)) if rng.random() < 0.6 else tube
    if kind == "prism":
        return prism(int(rng.choice([3, 4, 6, 8])), wide, long, 0.05 * wide)
    slope = rotate(box((3 * r, 3 * r, 3 * r)), axis_rotation("x", rng.uniform(20, 70)))
    return subtract(box((wide, long, long), 0.02 * r), translate(slope, (0, 0, 3.2 * r + 0.3 * long)))


def _tool(rng: np.random.Generator, r: float) -> Field:
    kind = rng.choice(["bore", "slot", "pocket", "cup", "channel"])
    wide = r * rng.uniform(0.06, 0.25)
    if kind == "bore":
        through = cylinder(wide, 3 * r)
        head = translate(cylinder(1.7 * wide, wide), (0, 0, r * rng.uniform(0, 0.6)))
        return union(through, head) if rng.random() < 0.4 else through
    if kind == "slot":
        return box((0.5 * wide, wide * rng.uniform(2, 4), 3 * r), 0.2 * wide)
    if kind == "pocket":
        return box((1.5 * wide, wide * rng.uniform(1, 3), wide), 0.2 * wide)
    if kind == "cup":
        return sphere(wide)
    return capsule((-2 * r, 0, 0), (2 * r, 0, 0), 0.8 * wide)


def vessel(rng: np.random.Generator) -> Part:
    """Bowls, plates, cups, boxes and flasks: hollow or whole, with a rim, a foot, a handle, ribs or knobs."""
    r = rng.uniform(14, 22)
    height = r * rng.uniform(0.15, 1.3)
    wall = max(1.2, r * rng.uniform(0.05, 0.12))
    kind = rng.choice(["bowl", "plate", "cup", "box", "flask"])
    outer = _outer(rng, str(kind), r, height)
    body = outer
    open_top = kind in ("bowl", "plate", "cup") or rng.random() < 0.4
    if open_top:
        opening = translate(box((3 * r, 3 * r, r)), (0, 0, height / 2 + r - 0.02 * r))
        body = subtract(shell(outer, wall), opening, blend=0.3 * wall)
    if rng.random() < 0.5 and kind in ("cup", "bowl", "flask"):
        ring = rotate(torus(height * rng.uniform(0.22, 0.4), wall * rng.uniform(0.6, 1.3)), axis_rotation("x", 90))
        handle = translate(ring, (r * rng.uniform(0.85, 1.0), 0, 0))
        body = union(body, intersect(handle, lambda p: -outer(p)))
    body = skin(rng, body, r * rng.uniform(0.2, 0.6), r * rng.uniform(0.0, 0.006))
    wide = r * rng.uniform(0.04, 0.1)
    removes = bool(rng.random() < 0.5)
    around = {
        "rib": lambda: box((1.5 * wide, 0.5 * wide, 0.3 * height), 0.2 * wide),
        "knob": lambda: sphere(1.4 * wide),
        "flute": lambda: capsule((0, 0, -0.3 * height), (0, 0, 0.3 * height), 0.8 * wide),
    }[str(rng.choice(["rib", "knob", "flute"]))]()
    return Part(
        body=body,
        element=translate(around, (r * rng.uniform(0.85, 0.98), 0, rng.uniform(-0.2, 0.2) * height)),
        repeat=Repeat(polar=int(rng.integers(1, 17))),
        bound=1.1 * math.hypot(1.6 * r, 0.8 * height),
        removes=removes,
        blend=r * rng.uniform(0.005, 0.05),
        pose=str(rng.choice(["any", "upright"])),
    )


def _outer(rng: np.random.Generator, kind: str, r: float, height: float) -> Field:
    half, foot = height / 2, r * rng.uniform(0.35, 0.8)
    if kind == "box":
        side = r * rng.uniform(0.4, 0.95)
        return box((0.95 * r, side, half), min(half, side) * rng.uniform(0.02, 0.4))
    if kind == "flask":
        neck = r * rng.uniform(0.2, 0.45)
        shoulder = half * rng.uniform(0.0, 0.6)
        return lathe([(0, -half), (0.8 * r, -half), (0.95 * r, shoulder), (neck, half), (0, half)], 0.05 * r)
    if kind == "cup":
        return lathe([(0, -half), (foot + 0.1 * r, -half), (0.95 * r, half), (0, half)], 0.04 * r)
    # Bowl and plate: an arc from the foot to the rim.
    steps = np.linspace(0.0, 1.0, 7)
    arc = rng.uniform(0.3, 0.7)
    profile = [(foot + (0.95 * r - foot) * s**arc, -half + height * s) for s in steps]
    return lathe([(0, -half), *profile, (0, half)], 0.02 * r)
