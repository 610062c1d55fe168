"""One run: train on some categories, score others, evaluate. What is done already is not done again."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.detector import Detector, DetectorConfig
from gsclip.experiments.data_sets import EncodedData
from gsclip.features.backbone import Backbone
from gsclip.metrics.sample_scores import StoredSamples
from gsclip.metrics.table import evaluate_samples
from gsclip.parallel import ordered_map
from gsclip.params import Params
from gsclip.prompts.geometry_prompts import PROMPTS_FILE, load_prompts
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack, write_json, write_pack
from gsclip.streams.streams import load_streams
from gsclip.training.checkpoints import run_key
from gsclip.training.fit import Places, TrainingSet, fit_stage1, fit_stage2, stage1_key, stage2_key
from gsclip.training.selection import provenance, training_names

_Predict = Callable[[str, Sequence[str]], Iterator[Prediction]]
"""From a category and names of its samples to their predictions, in the same order."""


@dataclass(frozen=True)
class Run:
    """One training and its evaluation on one data set.

    Attributes:
        row: name of the row of the table that it belongs to.
        params: all parameters; seeds and auxiliary categories are those of this run.
        training: what is trained on.
        test: what is tested on: every category that is not trained on.
    """

    row: str
    params: Params
    training: EncodedData
    test: EncodedData

    @property
    def auxiliary(self) -> tuple[str, ...]:
        """Categories trained on."""
        return self.params.prepare.auxiliary_categories

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.params.stage1.seed

    def tested(self) -> pd.DataFrame:
        """Rows of the samples tested on."""
        seen = self.auxiliary if self.test.dataset == self.training.dataset else ()
        return self.test.tested(seen)


def perform(run: Run, backbone: Backbone, work: Path) -> dict[str, Any]:
    """Metrics of a run, as :func:`~gsclip.metrics.table.evaluate_samples` gives them.

    Args:
        run: what to do.
        backbone: the loaded backbone that the parameters name.
        work: folder for models, checkpoints and results. A model that another run with the same parameters has
            trained is used again, as is the result of the same run; a killed training goes on.
    """
    prompts_folder, streams_folder = _train(run, backbone, work)
    tested = run.tested()
    settings = {group: getattr(run.params, group).model_dump() for group in ("features", "predict", "evaluate")}
    packs = run.test.folders.files(sorted(set(tested["category"])))
    models = [path for path in sorted([*prompts_folder.rglob("*"), *streams_folder.rglob("*")]) if path.is_file()]
    key = run_key({**settings, "names": list(tested["name"])}, [*packs, *models])
    result = work / "results" / f"{key}.json"
    if not result.is_file():
        index = run.training.index
        config = DetectorConfig.of(run.params, trained_on=provenance(index, run.params, backbone.note))
        prompts = load_prompts(prompts_folder, backbone, config.stage1)
        detector = Detector(config, backbone, prompts, *load_streams(streams_folder, backbone, config.stage2))
        write_json(result, _evaluate(_scored_by(detector, run), detector.config.facts(), run, tested, work))
    metrics: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return metrics


def _train(run: Run, backbone: Backbone, work: Path) -> tuple[Path, Path]:
    """Folders of both stages' models."""
    params = run.params
    training = TrainingSet(run.training.folders, training_names(run.training.index, run.auxiliary))
    prompts_folder = work / "models" / f"stage1-{stage1_key(params, training)}"

    def places(model: Path) -> Places:
        return Places(model, work / "curves" / f"{model.name}.csv", work / "checkpoints", shared=True)

    if not (prompts_folder / PROMPTS_FILE).is_file():
        fit_stage1(params, backbone, training, places(prompts_folder))
    streams_folder = work / "models" / f"stage2-{stage2_key(params, training, prompts_folder)}"
    if not streams_folder.is_dir():
        fit_stage2(params, backbone, training, prompts_folder, places(streams_folder))
    return prompts_folder, streams_folder


def perform_baseline(run: Run, scorer: Callable[[Sample], Prediction], work: Path) -> dict[str, Any]:
    """Metrics of scores that learn nothing and see no views; the run's parameters say how to evaluate.

    Args:
        run: its row names the scorer.
        scorer: scores one sample; in each process anew, so it has to be picklable.
        work: as in :func:`perform`.
    """
    tested = run.tested()
    packs = [run.test.folders.paths(category)[0] for category in sorted(set(tested["category"]))]
    settings = {"row": run.row, "evaluate": run.params.evaluate.model_dump(), "names": list(tested["name"])}
    result = work / "results" / f"{run_key(settings, packs)}.json"
    if not result.is_file():
        nothing: dict[str, Any] = {"auxiliary_categories": [], "training_splits": [], "training_samples": 0}
        write_json(result, _evaluate(_scored_alone(run, scorer), nothing, run, tested, work))
    metrics: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return metrics


def _scored_alone(run: Run, scorer: Callable[[Sample], Prediction]) -> _Predict:
    def predict(category: str, names: Sequence[str]) -> Iterator[Prediction]:
        with Pack(run.test.folders.paths(category)[0], Sample) as samples:
            yield from ordered_map(scorer, (samples[name] for name in names))

    return predict


def _scored_by(detector: Detector, run: Run) -> _Predict:
    def predict(category: str, names: Sequence[str]) -> Iterator[Prediction]:
        with run.test.folders.open(category) as packs:
            for name in names:
                yield detector.predict(*packs.read(name))

    return predict


def _evaluate(
    predict: _Predict, facts: Mapping[str, Any], run: Run, tested: pd.DataFrame, work: Path
) -> dict[str, Any]:
    """Score into a pack that is thrown away afterwards, and evaluate."""
    with tempfile.TemporaryDirectory(dir=work, prefix=".predictions.") as folder:
        path = Path(folder) / "predictions.h5"
        progress = tqdm(total=len(tested), desc="predict", unit="sample", mininterval=5)
        with write_pack(path) as predictions:
            for category, members in tested.groupby("category", sort=True):
                names = list(members["name"])
                for name, prediction in zip(names, predict(str(category), names), strict=True):
                    predictions.add(name, prediction)
                    progress.update()
        progress.close()
        config = run.params.evaluate
        with contextlib.ExitStack() as stack:
            predicted = stack.enter_context(Pack(path, Prediction))
            scored = {
                category: (stack.enter_context(Pack(run.test.folders.paths(category)[0], Sample)), predicted)
                for category in sorted(set(tested["category"]))
            }
            return evaluate_samples(
                StoredSamples(tested, scored.__getitem__),
                config.pro_limit,
                config.seed,
                config.bootstrap_repeats,
                data={
                    "dataset": run.test.dataset,
                    "test_categories": sorted(scored),
                    "test_splits": sorted(set(tested["split"])),
                    **facts,
                },
            )
