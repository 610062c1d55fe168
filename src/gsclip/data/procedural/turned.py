"""Families of turned and round parts: bolts, gears, flanges, shafts, knobs, fittings."""

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
    displace,
    intersect,
    knurl,
    lathe,
    noise,
    prism,
    rotate,
    smooth_union,
    subtract,
    thread,
    torus,
    translate,
    twist,
    twist_slope,
    union,
)


def bored(rng: np.random.Generator, radius: float, half_height: float) -> Field:
    """Tool for a bore along z, plain or threaded."""
    if rng.random() < 0.5:
        return cylinder(radius, half_height)
    pitch = radius * rng.uniform(0.25, 0.4)
    return thread(radius * 1.1, half_height, pitch, 0.45 * pitch)


def flange_bolt(rng: np.random.Generator) -> Part:
    """Hexagon bolt with a flange, serrated on top, and a threaded shank."""
    r = rng.uniform(3.5, 6.0)
    length, pitch = r * rng.uniform(3.5, 5.5), r * rng.uniform(0.26, 0.4)
    flange = r * rng.uniform(2.0, 2.4)
    head = r * rng.uniform(1.1, 1.5)
    shank = translate(thread(r, length / 2, pitch, 0.5 * pitch), (0, 0, -length / 2))
    collar = lathe([(0, -0.2 * r), (flange, -0.2 * r), (flange, 0.1 * r), (1.3 * r, 0.5 * r), (0, 0.5 * r)], 0.1 * r)
    hexagon = translate(prism(6, r * rng.uniform(1.35, 1.55), head / 2, 0.08 * r), (0, 0, 0.4 * r + head / 2))
    tooth = rotate(box((0.36 * r, 0.14 * r, 0.22 * r), 0.06 * r), axis_rotation("y", 20))
    middle = (0.0, 0.0, length / 2 - head / 2)
    cap = translate(cylinder(rng.uniform(0.6, 1.0) * r, 0.3 * r), (0, 0, 0.4 * r + head + middle[2]))
    return Part(
        body=translate(union(shank, collar, hexagon), middle),
        element=translate(tooth, (0.86 * flange, 0, 0.28 * r)),
        repeat=Repeat(polar=int(rng.integers(12, 21)), origin=middle),
        bound=math.hypot(flange * 1.15, length / 2 + head + r),
        blend=0.05 * r,
        finish=lambda field: subtract(field, cap, blend=0.1 * r),
        pose="lying" if rng.random() < 0.6 else "any",
    )


def spur_gear(rng: np.random.Generator) -> Part:
    """Gear wheel with hub, keyed bore, recessed web and holes in the web."""
    r, count = rng.uniform(12, 24), int(rng.integers(14, 27))
    half, hub = r * rng.uniform(0.16, 0.3), r * rng.uniform(0.3, 0.42)
    width = math.pi * r / count
    tall = width * rng.uniform(1.0, 1.4)
    body = subtract(
        cylinder(r, half, 0.03 * r),
        translate(torus(0.62 * r, 0.17 * r), (0, 0, half)),
        translate(torus(0.62 * r, 0.17 * r), (0, 0, -half)),
        blend=0.03 * r,
    )
    body = union(body, cylinder(hub, half * rng.uniform(1.1, 1.7), 0.04 * r))
    tooth = intersect(
        box((tall, 0.52 * width, half), 0.12 * width),
        rotate(box((4 * tall, 0.62 * width, 2 * half)), axis_rotation("z", 8)),
    )
    tooth = intersect(tooth, rotate(box((4 * tall, 0.62 * width, 2 * half)), axis_rotation("z", -8)))
    bore = hub * rng.uniform(0.45, 0.65)
    tools = [cylinder(bore, r), translate(box((0.35 * bore, 0.25 * bore, r)), (bore, 0, 0))]
    holes = int(rng.choice([0, 4, 5, 6]))
    for k in range(holes):
        angle = 2 * math.pi * k / holes
        tools.append(translate(cylinder(0.1 * r, r), (0.62 * r * math.cos(angle), 0.62 * r * math.sin(angle), 0)))
    return Part(
        body=body,
        element=translate(tooth, (r + 0.2 * tall, 0, 0)),
        repeat=Repeat(polar=count),
        bound=1.05 * math.hypot(r + 1.2 * tall, half * 1.7),
        blend=0.15 * width,
        finish=lambda field: subtract(field, *tools, blend=0.02 * r),
        pose="upright",
    )


