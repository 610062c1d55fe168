"""Meshes and clouds as fields, so that the defects of :mod:`gsclip.data.procedural.defects` strike them, too.

A part is scaled to a box whose diagonal is :data:`DIAGONAL` millimetres, the size of the procedural parts: what
defects, camera and sensor there assume about lengths then holds here. A closed mesh gives its exact signed distance.
A cloud, or a mesh that is not closed, gives the distance to the plane of the points nearby (Hoppe et al. 1992,
weighted as in Öztireli et al. 2009): right near the surface, which is where defects are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gsclip.data.geometry import estimate_normals
from gsclip.data.procedural.part import Part, Repeat
from gsclip.data.procedural.sdf import Field

DIAGONAL = 60.0  # millimetres
SIGN_RAYS = 3  # that tell inside from outside, by majority
DIRECTIONS = 6  # of the rays that tell whether a mesh is closed
CLOSED_SHARE = 0.99  # of them, that agree
PROBE = 0.02  # millimetres from the surface, on both sides of it, where they begin
PROBES = 2000
ON_PLANE = 0.05  # of the distance to the last neighbour, off a plane that counts as on it
NEAREST = 8  # points whose planes make the field of a cloud
WIDTH = 1.5  # spacings over which their weight falls
ORIENTED = 6000  # points whose normals are turned outwards one by one; the others follow the nearest of them
ORIENTING_NEIGHBOURS = 12
DENSITY_NEIGHBOURS = 12
NOISE_POINTS = 3000
NOISE_NEIGHBOURS = 24


@dataclass(frozen=True)
class Frame:
    """Between the user's frame and the part's: ``user = own * scale + centre``.

    Attributes:
        scale: user's units per millimetre of the scaled part.
        centre: (3,) middle of the part's extents, in the user's frame.
    """

    scale: float
    centre: np.ndarray

    def enter(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) float64 millimetres in the part's frame."""
        return np.asarray((points.astype(np.float64) - self.centre) / self.scale)

    def leave(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) float64 in the user's frame and unit."""
        return np.asarray(points * self.scale + self.centre)


def frame_of(points: np.ndarray) -> Frame:
    """Frame in which the box about finite points (n, 3) has the diagonal :data:`DIAGONAL`."""
    low, high = (edge.astype(np.float64) for edge in (points.min(axis=0), points.max(axis=0)))
    return Frame(scale=float(np.linalg.norm(high - low)) / DIAGONAL, centre=(low + high) / 2)


def as_part(field: Field) -> Part:
    """A part without repeated elements, within half the diagonal of its frame's origin."""
    return Part(
        body=field, element=lambda p: torch.full_like(p[0], torch.inf), repeat=Repeat(), bound=0.51 * DIAGONAL
    )


class MeshSolid:
    """A mesh in its part's frame."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray) -> None:
        """Take vertices (m, 3) in the user's frame and triangles (k, 3), some of which have an area; all finite."""
        import open3d as o3d

        self.frame = frame_of(vertices[np.unique(triangles)])
        corners = self.frame.enter(vertices)[triangles]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        self.corners, self._areas = corners[areas > 0], areas[areas > 0]
        flat = self.corners.reshape(-1, 3).astype(np.float32)
        core: Any = o3d.core  # its types know less than it takes
        self._tensor = core.Tensor
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(
            self._tensor(flat), self._tensor(np.arange(len(flat), dtype=np.uint32).reshape(-1, 3))
        )
        self.closed = self._is_closed()

    def field(self, p: Tensor) -> Tensor:
        """Signed distance of points (3, n) to the surface, negative inside."""
        points = self._tensor(np.ascontiguousarray(p.numpy().T))
        return torch.from_numpy(self._scene.compute_signed_distance(points, nthreads=1, nsamples=SIGN_RAYS).numpy())

    def sample(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, 3) spread evenly over the surface, with unit normals (n, 3), outwards where the mesh is closed."""
        chosen, weights = _spread(self._areas, count, random)
        corners = self.corners[chosen]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        points = np.einsum("nk,nkd->nd", weights, corners)
        if self.closed:
            normals[self._inside(points + PROBE * normals)] *= -1
        return points, normals

    def _is_closed(self) -> bool:
        """Whether rays in all directions agree on what is inside: through an opening, one leaves without a crossing."""
        self.closed = False
        random = np.random.default_rng(0)
        points, normals = self.sample(PROBES, random)
        points = np.concatenate([points + PROBE * normals, points - PROBE * normals])
        odd = np.zeros(len(points))
        for _ in range(DIRECTIONS):
            rays = np.concatenate([points, random.normal(size=points.shape)], axis=1).astype(np.float32)
            odd += self._scene.count_intersections(self._tensor(rays), nthreads=1).numpy() % 2
        return bool((np.maximum(odd, DIRECTIONS - odd) / DIRECTIONS).mean() > CLOSED_SHARE)

    def _inside(self, points: np.ndarray) -> np.ndarray:
        tensor = self._tensor(points.astype(np.float32))
        return np.asarray(self._scene.compute_occupancy(tensor, nthreads=1, nsamples=SIGN_RAYS).numpy() > 0)


def _spread(areas: np.ndarray, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Triangle (count,) of each of many points, and their weights (count, 3) of its corners.

    Each point has an equal share of the area to itself, as in :mod:`gsclip.data.scan_files`.
    """
    cumulated = np.cumsum(areas)
    slices = (np.arange(count) + random.random(count)) / count * cumulated[-1]
    chosen = np.searchsorted(cumulated, slices, side="right").clip(max=len(areas) - 1)
    root, along = np.sqrt(random.random(count)), random.random(count)
    return chosen, np.stack([1 - root, root * (1 - along), root * along], axis=1)  # uniform on a triangle


