"""Stage evaluate: metrics of the test samples, by category, and the curves."""

from __future__ import annotations

import contextlib

from gsclip.data.datasets import TEST
from gsclip.data.sample import Sample
from gsclip.detector import read_config
from gsclip.metrics.sample_scores import StoredSamples
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
    with contextlib.ExitStack() as stack:
        packs = {
            category: (
                stack.enter_context(Pack(common.PREPARED / f"{category}.h5", Sample)),
                stack.enter_context(Pack(common.PREDICTIONS / f"{category}.h5", Prediction)),
            )
            for category in sorted(set(tested["category"]))
        }
        metrics = evaluate_samples(
            StoredSamples(tested, packs.__getitem__),
            params.evaluate.pro_limit,
            params.evaluate.seed,
            params.evaluate.bootstrap_repeats,
            threshold=config.threshold,
            point_threshold=config.point_threshold,
            data={"dataset": params.prepare.dataset, "test_categories": sorted(packs), **config.facts()},
        )
    write_json(common.METRICS, metrics)
    write_csv(common.CATEGORIES, categories_table(metrics))
    write_curves(samples, common.CURVES)


if __name__ == "__main__":
    common.run(evaluate)