def pipe_flange(rng: np.random.Generator) -> Part:
    """Weld-neck flange: disc with bolt holes, raised face with concentric grooves, neck and bore."""
    r = rng.uniform(18, 34)
    half, neck = r * rng.uniform(0.09, 0.15), r * rng.uniform(0.4, 0.5)
    rise, bore = r * rng.uniform(0.35, 0.6), neck * rng.uniform(0.65, 0.8)
    profile = [(0, -half), (r, -half), (r, half), (neck * 1.2, half * 1.4), (neck, rise), (0, rise)]
    groove = 0.018 * r
    seats = [translate(torus(neck * f, groove * 1.2), (0, 0, -half - 0.04 * r)) for f in (1.15, 1.3)]
    face = translate(cylinder(0.68 * r, 0.05 * r, 0.01 * r), (0, 0, -half))
    rings = [translate(torus(f * r, groove), (0, 0, half)) for f in (0.9, 0.95)]
    hole = r * rng.uniform(0.07, 0.1)
    count = int(rng.choice([4, 6, 8, 8, 10]))
    body = union(lathe(profile, 0.02 * r), face)
    sink = translate(cylinder(1.6 * hole, half * 0.5), (0, 0, half * 1.1)) if rng.random() < 0.5 else cylinder(hole, r)
    return Part(
        body=subtract(body, *seats, *rings, blend=0.02 * r),
        element=translate(union(cylinder(hole, r), sink), (0.79 * r, 0, 0)),
        repeat=Repeat(polar=count),
        bound=1.1 * math.hypot(r, rise),
        removes=True,
        blend=0.02 * r,
        finish=lambda field: subtract(field, cylinder(bore, 2 * r), blend=0.03 * r),
        pose="upright" if rng.random() < 0.6 else "any",
    )


def stepped_shaft(rng: np.random.Generator) -> Part:
    """Shaft with steps, retaining-ring grooves, a keyway, a threaded end and a splined section."""
    r = rng.uniform(4, 8)
    lengths = r * rng.uniform(0.7, 1.6, size=5)
    radii = r * np.array([rng.uniform(0.5, 0.7), rng.uniform(0.75, 0.9), 1.0, rng.uniform(0.65, 0.85), 0.6])
    total, z = float(lengths.sum()), -float(lengths.sum()) / 2
    sections: list[Field] = []
    middles = []
    for length, radius in zip(lengths, radii, strict=True):
        sections.append(translate(cylinder(radius, length / 2, 0.06 * r), (0, 0, z + length / 2)))
        middles.append(z + length / 2)
        z += length
    pitch = r * rng.uniform(0.2, 0.3)
    sections[0] = translate(thread(radii[0], lengths[0] / 2, pitch, 0.5 * pitch), (0, 0, middles[0]))
    sections.append(
        translate(knurl(cylinder(1.25 * r, 0.22 * r, 0.05 * r), 24, 14 * r, 0.05 * r, r), (0, 0, middles[1]))
    )
    grooves = [translate(torus(radii[k], 0.1 * r), (0, 0, middles[k] + 0.3 * lengths[k])) for k in (1, 3)]
    key = translate(box((0.22 * r, 0.16 * r, 0.36 * lengths[3]), 0.1 * r), (radii[3], 0, middles[3] - 0.1 * lengths[3]))
    spline = translate(box((0.22 * r, 0.11 * r, 0.42 * lengths[2]), 0.04 * r), (r, 0, middles[2]))
    return Part(
        body=union(*sections),
        element=spline,
        repeat=Repeat(polar=int(rng.integers(10, 17))),
        bound=1.05 * math.hypot(1.3 * r, total / 2),
        finish=lambda field: subtract(field, key, *grooves, blend=0.04 * r),
        pose="lying",
    )


