"""Families without a fixed design: every part is put together anew from sections, features and textures.

They widen what the backbone sees far beyond the families that imitate one kind of part.
"""

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
    ellipsoid,
    knurl,
    lathe,
    noise,
    prism,
    radial,
    rotate,
    skin,
    smooth_union,
    sphere,
    subtract,
    thread,
    torus,
    translate,
    union,
)


def turned_mix(rng: np.random.Generator) -> Part:
    """Sections along an axis (plain, conical, threaded, knurled, faceted, grooved) with fins, slots, bores or knobs."""
    r = rng.uniform(7, 16)
    sections: list[Field] = []
    spans: list[tuple[float, float, float]] = []  # bottom, top, radius
    z = 0.0
    for _ in range(int(rng.integers(2, 6))):
        height, radius = r * rng.uniform(0.25, 1.2), r * rng.uniform(0.5, 1.1)
        sections.append(translate(_section(rng, radius, height), (0, 0, z + height / 2)))
        spans.append((z, z + height, radius))
        z += height
    middle = (0.0, 0.0, -z / 2)
    element, removes = _turned_element(rng, spans, r)
    bore = r * rng.uniform(0.2, 0.42)
    tools = []
    if rng.random() < 0.6:
        depth = z * (2.0 if rng.random() < 0.6 else rng.uniform(0.2, 0.9))
        tools.append(translate(cylinder(bore, depth), (0, 0, z)))
    uneven = noise(rng, 0.5 * r, 0.01 * r) if rng.random() < 0.25 else None

    def finish(field: Field) -> Field:
        cut = subtract(field, *(translate(tool, middle) for tool in tools), blend=0.03 * r) if tools else field
        return cut if uneven is None else displace(cut, uneven, 0.15)

    return Part(
        body=translate(union(*sections), middle),
        element=translate(element, middle),
        repeat=Repeat(polar=int(rng.integers(3, 19))),
        bound=1.1 * math.hypot(1.5 * r, z / 2),
        removes=removes,
        blend=r * rng.uniform(0.01, 0.06),
        finish=finish,
        pose="any",
    )


def _section(rng: np.random.Generator, radius: float, height: float) -> Field:
    half = height / 2
    kind = rng.choice(["plain", "cone", "thread", "knurl", "facets", "grooves", "bulb"])
    if kind == "thread":
        pitch = radius * rng.uniform(0.12, 0.32)
        return thread(radius, half, pitch, pitch * rng.uniform(0.35, 0.6), int(rng.integers(1, 3)))
    if kind == "knurl":
        count = int(rng.integers(18, 40))
        depth = radius * rng.uniform(0.02, 0.05)
        return knurl(cylinder(radius, half, 0.03 * radius), count, rng.uniform(2, 5) * radius, depth, radius)
    if kind == "facets":
        return prism(int(rng.choice([4, 5, 6, 6, 8])), 0.9 * radius, half, 0.05 * radius)
    if kind == "cone":
        top = radius * rng.uniform(0.5, 0.95)
        first, second = (radius, top) if rng.random() < 0.5 else (top, radius)
        return lathe([(0, -half), (first, -half), (second, half), (0, half)], 0.02 * radius)
    if kind == "grooves":
        heights = np.linspace(-half, half, int(rng.integers(3, 6)))[1:-1]
        size = min(0.08 * radius, 0.15 * height)
        return subtract(
            cylinder(radius, half, 0.04 * radius), *(translate(torus(radius, size), (0, 0, h)) for h in heights)
        )
    if kind == "bulb":
        return lathe([(0, -half), (0.7 * radius, -half), (radius, 0), (0.7 * radius, half), (0, half)], 0.06 * radius)
    return cylinder(radius, half, radius * rng.uniform(0.02, 0.12))


def _turned_element(rng: np.random.Generator, spans: list[tuple[float, float, float]], r: float) -> tuple[Field, bool]:
    """One of the features about the axis, and whether it is cut out."""
    low, high, radius = spans[int(rng.integers(len(spans)))]
    half = (high - low) / 2
    kind = rng.choice(["fin", "slot", "bore", "knob", "flute", "finger"])
    wide = r * rng.uniform(0.05, 0.12)
    if kind == "fin":
        blade = box((r * rng.uniform(0.12, 0.3), wide, 0.8 * half), 0.3 * wide)
        return translate(blade, (radius, 0, low + half)), False
    if kind == "slot":
        return translate(box((0.4 * radius, wide, 0.6 * half), 0.2 * wide), (radius, 0, low + half)), True
    if kind == "bore":
        tool = rotate(cylinder(min(1.6 * wide, 0.5 * half), radius), axis_rotation("y", 90))
        return translate(tool, (radius, 0, low + half)), True
    if kind == "knob":
        return translate(sphere(min(1.8 * wide, 0.6 * half)), (radius, 0, low + half)), False
    if kind == "flute":
        return capsule((radius, 0, low), (radius, 0, high), 1.2 * wide), True
    top = spans[-1][1]
    deep = (spans[-1][1] - spans[-1][0]) * rng.uniform(0.3, 0.9)
    return translate(box((1.5 * r, wide, deep), 0.1 * wide), (1.5 * r, 0, top)), True


