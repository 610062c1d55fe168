"""Defects made on the field of a part, so that the ground truth is what changes on the surface.

Every maker takes a :class:`Site` on the visible surface and returns the damaged field with a ball outside of which
the surface is as before. Lengths are in millimetres, in the part's frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from gsclip.data.procedural.part import Part
from gsclip.data.procedural.sdf import (
    Field,
    capsule,
    column,
    gradient,
    intersect,
    noise,
    rotate,
    smooth_minimum,
    sphere,
    subtract,
    torus,
    translate,
    union,
)


@dataclass(frozen=True)
class Surface:
    """What the sensor sees of a flawless part.

    Attributes:
        points: (n, 3) float64 where rays meet the part.
        normals: (n, 3) float64 unit vectors, outwards.
        interior: (n,) float64 pixels to the silhouette or the nearest step in range.
        rough: (n,) float64 from 0 on, how much the normals vary around each point.
        elements: (n,) int64 number of the repeated element each point lies on, -1 for the body.
        pitch: distance between neighbouring points on a frontal face.
        view: (3,) float64 unit vector from the part to the sensor.
    """

    points: np.ndarray
    normals: np.ndarray
    interior: np.ndarray
    rough: np.ndarray
    elements: np.ndarray
    pitch: float
    view: np.ndarray


@dataclass(frozen=True)
class Site:
    """Where and how large a defect is to be.

    Attributes:
        anchor: (3,) point of the visible surface.
        normal: (3,) unit vector outwards, of the surface's lie at the scale of the defect.
        size: diameter of a disc as large as the defect is meant to look.
        element: number of the element struck; -1 for kinds that strike the surface anywhere.
        depth: displacement of the surface where it is largest; ``None``: the kind draws it, in proportion to the size.
    """

    anchor: np.ndarray
    normal: np.ndarray
    size: float
    element: int
    depth: float | None = None


@dataclass(frozen=True)
class Damage:
    """A damaged part.

    Attributes:
        field: of the damaged part.
        centre: (3,) of a ball outside of which the surface is as before.
        reach: radius of the ball.
    """

    field: Field
    centre: np.ndarray
    reach: float


Maker = Callable[[Part, Site, Surface, np.random.Generator], Damage]

MIN_DEPTH, MAX_DEPTH = 0.35, 4.0  # millimetres by which a defect displaces the surface
INTERIOR = 0.25  # of the size: distance from the silhouette, for defects on a face
NOT_STEEPER = 0.42  # cosine of the angle between view and normal (65 degrees) at an anchor
FEW_POINTS = 12  # visible points of an element worth striking
CAPSULES = 9  # segments of a crack's path
BELL_SLOPE = math.exp(-0.5)  # steepest slope of exp(-x² / 2)
LARGE = 1.5  # times the size meant: a larger element is struck in one place instead of whole
ENDS = 40  # places far out that are compared
END_WINDOW = 1.5  # sizes about a place that tell whether it is an end
END_OFFSET = 0.4  # of the window, at least between an end and the middle of what is near
BEND_FALLS = (1.3, 2.0)  # sizes from the end: within the first it bends whole, beyond the second nothing moves


def choose_site(part: Part, kind: str, surface: Surface, size: float, rng: np.random.Generator) -> Site | None:
    """Find a place for a defect on what is visible.

    Args:
        part: the flawless part.
        kind: of :data:`KINDS` or :data:`TRAINING_KINDS`.
        surface: what the sensor sees of it.
        size: diameter in millimetres of a disc as large as the defect is meant to look.
        rng: decides.

    Returns:
        A place, or ``None`` where the kind finds none in this view.
    """
    if kind == "bend" and part.repeat.count < 2:
        return _end_site(surface, size, rng)
    if kind in ELEMENT_KINDS:
        return _element_site(surface, size, rng)
    facing = surface.normals @ surface.view > NOT_STEEPER
    if not facing.any():
        return None
    weights = facing.astype(np.float64)
    clear = INTERIOR * size / surface.pitch
    if kind == "break":
        weights *= surface.interior < clear + 2
    else:  # narrow parts have no place that far from the silhouette
        weights *= surface.interior >= min(clear, float(np.quantile(surface.interior[facing], 0.6)))
    if kind in ("flattening", "crushing"):
        weights *= surface.rough**2 + 1e-6
    if not weights.any():
        return None
    number = int(rng.choice(len(weights), p=weights / weights.sum()))
    anchor = surface.points[number]
    normal = _unit(np.asarray(gradient(part.field(), column(anchor), 0.3 * size).numpy()[:, 0], dtype=np.float64))
    if normal @ surface.normals[number] < 0.2:
        normal = surface.normals[number]
    return Site(anchor=anchor, normal=normal, size=size, element=-1)


def make_defect(part: Part, kind: str, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """Damage a part.

    Args:
        part: the flawless part.
        kind: of :data:`KINDS`.
        site: from :func:`choose_site` for the same kind.
        surface: what the sensor sees of the flawless part.
        rng: decides the defect's shape.
    """
    return {**_MAKERS, **TRAINING_KINDS}[kind](part, site, surface, rng)


def _element_site(surface: Surface, size: float, rng: np.random.Generator) -> Site | None:
    numbers, counts = np.unique(surface.elements[surface.elements >= 0], return_counts=True)
    numbers, counts = numbers[counts >= FEW_POINTS], counts[counts >= FEW_POINTS]
    if len(numbers) == 0:
        return None
    # Siblings seen well are struck more often; the others still are.
    element = int(rng.choice(numbers, p=counts / counts.sum()))
    mine = surface.elements == element
    anchor = surface.points[mine][int(rng.integers(mine.sum()))]
    return Site(anchor=anchor, normal=_unit(surface.normals[mine].mean(axis=0)), size=size, element=element)


def _end_site(surface: Surface, size: float, rng: np.random.Generator) -> Site | None:
    """An end that stands out: what is near lies to one side of it and is thin in one direction, which is its normal."""
    facing = np.flatnonzero(surface.normals @ surface.view > NOT_STEEPER)
    if len(facing) == 0:
        return None
    off = np.linalg.norm(surface.points - surface.points.mean(axis=0), axis=1)[facing]
    weights = (off / off.max()) ** 4
    window = END_WINDOW * size
    best, most = None, -math.inf
    for number in facing[rng.choice(len(facing), size=ENDS, p=weights / weights.sum())]:
        anchor = surface.points[number]
        near = surface.points[np.linalg.norm(surface.points - anchor, axis=1) < window]
        offset = float(np.linalg.norm(anchor - near.mean(axis=0))) / window
        if len(near) < FEW_POINTS or offset < END_OFFSET:
            continue
        _, deviations, axes = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)
        score = offset - float(deviations[2]) / math.sqrt(len(near)) / window
        if score > most:
            most = score
            best = Site(anchor=anchor, normal=_unit(axes[2]), size=size, element=-1)
    return best


def _bulge(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """Material raised over a disc: a lump on the surface, or a swelling that keeps its structure."""
    height = _depth(site.size * rng.uniform(0.18, 0.4), site)
    swells = rng.random() < 0.5
    if site.depth is not None and not is_thick(part, site.anchor, site.normal, height):
        return _pushed(part, site, height, rng)
    if swells:
        return _swelling(part, site, height, rng)
    cap = _cap(site, height, 1.0)
    if site.depth is not None:  # on a thin wall the ball would come out behind
        cap = intersect(cap, _halfspace(site.anchor - 0.6 * height * site.normal, -site.normal))
    base = part.field()
    blend = 0.5 * height
    return Damage(lambda p: smooth_minimum(base(p), cap(p), blend), site.anchor, 0.9 * site.size + height + blend)


def _concavity(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """A dent: a cap pressed in smoothly, or a sinking that keeps the surface's structure."""
    depth = _depth(site.size * rng.uniform(0.15, 0.35), site)
    pressed = rng.random() >= 0.5
    if site.depth is not None and not is_thick(part, site.anchor, site.normal, depth):
        return _pushed(part, site, -depth, rng)
    if not pressed:
        return _swelling(part, site, -depth, rng)
    blend = 0.4 * depth
    return Damage(
        subtract(part.field(), _cap(site, depth, -1.0), blend=blend), site.anchor, 0.9 * site.size + depth + blend
    )


