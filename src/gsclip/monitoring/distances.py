"""How far two windows of samples lie apart, and how far they do by chance.

A distance is in units of the reference's spread, so it does not depend on the unit of a column. (Evidently's own
normalised Wasserstein distance never divides by less than 0.001: for lengths in metres it stays near 0 whatever
happens.)
"""

from __future__ import annotations

import numpy as np
from scipy.stats import wasserstein_distance

FALSE_ALARM_RATE = 0.05
SMALLEST_THRESHOLD = 0.1  # Evidently's default; a shift of a tenth of the spread is no news, however sure it is
SPLITS = 500
SEED = 0


def value_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """First Wasserstein distance between two windows of one column, divided by :func:`spread`.

    Args:
        reference: (rows,) finite values.
        current: (rows,) finite values, of any number.
    """
    scale = spread(reference[:, None], current[:, None])
    return float(wasserstein_distance(reference, current)) / scale if scale > 0 else 0.0


def embedding_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """Euclidean distance between the mean embeddings of two windows, divided by :func:`spread`.

    Args:
        reference: (rows, d) finite embeddings.
        current: (rows, d) finite embeddings, of any number.
    """
    scale = spread(reference, current)
    return float(np.linalg.norm(reference.mean(axis=0) - current.mean(axis=0))) / scale if scale > 0 else 0.0


def spread(reference: np.ndarray, current: np.ndarray) -> float:
    """Standard deviation of the reference (of vectors: root of the summed variances).

    Where all rows of the reference are equal, that of both windows together; 0 where these are equal, too.

    Args:
        reference: (rows, d).
        current: (rows, d).
    """
    varied = reference if np.ptp(reference, axis=0).any() else np.concatenate([reference, current])
    return float(np.sqrt(varied.var(axis=0).sum())) if np.ptp(varied, axis=0).any() else 0.0


def calibrate_thresholds(
    values: np.ndarray,
    embeddings: np.ndarray,
    window: int,
    seed: int = SEED,
    *,
    rate: float = FALSE_ALARM_RATE,
    splits: int = SPLITS,
) -> tuple[np.ndarray, float]:
    """Find the distances that chance alone exceeds at a given rate: by default in one comparison out of twenty.

    The reference is split at random into a part as large as the current window (half of the reference at most) and
    the rest, as often as ``splits`` says. The threshold of each distance is its mean over the splits plus a multiple of
    its standard deviation; the multiple is the same for all, the one at which *any* of them is exceeded in
    the share ``rate`` of the splits. Hence the rate holds for the whole comparison, whatever the number of
    columns and their correlation. Thresholds are at least :data:`SMALLEST_THRESHOLD`.

    Args:
        values: (rows, columns) of the reference, finite.
        embeddings: (rows, d) of the reference, finite.
        window: number of rows of the current window.
        seed: of the splits.
        rate: share of false alarms.
        splits: number of splits; their tail holds ``rate * splits``.

    Returns:
        (columns,) thresholds of :func:`value_distance`, and the threshold of :func:`embedding_distance`.
    """
    rows = len(values)
    part = min(window, rows // 2)
    order = np.argsort(values, axis=0, kind="stable")
    steps = np.diff(np.take_along_axis(values, order, axis=0), axis=0)
    value_scales = np.array([spread(column[:, None], column[:, None]) for column in values.T])
    scale = spread(embeddings, embeddings)
    rng = np.random.default_rng(seed)
    chance = np.zeros((splits, values.shape[1] + 1))
    for split in range(splits):
        drawn = np.zeros(rows, dtype=bool)
        drawn[rng.permutation(rows)[:part]] = True
        chance[split, :-1] = _split_distances(drawn[order], steps)
        chance[split, -1] = np.linalg.norm(embeddings[drawn].mean(axis=0) - embeddings[~drawn].mean(axis=0))
    scales = np.append(value_scales, scale)
    chance = np.divide(chance, scales, out=np.zeros_like(chance), where=scales > 0)
    mean, deviation = chance.mean(axis=0), chance.std(axis=0)
    excess = np.divide(chance - mean, deviation, out=np.zeros_like(chance), where=deviation > 0)
    multiple = np.quantile(excess.max(axis=1), 1 - rate)
    thresholds = np.maximum(mean + multiple * deviation, SMALLEST_THRESHOLD)
    return thresholds[:-1], float(thresholds[-1])


def _split_distances(drawn: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Wasserstein distances between drawn and other rows: areas between their distribution functions.

    Args:
        drawn: (rows, columns) bool, each column in the order of its values.
        steps: (rows - 1, columns) differences of neighbouring values.
    """
    count = drawn[:, 0].sum()
    share = np.cumsum(drawn, axis=0)[:-1] / count
    other = np.cumsum(~drawn, axis=0)[:-1] / (len(drawn) - count)
    return np.asarray((np.abs(share - other) * steps).sum(axis=0))
