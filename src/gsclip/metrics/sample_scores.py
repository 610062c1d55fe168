"""What evaluation needs to know about one sample: its scores and its ground truth, element by element."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gsclip.data.sample import Sample
from gsclip.errors import InputError
from gsclip.metrics.region_overlap import grid_point_regions, point_regions
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack


@dataclass(frozen=True)
class SampleScores:
    """Scores and ground truth of one sample.

    Attributes:
        name: unique name of the sample.
        category: class of the part.
        defect: ``good`` or the kind of defect.
        label: 0 normal, 1 abnormal.
        object_score: one score for the part.
        point_scores: (n,) one score for every point.
        point_mask: (n,) bool, true on defects.
        point_regions: (n,) int, 0 on defect-free points, -1 on points to be ignored, else the region of the defect.
        pixel_scores: (h, w) scores of the whole grid of an organised scan: those of the points at their pixels, 0
            at every other pixel; ``None`` for unorganised clouds.
        grid_mask: (h, w) bool ground truth of the grid; ``None`` for unorganised clouds.
        pixels: (n, 2) int (row, column) of every point; ``None`` for unorganised clouds.

    Raises:
        InputError: shapes or labels contradict each other, or a score is not finite.
    """

    name: str
    category: str
    defect: str
    label: int
    object_score: float
    point_scores: np.ndarray
    point_mask: np.ndarray
    point_regions: np.ndarray
    pixel_scores: np.ndarray | None = None
    grid_mask: np.ndarray | None = None
    pixels: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that scores and ground truth belong together."""
        points = len(self.point_scores)
        if len(self.point_mask) != points or len(self.point_regions) != points:
            self._reject(f"has {points} scores for {len(self.point_mask)} points", "predict this sample again")
        if not np.isfinite(self.object_score) or not np.isfinite(self.point_scores).all():
            self._reject("has a score that is not finite", "look at the training curves, then predict again")
        if self.label not in (0, 1):
            self._reject(f"has label {self.label}", "evaluate samples with a known label only")
        if ((self.point_regions > 0) != self.point_mask).any():
            self._reject("has defect points outside every region", "check that mask and grid mask agree")
        grids = (self.pixel_scores, self.grid_mask, self.pixels)
        if any(grid is None for grid in grids) != all(grid is None for grid in grids):
            self._reject("lacks pixel scores, grid mask or pixels", "give all three, or none for unorganised clouds")
        shapes = [None if grid is None else grid.shape for grid in grids[:2]]
        if shapes[0] != shapes[1]:
            self._reject("has pixel scores of another shape than its grid mask", "predict this sample again")

    def _reject(self, problem: str, remedy: str) -> None:
        raise InputError(self.name, problem, remedy)


def scatter(values: np.ndarray, pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Put the values of points at their pixels; every other pixel gets 0.

    Args:
        values: (n,) one value for every point.
        pixels: (n, 2) int (row, column).
        grid: (h, w).

    Returns:
        (h, w) float32.
    """
    image = np.zeros(grid, dtype=np.float32)
    image[pixels[:, 0], pixels[:, 1]] = values
    return image


def sample_scores(
    name: str, category: str, defect: str, label: int, prediction: Prediction, sample: Sample
) -> SampleScores:
    """Join the prediction for a sample with its ground truth.

    Regions are those of the grid where the scan is organised and its grid mask is known, else components of a
    nearest-neighbour graph. A normal sample without masks is defect-free everywhere. Of an abnormal one nobody knows
    where: all of its points are to be ignored, and its object score alone counts.

    Of a thinned cloud all points of the scan count, each with its own ground truth and the score and the region of the
    nearest point that was kept.

    Raises:
        InputError: prediction and sample differ in their number of points.
    """
    unknown = sample.mask is None and label == 1
    mask = np.zeros(len(sample.points), dtype=bool) if sample.mask is None else sample.mask
    grid_mask = sample.grid_mask
    if grid_mask is None and sample.grid is not None and not mask.any() and not unknown:
        grid_mask = np.zeros(sample.grid, dtype=bool)
    if len(prediction.point_scores) != len(sample.points):
        problem = f"has {len(prediction.point_scores)} scores for {len(sample.points)} points"
        raise InputError(name, problem, "predict this sample again")
    pixel_scores, pixels = None, None
    if sample.pixels is not None and grid_mask is not None:
        pixels = sample.pixels
        pixel_scores = scatter(prediction.point_scores, pixels, (grid_mask.shape[0], grid_mask.shape[1]))
        regions = grid_point_regions(grid_mask, pixels)
    else:
        grid_mask = None
        regions = point_regions(sample.points, mask)
    scores = sample.spread(prediction.point_scores)
    if sample.nearest is not None:
        mask = np.zeros(len(scores), dtype=bool) if sample.scan_mask is None else sample.scan_mask
        regions = np.where(mask, sample.spread(regions), 0)
    if unknown:
        regions = np.full(len(scores), -1)
    return SampleScores(
        name=name,
        category=category,
        defect=defect,
        label=label,
        object_score=float(prediction.object_score),
        point_scores=scores,
        point_mask=mask,
        point_regions=regions,
        pixel_scores=pixel_scores,
        grid_mask=grid_mask,
        pixels=pixels,
    )


class StoredSamples:
    """Samples that are read from packs one at a time, anew in each iteration; none is kept.

    Args:
        rows: columns ``name``, ``category``, ``defect`` and ``label`` (0 or 1); taken by category, then name.
        packs: gives the open packs of a category: its samples, and their predictions.
    """

    def __init__(self, rows: pd.DataFrame, packs: Callable[[str], tuple[Pack[Sample], Pack[Prediction]]]) -> None:
        self._rows = rows.sort_values(["category", "name"]).to_dict("records")
        self._packs = packs

    def __len__(self) -> int:
        """Count them."""
        return len(self._rows)

    def __iter__(self) -> Iterator[SampleScores]:
        """Read them.

        Raises:
            InputError: a pack lacks a sample, or see :func:`sample_scores`.
        """
        for row in self._rows:
            yield self._read(str(row["name"]), str(row["category"]), str(row["defect"]), int(row["label"]))

    def _read(self, name: str, category: str, defect: str, label: int) -> SampleScores:
        samples, predictions = self._packs(category)
        prediction = predictions.read(name, ("object_score", "point_scores"))
        sample = samples.read(name, ("points", "pixels", "grid", "mask", "grid_mask", "nearest", "scan_mask"))
        return sample_scores(name, category, defect, label, prediction, sample)
