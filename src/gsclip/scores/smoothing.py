"""Smoothing of point scores over neighbours, never over the order in which points are stored (method, section 6)."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from gsclip.data.sample import Sample

NEIGHBOURS = 32  # of an evenly sampled surface: they reach to 3.2 spacings
LARGEST_PASS = 1.25  # spacings: its Gaussian lies within that reach to 2.5 sigma


def smooth_scores(sample: Sample, scores: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean of the scores of neighbouring points of the part; (n,) float32.

    Args:
        sample: organised scans are smoothed over their grid, unorganised clouds over neighbours in space.
        scores: (n,) float32.
        sigma: in pixels of the grid, or in point spacings; 0 leaves the scores as they are.
    """
    if sigma == 0:
        return scores
    if sample.grid is not None and sample.pixels is not None:
        return _over_grid(sample.grid, sample.pixels, scores, sigma)
    return _over_space(sample.points, scores, sigma)


def _over_grid(grid: tuple[int, int], pixels: np.ndarray, scores: np.ndarray, sigma: float) -> np.ndarray:
    rows, columns = pixels[:, 0], pixels[:, 1]
    values, weights = np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    values[rows, columns], weights[rows, columns] = scores, 1
    # Dividing by the smoothed occupancy keeps the empty pixels around the part from pulling its rim down.
    smooth = gaussian_filter(values, sigma, mode="constant") / np.maximum(
        gaussian_filter(weights, sigma, mode="constant"), 1e-6
    )
    return smooth[rows, columns]


def _over_space(points: np.ndarray, scores: np.ndarray, sigma: float) -> np.ndarray:
    """Several passes over near neighbours: variances add up, so that passes of sigma / sqrt(m) give sigma."""
    from gsclip.data.geometry import k_nearest, point_spacing

    passes = max(1, math.ceil((sigma / LARGEST_PASS) ** 2))
    reach = sigma / math.sqrt(passes) * point_spacing(points)
    distance, index = k_nearest(points, NEIGHBOURS)
    weight = np.exp(-0.5 * (distance / reach) ** 2)
    total = 1 + weight.sum(1)  # the point itself counts too
    for _ in range(passes):
        scores = (scores + (scores[index] * weight).sum(1)) / total
    return scores.astype(np.float32)
