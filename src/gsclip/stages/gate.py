"""Compares the model of the pipeline with the champion; the retraining flow runs it, it is no stage of ``dvc.yaml``.

Where ``.gsclip/champion/predictions`` are there, they are the champion's scores of the same samples; where only
``.gsclip/champion/model`` is, it scores them here; without either there is no champion.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.data.datasets import TEST
from gsclip.data.sample import Sample
from gsclip.errors import InputError
from gsclip.params import Params
from gsclip.promotion.gate import Costs, Verdict, decide
from gsclip.promotion.pairs import paired_scores
from gsclip.stages import common
from gsclip.storage import Pack, atomic_directory, write_json, write_pack

if TYPE_CHECKING:
    from gsclip.detector import Detector
    from gsclip.scores.prediction import Prediction

CHAMPION = Path(".gsclip/champion")
VERDICT = Path(".gsclip/gate.json")

_log = logging.getLogger(__name__)


def gate(params: Params) -> None:
    """Write ``.gsclip/gate.json``, see :class:`gsclip.promotion.gate.Verdict`."""
    samples = common.samples()
    tested = samples[samples["role"] == TEST].sort_values("name")
    costs = Costs(_megabytes(common.MODEL), _seconds_per_object(tested, params.gate.timed_samples))
    predictions = CHAMPION / "predictions"
    scores = None
    if CHAMPION.is_dir():
        try:
            if not predictions.is_dir():
                _predict(CHAMPION / "model", tested, predictions)
            scores = list(paired_scores(tested, common.PREPARED, predictions, common.PREDICTIONS))
        except InputError as error:
            reason = f"The champion cannot be compared: {error}. Promote by hand where the new model shall be used."
            write_json(VERDICT, Verdict(False, (reason,), costs=costs).as_json())
            return
    verdict = decide(scores, costs, params.gate, repeats=params.evaluate.bootstrap_repeats, seed=params.evaluate.seed)
    write_json(VERDICT, verdict.as_json())
    _log.info("%s: %s", "promoted" if verdict.promoted else "refused", " ".join(verdict.reasons))


def _predict(model: Path, tested: pd.DataFrame, output: Path) -> None:
    """Score the test samples by another model, from the prepared samples on."""
    from gsclip.detector import Detector

    detector = Detector.from_pretrained(model)
    with (
        atomic_directory(output) as folder,
        tqdm(total=len(tested), desc="champion", mininterval=5) as progress,
    ):
        for category, rows in tested.groupby("category", sort=True):
            with (
                Pack(common.PREPARED / f"{category}.h5", Sample) as samples,
                write_pack(folder / f"{category}.h5") as predictions,
            ):
                for name in rows["name"]:
                    sample = samples[name]
                    predictions.add(name, detector.predict(sample, detector.render(sample)))
                    progress.update()


def _seconds_per_object(tested: pd.DataFrame, number: int) -> float | None:
    """Median time (:func:`_spent`) of some test samples, evenly spread; the first warms up and does not count."""
    if number == 0 or tested.empty:
        return None
    from gsclip.detector import Detector

    detector = Detector.from_pretrained(common.MODEL)
    chosen = tested.iloc[np.linspace(0, len(tested) - 1, min(number, len(tested))).astype(int)]
    chosen = pd.concat([chosen.iloc[:1], chosen])
    seconds = []
    for name, category in zip(chosen["name"], chosen["category"], strict=True):
        with Pack(common.PREPARED / f"{category}.h5", Sample) as pack:
            sample = pack[name]
        seconds.append(_spent(functools.partial(_score, detector, sample)))
    return float(np.median(seconds[1:]))


def _score(detector: Detector, sample: Sample) -> Prediction:
    return detector.predict(sample, detector.render(sample))


def _spent(work: Callable[[], object]) -> float:
    """Seconds of a call; of the processor where that is less, so that other work on the machine does not count."""
    start, own = time.perf_counter(), time.process_time()
    work()
    return min(time.perf_counter() - start, time.process_time() - own)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    common.run(gate)
