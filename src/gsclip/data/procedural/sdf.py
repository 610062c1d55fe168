"""Signed distance functions in torch: primitives, transforms and operators.

A field maps points (3, n) float32, in millimetres, to (n,) values: negative inside, zero on the surface,
and never larger in magnitude than the distance to the surface (up to rounding), so that sphere tracing
(Hart 1996) may step by it. Operators that steepen a field divide it by a bound of its slope. The closed forms
of the primitives and the polynomial smooth minimum are the well-known ones collected by Inigo Quilez,
https://iquilezles.org/articles/distfunctions/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Field = Callable[[Tensor], Tensor]
Vector = Sequence[float] | np.ndarray


def column(vector: Vector) -> Tensor:
    """(3, 1) float32 tensor of a vector."""
    return torch.as_tensor(np.asarray(vector, dtype=np.float32)).reshape(3, 1)


def sphere(radius: float) -> Field:
    """Ball about the origin."""
    return lambda p: p.norm(dim=0) - radius


def ellipsoid(radii: Vector) -> Field:
    """Ellipsoid about the origin; the distance is a first-order estimate scaled to stay a lower bound nearby."""
    scale = column(radii)
    smallest = float(scale.min())
    return lambda p: ((p / scale).norm(dim=0) - 1.0) * smallest


def box(half: Vector, rounding: float = 0.0) -> Field:
    """Box about the origin with half extents ``half``, edges rounded by ``rounding`` within them."""
    inner = column(half) - rounding

    def field(p: Tensor) -> Tensor:
        q = p.abs() - inner
        return q.clamp(min=0).norm(dim=0) + q.amax(dim=0).clamp(max=0) - rounding

    return field


def capsule(start: Vector, end: Vector, radius: float) -> Field:
    """Ball swept from ``start`` to ``end``."""
    a, ab = column(start), column(end) - column(start)
    squared = float((ab * ab).sum())

    def field(p: Tensor) -> Tensor:
        pa = p - a
        along = ((pa * ab).sum(dim=0) / squared).clamp(0.0, 1.0)
        return (pa - ab * along).norm(dim=0) - radius

    return field


def radial(p: Tensor) -> Tensor:
    """Distance of points (3, n) from the z axis."""
    return torch.sqrt(p[0] * p[0] + p[1] * p[1])


def cylinder(radius: float, half_height: float, rounding: float = 0.0) -> Field:
    """Cylinder along z, edges rounded within its extents."""

    def field(p: Tensor) -> Tensor:
        across, along = radial(p) - radius + rounding, p[2].abs() - half_height + rounding
        outside = torch.sqrt(across.clamp(min=0) ** 2 + along.clamp(min=0) ** 2)
        return outside + torch.maximum(across, along).clamp(max=0) - rounding

    return field


def torus(ring: float, tube: float) -> Field:
    """Torus about z with centre-line radius ``ring`` and tube radius ``tube``."""
    return lambda p: torch.sqrt((radial(p) - ring) ** 2 + p[2] * p[2]) - tube


def prism(sides: int, apothem: float, half_height: float, rounding: float = 0.0) -> Field:
    """Regular prism along z; exact inside and at faces, a lower bound at corners."""
    angles = np.arange(sides) * 2 * math.pi / sides
    normals = torch.as_tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))

    def field(p: Tensor) -> Tensor:
        across = (normals @ p[:2]).amax(dim=0) - apothem + rounding
        along = p[2].abs() - half_height + rounding
        outside = torch.sqrt(across.clamp(min=0) ** 2 + along.clamp(min=0) ** 2)
        return outside + torch.maximum(across, along).clamp(max=0) - rounding

    return field


def lathe(profile: Sequence[tuple[float, float]], rounding: float = 0.0) -> Field:
    """Body of revolution about z of a closed polygon of (radius, height) pairs, offset outwards by ``rounding``.

    The polygon is given without its closing edge; edges on the axis bound the inside but are not surface.
    """
    vertices = [(float(r), float(z)) for r, z in profile]
    edges = list(zip(vertices, vertices[1:] + vertices[:1], strict=True))

    def field(p: Tensor) -> Tensor:
        rho, z = radial(p), p[2]
        nearest = torch.full_like(rho, math.inf)
        inside = torch.zeros_like(rho, dtype=torch.bool)
        for (r0, z0), (r1, z1) in edges:
            er, ez = r1 - r0, z1 - z0
            wr, wz = rho - r0, z - z0
            if max(r0, r1) > 1e-6:
                along = ((wr * er + wz * ez) / (er * er + ez * ez)).clamp(0.0, 1.0)
                nearest = torch.minimum(nearest, (wr - er * along) ** 2 + (wz - ez * along) ** 2)
            if ez != 0.0:
                crosses = (z >= z0) != (z >= z1)
                inside ^= crosses & (rho < r0 + (z - z0) * (er / ez))
        distance = nearest.sqrt()
        return torch.where(inside, -distance, distance) - rounding

    return field


def thread(radius: float, half_height: float, pitch: float, depth: float, starts: int = 1) -> Field:
    """Threaded rod along z: crests at ``radius``, grooves ``depth`` deep, rounded triangular flanks."""
    steepness = 1.0 / math.hypot(1.0, 3.0 * depth / pitch)

    def field(p: Tensor) -> Tensor:
        turn = torch.atan2(p[1], p[0]) * (starts / (2 * math.pi)) + p[2] / pitch
        ridge = (turn - torch.floor(turn) - 0.5).abs() * 2.0
        ridge = ridge * ridge * (3.0 - 2.0 * ridge) * 0.5 + ridge * 0.5
        # The run-out: crests shrink towards both ends as on a chamfered rod.
        fade = ((half_height - p[2].abs()) / pitch).clamp(0.0, 1.0)
        across = (radial(p) - radius + depth * (1.0 - ridge * fade)) * steepness
        return torch.maximum(across, p[2].abs() - half_height)

    return field


def translate(field: Field, offset: Vector) -> Field:
    """``field`` moved by ``offset``."""
    shift = column(offset)
    return lambda p: field(p - shift)


def rotate(field: Field, rotation: np.ndarray) -> Field:
    """``field`` turned by the (3, 3) rotation matrix."""
    inverse = torch.as_tensor(np.asarray(rotation, dtype=np.float32).T.copy())
    return lambda p: field(inverse @ p)


def axis_rotation(axis: str, degrees: float) -> np.ndarray:
    """(3, 3) rotation about ``x``, ``y`` or ``z``."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def union(*fields: Field) -> Field:
    """What lies in any of the fields."""

    def field(p: Tensor) -> Tensor:
        result = fields[0](p)
        for other in fields[1:]:
            result = torch.minimum(result, other(p))
        return result

    return field


