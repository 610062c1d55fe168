"""Whether a new model, the challenger, replaces the champion: a pure function of scores, costs and limits.

Both models have scored the same test samples. Samples are resampled with replacement, stratified by category and label,
the same draws for both models (paired bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8),
so that what makes a sample easy or hard for both cancels out of the difference. The challenger is promoted where

1. it is shown to be better: the lower bound of the difference of at least one metric is above 0;
2. it is shown not to be worse: the lower bound of every metric's difference is at least ``-tolerance``;
3. no category loses more than ``category_loss`` of any metric (the difference itself, without interval);
4. time and size are within the budget.

Metrics are means over categories, as in :mod:`gsclip.metrics.table`. The first model has 4 to pass alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gsclip.metrics.ranking import auroc, pair_counts, pooled_auroc, resampling_counts
from gsclip.params import GateParams

METRICS = ("o_auroc", "point_auroc")


@dataclass(frozen=True)
class ModelScores:
    """What one model says about the samples of a category.

    Attributes:
        objects: (m,) object scores.
        wins: (m, m) pair counts of the points, see :func:`gsclip.metrics.ranking.pair_counts`.
    """

    objects: np.ndarray
    wins: np.ndarray


@dataclass(frozen=True)
class CategoryScores:
    """The same samples of one category by both models.

    Attributes:
        category: its name.
        labels: (m,) 1 abnormal, 0 normal.
        points: (m, 2) number of defect-free and of defect points that count.
        champion: scores of the model in use.
        challenger: scores of the new one.
    """

    category: str
    labels: np.ndarray
    points: np.ndarray
    champion: ModelScores
    challenger: ModelScores


@dataclass(frozen=True)
class Costs:
    """What the challenger costs.

    Attributes:
        megabytes: size of the model's folder, 10^6 bytes.
        seconds_per_object: median time from a prepared sample to its scores; ``None`` where it was not measured.
    """

    megabytes: float
    seconds_per_object: float | None = None


@dataclass(frozen=True)
class Change:
    """One figure of both models.

    Attributes:
        name: the metric, or the category.
        metric: the metric.
        champion: its figure, a fraction.
        challenger: likewise.
        low: lower bound of the difference by the bootstrap; ``None`` for a single category.
        high: upper bound, likewise.
    """

    name: str
    metric: str
    champion: float
    challenger: float
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float:
        """Challenger minus champion."""
        return self.challenger - self.champion


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        promoted: whether the challenger becomes the champion.
        reasons: sentences: what speaks against it, or why it is promoted.
        metrics: means over categories.
        categories: each metric of each category.
        costs: of the challenger; ``None`` where they were not looked at.
    """

    promoted: bool
    reasons: tuple[str, ...]
    metrics: tuple[Change, ...] = ()
    categories: tuple[Change, ...] = ()
    costs: Costs | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Verdict:
        """Read what :meth:`as_json` gave."""
        return cls(
            promoted=bool(content["promoted"]),
            reasons=tuple(content["reasons"]),
            metrics=tuple(Change(**row) for row in content["metrics"]),
            categories=tuple(Change(**row) for row in content["categories"]),
            costs=None if content["costs"] is None else Costs(**content["costs"]),
        )


def decide(
    categories: Sequence[CategoryScores] | None, costs: Costs, limits: GateParams, *, repeats: int, seed: int
) -> Verdict:
    """Decide whether the challenger becomes the champion; the same arguments give the same verdict.

    Args:
        categories: scores of both models; ``None`` where there is no champion.
        costs: of the challenger.
        limits: see :class:`gsclip.params.GateParams`.
        repeats: resamples of the bootstrap.
        seed: of the draws.
    """
    against = _over_budget(costs, limits)
    if categories is None:
        return Verdict(not against, tuple(against or ["There was no champion."]), costs=costs)
    means, by_category = compare(categories, limits.confidence, repeats=repeats, seed=seed)
    if not means:
        against.append("No test category has normal and abnormal samples: there is nothing to compare.")
    against += [
        f"{change.name} may be worse: the lower bound of the difference is {_points(change.low)}, "
        f"{_points(-limits.tolerance)} is allowed."
        for change in means
        if change.low is None or change.low < -limits.tolerance
    ]
    against += [
        f"{change.metric} of {change.name} is worse by {_points(-change.difference, sign='')}, "
        f"{_points(limits.category_loss, sign='')} is allowed."
        for change in by_category
        if change.difference < -limits.category_loss
    ]
    better = [change for change in means if change.low is not None and change.low > 0]
    if means and not better:
        against.append(f"No metric is shown to be better at a confidence of {limits.confidence:.0%}.")
    gains = [
        f"{change.name} is better: {_points(change.difference)}, at least {_points(change.low)}." for change in better
    ]
    return Verdict(not against, tuple(against or gains), means, by_category, costs)