def _hole(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """A drilled crater, with a raised rim half of the time."""
    radius = max(0.5, 0.5 * site.size * rng.uniform(0.7, 0.9))
    depth = _depth(radius * rng.uniform(0.7, 1.6), site)
    tip = depth - (0.6 if site.depth is None else 1.0) * radius  # of the drill's axis, below the surface
    lean = _unit(site.normal + 0.3 * rng.normal(size=3) * 0.5)
    drill = capsule(site.anchor + lean * 2 * radius, site.anchor - lean * tip, radius)
    field = subtract(part.field(), drill, blend=0.15 * radius)
    if rng.random() < 0.5:
        ring = rotate(torus(1.15 * radius, 0.22 * radius), _frame(lean))
        rim = translate(ring, site.anchor)
        if site.depth is not None:  # where the surface falls away, the ring would hang free
            base = part.field()
            rim = intersect(rim, lambda p: base(p) - 0.25 * radius)
        field = subtract(union(part.field(), rim), drill, blend=0.1 * radius)
    return Damage(field, site.anchor, 3.2 * radius + depth)


def _crack(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """A thin jagged path, deepest in its middle."""
    width = max(MIN_DEPTH, 1.2 * surface.pitch, 0.08 * site.size) if site.depth is None else site.depth / 1.5
    length = float(np.clip(0.4 * site.size**2 / width, 1.2 * site.size, 3.5 * site.size))
    path = _path(part, site, length, CAPSULES, 0.2, rng) - 0.5 * width * site.normal
    depth = np.linspace(-1, 1, len(path))
    radii = width * (1.0 - 0.5 * depth**2) * rng.uniform(0.85, 1.15, size=len(path))
    tools = [capsule(a, b, float(r)) for (a, b), r in zip(pairwise(path), radii, strict=False)]
    return Damage(subtract(part.field(), union(*tools)), *_ball(path, 1.5 * width))


def _scratch(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """A long shallow groove of nearly straight course."""
    depth = max(MIN_DEPTH, 0.09 * site.size) * rng.uniform(1.0, 1.4)
    depth = depth if site.depth is None else site.depth
    radius = depth * rng.uniform(1.1, 1.8)
    width = 2 * math.sqrt(max(radius**2 - (radius - depth) ** 2, 1e-6))
    length = float(np.clip(0.8 * site.size**2 / width, 1.2 * site.size, 4.5 * site.size))
    path = _path(part, site, length, 4, 0.04, rng) + site.normal * (radius - depth)
    tools = [capsule(a, b, radius) for a, b in pairwise(path)]
    return Damage(subtract(part.field(), union(*tools), blend=0.1 * radius), *_ball(path, 1.2 * radius))


def _flattening(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """Ridges milled off: a patch cut down to a lumpy plane."""
    depth = _depth(site.size * rng.uniform(0.08, 0.16), site)
    stretch = rng.uniform(0.8, 1.4)
    along = _tangent(site.normal, rng)
    across = np.cross(site.normal, along)
    axes = np.stack([along / stretch, across * stretch, site.normal])
    radius = 0.6 * site.size
    top = _height(surface, site, 0.5 * site.size, 0.9)  # of the highest ridge nearby
    plane = _halfspace(site.anchor + site.normal * (top - depth), -site.normal)
    lumps = noise(rng, 0.5 * site.size, 0.12 * depth)
    matrix, anchor = torch.as_tensor(axes.astype(np.float32)), column(site.anchor)
    shrink = 1.0 / max(stretch, 1.0 / stretch)

    def tool(p: Tensor) -> Tensor:
        inside = (plane(p) + lumps(p)) * 0.7
        q = matrix @ (p - anchor)
        pillar = (torch.sqrt(q[0] * q[0] + q[1] * q[1]) - radius) * shrink
        return torch.maximum(torch.maximum(inside, pillar), (q[2].abs() - radius) * shrink)

    return Damage(subtract(part.field(), tool, blend=0.2 * depth), site.anchor, 2.2 * radius * stretch + depth)


def _crushing(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """Ridges pressed or milled into the grooves beside them: a lumpy patch, smoother than what is around it."""
    stretch = rng.uniform(0.7, 1.5)
    along = _tangent(site.normal, rng)
    across = np.cross(site.normal, along)
    radius = 0.5 * site.size
    top, low = (_height(surface, site, radius, quantile) for quantile in (0.9, 0.25))
    ridge = float(np.clip(top - low, MIN_DEPTH, 0.25 * site.size))
    level = _halfspace(site.anchor + site.normal * (low + ridge * rng.uniform(0.1, 0.6)), -site.normal)
    lumps = noise(rng, max(0.25 * site.size, 3 * surface.pitch), ridge * rng.uniform(0.1, 0.35))
    base = part.field()
    matrix = torch.as_tensor(np.stack([along / stretch, across * stretch, site.normal]).astype(np.float32))
    anchor = column(site.anchor)
    shrink = 1.0 / max(stretch, 1.0 / stretch)

    def field(p: Tensor) -> Tensor:
        value = base(p)
        q = matrix @ (p - anchor)
        pillar = torch.maximum(torch.sqrt(q[0] * q[0] + q[1] * q[1]), q[2].abs()) * shrink - radius * shrink
        above = (level(p) + lumps(p)) * 0.6  # negative over the new surface
        filled = torch.minimum(value, torch.maximum(torch.maximum(-above, value - ridge), pillar))
        return -smooth_minimum(-filled, torch.maximum(above, pillar), 0.1 * ridge)

    return Damage(field, site.anchor, 1.6 * radius * stretch + 2 * ridge)


def _break(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """A chunk chipped off an edge, with a rough fracture face."""
    chunk, radius = _chunk(part, site, surface, rng)
    return Damage(subtract(part.field(), chunk), site.anchor, 1.4 * radius)


def _chunk(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> tuple[Field, float]:
    """Tool that takes a bite at the site, and its radius."""
    near = np.linalg.norm(surface.points - site.anchor, axis=1) < 0.7 * site.size
    outwards = site.anchor - surface.points[near].mean(axis=0)
    direction = _unit(0.6 * site.normal + _unit(outwards + 1e-6) + 0.2 * rng.normal(size=3))
    radius = 0.6 * site.size
    depth = _depth(site.size * rng.uniform(0.22, 0.45), site)
    rough = noise(rng, 0.35 * site.size, 0.2 * depth)
    # A large ball from outside leaves a nearly flat face with a curved border.
    ball = translate(sphere(2 * radius), site.anchor + direction * (2 * radius - depth))
    limit = translate(sphere(radius), site.anchor)
    bite = intersect(ball, limit, blend=0.15 * radius)
    return (lambda p: (bite(p) + rough(p)) * 0.6), radius


def _bend(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """One element out of its row: turned about its root, or dinted sideways in one place where it is large.

    A part without repeated elements bends at an end.
    """
    if site.element < 0:
        return _bent_end(part, site, surface, rng)
    gone, element = part.elements(site.element), part.single(site.element)
    root, tip, looks = _root_and_tip(part, site, surface)
    axis = _unit(tip - root)
    direction = _tangent(axis, rng)
    aim = float(np.clip(site.size * rng.uniform(0.25, 0.5), 0.5, MAX_DEPTH))
    centre, reach = _extent(part, site.element)
    if looks > LARGE * site.size:
        return _dinted(part, site, element, gone, direction)
    lever = float(np.linalg.norm(tip - root)) + 1e-6
    angle = min(aim / lever, math.radians(32))
    shift = direction * max(0.0, aim - angle * lever) * 0.6
    pivot = column(root)
    turned = rotate(lambda p: element(p + pivot), _about(np.cross(axis, direction), angle))
    moved = translate(turned, root + shift)
    return Damage(part.assemble(lambda p: torch.minimum(gone(p), moved(p))), centre, reach + aim + part.blend)


def _bent_end(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """The end of the part bent over: sheared along its thin direction, more and more from a hinge to the tip."""
    push = _depth(site.size * rng.uniform(0.25, 0.5), site)
    near = np.linalg.norm(surface.points - site.anchor, axis=1) < 2.0 * site.size
    axis = _unit(site.anchor - surface.points[near].mean(axis=0) + 1e-9)
    direction = site.normal - axis * (site.normal @ axis)
    direction = _unit(direction) if np.linalg.norm(direction) > 0.3 else _tangent(axis, rng)
    direction = direction * float(rng.choice([-1.0, 1.0]))
    base, anchor, along = part.field(), column(site.anchor), column(axis)
    way, length = column(direction * push), site.size
    whole, nothing = (falls * length for falls in BEND_FALLS)
    steepness = 1.0 / (1.0 + push * (2.0 / length + 1.5 / (nothing - whole)))

    def field(p: Tensor) -> Tensor:
        offset = p - anchor
        lever = (1.0 + (offset * along).sum(dim=0) / length).clamp(min=0.0)
        curve = torch.where(lever < 1.0, lever * lever, 2.0 * lever - 1.0)
        fade = ((nothing - offset.norm(dim=0)) / (nothing - whole)).clamp(0.0, 1.0)
        fade = fade * fade * (3.0 - 2.0 * fade)
        return base(p - way * (curve * fade)) * steepness

    return Damage(field, site.anchor, nothing)


def _dinted(part: Part, site: Site, element: Field, gone: Field, direction: np.ndarray) -> Damage:
    """An element pushed aside about the anchor, by a bell of displacement."""
    width = 0.5 * site.size
    push = min(0.7 * width, MAX_DEPTH)
    anchor, way = column(site.anchor), column(direction * push)
    steepness = 1.0 / (1.0 + BELL_SLOPE * push / width)

    def moved(p: Tensor) -> Tensor:
        bell = torch.exp((p - anchor).square().sum(dim=0) * (-0.5 / width**2))
        return element(p - way * bell) * steepness

    field = part.assemble(lambda p: torch.minimum(gone(p), moved(p)))
    return Damage(field, site.anchor, 4.0 * width + push + part.blend)


def _missing_element(part: Part, site: Site, surface: Surface, rng: np.random.Generator) -> Damage:
    """One element gone, or broken off to a stump where it is large."""
    gone, element = part.elements(site.element), part.single(site.element)
    centre, reach = _extent(part, site.element)
    reach += part.blend
    root, tip, looks = _root_and_tip(part, site, surface)
    if looks < LARGE * site.size:
        return Damage(part.assemble(gone), centre, reach)
    # What stays lies on the root's side of a rough plane.
    direction = _unit(tip - root)
    along = (surface.points[surface.elements == site.element] - root) @ direction
    cut = float(np.quantile(along, 1.0 - min(1.0, (site.size / looks) ** 2)))
    stay = _halfspace(root + direction * cut, direction)
    rough = noise(rng, 0.3 * looks, 0.03 * looks)

    def stump(p: Tensor) -> Tensor:
        return torch.maximum(element(p), (stay(p) + rough(p)) * 0.6)

    return Damage(part.assemble(lambda p: torch.minimum(gone(p), stump(p))), centre, reach)


def _root_and_tip(part: Part, site: Site, surface: Surface) -> tuple[np.ndarray, np.ndarray, float]:
    """Visible points (3,) of the struck element next to the body and farthest off it, and how large it looks."""
    points = surface.points[surface.elements == site.element]
    heights = part.body(torch.as_tensor(points.T.astype(np.float32))).numpy()
    looks = 2 * surface.pitch * math.sqrt(len(points) / math.pi)
    return points[int(heights.argmin())], points[int(heights.argmax())], looks


_MAKERS: Mapping[str, Maker] = MappingProxyType(
    {
        "bulge": _bulge,
        "concavity": _concavity,
        "hole": _hole,
        "crack": _crack,
        "break": _break,
        "bend": _bend,
        "scratch": _scratch,
        "flattening": _flattening,
        "missing_element": _missing_element,
    }
)
KINDS = tuple(_MAKERS)
"""Kinds of defect of the data set."""
TRAINING_KINDS: Mapping[str, Maker] = MappingProxyType({"crushing": _crushing})
"""Kinds that train the backbone alone: no sample of the data set has them."""
ELEMENT_KINDS = ("bend", "missing_element")
"""Kinds that strike one of the repeated elements; a part without elements bends at an end."""


def applicable_kinds(part: Part) -> tuple[str, ...]:
    """Kinds of defect that a part can have: an element that is a cut can be missing, yet not bent."""
    alone = part.repeat.count < 2
    return tuple(
        kind for kind in KINDS if not (kind in ELEMENT_KINDS and alone) and not (kind == "bend" and part.removes)
    )


def _swelling(part: Part, site: Site, height: float, rng: np.random.Generator) -> Damage:
    """The surface moved along its normals by an oblong bell of ``height``."""
    base, anchor = part.field(), column(site.anchor)
    matrix, stretch, width = _oblong(site, rng)
    steepness = 1.0 / (1.0 + BELL_SLOPE * abs(height) * stretch / width)

    def field(p: Tensor) -> Tensor:
        bell = torch.exp((matrix @ (p - anchor)).square().sum(dim=0) * -0.5) * height
        return (base(p) - bell) * steepness

    return Damage(field, site.anchor, 4.0 * width * stretch + abs(height))


def _pushed(part: Part, site: Site, height: float, rng: np.random.Generator) -> Damage:
    """A thin wall pushed out, or in where ``height`` is negative, by an oblong bell: both of its faces move."""
    base, anchor, way = part.field(), column(site.anchor), column(site.normal * height)
    matrix, stretch, width = _oblong(site, rng)
    steepness = 1.0 / (1.0 + BELL_SLOPE * abs(height) / width)

    def field(p: Tensor) -> Tensor:
        bell = torch.exp((matrix @ (p - anchor)).square().sum(dim=0) * -0.5)
        return base(p - way * bell) * steepness

    return Damage(field, site.anchor, 4.0 * width * stretch + abs(height))


def _oblong(site: Site, rng: np.random.Generator) -> tuple[Tensor, float, float]:
    """Matrix (3, 3) that takes an oblong of the site's size to the unit ball, its stretch, and its width."""
    stretch = rng.uniform(1.0, 1.5)
    width = site.size / 3.4
    along = _tangent(site.normal, rng)
    across = np.cross(site.normal, along)
    axes = np.stack([along / stretch, across * stretch, site.normal]) / width
    return torch.as_tensor(axes.astype(np.float32)), stretch, width


def is_thick(part: Part, anchor: np.ndarray, normal: np.ndarray, depth: float) -> bool:
    """Whether a cut of ``depth`` into the surface at a place leaves material behind it."""
    behind = column(anchor - normal * 1.8 * depth)
    return bool(part.field()(behind)[0] < -0.3 * depth)


def _cap(site: Site, height: float, side: float) -> Field:
    """Ball that cuts the surface's plane in a disc of the site's size and rises ``height`` to one side of it."""
    radius = ((0.5 * site.size) ** 2 + height**2) / (2 * height)
    return translate(sphere(radius), site.anchor - side * site.normal * (radius - height))


def _path(part: Part, site: Site, length: float, segments: int, wobble: float, rng: np.random.Generator) -> np.ndarray:
    """(m, 3) points of a line over the surface, through the anchor; it ends where the surface falls away."""
    along = _tangent(site.normal, rng)
    across = np.cross(site.normal, along)
    ticks = np.linspace(-0.5, 0.5, segments + 1)
    offsets = wobble * length * rng.uniform(-0.5, 0.5, size=segments + 1)
    path = site.anchor + length * ticks[:, None] * along + offsets[:, None] * across
    field = part.field()
    points = torch.as_tensor(path.T.astype(np.float32))
    for _ in range(6):  # onto the surface
        points = points - gradient(field, points, 0.05 * site.size) * field(points)
    found = np.asarray(points.numpy().T, dtype=np.float64)
    followed = np.abs((found - path) @ site.normal) < 0.4 * site.size
    first = last = (segments + 1) // 2
    while first > 0 and followed[first - 1]:
        first -= 1
    while last < segments and followed[last + 1]:
        last += 1
    return found[max(min(first, last - 1), 0) : max(last, first + 1) + 1]


def _ball(points: np.ndarray, margin: float) -> tuple[np.ndarray, float]:
    """Centre and radius of a ball about (n, 3) points, with a margin."""
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    return centre, float(np.linalg.norm(points - centre, axis=1).max()) + margin


def _extent(part: Part, element: int, ticks: int = 28) -> tuple[np.ndarray, float]:
    """Centre and radius of a ball that holds what of an element matters: where it meets body or air in the bound."""
    axis = np.linspace(-part.bound, part.bound, ticks)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    points = torch.as_tensor(grid.astype(np.float32))
    cell = axis[1] - axis[0]
    held = part.single(element)(points) < cell
    if part.removes:
        held &= part.body(points) < cell
    inside = grid[:, held.numpy()].T
    return _ball(inside, cell) if len(inside) else (np.zeros(3), part.bound)


def _height(surface: Surface, site: Site, radius: float, quantile: float) -> float:
    """Height over the anchor, along the normal: a quantile of the surface nearby."""
    offsets = surface.points - site.anchor
    near = np.linalg.norm(offsets, axis=1) < radius
    return float(np.quantile(offsets[near] @ site.normal, quantile)) if near.any() else 0.0


def _depth(value: float, site: Site) -> float:
    """The site's depth where it has one, else ``value`` within the limits."""
    return float(np.clip(value, MIN_DEPTH, MAX_DEPTH)) if site.depth is None else site.depth


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


def _tangent(normal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random unit vector at right angles to ``normal``."""
    vector = rng.normal(size=3)
    return _unit(vector - normal * (vector @ normal))


def _frame(normal: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) that takes the z axis to ``normal``."""
    other = np.eye(3)[int(np.abs(normal).argmin())]
    first = _unit(np.cross(other, normal))
    return np.stack([first, np.cross(normal, first), normal], axis=1)


def _about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation (3, 3) by ``angle`` radians about a unit vector."""
    x, y, z = _unit(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * skew + (1 - math.cos(angle)) * (skew @ skew))


def _halfspace(point: np.ndarray, normal: np.ndarray) -> Field:
    """What lies behind the plane through ``point``."""
    direction, level = column(normal), float(point @ normal)
    return lambda p: (direction * p).sum(dim=0) - level