def smooth_minimum(a: Tensor, b: Tensor, blend: float) -> Tensor:
    """Polynomial smooth minimum; ``blend`` is the width over which the two mix, 0 for the plain minimum."""
    if blend <= 0:
        return torch.minimum(a, b)
    h = (blend - (a - b).abs()).clamp(min=0.0) / blend
    return torch.minimum(a, b) - h * h * (blend * 0.25)


def smooth_union(first: Field, second: Field, blend: float) -> Field:
    """Union with a fillet of about ``blend``."""
    return lambda p: smooth_minimum(first(p), second(p), blend)


def subtract(field: Field, *tools: Field, blend: float = 0.0) -> Field:
    """``field`` without the tools, edges rounded over ``blend``."""

    def result(p: Tensor) -> Tensor:
        value = -field(p)
        for tool in tools:
            value = smooth_minimum(value, tool(p), blend)
        return -value

    return result


def intersect(first: Field, second: Field, blend: float = 0.0) -> Field:
    """What lies in both fields."""
    return lambda p: -smooth_minimum(-first(p), -second(p), blend)


def shell(field: Field, thickness: float) -> Field:
    """Wall of ``thickness`` inside the surface of ``field``."""
    half = thickness / 2
    return lambda p: (field(p) + half).abs() - half


def turned(p: Tensor, degrees_per_mm: float) -> Tensor:
    """Points (3, n) turned back about z by an angle that grows with their height."""
    angle = p[2] * math.radians(degrees_per_mm)
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack([c * p[0] + s * p[1], c * p[1] - s * p[0], p[2]])


def twist_slope(degrees_per_mm: float, reach: float) -> float:
    """Bound of the slope that a twist gives a field within the radius ``reach``."""
    shear = math.radians(degrees_per_mm) * reach
    return (abs(shear) + math.hypot(shear, 2.0)) / 2


def twist(field: Field, degrees_per_mm: float, reach: float) -> Field:
    """``field`` twisted about z; ``reach`` is its largest radius (bounds the slope)."""
    steepness = 1.0 / twist_slope(degrees_per_mm, reach)
    return lambda p: field(turned(p, degrees_per_mm)) * steepness


def displace(field: Field, offset: Field, slope: float) -> Field:
    """``field`` with its surface moved outwards by ``offset(p)``, whose gradient is at most ``slope``."""
    steepness = 1.0 / (1.0 + slope)
    return lambda p: (field(p) - offset(p)) * steepness


def noise(rng: np.random.Generator, wavelength: float, amplitude: float, terms: int = 6) -> Field:
    """Smooth random waves of about ``wavelength`` with values mostly within ± ``amplitude``."""
    directions = rng.normal(size=(terms, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequencies = 2 * math.pi / (wavelength * rng.uniform(0.6, 1.6, size=(terms, 1)))
    waves = torch.as_tensor((directions * frequencies).astype(np.float32))
    phases = torch.as_tensor(rng.uniform(0, 2 * math.pi, size=(terms, 1)).astype(np.float32))
    scale = amplitude * math.sqrt(2.0 / terms) * 0.7
    return lambda p: torch.sin(waves @ p + phases).sum(dim=0) * scale


def skin(rng: np.random.Generator, field: Field, wavelength: float, amplitude: float) -> Field:
    """``field`` with an uneven surface, like a casting or dough."""
    return displace(field, noise(rng, wavelength, amplitude), 6.0 * amplitude / wavelength)


def knurl(field: Field, count: int, lead: float, depth: float, radius: float) -> Field:
    """Diamond knurling about z: ``count`` crossing grooves that climb by ``lead`` per turn, ``depth`` deep."""
    rate = 2 * math.pi * count / lead if lead else 0.0

    def offset(p: Tensor) -> Tensor:
        angle = torch.atan2(p[1], p[0]) * count
        return (torch.sin(angle + rate * p[2]) * torch.sin(angle - rate * p[2]) - 1.0) * (depth / 2)

    return displace(field, offset, depth * max(count / radius, rate))


def gradient(field: Field, points: Tensor, step: float) -> Tensor:
    """Unit normals (3, n) of ``field`` at points, by differences over a tetrahedron of size ``step``."""
    corners = torch.tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], dtype=torch.float32)
    total = torch.zeros_like(points)
    for corner in corners:
        total += corner[:, None] * field(points + corner[:, None] * step)
    return total / total.norm(dim=0).clamp(min=1e-12)
