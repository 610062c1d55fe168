"""The table of metrics: every figure beside what chance and what the ground truth itself would get.

Figures are fractions. Each stands in a triple: ``ours``; ``random``, the same figure for seeded uniform scores of
the part's points (of the parts, for object metrics); ``oracle``, the same figure when the score *is* the ground
truth on the part's points. Over the whole grid of a scan, background included, chance reaches a pixel AUROC near
0.9 and the oracle stays below 1, since some defect pixels have no point: without the two such a figure means little.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from gsclip.errors import InputError
from gsclip.metrics.ranking import (
    auroc,
    average_precision,
    bootstrap_values,
    interval,
    pair_counts,
    pooled_auroc,
    resampling_counts,
)
from gsclip.metrics.region_overlap import DEFAULT_LIMIT, image_regions, per_region_overlap
from gsclip.metrics.sample_scores import SampleScores, scatter
from gsclip.metrics.threshold import confusion

__all__ = ["METRICS", "SOURCES", "SampleScores", "categories_table", "evaluate_samples"]

METRICS = ("o_auroc", "o_ap", "point_auroc", "point_pro", "pixel_auroc", "pixel_pro")
INTERVALS = ("o_auroc", "o_ap", "point_auroc")
GOOD = "good"
Source = Literal["ours", "random", "oracle"]
SOURCES: tuple[Source, ...] = get_args(Source)


def evaluate_samples(
    samples: Iterable[SampleScores],
    pro_limit: float = DEFAULT_LIMIT,
    seed: int = 0,
    bootstrap_repeats: int = 1000,
    *,
    threshold: float | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate samples category by category; memory holds one category at a time.

    Args:
        samples: the samples, those of one category next to each other.
        pro_limit: of the false positive rate, for the PRO.
        seed: of the random scores and of the bootstrap; figures do not depend on the order of samples.
        bootstrap_repeats: resamples of the samples (never of single points) for the intervals.
        threshold: of the object score, from auxiliary samples; ``None`` where there is none.
        data: facts about the data, kept under ``data``.

    Returns:
        JSON-ready values, ``None`` where a figure is not defined: ``data``; ``mean`` (over categories) and
        ``categories``, each metric a triple; ``*_interval`` (95 %) of the means and of each category; ``defects``,
        by kind, each against the good samples of its category and averaged over the categories that have it;
        ``threshold`` and ``f1_at_threshold`` over all samples.

    Raises:
        InputError: there is no sample, or those of one category are not next to each other.
    """
    categories: dict[str, dict[str, Any]] = {}
    resampled: dict[str, list[np.ndarray]] = {metric: [] for metric in INTERVALS}
    kinds: dict[str, list[dict[str, Any]]] = {}
    labels: list[int] = []
    scores: list[float] = []
    for category, group in itertools.groupby(samples, key=lambda sample: sample.category):
        if category in categories:
            raise InputError(category, "samples of one category are not next to each other", "sort them by category")
        members = sorted(group, key=lambda sample: sample.name)
        figures = _figures(members, pro_limit, seed)
        values, by_kind = _resample(members, seed, bootstrap_repeats)
        for metric in INTERVALS:
            figures[f"{metric}_interval"] = _plain(interval(values[metric]))
            if not np.isnan(values[metric]).any():
                resampled[metric].append(values[metric])
        for kind, row in by_kind.items():
            kinds.setdefault(kind, []).append(row)
        figures["samples"] = len(members)
        figures["defective"] = sum(sample.label for sample in members)
        categories[category] = figures
        labels.extend(sample.label for sample in members)
        scores.extend(sample.object_score for sample in members)
    if not categories:
        raise InputError("evaluation", "there is no sample to evaluate", "predict test samples first")
    result: dict[str, Any] = {
        "data": {
            **(data or {}),
            "samples": len(labels),
            "defective": sum(labels),
            "pro_limit": pro_limit,
            "seed": seed,
            "bootstrap_repeats": bootstrap_repeats,
        },
        "mean": {
            metric: {source: _mean(row[metric][source] for row in categories.values()) for source in SOURCES}
            for metric in METRICS
        },
    }
    for metric in INTERVALS:
        means = np.mean(resampled[metric], axis=0) if resampled[metric] else np.empty(0)
        result[f"{metric}_interval"] = _plain(interval(means))
    result["threshold"] = threshold
    decided = None if threshold is None else confusion(np.array(labels), np.array(scores), threshold).f1
    result["f1_at_threshold"] = None if decided is None else _plain(decided)
    result["categories"] = categories
    result["defects"] = {
        kind: {
            "o_auroc": _mean(row["o_auroc"] for row in rows),
            "point_auroc": _mean(row["point_auroc"] for row in rows),
            "samples": sum(row["samples"] for row in rows),
        }
        for kind, rows in sorted(kinds.items())
    }
    return result