def control_knob(rng: np.random.Generator) -> Part:
    """Control knob: fluted grip, knurled skirt, pointer groove and a dished top."""
    r = rng.uniform(8, 16)
    height, count = r * rng.uniform(0.6, 1.2), int(rng.integers(9, 17))
    grip = lathe([(0, -height), (r, -height), (0.88 * r, height * 0.8), (0.7 * r, height), (0, height)], 0.05 * r)
    skirt = translate(cylinder(1.3 * r, 0.16 * r, 0.05 * r), (0, 0, -height))
    skirt = knurl(skirt, int(rng.integers(24, 36)), 20 * r, 0.05 * r, r)
    dish = translate(cylinder(0.5 * r, 0.06 * r, 0.03 * r), (0, 0, height + 0.05 * r))
    pointer = capsule((0.2 * r, 0, height + 0.07 * r), (1.2 * r, 0, height - 0.2 * r), 0.09 * r)
    flute = 0.55 * math.pi * r / count
    return Part(
        body=grip,
        element=capsule((1.06 * r, 0, -0.72 * height), (1.0 * r, 0, 1.5 * height), flute),
        repeat=Repeat(polar=count),
        bound=1.1 * math.hypot(1.35 * r, height * 1.1),
        removes=True,
        blend=0.06 * r,
        finish=lambda field: subtract(union(field, skirt), dish, pointer, blend=0.03 * r),
        pose="upright" if rng.random() < 0.5 else "any",
    )


def collet(rng: np.random.Generator) -> Part:
    """Clamping sleeve: slit crown of fingers, threaded barrel, hexagon collar, bore."""
    r = rng.uniform(6, 11)
    count = int(rng.integers(8, 17))
    barrel, crown, pitch = r * rng.uniform(0.9, 1.5), r * rng.uniform(0.4, 0.7), r * rng.uniform(0.14, 0.24)
    hexagon = prism(6, 1.25 * r, 0.3 * r, 0.05 * r)
    rod = translate(thread(r, barrel / 2, pitch, 0.5 * pitch), (0, 0, 0.28 * r + barrel / 2))
    foot = translate(thread(0.85 * r, 0.5 * r, pitch, 0.5 * pitch), (0, 0, -0.75 * r))
    width = math.pi * 0.86 * r / count * rng.uniform(0.6, 0.8)
    lean = rng.uniform(-4, 10)
    finger = rotate(box((0.11 * r, width, crown), 0.05 * r), axis_rotation("y", -lean))
    top = 0.28 * r + barrel
    bore = r * rng.uniform(0.6, 0.7)
    return Part(
        body=union(hexagon, rod, foot),
        element=translate(finger, (0.84 * r, 0, top + 0.8 * crown)),
        repeat=Repeat(polar=count),
        bound=1.05 * math.hypot(1.45 * r, top + 1.9 * crown),
        finish=lambda field: subtract(field, cylinder(bore, 8 * r), blend=0.05 * r),
        pose="lying" if rng.random() < 0.5 else "any",
    )


def castle_nut(rng: np.random.Generator) -> Part:
    """Hexagon nut with a slotted crown and a threaded bore."""
    a = rng.uniform(9, 18)
    half, crown = a * rng.uniform(0.35, 0.55), a * rng.uniform(0.25, 0.4)
    cone = lathe(
        [
            (0, -half * 1.02),
            (1.0 * a, -half * 1.02),
            (1.14 * a, -half * 0.8),
            (1.14 * a, half * 0.7),
            (0.9 * a, half * 1.02),
            (0, half * 1.02),
        ],
        0.02 * a,
    )
    nut = intersect(prism(6, a, half, 0.03 * a), cone)
    ring = translate(cylinder(0.88 * a, crown / 2, 0.05 * a), (0, 0, half + crown / 2 - 0.02 * a))
    slots = int(rng.choice([6, 6, 8, 10]))
    slot = translate(box((0.5 * a, 0.09 * a, crown), 0.03 * a), (0.85 * a, 0, half + crown))
    bore = bored(rng, 0.5 * a, 3 * a)
    return Part(
        body=union(nut, ring),
        element=slot,
        repeat=Repeat(polar=slots, rotation=axis_rotation("z", 30.0 if rng.random() < 0.5 else 0.0)),
        bound=1.1 * math.hypot(1.16 * a, half + crown),
        removes=True,
        finish=lambda field: subtract(field, bore, blend=0.03 * a),
        pose="upright" if rng.random() < 0.4 else "any",
    )


