"""Which samples are shown, and their pictures.

- *worst* and *best localised*: defective samples by the AUROC of the point scores within the sample, its points on
  the defect against its other points. A sample is in one of the two only. Samples without a measured point on the
  defect have no such figure and are in neither.
- *highest good*: good samples by their object score; those at or above the threshold are false alarms.

Ties go by name, so that the choice does not depend on the order of samples.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from PIL import Image

from gsclip.data.sample import Sample
from gsclip.metrics.ranking import auroc
from gsclip.report.overlays import ScoreRange, overlay_image, png_bytes
from gsclip.scores.prediction import Prediction
from gsclip.storage import atomic_directory
from gsclip.views.views import Views

WORST, BEST, HIGHEST_GOOD = "worst", "best", "highest-good"
GROUPS = (WORST, HIGHEST_GOOD, BEST)
MAXIMUM_OVERLAYS = 30


@dataclass(frozen=True)
class GalleryItem:
    """All that a picture of one sample needs.

    Attributes:
        sample: the sample.
        views: its views.
        prediction: its scores.
        row: its row of ``samples.csv``, by column.
    """

    sample: Sample
    views: Views
    prediction: Prediction
    row: Mapping[str, Any]


ItemReader = Callable[[Mapping[str, Any]], GalleryItem]
"""Gives the item of a row of ``samples.csv``: read from packs, taken from memory or computed anew."""


@dataclass(frozen=True)
class Picture:
    """A drawn sample.

    Attributes:
        group: one of :data:`GROUPS`.
        row: its row of ``samples.csv``, with ``point_auroc``.
        png: the overlay, encoded.
    """

    group: str
    row: Mapping[str, Any]
    png: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return Image.open(io.BytesIO(self.png)).size


def add_localisation(
    samples: pd.DataFrame, scored: Iterable[tuple[str, np.ndarray | None, np.ndarray]]
) -> pd.DataFrame:
    """Add the column ``point_auroc``: how well the point scores find the defect within each sample.

    Args:
        samples: rows as in ``samples.csv``.
        scored: name, mask of the points and point scores of samples, one at a time; ``None`` where the ground truth
            is not known.

    Returns:
        The table with the column added; missing for samples without points of both classes, and for those that
        ``scored`` does not hold.
    """
    figures = {name: auroc(mask, scores) for name, mask, scores in scored if mask is not None}
    return samples.assign(point_auroc=samples["name"].map(figures).astype(float))


def evaluated_rows(samples: pd.DataFrame) -> pd.DataFrame:
    """Labelled rows of the categories that training never saw, with integer labels: those the figures are about."""
    chosen = samples["label"].notna()
    if "role" in samples:
        chosen &= samples["role"] == "test"
    return samples[chosen].astype({"label": int})


def choose(samples: pd.DataFrame, count: int) -> dict[str, pd.DataFrame]:
    """Choose the samples that are shown.

    Args:
        samples: labelled rows of ``samples.csv`` with ``point_auroc``, see :func:`add_localisation`.
        count: most samples a group.

    Returns:
        Rows by group, in the order of :data:`GROUPS`, the most telling first.
    """
    localised = samples[(samples["label"] == 1) & samples["point_auroc"].notna()]
    localised = localised.sort_values(["point_auroc", "name"])
    good = samples[samples["label"] == 0].sort_values(["object_score", "name"], ascending=[False, True])
    worst = localised.head(min(count, len(localised) // 2))
    best = localised.iloc[len(worst) :].sort_values(["point_auroc", "name"], ascending=[False, True])
    return {WORST: worst, HIGHEST_GOOD: good.head(count), BEST: best.head(count)}


def score_range(samples: pd.DataFrame) -> ScoreRange:
    """One range of colours for all pictures of a run: the lowest mean to the highest maximum of the point scores."""
    if {"map_mean", "map_max"} <= set(samples):
        low, high = samples["map_mean"].min(), samples["map_max"].max()
        if low < high:
            return float(low), float(high)
    return 0.0, 1.0


def draw(item: GalleryItem, colour_range: ScoreRange, threshold: float | None) -> bytes:
    """Draw one sample by :func:`gsclip.report.overlays.overlay_image`; PNG bytes."""
    image = overlay_image(
        item.sample,
        item.views,
        item.prediction,
        name=str(item.row["name"]),
        defect=str(item.row["defect"]),
        threshold=threshold,
        score_range=colour_range,
    )
    return png_bytes(image)


def draw_gallery(samples: pd.DataFrame, read: ItemReader, *, count: int, threshold: float | None) -> list[Picture]:
    """Draw the samples of :func:`choose`; memory holds one sample at a time, and the pictures."""
    colour_range = score_range(samples)
    return [
        Picture(group, row, draw(read(row), colour_range, threshold))
        for group, rows in choose(samples, count).items()
        for row in _records(rows)
    ]


def write_overlays(
    samples: pd.DataFrame, read: ItemReader, folder: str | Path, *, threshold: float | None
) -> list[Path]:
    """Write one picture of each group for each category: ``<category>-worst.png`` and so on.

    Args:
        samples: labelled rows of ``samples.csv`` with ``point_auroc``.
        read: gives the item of a row.
        folder: replaced whole. It holds at most 30 files, the worst of all categories first.
        threshold: of the object score.

    Returns:
        The files written, sorted; characters of a category that are special in paths are percent-encoded.
    """
    folder = Path(folder)
    colour_range = score_range(samples)
    chosen = [(category, choose(members, 1)) for category, members in samples.groupby("category", sort=True)]
    pictures = [
        (f"{quote(str(category), safe='')}-{group}.png", row)
        for group in GROUPS
        for category, groups in chosen
        for row in _records(groups[group])
    ][:MAXIMUM_OVERLAYS]
    with atomic_directory(folder) as temporary:
        for file, row in pictures:
            (temporary / file).write_bytes(draw(read(row), colour_range, threshold))
    return sorted(folder / file for file, _ in pictures)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(column): value for column, value in row.items()} for row in rows.to_dict("records")]