def compare(
    categories: Iterable[CategoryScores], confidence: float, *, repeats: int, seed: int
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Metrics of two models on the same samples.

    Args:
        categories: scores of both.
        confidence: probability that the true difference is above the lower bound, and likewise below the upper one.
        repeats: resamples.
        seed: of the draws; those of a category belong to its name.

    Returns:
        Means over the categories in which a metric is defined, with bounds of their differences; and the figures of
        each category. Metrics that no category has are left out.
    """
    by_category: list[Change] = []
    resampled: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    for scores in categories:
        draws = resampling_counts(
            scores.labels, repeats, np.random.default_rng([seed, zlib.crc32(scores.category.encode())])
        )
        once = np.ones((1, len(scores.labels)))
        for metric in METRICS:
            champion, challenger = (
                float(_values(metric, scores, model, once)[0]) for model in (scores.champion, scores.challenger)
            )
            if np.isnan(champion) or np.isnan(challenger):
                continue
            by_category.append(Change(scores.category, metric, champion, challenger))
            differences = _values(metric, scores, scores.challenger, draws) - _values(
                metric, scores, scores.champion, draws
            )
            resampled[metric].append(differences)
    means = []
    for metric in METRICS:
        rows = [change for change in by_category if change.metric == metric]
        if not rows:
            continue
        # A resample without any defect point has no figure: such draws of a category are left out of the mean.
        differences = np.ma.masked_invalid(np.array(resampled[metric])).mean(axis=0).filled(np.nan)
        low, high = _bounds(differences, confidence)
        means.append(
            Change(
                metric,
                metric,
                float(np.mean([row.champion for row in rows])),
                float(np.mean([row.challenger for row in rows])),
                low,
                high,
            )
        )
    return tuple(means), tuple(by_category)


def model_scores(objects: np.ndarray, masks: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> ModelScores:
    """Scores of one model as the gate needs them.

    Args:
        objects: (m,) object scores.
        masks: one (n,) bool array a sample, true on defects.
        points: one (n,) array of point scores a sample.
    """
    return ModelScores(np.asarray(objects, dtype=float), pair_counts(masks, points))


def _values(metric: str, scores: CategoryScores, model: ModelScores, counts: np.ndarray) -> np.ndarray:
    if metric == "point_auroc":
        return pooled_auroc(model.wins, scores.points[:, 1], scores.points[:, 0], counts)
    if len(counts) == 1:
        return np.array([auroc(scores.labels, model.objects)])
    labels = scores.labels.astype(float)
    wins = pair_counts(list(scores.labels[:, None].astype(bool)), list(model.objects[:, None]))
    return pooled_auroc(wins, labels, 1.0 - labels, counts)


def _bounds(values: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    if len(values) == 0 or np.isnan(values).any():
        return None, None
    low, high = np.quantile(values, [1 - confidence, confidence])
    return float(low), float(high)


def _over_budget(costs: Costs, limits: GateParams) -> list[str]:
    problems = []
    if costs.seconds_per_object is not None and costs.seconds_per_object > limits.seconds_per_object:
        problems.append(
            f"A part takes {costs.seconds_per_object:.2f} seconds, {limits.seconds_per_object:g} are allowed."
        )
    if costs.megabytes > limits.model_megabytes:
        problems.append(f"The model has {costs.megabytes:.1f} MB, {limits.model_megabytes:g} are allowed.")
    return problems


def _points(value: float | None, sign: str = "+") -> str:
    return "not defined" if value is None else f"{100 * value:{sign}.1f} points"