def hose_fitting(rng: np.random.Generator) -> Part:
    """Hose fitting: barbed tail, hexagon with notched washer face, threaded end, bore."""
    r = rng.uniform(4, 8)
    barbs, step = int(rng.integers(3, 7)), r * rng.uniform(0.55, 0.8)
    profile = [(0.0, 0.0), (0.9 * r, 0.0)]
    for k in range(barbs):
        profile += [(1.08 * r, k * step + 0.15 * step), (0.84 * r, (k + 1) * step)]
    tail = translate(lathe([*profile, (0.0, barbs * step)], 0.02 * r), (0, 0, 0.4 * r))
    washer = 1.75 * r
    collar = union(
        prism(6, 1.4 * r, 0.4 * r, 0.06 * r), translate(cylinder(washer, 0.16 * r, 0.04 * r), (0, 0, -0.4 * r))
    )
    length, pitch = r * rng.uniform(1.4, 2.2), r * rng.uniform(0.2, 0.3)
    end = translate(thread(1.05 * r, length / 2, pitch, 0.5 * pitch), (0, 0, -0.5 * r - length / 2))
    return Part(
        body=union(tail, collar, end),
        element=translate(capsule((0, 0, -r), (0, 0, r), 0.13 * r), (washer, 0, -0.4 * r)),
        repeat=Repeat(polar=int(rng.integers(14, 22))),
        bound=1.05 * math.hypot(washer, max(barbs * step + 0.4 * r, length + 0.5 * r)),
        removes=True,
        finish=lambda field: subtract(field, cylinder(0.5 * r, 20 * r), blend=0.05 * r),
        pose="lying",
    )


def impeller(rng: np.random.Generator) -> Part:
    """Fan wheel: twisted blades on a hub over a back plate with a rim."""
    r, count = rng.uniform(14, 30), int(rng.integers(7, 14))
    tall = r * rng.uniform(0.16, 0.26)
    plate = translate(cylinder(r, 0.05 * r, 0.02 * r), (0, 0, -tall))
    rim = translate(torus(r, 0.05 * r), (0, 0, -tall))
    hub = lathe(
        [(0, -tall), (0.36 * r, -tall), (0.3 * r, tall * 0.6), (0.18 * r, tall * 1.5), (0, tall * 1.6)], 0.03 * r
    )
    blade = translate(box((0.36 * r, 0.024 * r, tall), 0.012 * r), (0.62 * r, 0, 0))
    lead = float(rng.choice([-1, 1])) * rng.uniform(10, 18) / (2 * tall)
    slope = twist_slope(lead, r)
    return Part(
        body=union(plate, rim, hub),
        element=lambda p: blade(p) / slope,
        repeat=Repeat(polar=count, twist=lead),
        bound=1.1 * math.hypot(1.05 * r, tall * 1.7),
        blend=0.05 * r,
        finish=lambda field: subtract(field, cylinder(0.1 * r, r), blend=0.02 * r),
        pose="upright",
    )


