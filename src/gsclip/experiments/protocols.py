"""Which runs an ablation and an evaluation protocol consist of, and how they are carried out.

- *ablation*: the rows of :data:`~gsclip.experiments.variants.ABLATION`, every seed.
- *one-vs-rest*: one auxiliary category at a time, tested on all others of the same data set; averaged.
- *cross-data-set*: the same auxiliary categories one at a time, tested on another data set; averaged.
- *comparison*: the model as it ships against what is simpler, on several data sets.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gsclip.experiments.data_sets import EncodedData
from gsclip.experiments.runs import Run, perform
from gsclip.experiments.variants import ABLATION, SHIPPED
from gsclip.features.backbone import Backbone
from gsclip.params import Params

SELF_SIMILARITY = "FPFH self-similarity"
COMPARED = (
    "hand-written prompts, both streams untrained",
    "learned prompts (PointAD-like)",
    "+ SRM + shape + defect + L_con (GS-CLIP)",
)
"""Rows of the ablation that the comparison takes, beside the model as it ships."""

_log = logging.getLogger(__name__)


def ablation_runs(params: Params, data: EncodedData, tests: Sequence[EncodedData]) -> list[Run]:
    """Runs of the ablation, seed by seed, so that a whole table is there early."""
    first, *_ = params.experiments.seeds
    return [
        Run(variant.name, variant.apply(params, seed), data, test)
        for seed in params.experiments.seeds
        for variant in ABLATION
        for test in tests
        if variant.seeded or seed == first
    ]


def one_vs_rest_runs(params: Params, data: EncodedData) -> list[Run]:
    """Runs of the one-vs-rest protocol: a row is an auxiliary category."""
    return [
        Run(category, _seeded(params, seed, (category,)), data, data)
        for seed in params.experiments.seeds
        for category in params.experiments.one_vs_rest
    ]


def cross_data_set_runs(params: Params, data: EncodedData, other: EncodedData) -> list[Run]:
    """Runs of the cross-data-set protocol: the models of one-vs-rest, tested on all of another data set."""
    return [dataclasses.replace(run, test=other) for run in one_vs_rest_runs(params, data)]


def comparison_runs(params: Params, data: EncodedData, tests: Sequence[EncodedData]) -> list[Run]:
    """Runs of the comparison that need a backbone, data set by data set."""
    chosen = [*(variant for variant in ABLATION if variant.name in COMPARED), SHIPPED]
    first, *_ = params.experiments.seeds
    return [
        Run(variant.name, variant.apply(_seen_by(params, test), seed), data, test)
        for test in tests
        for variant in chosen
        for seed in params.experiments.seeds
        if variant.seeded or seed == first
    ]


def self_similarity_runs(params: Params, data: EncodedData, tests: Sequence[EncodedData]) -> list[Run]:
    """Runs of the comparison that need none: one for each data set."""
    return [Run(SELF_SIMILARITY, _seen_by(params, test), data, test) for test in tests]


def _seen_by(params: Params, test: EncodedData) -> Params:
    cameras = test.cameras or params.render.cameras
    return params.model_copy(update={"render": params.render.model_copy(update={"cameras": cameras})})


def perform_all(runs: Sequence[Run], backbone: Backbone, work: Path) -> list[tuple[Run, dict[str, Any]]]:
    """Carry out runs one after the other; what an earlier, interrupted call has finished is taken over."""
    finished = []
    with tqdm(total=len(runs), desc="runs", unit="run") as progress:
        for run in runs:
            metrics = perform(run, backbone, work)
            mean = {metric: figures["ours"] for metric, figures in metrics["mean"].items()}
            _log.info(
                "%s, seed %d, tested on %s: O-AUROC %.3f, point AUROC %.3f",
                run.row,
                run.seed,
                run.test.dataset,
                *(float("nan") if mean[metric] is None else mean[metric] for metric in ("o_auroc", "point_auroc")),
            )
            finished.append((run, metrics))
            progress.update()
    return finished


def _seeded(params: Params, seed: int, auxiliary: tuple[str, ...]) -> Params:
    values = params.model_dump()
    for stage in ("stage1", "stage2"):
        values[stage]["seed"] = seed
    categories = (*params.prepare.auxiliary_categories, *params.prepare.test_categories)
    values["prepare"]["auxiliary_categories"] = auxiliary
    values["prepare"]["test_categories"] = [category for category in categories if category not in auxiliary]
    return Params.model_validate(values)