def categories_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Flatten the categories of :func:`evaluate_samples`, worst object AUROC first.

    Returns:
        Columns ``category, samples, defective``; ``o_auroc_low, o_auroc_high``; and for each metric ``<metric>,
        <metric>_random, <metric>_oracle``. Missing where a figure is not defined.
    """
    rows = []
    for category, figures in metrics["categories"].items():
        low, high = figures["o_auroc_interval"]
        row = {"category": category, "samples": figures["samples"], "defective": figures["defective"]}
        row.update({"o_auroc_low": low, "o_auroc_high": high})
        for metric in METRICS:
            for source in SOURCES:
                row[metric if source == "ours" else f"{metric}_{source}"] = figures[metric][source]
        rows.append(row)
    table = pd.DataFrame(rows)
    floats = table.columns.difference(["category", "samples", "defective"])
    table[floats] = table[floats].astype(float)
    return table.sort_values(["o_auroc", "category"], na_position="last", ignore_index=True)


def _figures(samples: Sequence[SampleScores], limit: float, seed: int) -> dict[str, Any]:
    """All metrics of one category, for each source of scores."""
    labels = np.array([sample.label for sample in samples])
    kept = [sample.point_regions >= 0 for sample in samples]
    masks = np.concatenate([sample.point_mask[keep] for sample, keep in zip(samples, kept, strict=True)])
    organised = [sample for sample in samples if sample.pixel_scores is not None]
    figures: dict[str, dict[str, float | None]] = {metric: {} for metric in METRICS}
    for source in SOURCES:
        objects = np.array([_object_score(sample, source, seed) for sample in samples])
        points = [_point_scores(sample, source, seed) for sample in samples]
        values = {
            "o_auroc": auroc(labels, objects),
            "o_ap": average_precision(labels, objects),
            "point_auroc": auroc(masks, np.concatenate([part[keep] for part, keep in zip(points, kept, strict=True)])),
            "point_pro": per_region_overlap(
                ((part, sample.point_regions) for part, sample in zip(points, samples, strict=True)), limit
            ),
            "pixel_auroc": _pixel_auroc((_pixel_scores(sample, source, seed), sample) for sample in organised),
            "pixel_pro": per_region_overlap(
                ((_pixel_scores(sample, source, seed), image_regions(_truth(sample))) for sample in organised), limit
            ),
        }
        for metric, value in values.items():
            figures[metric][source] = _plain(value)
    return dict(figures)


def _resample(
    samples: Sequence[SampleScores], seed: int, repeats: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Bootstrap values of a category's figures, and its figures by kind of defect."""
    labels = np.array([sample.label for sample in samples])
    objects = np.array([sample.object_score for sample in samples])
    kept = [sample.point_regions >= 0 for sample in samples]
    masks = [sample.point_mask[keep] for sample, keep in zip(samples, kept, strict=True)]
    wins = pair_counts(masks, [sample.point_scores[keep] for sample, keep in zip(samples, kept, strict=True)])
    abnormal = np.array([mask.sum() for mask in masks], dtype=float)
    normal = np.array([mask.size for mask in masks]) - abnormal
    object_wins = pair_counts(list(labels[:, None].astype(bool)), list(objects[:, None]))
    rng = np.random.default_rng([seed, zlib.crc32(samples[0].category.encode())])
    counts = resampling_counts(labels, repeats, rng)
    values = {
        "o_auroc": pooled_auroc(object_wins, labels.astype(float), 1.0 - labels, counts),
        "o_ap": bootstrap_values(labels, objects, average_precision, repeats, rng),
        "point_auroc": pooled_auroc(wins, abnormal, normal, counts),
    }
    defects = np.array([sample.defect for sample in samples])
    kinds: dict[str, dict[str, Any]] = {}
    for kind in sorted(set(defects[labels == 1])):
        chosen = (defects == kind) & (labels == 1)
        against = ((labels == 0) | chosen).astype(float)[None]
        kinds[str(kind)] = {
            "o_auroc": _plain(float(pooled_auroc(object_wins, chosen.astype(float), 1.0 - labels, against)[0])),
            "point_auroc": _plain(float(pooled_auroc(wins, abnormal, normal, against)[0])),
            "samples": int(chosen.sum()),
        }
    return values, kinds


def _object_score(sample: SampleScores, source: Source, seed: int) -> float:
    if source == "ours":
        return sample.object_score
    return float(sample.label) if source == "oracle" else float(_generator(sample, seed, 1).random())


def _point_scores(sample: SampleScores, source: Source, seed: int) -> np.ndarray:
    if source == "ours":
        return np.asarray(sample.point_scores, dtype=np.float32)
    if source == "oracle":
        return sample.point_mask.astype(np.float32)
    return _generator(sample, seed, 0).random(len(sample.point_scores), dtype=np.float32)


def _generator(sample: SampleScores, seed: int, stream: int) -> np.random.Generator:
    """Draws that belong to a sample's name: they do not depend on which other samples are evaluated."""
    return np.random.default_rng([seed, zlib.crc32(sample.name.encode()), stream])


def _pixel_scores(sample: SampleScores, source: Source, seed: int) -> np.ndarray:
    if sample.pixel_scores is None or sample.pixels is None:
        raise ValueError(f"{sample.name} is not organised")
    if source == "ours":
        return sample.pixel_scores
    height, width = sample.pixel_scores.shape
    return scatter(_point_scores(sample, source, seed), sample.pixels, (height, width))


def _truth(sample: SampleScores) -> np.ndarray:
    if sample.grid_mask is None:
        raise ValueError(f"{sample.name} is not organised")
    return sample.grid_mask


def _pixel_auroc(scored: Iterable[tuple[np.ndarray, SampleScores]]) -> float:
    """AUROC over whole grids. The many pixels of score 0 enter as two weighted elements, one a class."""
    labels, scores, weights = [np.array([False, True])], [np.zeros(2, dtype=np.float32)], [np.zeros(2)]
    for image, sample in scored:
        there, truth = image != 0, _truth(sample)
        labels.append(truth[there])
        scores.append(image[there].astype(np.float32))
        weights.append(np.ones(int(there.sum())))
        weights[0] += np.bincount(truth[~there], minlength=2)
    weight = np.concatenate(weights)
    counted = weight > 0
    return auroc(np.concatenate(labels)[counted], np.concatenate(scores)[counted], weight[counted])


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean over the categories in which a figure is defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _plain(value: Any) -> Any:  # noqa: ANN401 - a float or a pair of floats
    """Turn NaN into ``None`` and pairs into lists, as JSON has them."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if np.isnan(value) else float(value)