def handwheel(rng: np.random.Generator) -> Part:
    """Valve handwheel: lobed rim, spokes, hub with a square bore, casting skin."""
    r, count = rng.uniform(18, 34), int(rng.integers(3, 7))
    tube = r * rng.uniform(0.11, 0.16)
    hub = union(cylinder(0.26 * r, 0.18 * r, 0.05 * r), prism(6, 0.18 * r, 0.28 * r, 0.02 * r))
    rim = torus(r, tube)
    spoke = smooth_union(
        capsule((0, 0, 0), (r, 0, 0), 0.07 * r),
        translate(box((0.4 * r, 0.02 * r, 0.11 * r), 0.015 * r), (0.5 * r, 0, 0)),
        0.05 * r,
    )
    lobes = int(rng.integers(14, 26))
    texture = noise(rng, 0.25 * r, 0.006 * r * rng.uniform(0.5, 1.5))
    body = smooth_union(knurl(rim, lobes // 2, 0.0, 0.04 * r, r), hub, 0.02 * r)

    def finish(field: Field) -> Field:
        square = box((0.1 * r, 0.1 * r, r), 0.01 * r)
        return displace(subtract(field, square), texture, 0.2)

    return Part(
        body=body,
        element=spoke,
        repeat=Repeat(polar=count),
        bound=1.1 * (r + tube),
        blend=0.06 * r,
        finish=finish,
        pose="upright" if rng.random() < 0.7 else "any",
    )


def bottle(rng: np.random.Generator) -> Part:
    """Bottle: turned body with a label panel, ribs about the foot, threaded neck, open mouth."""
    r = rng.uniform(9, 16)
    tall, neck = r * rng.uniform(1.3, 2.0), r * rng.uniform(0.4, 0.6)
    shoulder = r * rng.uniform(0.5, 1.0)
    profile = [
        (0, -tall),
        (0.85 * r, -tall),
        (0.97 * r, -0.88 * tall),
        (0.97 * r, -0.3 * tall),
        (0.92 * r, -0.25 * tall),
        (0.92 * r, 0.55 * tall),
        (0.97 * r, 0.6 * tall),
        (0.85 * r, 0.6 * tall + 0.45 * shoulder),
        (neck, 0.6 * tall + shoulder),
        (neck, 0.7 * tall + shoulder + 0.5 * r),
        (0, 0.7 * tall + shoulder + 0.5 * r),
    ]
    top = 0.7 * tall + shoulder + 0.5 * r
    ring = translate(torus(neck, 0.08 * r), (0, 0, 0.6 * tall + shoulder + 0.12 * r))
    pitch = 0.15 * r
    collar = translate(thread(neck * 1.14, 0.18 * r, pitch, 0.5 * pitch), (0, 0, top - 0.25 * r))
    body = union(lathe(profile, 0.03 * r), ring, collar)
    rib = capsule((0.97 * r, 0, -0.8 * tall), (0.97 * r, 0, -0.4 * tall), 0.07 * r)
    mouth = translate(cylinder(0.75 * neck, 0.8 * r), (0, 0, top))
    return Part(
        body=body,
        element=rib,
        repeat=Repeat(polar=int(rng.integers(14, 26))),
        bound=1.05 * math.hypot(r, max(top, tall)),
        blend=0.05 * r,
        finish=lambda field: subtract(field, mouth, blend=0.04 * r),
        pose="lying",
    )


def vase(rng: np.random.Generator) -> Part:
    """Vase: fluted belly twisted about its axis, studs on the shoulder, open neck with a lip."""
    r = rng.uniform(10, 18)
    tall, waist = r * rng.uniform(1.1, 1.7), r * rng.uniform(0.4, 0.6)
    z = np.linspace(-tall, tall, 15)
    s = (z + tall) / (2 * tall)
    radius = waist + (r - waist) * np.sin(np.pi * s ** rng.uniform(0.6, 1.0)) ** 1.3
    profile = [(0.0, -tall), *[(float(a), float(b)) for a, b in zip(radius, z, strict=True)], (0.0, tall)]
    belly = knurl(lathe(profile), int(rng.integers(5, 10)), 0.0, 0.07 * r, 0.6 * r)
    belly = twist(belly, rng.uniform(-1.5, 1.5), r)
    lip, foot = translate(torus(waist, 0.1 * r), (0, 0, tall)), translate(torus(waist, 0.12 * r), (0, 0, -tall))
    band = float(np.interp(0.7, s, radius))
    count = int(rng.integers(9, 16))
    return Part(
        body=smooth_union(belly, union(lip, foot), 0.06 * r),
        element=translate(
            rotate(cylinder(0.14 * r, 0.12 * r, 0.08 * r), axis_rotation("y", 90)), (band, 0, 0.4 * tall)
        ),
        repeat=Repeat(polar=count),
        bound=1.1 * math.hypot(r, tall * 1.1),
        blend=0.05 * r,
        finish=lambda field: subtract(field, translate(cylinder(0.8 * waist, 0.9 * tall, 0.1 * r), (0, 0, tall))),
        pose="any",
    )
