"""Thresholds of object and point scores, and what they decide.

They are chosen on the auxiliary samples, which training has seen anyway; choosing them on test samples would leak their
labels into the decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsclip.errors import InputError

BINS = 1 << 16


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions; a score at or above the threshold is a decision for abnormal."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def precision(self) -> float:
        """Share of true alarms among the alarms; NaN without an alarm."""
        return _quotient(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of the abnormal samples that are found; NaN without an abnormal sample."""
        return _quotient(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without an alarm and without an abnormal sample."""
        return _quotient(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)


def best_f1_threshold(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Find the threshold of the highest F1; for auxiliary samples only (see the module).

    Of equally good thresholds the highest is taken (fewest alarms). It lies half-way between two neighbouring
    scores, so that rounding on either side of it changes no decision.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) finite.

    Returns:
        Threshold in the unit of the scores, and the F1 reached there.

    Raises:
        InputError: no normal or no abnormal sample is there.
    """
    labels, scores = _of_both_kinds("decision threshold", labels, scores)
    distinct, place = np.unique(scores, return_inverse=True)
    lowest_alarm, f1 = _lowest_alarm(np.bincount(place), np.bincount(place, weights=labels))
    below = distinct[max(lowest_alarm - 1, 0)]
    return float((distinct[lowest_alarm] + below) / 2), f1


def lowest_cost_threshold(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    miss: float,
    false_alarm: float,
    defective_share: float | None = None,
) -> tuple[float, float]:
    """Find the threshold of the lowest expected cost a part; for auxiliary samples only (see the module).

    Of equally cheap thresholds the highest is taken (fewest alarms). It lies half-way between two neighbouring scores;
    the neighbours of the lowest and the highest score are 0 and 1.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) in [0, 1].
        miss: cost of a defective part that is passed, 0 or more, in any unit.
        false_alarm: cost of a good part that is stopped, 0 or more, in the same unit; not both 0.
        defective_share: share of defective parts where the threshold will be used, in (0, 1); that of the samples
            where ``None``.

    Returns:
        Threshold, and the expected cost a part there, in the unit of the costs.

    Raises:
        InputError: no normal or no abnormal sample is there, or a cost or share is out of its range.
    """
    labels, scores = _of_both_kinds("suggested threshold", labels, scores)
    share = float(labels.mean()) if defective_share is None else defective_share
    if not (0 < share < 1 and miss >= 0 and false_alarm >= 0 and miss + false_alarm > 0):
        problem = f"a miss costs {miss:g}, a false alarm {false_alarm:g}, {share:g} of the parts are defective"
        remedy = "give costs from 0 on, not both 0, and a share between 0 and 1"
        raise InputError("suggested threshold", problem, remedy)
    distinct, place = np.unique(scores, return_inverse=True)
    hits = np.bincount(place, weights=labels, minlength=len(distinct))
    alarms = np.bincount(place, weights=~labels, minlength=len(distinct))
    # Alarms from the score number k on; k = len(distinct): none.
    found = np.append(np.cumsum(hits[::-1])[::-1], 0.0) / labels.sum()
    stopped = np.append(np.cumsum(alarms[::-1])[::-1], 0.0) / (~labels).sum()
    costs = share * miss * (1 - found) + (1 - share) * false_alarm * stopped
    best = len(costs) - 1 - int(np.argmin(np.round(costs[::-1], 12)))
    edges = np.concatenate([[0.0], distinct, [1.0]])
    return float((edges[best] + edges[best + 1]) / 2), float(costs[best])


def _of_both_kinds(where: str, labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (m,) bool and scores (m,) float64, when normal and abnormal samples are there."""
    labels, scores = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    if labels.all() or not labels.any():
        raise InputError(
            where,
            f"needs normal and abnormal auxiliary samples, got {(~labels).sum()} and {labels.sum()}",
            "choose auxiliary categories that hold both",
        )
    return labels, scores


class ScoreHistogram:
    """Counts of scores in [0, 1] by label: the threshold of best F1 over more scores than memory holds.

    One mebibyte, however many scores are added. Bins are 1 / :data:`BINS` wide.
    """

    def __init__(self) -> None:
        self._all = np.zeros(BINS, dtype=np.int64)
        self._abnormal = np.zeros(BINS, dtype=np.int64)

    def add(self, labels: np.ndarray, scores: np.ndarray) -> None:
        """Count (n,) scores, finite; those outside of [0, 1] count as its nearer end. ``labels``: (n,) 0 or 1."""
        place = np.clip(np.asarray(scores, dtype=np.float64) * BINS, 0, BINS - 1).astype(np.int64)
        self._all += np.bincount(place, minlength=BINS)
        self._abnormal += np.bincount(place[np.asarray(labels).astype(bool)], minlength=BINS)

    def best_f1_threshold(self) -> tuple[float, float] | None:
        """Find the threshold of the highest F1, as :func:`best_f1_threshold` does, to the width of a bin.

        It lies half-way between the bin of the lowest alarms and the next one below that holds a score.

        Returns:
            Threshold and the F1 reached there; ``None`` when no normal or no abnormal score was added.
        """
        if not 0 < self._abnormal.sum() < self._all.sum():
            return None
        (filled,) = self._all.nonzero()
        lowest_alarm, f1 = _lowest_alarm(self._all[filled], self._abnormal[filled])
        low = filled[lowest_alarm]
        below = filled[lowest_alarm - 1] + 1 if lowest_alarm > 0 else low
        return float((low + below) / (2 * BINS)), f1


def _lowest_alarm(counts: np.ndarray, abnormal: np.ndarray) -> tuple[int, float]:
    """Place of the lowest value at which to raise an alarm for the highest F1, and that F1; fewest alarms of equals.

    Args:
        counts: (k,) how many scores have each value; values ascend.
        abnormal: (k,) how many of them are abnormal.
    """
    alarms, hits = np.cumsum(counts[::-1]), np.cumsum(abnormal[::-1])
    f1 = 2 * hits / (alarms + abnormal.sum())
    best = int(np.argmax(f1))
    return len(counts) - 1 - best, float(f1[best])


def confusion(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Confusion:
    """Count the decisions of a threshold.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) finite.
        threshold: alarms are the scores at or above it.
    """
    labels, alarm = np.asarray(labels).astype(bool), np.asarray(scores) >= threshold
    return Confusion(
        true_positive=int((labels & alarm).sum()),
        false_positive=int((~labels & alarm).sum()),
        false_negative=int((labels & ~alarm).sum()),
        true_negative=int((~labels & ~alarm).sum()),
    )


def _quotient(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
