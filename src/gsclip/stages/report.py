"""Stage report: the page, its figures as JSON, and the overlays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gsclip.data.preparing import REJECTED_FILE
from gsclip.data.sample import Sample
from gsclip.params import Params
from gsclip.report.content import Run
from gsclip.report.gallery import GalleryItem, add_localisation, evaluated_rows, write_overlays
from gsclip.report.page import write_report
from gsclip.scores.prediction import Prediction
from gsclip.stages import common
from gsclip.storage import Pack, atomic_directory
from gsclip.views.views import Views


def report(params: Params) -> None:
    """Write ``outputs/report`` and ``outputs/overlays``."""
    samples = common.samples()
    run = Run(
        metrics=json.loads(common.METRICS.read_text(encoding="utf-8")),
        samples=add_localisation(samples, _scored(evaluated_rows(samples))),
        rejected=pd.read_csv(common.PREPARED / REJECTED_FILE),
        learning={name: pd.read_csv(common.CURVES / f"{name}.csv") for name in ("stage1", "stage2")},
        parameters=params.model_dump(mode="json"),
    )
    with atomic_directory(common.REPORT) as folder:
        write_report(folder, run, _read, gallery=params.report.gallery)
    write_overlays(evaluated_rows(run.samples), _read, common.OVERLAYS, threshold=run.threshold)


def _scored(samples: pd.DataFrame) -> Iterator[tuple[str, np.ndarray | None, np.ndarray]]:
    for category, rows in samples.groupby("category", sort=True):
        with (
            Pack(common.PREPARED / f"{category}.h5", Sample) as prepared,
            Pack(common.PREDICTIONS / f"{category}.h5", Prediction) as predictions,
        ):
            for name in rows["name"]:
                yield name, prepared.read(name, ("mask",)).mask, predictions[name].point_scores


def _read(row: Mapping[str, Any]) -> GalleryItem:
    file = f"{row['category']}.h5"
    with (
        Pack(common.PREPARED / file, Sample) as samples,
        Pack(common.VIEWS / file, Views) as views,
        Pack(common.PREDICTIONS / file, Prediction) as predictions,
    ):
        name = row["name"]
        return GalleryItem(samples[name], views[name], predictions[name], row)


if __name__ == "__main__":
    common.run(report)
