"""The decision threshold of the object score, and what it decides.

The threshold is chosen on the auxiliary samples, which training has seen anyway; choosing it on test samples would
leak their labels into the decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsclip.errors import InputError


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
    labels, scores = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    if labels.all() or not labels.any():
        raise InputError(
            "decision threshold",
            f"needs normal and abnormal auxiliary samples, got {(~labels).sum()} and {labels.sum()}",
            "choose auxiliary categories that hold both",
        )
    distinct, place = np.unique(scores, return_inverse=True)
    alarms = np.cumsum(np.bincount(place)[::-1])
    hits = np.cumsum(np.bincount(place, weights=labels)[::-1])
    f1 = 2 * hits / (alarms + labels.sum())
    best = int(np.argmax(f1))
    lowest_alarm = len(distinct) - 1 - best
    below = distinct[lowest_alarm - 1] if lowest_alarm > 0 else distinct[lowest_alarm]
    return float((distinct[lowest_alarm] + below) / 2), float(f1[best])


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