def facing_both_ways(points: np.ndarray, normals: np.ndarray) -> float:
    """Share of points (n, 3) that have a neighbour on their own plane with the opposite normal.

    Next to none of a surface that has an outside; many of a mesh whose faces are wound at random, or laid double.
    """
    step = max(1, len(points) // PROBES)
    some, own = points[::step], normals[::step]
    distances, rows = cKDTree(points).query(some, k=min(NEAREST + 1, len(points)))
    heights = np.abs(np.einsum("nkd,nd->nk", points[rows] - some[:, None], own))
    opposite = np.einsum("nkd,nd->nk", normals[rows], own) < -0.5
    return float((opposite & (heights < ON_PLANE * np.median(distances[:, -1]))).any(axis=1).mean())


def cloud_field(points: np.ndarray, normals: np.ndarray, spacing: float) -> Field:
    """Signed distance to a cloud, from the planes of the nearest points.

    Args:
        points: (n, 3) millimetres.
        normals: (n, 3) unit vectors outwards.
        spacing: of neighbouring points.
    """
    tree = cKDTree(points)
    count = min(NEAREST, len(points))

    def field(p: Tensor) -> Tensor:
        query = p.numpy().T.astype(np.float64)
        distances, rows = tree.query(query, k=count)
        weights = np.exp((distances[:, :1] ** 2 - distances**2) / (WIDTH * spacing) ** 2)
        near = normals[rows]
        weights[np.einsum("nkd,nd->nk", near, near[:, 0]) < 0] = 0.0  # the other side of a thin wall
        heights = np.einsum("nkd,nkd->nk", query[:, None] - points[rows], near)
        return torch.from_numpy(((weights * heights).sum(axis=1) / weights.sum(axis=1)).astype(np.float32))

    return field


def outward_normals(points: np.ndarray) -> np.ndarray:
    """Normals (n, 3) of a cloud (n, 3), turned outwards: alike for neighbours, and away from the middle at the rim.

    Source: Hoppe et al. 1992 (propagation over neighbours), for some of the points; the others follow the nearest.
    """
    import open3d as o3d

    normals = estimate_normals(points).astype(np.float64)
    some = np.arange(len(points))
    if len(points) > ORIENTED:
        some = np.sort(np.random.default_rng(0).choice(len(points), ORIENTED, replace=False))
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points[some]))
    cloud.normals = o3d.utility.Vector3dVector(normals[some])
    cloud.orient_normals_consistent_tangent_plane(ORIENTING_NEIGHBOURS)
    turned = np.asarray(cloud.normals)
    # The farthest points in many directions: there the outside is known.
    directions = np.random.default_rng(1).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    farthest = (points[some] @ directions.T).argmax(axis=0)
    if np.einsum("kd,kd->k", turned[farthest], directions).sum() < 0:
        turned = -turned
    _, nearest = cKDTree(points[some]).query(points)
    normals[np.einsum("nd,nd->n", normals, turned[nearest]) < 0] *= -1
    return normals


def area_per_point(points: np.ndarray) -> np.ndarray:
    """(n,) area that each point of a cloud (n, 3) stands for."""
    count = min(DENSITY_NEIGHBOURS, len(points) - 1)
    distances, _ = cKDTree(points).query(points, k=count + 1)
    return np.asarray(math.pi * distances[:, -1] ** 2 / (count + 0.5))


def noise_of(points: np.ndarray) -> float:
    """Standard deviation of a cloud's points (n, 3) about the surface: about quadrics through their neighbours."""
    step = max(1, len(points) // NOISE_POINTS)
    some = points[::step]
    _, rows = cKDTree(points).query(some, k=min(NOISE_NEIGHBOURS + 1, len(points)))
    offsets = points[rows[:, 1:]] - some[:, None]
    centred = offsets - offsets.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.square(offsets).sum(axis=(1, 2)) / offsets.shape[1]).clip(min=1e-12)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    height, u, v = np.einsum("nkd,nde->enk", offsets / scale[:, None, None], axes)
    design = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=2)
    inverse = np.linalg.inv(np.einsum("nki,nkj->nij", design, design) + 1e-6 * np.eye(6))
    # What the quadric says at the point itself, which did not take part, and how uncertain that is.
    predicted = np.einsum("ni,nki,nk->n", inverse[:, 0], design, height) * scale
    return float(1.4826 * np.median(np.abs(predicted) / np.sqrt(1 + inverse[:, 0, 0])))
