"""Metrics of a ranking: AUROC, average precision, their intervals and their curves.

Scores are higher for more anomalous elements; labels are 1 (abnormal) or 0 (normal). Where only one class is present
neither metric is defined, and both are NaN: a category without good samples has no AUROC, which is not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

MAX_CURVE_ROWS = 200


def auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the receiver operating characteristic; ties count one half.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) finite.
        weights: (m,) multiplicity of each element; ``None`` for one each.

    Returns:
        A fraction in [0, 1]; NaN where only one class is present.

    Raises:
        ValueError: lengths differ or a score is not finite.
    """
    if not _both_classes(labels):
        return float("nan")
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores, sample_weight=weights))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision: precision averaged over the steps of recall, without interpolation.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) finite.

    Returns:
        A fraction in (0, 1]; NaN where only one class is present.

    Raises:
        ValueError: lengths differ or a score is not finite.
    """
    if not _both_classes(labels):
        return float("nan")
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores))


def bootstrap_values(
    labels: np.ndarray,
    scores: np.ndarray,
    metric: Callable[[np.ndarray, np.ndarray], float],
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Values of a metric on stratified resamples: as many of each class as there are, drawn with replacement.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) finite.
        metric: function of labels and scores.
        repeats: number of resamples.
        rng: source of the draws.

    Returns:
        (repeats,) float64; all NaN where only one class is present.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    if any(len(members) == 0 for members in classes):
        return np.full(repeats, np.nan)
    values = np.empty(repeats)
    for repeat in range(repeats):
        drawn = np.concatenate([rng.choice(members, len(members)) for members in classes])
        values[repeat] = metric(labels[drawn], scores[drawn])
    return values


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values; (NaN, NaN) where they are not defined."""
    if len(values) == 0 or np.isnan(values).any():
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    metric: Callable[[np.ndarray, np.ndarray], float],
    repeats: int = 1000,
    *,
    seed: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a metric by the stratified bootstrap; the same seed gives the same interval.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) finite.
        metric: function of labels and scores, for example :func:`auroc`.
        repeats: number of resamples.
        seed: of the draws.
        level: share of the resamples inside the interval.

    Returns:
        Lower and upper end; (NaN, NaN) where only one class is present.
    """
    return interval(bootstrap_values(labels, scores, metric, repeats, np.random.default_rng(seed)), level)


def pair_counts(masks: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> np.ndarray:
    """Wins of the abnormal points of one sample over the normal points of another, for every pair of samples.

    The AUROC over the points of any set (or multiset) of samples is a quotient of sums over this table, so that
    figures by kind of defect and bootstrap intervals over samples are exact and cost no further sorting.

    Args:
        masks: one (n,) bool array a sample, true on defects.
        scores: one (n,) array a sample.

    Returns:
        (m, m) float64; entry (i, j) counts pairs of an abnormal point of i and a normal point of j in which the
        abnormal one scores higher, ties as one half.
    """
    abnormal = [np.asarray(score)[mask] for mask, score in zip(masks, scores, strict=True)]
    starts = np.cumsum([0, *(len(part) for part in abnormal)])
    pooled = np.concatenate(abnormal) if abnormal else np.empty(0)
    order = np.argsort(pooled, kind="stable")
    wins = np.zeros((len(abnormal), len(abnormal)))
    for column, (mask, score) in enumerate(zip(masks, scores, strict=True)):
        normal = np.sort(np.asarray(score)[~mask])
        ranks = np.empty(len(pooled))
        ranks[order] = (
            np.searchsorted(normal, pooled[order], "left") + np.searchsorted(normal, pooled[order], "right")
        ) / 2
        sums = np.concatenate([[0.0], np.cumsum(ranks)])
        wins[:, column] = sums[starts[1:]] - sums[starts[:-1]]
    return wins


def pooled_auroc(wins: np.ndarray, abnormal: np.ndarray, normal: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUROC over the points of multisets of samples, from :func:`pair_counts`.

    Args:
        wins: (m, m) table of pair counts.
        abnormal: (m,) number of abnormal points of each sample.
        normal: (m,) number of normal points of each sample.
        counts: (r, m) how often each sample is in each of r multisets.

    Returns:
        (r,) float64; NaN where a multiset lacks one class.
    """
    pairs = (counts @ abnormal) * (counts @ normal)
    won = np.einsum("ri,ij,rj->r", counts, wins, counts, optimize=True)
    return np.divide(won, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)


def resampling_counts(labels: np.ndarray, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """How often each sample is in each stratified resample: (repeats, m) float64, rows of one class sum to its size."""
    counts = np.zeros((repeats, len(labels)))
    for label in (0, 1):
        members = np.flatnonzero(np.asarray(labels) == label)
        if len(members):
            counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), repeats)
    return counts


def roc_curve_table(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Receiver operating characteristic, at most 200 rows.

    Returns:
        Columns ``false_positive_rate``, ``true_positive_rate``, ``threshold`` (an element is called abnormal from
        its threshold on; missing in the first row, which calls none). No rows where only one class is present.
    """
    columns = ["false_positive_rate", "true_positive_rate", "threshold"]
    if not _both_classes(labels):
        return pd.DataFrame(columns=columns, dtype=float)
    from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, threshold = roc_curve(labels, scores)
    threshold = np.where(np.isfinite(threshold), threshold, np.nan)
    return _thinned(pd.DataFrame(dict(zip(columns, (false_positive_rate, true_positive_rate, threshold), strict=True))))


def pr_curve_table(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Precision-recall curve in the order of rising recall, at most 200 rows.

    Returns:
        Columns ``recall``, ``precision``, ``threshold`` (missing in the first row, recall 0). No rows where only one
        class is present.
    """
    columns = ["recall", "precision", "threshold"]
    if not _both_classes(labels):
        return pd.DataFrame(columns=columns, dtype=float)
    from sklearn.metrics import precision_recall_curve

    precision, recall, threshold = precision_recall_curve(labels, scores, drop_intermediate=True)
    threshold = np.append(threshold, np.nan)
    return _thinned(pd.DataFrame(dict(zip(columns, (recall[::-1], precision[::-1], threshold[::-1]), strict=True))))


def _both_classes(labels: np.ndarray) -> bool:
    labels = np.asarray(labels).astype(bool)
    return bool(labels.any()) and not bool(labels.all())


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    """Keep at most 200 rows, evenly spaced, first and last among them."""
    if len(table) <= MAX_CURVE_ROWS:
        return table
    kept = np.round(np.linspace(0, len(table) - 1, MAX_CURVE_ROWS)).astype(int)
    return table.iloc[kept].reset_index(drop=True)
