"""The table of metrics: every figure beside what chance and what the ground truth itself would get.

Figures are fractions, of one category; the mean is over the categories in which a figure is defined. Each stands in a
triple: ``ours``; ``random``, the same figure for seeded uniform scores of the part's points (of the parts, for object
metrics); ``oracle``, the same figure when the score *is* the ground truth on the part's points. Over the whole grid of
a scan, background included, chance reaches a pixel AUROC near 0.9 and the oracle stays below 1, since some defect
pixels have no point: without the two such a figure means little.

``o_*`` rank parts, one score each. ``point_*`` pool the points of the parts, ignored ones (region -1) left out.
``pixel_*`` pool the pixels of the grids of organised scans; a pixel without a point scores 0. An element is an alarm
from a threshold on (at or above it); equal scores are alarms together.

============================  ========================================================================================
``o_auroc``                   area under the receiver operating characteristic (AUROC); ties count one half
``o_ap``                      average precision (AP): precision averaged over the steps of recall, not interpolated
``o_f1_max``                  highest F1 of all thresholds. It chooses the threshold by the test labels: an upper bound
                              of what a threshold can reach, not what one chosen beforehand does
``point_auroc``               AUROC over points
``point_pro``                 exact per-region overlap (PRO) up to ``pro_limit``, see
                              :mod:`gsclip.metrics.region_overlap`
``point_ap``                  AP over points; chance is the share of defect points
``point_f1_max``              highest F1 of all thresholds over points; an upper bound like ``o_f1_max``
``point_iou``                 intersection over union of the alarms at ``point_threshold`` and the defect points. For
                              ``random`` the threshold is the one at which the same share of points is expected to be
                              alarms, for ``oracle`` the alarms are the defect points. Not defined without a threshold
``point_fpr95``               false positive rate over points at the highest threshold that finds 95 % of the defect
                              points: the lower the better, chance is 0.95
``pixel_auroc``               AUROC over pixels
``pixel_pro``                 exact PRO over pixels up to ``pro_limit``
``pixel_pro_paper_protocol``  PRO over pixels by :func:`gsclip.metrics.region_overlap.pro_paper_protocol`: 200 equal
                              steps of the score, false positive rates below 0.3. Not defined for ``oracle``, which has
                              no false positives at all
============================  ========================================================================================

A figure that needs both classes is not defined where one is missing. ``point_iou`` needs defect points only.

Every sample is read twice, and two are in memory at most: see :mod:`gsclip.metrics.counts`. What stays of a category
are the scores of its defect elements (for both kinds of elements and the three sources of scores), counts beside them,
200 overlaps of each defective sample, and a table of the pairs of its samples.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.errors import InputError
from gsclip.metrics.counts import DefectScores, RankCounts
from gsclip.metrics.ranking import (
    auroc,
    average_precision,
    bootstrap_values,
    interval,
    pair_counts,
    pooled_auroc,
    resampling_counts,
)
from gsclip.metrics.region_overlap import DEFAULT_LIMIT, SteppedOverlap, counted_overlap, image_regions
from gsclip.metrics.sample_scores import SampleScores, scatter
from gsclip.metrics.threshold import best_f1_threshold, confusion

__all__ = ["HEADLINE_METRICS", "METRICS", "SOURCES", "SampleScores", "categories_table", "evaluate_samples"]

HEADLINE_METRICS = ("o_auroc", "o_ap", "point_auroc", "point_pro", "pixel_auroc", "pixel_pro")
METRICS = (
    *HEADLINE_METRICS,
    "o_f1_max",
    "point_ap",
    "point_f1_max",
    "point_iou",
    "point_fpr95",
    "pixel_pro_paper_protocol",
)
INTERVALS = ("o_auroc", "o_ap", "point_auroc")
GOOD = "good"
RECALL = 0.95
Source = Literal["ours", "random", "oracle"]
SOURCES: tuple[Source, ...] = get_args(Source)
Kind = Literal["point", "pixel"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Elements = tuple[Kind, Source, np.ndarray, np.ndarray]


def evaluate_samples(
    samples: Iterable[SampleScores],
    pro_limit: float = DEFAULT_LIMIT,
    seed: int = 0,
    bootstrap_repeats: int = 1000,
    *,
    threshold: float | None = None,
    point_threshold: float | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate samples category by category; memory grows with the defect elements alone, see the module.

    Args:
        samples: the samples, those of one category next to each other. They are iterated over twice at the same time
            (not more than a category apart) and have to be the same both times: a list, or
            :class:`gsclip.metrics.sample_scores.StoredSamples`.
        pro_limit: of the false positive rate, for the exact PRO.
        seed: of the random scores and of the bootstrap; figures do not depend on the order of samples.
        bootstrap_repeats: resamples of the samples (never of single points) for the intervals.
        threshold: of the object score, from auxiliary samples; ``None`` where there is none.
        point_threshold: of the point score, chosen without test labels; ``None`` where there is none.
        data: facts about the data, kept under ``data``.

    Returns:
        JSON-ready values, ``None`` where a figure is not defined: ``data``; ``mean`` (over categories) and
        ``categories``, each metric a triple; ``*_interval`` (95 %) of the means and of each category; ``defects``,
        by kind, each against the good samples of its category and averaged over the categories that have it;
        ``threshold``, and ``f1_at_threshold``, ``precision_at_threshold`` and ``recall_at_threshold`` of the object
        score over all samples; ``point_threshold``.

    Raises:
        InputError: there is no sample, or those of one category are not next to each other.
        TypeError: the samples can be iterated over only once.
        ValueError: the second iteration gives other samples.
    """
    ahead, behind = iter(samples), iter(samples)
    if ahead is behind:
        raise TypeError("samples are read twice: give a list, or anything that can be iterated over again")
    categories: dict[str, dict[str, Any]] = {}
    resampled: dict[str, list[np.ndarray]] = {metric: [] for metric in INTERVALS}
    kinds: dict[str, list[dict[str, Any]]] = {}
    parts: list[_Part] = []
    total = len(samples) if isinstance(samples, Sized) else None
    shown = tqdm(ahead, total=total, desc="evaluate", unit="sample", mininterval=5, delay=5)
    for category, members in itertools.groupby(shown, key=lambda sample: sample.category):
        if category in categories:
            raise InputError(category, "samples of one category are not next to each other", "sort them by category")
        counted = _count(behind, _collect(members, seed, point_threshold), seed, point_threshold)
        figures = _figures(counted, pro_limit)
        values, by_kind = _resample(counted, category, seed, bootstrap_repeats)
        for metric in INTERVALS:
            figures[f"{metric}_interval"] = _plain(interval(values[metric]))
            if not np.isnan(values[metric]).any():
                resampled[metric].append(values[metric])
        for kind, row in by_kind.items():
            kinds.setdefault(kind, []).append(row)
        figures["samples"] = len(counted.parts)
        figures["defective"] = sum(part.label for part in counted.parts)
        categories[category] = figures
        parts.extend(counted.parts)
    if not categories:
        raise InputError("evaluation", "there is no sample to evaluate", "predict test samples first")
    result: dict[str, Any] = {
        "data": {
            **(data or {}),
            "samples": len(parts),
            "defective": sum(part.label for part in parts),
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
    result.update(_decided(parts, threshold))
    result["point_threshold"] = point_threshold
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
        <metric>_random, <metric>_oracle``. Missing where a figure is not defined; a metric that no category has (of
        an older evaluation) has no columns.
    """
    rows = []
    for category, figures in metrics["categories"].items():
        low, high = figures["o_auroc_interval"]
        row = {"category": category, "samples": figures["samples"], "defective": figures["defective"]}
        row.update({"o_auroc_low": low, "o_auroc_high": high})
        for metric in (metric for metric in METRICS if metric in figures):
            for source in SOURCES:
                row[metric if source == "ours" else f"{metric}_{source}"] = figures[metric][source]
        rows.append(row)
    table = pd.DataFrame(rows)
    floats = table.columns.difference(["category", "samples", "defective"])
    table[floats] = table[floats].astype(float)
    return table.sort_values(["o_auroc", "category"], na_position="last", ignore_index=True)


@dataclass(frozen=True)
class _Part:
    """What is kept of one sample: nothing of the length of its points."""

    name: str
    defect: str
    label: int
    object_scores: dict[Source, float]


@dataclass
class _Collected:
    """What the first pass over the samples of a category leaves behind.

    Attributes:
        parts: the samples, as they came.
        defects: scores of the defect elements of each kind, for each source of scores.
        ranges: lowest and highest score of all pixels, for each source of scores; empty without pixels.
        points: number of points of all samples, ignored ones left out.
        alarms: number of those at or above the threshold.
    """

    parts: list[_Part] = field(default_factory=list)
    defects: dict[tuple[Kind, Source], DefectScores] = field(
        default_factory=lambda: {(kind, source): DefectScores() for kind in KINDS for source in SOURCES}
    )
    ranges: dict[Source, tuple[float, float]] = field(default_factory=dict)
    points: int = 0
    alarms: int = 0


@dataclass
class _Counted:
    """What both passes leave behind.

    Attributes:
        parts: the samples, by name; so are all axes of samples.
        ranks: counts of the elements of each kind, for each source of scores.
        stepped: PRO by the paper's protocol, for each source of scores; empty without pixels.
        wins: (m, m) pair counts of the points, see :func:`gsclip.metrics.ranking.pair_counts`.
        points: (m, 2) number of defect-free and of defect points.
        thresholds: from which on points are alarms, for each source of scores; empty without a threshold.
        overlap: likewise, number of points that are both alarm and defect, and of those that are either.
    """

    parts: list[_Part]
    ranks: dict[tuple[Kind, Source], RankCounts]
    stepped: dict[Source, SteppedOverlap]
    wins: np.ndarray
    points: np.ndarray
    thresholds: dict[Source, float]
    overlap: dict[Source, np.ndarray]

    def add(self, sample: SampleScores | None, place: int, seed: int) -> None:
        """Count the elements of the sample that has this place among the parts."""
        name = self.parts[place].name
        if sample is None or sample.name != name:
            raise ValueError(f"samples differ between the first and the second pass: {name} is missing")
        for kind, source, scores, regions in _elements(sample, seed):
            below = self.ranks[kind, source].add(scores[regions == 0])
            if kind == "pixel":
                self.stepped[source].add(scores, regions)
                continue
            defect = regions > 0
            if source == "ours":
                self.wins[:, place] = self.ranks[kind, source].by_sample(below)
                self.points[place] = np.bincount(defect, minlength=2)
            if source in self.thresholds:
                alarm = scores >= self.thresholds[source]
                self.overlap[source] += [np.count_nonzero(alarm & defect), np.count_nonzero(alarm | defect)]


def _collect(samples: Iterable[SampleScores], seed: int, point_threshold: float | None) -> _Collected:
    """First pass over the samples of a category."""
    collected = _Collected()
    for sample in samples:
        objects = {source: _object_score(sample, source, seed) for source in SOURCES}
        collected.parts.append(_Part(sample.name, sample.defect, sample.label, objects))
        for kind, source, scores, regions in _elements(sample, seed):
            collected.defects[kind, source].add(sample.name, scores, regions)
            if kind == "pixel":
                low, high = collected.ranges.get(source, (np.inf, -np.inf))
                collected.ranges[source] = min(low, float(scores.min())), max(high, float(scores.max()))
            elif source == "ours" and point_threshold is not None:
                collected.points += len(scores)
                collected.alarms += int(np.count_nonzero(scores >= point_threshold))
    return collected


def _count(
    samples: Iterator[SampleScores], collected: _Collected, seed: int, point_threshold: float | None
) -> _Counted:
    """Second pass over the same samples, which are the next ones of the iterator."""
    order = sorted(range(len(collected.parts)), key=lambda number: collected.parts[number].name)
    thresholds: dict[Source, float] = {}
    if point_threshold is not None:
        share = collected.alarms / max(collected.points, 1)
        thresholds = {"ours": point_threshold, "random": 1.0 - share, "oracle": 1.0}
    counted = _Counted(
        parts=[collected.parts[number] for number in order],
        ranks={key: scores.counts() for key, scores in collected.defects.items()},
        stepped={source: SteppedOverlap(*span) for source, span in collected.ranges.items()},
        wins=np.zeros((len(order), len(order))),
        points=np.zeros((len(order), 2)),
        thresholds=thresholds,
        overlap={source: np.zeros(2, dtype=np.int64) for source in thresholds},
    )
    for place in np.argsort(order):
        counted.add(next(samples, None), int(place), seed)
    return counted


def _figures(counted: _Counted, limit: float) -> dict[str, Any]:
    """All metrics of one category, for each source of scores."""
    labels = np.array([part.label for part in counted.parts])
    figures: dict[str, dict[str, float | None]] = {metric: {} for metric in METRICS}
    for source in SOURCES:
        objects = np.array([part.object_scores[source] for part in counted.parts])
        points, pixels = counted.ranks["point", source], counted.ranks["pixel", source]
        values = {
            "o_auroc": auroc(labels, objects),
            "o_ap": average_precision(labels, objects),
            "o_f1_max": best_f1_threshold(labels, objects)[1] if 0 < labels.sum() < len(labels) else np.nan,
            "point_auroc": points.auroc(),
            "point_pro": counted_overlap(points, limit),
            "point_ap": points.average_precision(),
            "point_f1_max": points.f1_max(),
            "point_iou": _intersection_over_union(counted, source),
            "point_fpr95": points.false_positive_rate(RECALL),
            "pixel_auroc": pixels.auroc(),
            "pixel_pro": counted_overlap(pixels, limit),
            "pixel_pro_paper_protocol": counted.stepped[source].area() if source in counted.stepped else np.nan,
        }
        for metric, value in values.items():
            figures[metric][source] = _plain(value)
    return dict(figures)


def _intersection_over_union(counted: _Counted, source: Source) -> float:
    if not counted.overlap or counted.ranks["point", source].defects == 0:
        return float("nan")
    both, either = counted.overlap[source]
    return float(both / either)


def _resample(
    counted: _Counted, category: str, seed: int, repeats: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Bootstrap values of a category's figures, and its figures by kind of defect."""
    labels = np.array([part.label for part in counted.parts])
    objects = np.array([part.object_scores["ours"] for part in counted.parts])
    normal, abnormal = counted.points.T
    object_wins = pair_counts(list(labels[:, None].astype(bool)), list(objects[:, None]))
    rng = np.random.default_rng([seed, zlib.crc32(category.encode())])
    counts = resampling_counts(labels, repeats, rng)
    values = {
        "o_auroc": pooled_auroc(object_wins, labels.astype(float), 1.0 - labels, counts),
        "o_ap": bootstrap_values(labels, objects, average_precision, repeats, rng),
        "point_auroc": pooled_auroc(counted.wins, abnormal, normal, counts),
    }
    defects = np.array([part.defect for part in counted.parts])
    kinds: dict[str, dict[str, Any]] = {}
    for kind in sorted(set(defects[labels == 1])):
        chosen = (defects == kind) & (labels == 1)
        against = ((labels == 0) | chosen).astype(float)[None]
        kinds[str(kind)] = {
            "o_auroc": _plain(float(pooled_auroc(object_wins, chosen.astype(float), 1.0 - labels, against)[0])),
            "point_auroc": _plain(float(pooled_auroc(counted.wins, abnormal, normal, against)[0])),
            "samples": int(chosen.sum()),
        }
    return values, kinds


def _decided(parts: Sequence[_Part], threshold: float | None) -> dict[str, float | None]:
    """Figures of the decisions over all samples."""
    names = ("f1", "precision", "recall")
    if threshold is None:
        return {f"{name}_at_threshold": None for name in names}
    scores = np.array([part.object_scores["ours"] for part in parts])
    decided = confusion(np.array([part.label for part in parts]), scores, threshold)
    return {f"{name}_at_threshold": _plain(getattr(decided, name)) for name in names}


def _elements(sample: SampleScores, seed: int) -> Iterator[Elements]:
    """Scores and region labels of a sample's points and pixels, for each source of scores; always the same ones."""
    kept = sample.point_regions >= 0
    point_regions = sample.point_regions[kept]
    grid_regions = None if sample.grid_mask is None else image_regions(sample.grid_mask)
    for source in SOURCES:
        scores = _point_scores(sample, source, seed)
        yield "point", source, scores[kept], point_regions
        if grid_regions is not None:
            yield "pixel", source, _pixel_scores(sample, source, scores), grid_regions


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


def _pixel_scores(sample: SampleScores, source: Source, point_scores: np.ndarray) -> np.ndarray:
    if sample.pixel_scores is None or sample.pixels is None:
        raise ValueError(f"{sample.name} is not organised")
    if source == "ours":
        return np.asarray(sample.pixel_scores, dtype=np.float32)
    height, width = sample.pixel_scores.shape
    return scatter(point_scores, sample.pixels, (height, width))


def _generator(sample: SampleScores, seed: int, stream: int) -> np.random.Generator:
    """Draws that belong to a sample's name: they do not depend on which other samples are evaluated."""
    return np.random.default_rng([seed, zlib.crc32(sample.name.encode()), stream])


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean over the categories in which a figure is defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _plain(value: Any) -> Any:  # noqa: ANN401 - a float or a pair of floats
    """Turn NaN into ``None`` and pairs into lists, as JSON has them."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if np.isnan(value) else float(value)
