"""Good parts as files: a block, a thin box, a cloud of a ring, and organised scans of a hill on a table."""

import math

import numpy as np
import open3d as o3d

from gsclip.data.geometry import farthest_points

BLOCK = (0.06, 0.04, 0.025)  # metres


def write_mesh(path, mesh):
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh.compute_triangle_normals()
    assert o3d.io.write_triangle_mesh(str(path), mesh)
    return path


def block():
    return o3d.geometry.TriangleMesh.create_box(*BLOCK).subdivide_midpoint(3)


def ring():
    return o3d.geometry.TriangleMesh.create_torus(30.0, 12.0, 60, 30)


def thin_box():
    """A box open at the top with walls of half a hundredth of its size."""
    outer = o3d.geometry.TriangleMesh.create_box(50.0, 40.0, 20.0)
    inner = o3d.geometry.TriangleMesh.create_box(49.4, 39.4, 19.4).translate((0.3, 0.3, 0.3))
    inner.triangles = o3d.utility.Vector3iVector(np.asarray(inner.triangles)[:, ::-1])
    return outer + inner


def sheet():
    """A square, its faces wound at random."""
    ticks = np.linspace(0, 50.0, 21)
    vertices = np.stack(np.meshgrid(ticks, ticks, [0.0, 1.0], indexing="ij"), axis=-1)[:, :, 0].reshape(-1, 3)
    vertices[:, 2] = 4 * np.sin(vertices[:, 0] / 8)
    corner = (np.arange(20)[:, None] * 21 + np.arange(20)).ravel()
    triangles = np.concatenate([corner[:, None] + [0, 1, 21], corner[:, None] + [1, 22, 21]])
    flip = np.random.default_rng(0).random(len(triangles)) < 0.5
    triangles[flip] = triangles[flip][:, ::-1]
    return o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles))


def ring_cloud(count=6000, noise=0.02, seed=0):
    """Points spread evenly over a ring of 84 millimetres."""
    random = np.random.default_rng(seed)
    turn, tilt = random.uniform(0, 2 * math.pi, (2, 3 * count))
    keep = random.random(3 * count) < (30 + 12 * np.cos(tilt)) / 42
    turn, tilt = turn[keep], tilt[keep]
    radius = 30 + 12 * np.cos(tilt)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn), 12 * np.sin(tilt)], axis=1)
    points = points[farthest_points(points, count)]
    return (points + random.normal(scale=noise, size=points.shape)).astype(np.float32)


def hill_scan(parallel=False, side=120, noise=2e-5, seed=0):
    """Organised scan (side, side, 3) of a block with a rounded top on a table, in metres; some pixels are missing."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    x, y = (columns - side / 2) / side * 0.1, (rows - side / 2) / side * 0.1
    height = np.where(np.maximum(np.abs(x), np.abs(y)) < 0.03, 0.02 - 8 * (x**2 + y**2), 0.0)
    z = 0.6 - height + random.normal(scale=noise, size=x.shape)
    scan = np.stack([x, y, z], axis=2) if parallel else np.stack([x / 0.6 * z, y / 0.6 * z, z], axis=2)
    scan[random.random(x.shape) < 0.02] = np.nan
    return scan.astype(np.float32)
