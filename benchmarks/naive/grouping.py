"""PointNet++'s groupings computed within each forward pass, on tensors, as the widespread implementations do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gsclip.prompts.grouping import CENTROIDS, INTERPOLATED, NEIGHBOURS, RADII, Grouping


def naive_grouping(clouds: Tensor) -> Grouping:
    """Group a batch (b, n, 3) of clouds in the unit sphere; as :func:`gsclip.prompts.grouping.group_cloud` does.

    Distances between all pairs of points and a full sort of them, at every level; farthest point sampling by a loop
    over centroids. (The released code starts at a random point; here it is the first one, so that results agree.)
    """
    arrays: dict[str, Tensor] = {"cloud": clouds}
    points = clouds
    for level, (count, radius) in enumerate(zip(CENTROIDS, RADII, strict=True)):
        chosen = farthest_points(points, count)
        centroids = _gather(points, chosen)
        arrays[f"centroids_{level}"] = chosen
        arrays[f"neighbours_{level}"] = _within(points, centroids, radius)
        distance, nearest = _square_distances(points, centroids).sort(-1)
        inverse = 1 / (distance[..., :INTERPOLATED] + 1e-8)
        arrays[f"interpolation_{level}"] = nearest[..., :INTERPOLATED]
        arrays[f"weights_{level}"] = inverse / inverse.sum(-1, keepdim=True)
        points = centroids
    kinds = {torch.int64: np.int16, torch.float32: np.float32}
    return Grouping(**{name: value.numpy().astype(kinds[value.dtype]) for name, value in arrays.items()})


def farthest_points(points: Tensor, count: int) -> Tensor:
    """(b, count) indices, each point farthest from those before it; the first is index 0."""
    batch, total, _ = points.shape
    chosen = torch.zeros(batch, count, dtype=torch.long)
    distance = torch.full((batch, total), torch.inf)
    farthest = torch.zeros(batch, dtype=torch.long)
    each = torch.arange(batch)
    for place in range(count):
        chosen[:, place] = farthest
        current = points[each, farthest][:, None]
        distance = torch.minimum(distance, ((points - current) ** 2).sum(-1))
        farthest = distance.argmax(-1)
    return chosen


def _within(points: Tensor, centroids: Tensor, radius: float) -> Tensor:
    total = points.shape[1]
    index = torch.arange(total).expand(len(points), centroids.shape[1], total).clone()
    index[_square_distances(centroids, points) > radius**2] = total
    index = index.sort(-1).values[..., :NEIGHBOURS]
    return torch.where(index == total, index[..., :1], index)


def _square_distances(first: Tensor, second: Tensor) -> Tensor:
    return ((first[:, :, None] - second[:, None]) ** 2).sum(-1)


def _gather(points: Tensor, index: Tensor) -> Tensor:
    return points[torch.arange(len(points))[:, None], index]
