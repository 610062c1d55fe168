"""Stage evaluate: metrics of the test samples, by category, and the curves."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from gsclip.data.datasets import TEST
from gsclip.data.sample import Sample
from gsclip.detector import read_config
from gsclip.metrics.sample_scores import SampleScores, sample_scores
from gsclip.metrics.table import categories_table, evaluate_samples
from gsclip.params import Params
from gsclip.report.curves import write_curves
from gsclip.scores.prediction import Prediction
from gsclip.stages import common
from gsclip.storage import Pack, write_csv, write_json


def evaluate(params: Params) -> None:
    """Write ``outputs/metrics.json``, ``outputs/categories.csv`` and the curves."""
    samples = common.samples()
    tested = samples[samples["role"] == TEST]
    config = read_config(common.MODEL)
    metrics = evaluate_samples(
        _scores(tested),
        params.evaluate.pro_limit,
        params.evaluate.seed,
        params.evaluate.bootstrap_repeats,
        threshold=config.threshold,
        data={"dataset": params.prepare.dataset, "test_categories": sorted(set(tested["category"])), **config.facts()},
    )
    write_json(common.METRICS, metrics)
    write_csv(common.CATEGORIES, categories_table(metrics))
    write_curves(samples, common.CURVES)


def _scores(samples: pd.DataFrame) -> Iterator[SampleScores]:
    for category, rows in samples.groupby("category", sort=True):
        with (
            Pack(common.PREPARED / f"{category}.h5", Sample) as prepared,
            Pack(common.PREDICTIONS / f"{category}.h5", Prediction) as predictions,
        ):
            for name, defect, label in zip(rows["name"], rows["defect"], rows["label"], strict=True):
                yield sample_scores(name, str(category), defect, int(label), predictions[name], prepared[name])


if __name__ == "__main__":
    common.run(evaluate)
