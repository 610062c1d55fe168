"""Exact figures of a ranking of elements in two passes over the samples, without keeping the elements.

An element is a point or a pixel, and carries a score and a region label: 0 defect-free, -1 to be ignored, 1 and above
the region of its sample. Defect elements are few and defect-free ones many, and every figure here depends on one
thing alone: how many defect-free elements lie above and at each distinct score of a defect element. So a first pass
collects the scores of the defect elements (:class:`DefectScores`), and a second one counts the defect-free elements
sample by sample (:class:`RankCounts`). No figure needs a threshold between two scores of defect elements: lowering it
there adds false alarms and finds nothing.

An element is an alarm where its score is at or above a threshold. Scores are compared as float32. A figure is NaN
where there is no defect element or no defect-free one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class DefectScores:
    """First pass: collects the scores of the defect elements, 4 bytes each."""

    def __init__(self) -> None:
        self._samples: list[tuple[str, np.ndarray, np.ndarray]] = []

    def add(self, name: str, scores: np.ndarray, regions: np.ndarray) -> None:
        """Take one sample's defect elements.

        Args:
            name: of the sample.
            scores: any shape.
            regions: region labels, in the shape of the scores; see the module.

        Raises:
            ValueError: scores and labels of different shape.
        """
        scores, regions = np.asarray(scores, dtype=np.float32).ravel(), np.asarray(regions).ravel()
        if scores.shape != regions.shape:
            raise ValueError(f"{scores.size} scores but {regions.size} region labels")
        defect = regions > 0
        _, place, sizes = np.unique(regions[defect], return_inverse=True, return_counts=True)
        self._samples.append((name, scores[defect][np.argsort(place, kind="stable")], sizes))

    def counts(self) -> RankCounts:
        """Begin the second pass, with the samples by name: sums do not depend on the order in which they came."""
        samples = sorted(self._samples, key=lambda sample: sample[0])
        return RankCounts([scores for _, scores, _ in samples], [sizes for _, _, sizes in samples])


class RankCounts:
    """Second pass: counts of the defect-free elements around each distinct score of a defect element.

    Args:
        scores: one (k,) float32 array a sample, its defect elements, those of one region next to each other.
        sizes: one (r,) int array a sample, number of elements of its regions, in the same order.

    Attributes:
        distinct: (d,) float32 distinct scores of defect elements, ascending.
        hits: (d,) int, defect elements of each of these scores.
        gains: (d,) mean over the regions of the share of each that has this score; sums to 1.
        above: (d,) int, defect-free elements above each of these scores.
        at_or_above: (d,) int, defect-free elements at or above it.
        defects: number of defect elements.
        normals: number of defect-free elements.
    """

    def __init__(self, scores: Sequence[np.ndarray], sizes: Sequence[np.ndarray]) -> None:
        pooled = np.concatenate([np.empty(0, dtype=np.float32), *scores])
        self.distinct, place, self.hits = np.unique(pooled, return_inverse=True, return_counts=True)
        self._place = place.astype(np.int32)
        self._starts = np.cumsum([0, *(len(part) for part in scores)])
        of_region = np.concatenate([np.empty(0, dtype=np.intp), *sizes])
        shares = np.repeat(1.0 / of_region, of_region) / max(len(of_region), 1)
        self.gains = np.bincount(place, weights=shares, minlength=len(self.distinct))
        self.above = np.zeros(len(self.distinct), dtype=np.int64)
        self.at_or_above = np.zeros(len(self.distinct), dtype=np.int64)
        self.defects = len(pooled)
        self.normals = 0

    def add(self, scores: np.ndarray) -> np.ndarray:
        """Count the defect-free elements of one sample.

        Args:
            scores: of its defect-free elements, any shape.

        Returns:
            (d,) float64, how many of them lie below each distinct score of a defect element, ties as one half.
        """
        scores = np.sort(np.asarray(scores, dtype=np.float32), axis=None)
        # Each of the scores is looked up among the distinct ones, which are more: they are of all samples.
        place = np.searchsorted(self.distinct, scores, "left")
        within = place[: np.searchsorted(place, len(self.distinct))]
        equal = within[self.distinct[within] == scores[: len(within)]]
        up_to = np.cumsum(np.bincount(place, minlength=len(self.distinct) + 1))[:-1]
        below = up_to - np.bincount(equal, minlength=len(self.distinct))
        self.above += len(scores) - up_to
        self.at_or_above += len(scores) - below
        self.normals += len(scores)
        return (below + up_to) / 2

    def by_sample(self, values: np.ndarray) -> np.ndarray:
        """Sum over the defect elements of each sample.

        Args:
            values: (d,) one value for each distinct score of a defect element.

        Returns:
            (m,) float64, in the order of the samples.
        """
        sums = np.concatenate([[0.0], np.cumsum(values[self._place])])
        return sums[self._starts[1:]] - sums[self._starts[:-1]]

    def auroc(self) -> float:
        """Area under the receiver operating characteristic; ties count one half."""
        if not self._both_classes():
            return float("nan")
        won = self.normals - (self.above + self.at_or_above) / 2
        return float(self.hits @ won / (self.defects * self.normals))

    def average_precision(self) -> float:
        """Average precision: precision averaged over the steps of recall, without interpolation."""
        if not self._both_classes():
            return float("nan")
        found = self._found()
        return float(self.hits @ (found / (found + self.at_or_above)) / self.defects)

    def f1_max(self) -> float:
        """Highest F1 of all thresholds."""
        if not self._both_classes():
            return float("nan")
        found = self._found()
        return float(np.max(2 * found / (found + self.at_or_above + self.defects)))

    def false_positive_rate(self, recall: float) -> float:
        """False positive rate of the highest threshold that finds a share of the defect elements.

        Args:
            recall: share to be reached, in (0, 1].
        """
        if not self._both_classes():
            return float("nan")
        reached = np.flatnonzero(self._found() / self.defects >= recall)
        return float(self.at_or_above[reached[-1]] / self.normals)

    def _found(self) -> np.ndarray:
        """(d,) int, defect elements at or above each distinct score of one."""
        return np.cumsum(self.hits[::-1])[::-1]

    def _both_classes(self) -> bool:
        return self.defects > 0 and self.normals > 0