def plate_mix(rng: np.random.Generator) -> Part:
    """A plate, disc or block with bosses and pockets, and a row or field of studs, bores, ribs or slots."""
    x, y = rng.uniform(14, 28), rng.uniform(9, 24)
    half = rng.uniform(1.5, 6.0)
    size = math.sqrt(x * y)
    shape = rng.choice(["box", "disc", "facets"])
    if shape == "disc":
        x = y = size
    base = {
        "box": lambda: box((x, y, half), min(0.4 * half, rng.uniform(0.2, 1.5))),
        "disc": lambda: cylinder(size, half, 0.3 * half),
        "facets": lambda: prism(int(rng.choice([3, 5, 6, 8])), 0.9 * size, half, 0.3 * half),
    }[str(shape)]()
    if shape == "facets":
        x = y = 0.9 * size
    for _ in range(int(rng.integers(1, 6))):
        wide = size * rng.uniform(0.08, 0.3)
        place = (rng.uniform(-0.8, 0.8) * x, rng.uniform(-0.8, 0.8) * y, half)
        rise = size * rng.uniform(0.04, 0.3)
        feature = {
            "boss": lambda w=wide, h=rise: cylinder(w, h, 0.2 * min(w, h)),
            "block": lambda w=wide, h=rise: box((w, w * rng.uniform(0.3, 1.0), h), 0.15 * min(w, h)),
            "ring": lambda w=wide, h=rise: torus(w, 0.3 * min(w, h) + 0.3),
            "dome": lambda w=wide, h=rise: ellipsoid((w, w, max(h, 0.4 * w))),
        }[str(rng.choice(["boss", "block", "ring", "dome"]))]()
        feature = translate(rotate(feature, axis_rotation("z", rng.uniform(0, 180))), place)
        if rng.random() < 0.65:
            base = smooth_union(base, feature, 0.02 * size)
        else:
            base = subtract(base, feature, blend=0.02 * size)
    nx, ny = int(rng.integers(2, 8)), int(rng.integers(1, 6))
    spacing = (1.5 * x / nx, 1.5 * y / max(ny, 2))
    cell = min(spacing[0], spacing[1] if ny > 1 else spacing[0])
    feature, removes = {
        "stud": (cylinder(0.28 * cell, 0.3 * cell, 0.05 * cell), False),
        "dome": (sphere(0.28 * cell), False),
        "bore": (cylinder(0.22 * cell, 3 * half), True),
        "rib": (box((0.12 * spacing[0], 0.4 * spacing[1], 0.25 * cell), 0.04 * cell), False),
        "slot": (box((0.16 * spacing[0], 0.36 * spacing[1], 0.6 * half), 0.03 * cell), True),
        "cup": (sphere(0.32 * cell), True),
    }[str(rng.choice(["stud", "dome", "bore", "rib", "slot", "cup"]))]
    uneven = noise(rng, 0.3 * size, 0.008 * size) if rng.random() < 0.3 else None
    return Part(
        body=base,
        element=translate(feature, (0, 0, half)),
        repeat=Repeat(grid=(nx, ny), spacing=spacing),
        bound=1.15 * math.hypot(math.hypot(x, y) + 0.35 * size, half + 0.4 * size),
        removes=removes,
        blend=0.02 * cell,
        finish=(lambda field: field) if uneven is None else (lambda field: displace(field, uneven, 0.2)),
        pose="upright" if rng.random() < 0.7 else "any",
    )


def organic_body(rng: np.random.Generator) -> Part:
    """Smooth lumps grown together under an uneven skin, like fruit, tubers, bones or pebbles; a dimple or bumps."""
    r = rng.uniform(14, 24)
    body = ellipsoid(r * rng.uniform(0.55, 1.0, size=3))
    for _ in range(int(rng.integers(0, 4))):
        direction = rng.normal(size=3)
        direction *= r * rng.uniform(0.2, 0.7) / np.linalg.norm(direction)
        lump = translate(ellipsoid(r * rng.uniform(0.25, 0.6, size=3)), direction)
        body = smooth_union(body, lump, r * rng.uniform(0.1, 0.4))
    wavelength = r * rng.uniform(0.3, 1.2)
    body = skin(rng, body, wavelength, wavelength * rng.uniform(0.01, 0.04))
    grain = r * rng.uniform(0.05, 0.15)
    amplitude = grain * rng.uniform(0.0, 0.05)
    texture = noise(rng, grain, amplitude)
    single = rng.random() < 0.6
    removes = bool(rng.random() < 0.6)
    place = (0.0, 0.0, 0.75 * r) if single else (0.7 * r, 0.0, 0.4 * r)
    return Part(
        body=body,
        element=translate(sphere(r * rng.uniform(0.07, 0.2)), place),
        repeat=Repeat(polar=1 if single else int(rng.integers(4, 11))),
        bound=1.5 * r,
        removes=removes,
        blend=r * rng.uniform(0.04, 0.15),
        finish=lambda field: displace(field, texture, 6.0 * amplitude / grain),
        pose="any",
    )


def tapered_rod(rng: np.random.Generator) -> Part:
    """Rods, roots and cords: straight or tapering, plain, ringed or twisted from strands."""
    r, length = rng.uniform(4, 8), rng.uniform(22, 42)
    half = length / 2
    ends = r * rng.uniform(0.5, 1.0, size=2)
    profile = [(0, -half), (ends[0], -half), (r, -half + length * rng.uniform(0.1, 0.5)), (ends[1], half), (0, half)]
    body = lathe(profile, r * rng.uniform(0.03, 0.2))
    kind = rng.choice(["plain", "ringed", "strands"])
    if kind == "strands":
        count = int(rng.integers(3, 9))
        turns = 2 * math.pi / (length * rng.uniform(0.3, 0.9))
        depth = r * rng.uniform(0.04, 0.12)

        def strands(p: Tensor) -> Tensor:
            return torch.cos(torch.atan2(p[1], p[0]) * count + turns * p[2]) * depth * (radial(p) / r).clamp(max=1.0)

        body = displace(body, strands, depth * math.hypot(3 * count / r, turns))
    if kind == "ringed":
        rate, depth = 2 * math.pi / (r * rng.uniform(0.3, 1.2)), r * rng.uniform(0.01, 0.04)
        rings = noise(rng, 0.8 * r, 0.5 * depth)

        def ringed(p: Tensor) -> Tensor:
            return torch.cos(p[2] * rate) * depth + rings(p)

        body = displace(body, ringed, depth * (rate + 4.0 / r))
    texture = noise(rng, 0.4 * r, 0.01 * r * rng.uniform(0.0, 1.5))
    single = rng.random() < 0.5
    element = (
        translate(sphere(r * rng.uniform(0.2, 0.5)), (0, 0, half))
        if single
        else capsule((0.95 * r, 0, -0.4 * half), (0.9 * r, 0, 0.4 * half), r * rng.uniform(0.06, 0.12))
    )
    return Part(
        body=body,
        element=element,
        repeat=Repeat(polar=1 if single else int(rng.integers(3, 9))),
        bound=1.1 * math.hypot(1.5 * r, half + 0.6 * r),
        removes=bool(rng.random() < 0.6),
        blend=0.05 * r,
        finish=lambda field: displace(field, texture, 0.25),
        pose="lying",
    )


def textured_slab(rng: np.random.Generator) -> Part:
    """Slabs and rings with a pattern pressed in (waves, waffle, weave, concentric), and blocks or bores on a grid."""
    x, y, half = rng.uniform(14, 26), rng.uniform(12, 24), rng.uniform(2.5, 7)
    size = math.sqrt(x * y)
    around = rng.random() < 0.4
    base = cylinder(size, half, 0.5 * half) if around else box((x, y, half), 0.5 * half)
    kind = rng.choice(["waves", "waffle", "weave", "rings", "grain"])
    rate = 2 * math.pi / (size * rng.uniform(0.08, 0.3))
    depth = rng.uniform(0.05, 0.16) * 2 * math.pi / rate
    heading = rng.uniform(0, math.pi)
    c, s = math.cos(heading), math.sin(heading)
    grain = noise(rng, 0.12 * size, 0.01 * size)

    def pattern(p: Tensor) -> Tensor:
        u, v = (c * p[0] + s * p[1]) * rate, (c * p[1] - s * p[0]) * rate
        if kind == "waves":
            return torch.sin(u) * depth
        if kind == "waffle":
            return torch.maximum(torch.sin(u), torch.sin(v)) * depth
        if kind == "weave":
            return (torch.sin(u) * torch.cos(v * 0.5) + torch.cos(u * 0.5) * torch.sin(v)) * (0.6 * depth)
        if kind == "rings":
            return torch.sin(radial(p) * rate) * depth
        return grain(p)

    slope = 0.6 if kind == "grain" else 1.3 * depth * rate
    nx, ny = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    spacing = (1.3 * x / nx, 1.3 * y / ny)
    cell = min(spacing)
    blocks = bool(rng.random() < 0.5)
    element = (
        translate(box((0.36 * spacing[0], 0.36 * spacing[1], 0.25 * cell), 0.06 * cell), (0, 0, half))
        if blocks
        else cylinder(cell * rng.uniform(0.08, 0.2), 3 * half)
    )
    hollow = around and rng.random() < 0.5
    return Part(
        body=displace(base, pattern, slope),
        element=element,
        repeat=Repeat(grid=(nx, ny), spacing=spacing),
        bound=1.15 * math.hypot(max(math.hypot(x, y), size), half + 0.3 * size),
        removes=not blocks,
        blend=0.04 * cell,
        finish=(lambda field: subtract(field, cylinder(0.35 * size, 4 * half), blend=0.1 * half))
        if hollow
        else (lambda field: field),
        pose="upright",
    )
