"""`gsclip evaluate`."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.data import checks, own_parts
from gsclip.data.checks import REJECTED_FILE
from gsclip.data.datasets import AUXILIARY, DATASETS, TEST, listing, warn_of_cameras, warn_of_gaps
from gsclip.data.sample import Sample
from gsclip.detector import Detector
from gsclip.errors import GsclipError, InputError, unexpected
from gsclip.metrics.sample_scores import StoredSamples
from gsclip.metrics.table import evaluate_samples
from gsclip.monitoring.rows import SAMPLES_FILE, sample_row, samples_table
from gsclip.params import EvaluateParams, Profile
from gsclip.report.bundle import RunFiles
from gsclip.report.content import Run
from gsclip.report.curves import write_curves
from gsclip.report.gallery import GalleryItem, ItemReader, add_localisation, draw, evaluated_rows, score_range
from gsclip.report.page import write_report
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack, atomic_path, write_csv, write_json, write_pack

_SAMPLES, _PREDICTIONS = "samples.h5", "predictions.h5"

_log = logging.getLogger(__name__)


def evaluate_dataset(
    dataset: str,
    root: Path,
    categories: Sequence[str] | None,
    model: Path,
    output: Path,
    report: Path | None = None,
    settings: EvaluateParams | None = None,
    profile: Profile | None = None,
    run: Path | None = None,
) -> tuple[dict[str, Any], list[GsclipError]]:
    """Evaluate a model on the test split of a data set.

    Categories that the model was trained on are left out: their figures would not be zero-shot.

    Args:
        dataset: name of one that lies in a folder; see :mod:`gsclip.data.datasets`.
        root: its folder, in the official layout.
        categories: which; all that are there when ``None``.
        model: folder of the detector.
        output: JSON file of the metrics.
        report: folder for the page, ``samples.csv``, ``rejected.csv`` and the heat maps of all samples
            (``maps/<name>.png``).
        settings: of the metrics; limit of the PRO, seed and resamples of the published protocol by default.
        profile: of the scores; the model's own by default.
        run: folder for all that the dashboard shows of a run, laid out as the pipeline does; see :func:`write_run`.

    Returns:
        The metrics as written, and why scans were rejected.

    Raises:
        InputError: when the data set cannot be read, or nothing is left to evaluate.
    """
    index = listing(dataset)(root, categories)
    warn_of_gaps(dataset, index, () if categories else ("test",))
    detector = Detector.from_pretrained(model, profile)
    warn_of_cameras(dataset, detector.config.render.cameras)
    index["role"] = [_role(detector, dataset, category) for category in index["category"]]
    left_out = sorted(set(index.loc[index["role"] == AUXILIARY, "category"]))
    if left_out:
        _log.warning("left out, since the model was trained on them: %s", ", ".join(left_out))
    index = index[index["role"] == TEST]
    if index.empty:
        raise InputError(root, "the model was trained on all of these categories", "evaluate others")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.stem}.") as folder:
        scratch = Path(folder)
        problems, rows = _predict_index(detector, index, root, scratch)
        rejected = list(problems.values())
        samples = samples_table(rows)
        with (
            Pack(scratch / _SAMPLES, Sample) as prepared,
            Pack(scratch / _PREDICTIONS, Prediction) as predictions,
        ):
            reader = _Reader(detector, prepared, predictions)
            if not rows:
                raise InputError(root, f"none of {len(index)} scans can be used", str(rejected[0]))
            metrics = evaluate_samples(
                reader.scores(samples),
                *(() if settings is None else (settings.pro_limit, settings.seed, settings.bootstrap_repeats)),
                threshold=detector.config.threshold,
                point_threshold=detector.config.point_threshold,
                data={
                    "dataset": dataset,
                    "split": "test",
                    "test_categories": sorted(set(samples["category"])),
                    "left_out": left_out,
                    "rejected": len(rejected),
                    **detector.config.facts(),
                },
            )
            write_json(output, metrics)
            if run is not None:
                write_run(run, metrics, samples, reader.item)
            if report is not None:
                paths = dict(zip(index["name"], index["scan_path"], strict=True))
                table = [checks.rejected_row(name, paths[name], error) for name, error in problems.items()]
                _write_report(report, metrics, samples, checks.rejected_table(table), reader)
    return metrics, rejected


def write_run(folder: Path, metrics: Mapping[str, Any], samples: pd.DataFrame, read: ItemReader) -> None:
    """Write an evaluation as a run: metrics, curves, ``samples.csv``, and the packs of samples, views, predictions.

    Args:
        folder: of the run; files that an earlier run left there are replaced one by one.
        metrics: as written.
        samples: rows of ``samples.csv``.
        read: gives the records of a row; memory holds those of one.
    """
    files = RunFiles.of(folder)
    for category, rows in samples.groupby("category", sort=True):
        file = f"{category}.h5"
        with (
            write_pack(files.prepared / file) as prepared,
            write_pack(files.views / file) as views,
            write_pack(files.predictions / file) as predictions,
        ):
            for row in tqdm(rows.to_dict("records"), desc=f"run: {category}", mininterval=5):
                item = read({str(column): value for column, value in row.items()})
                prepared.add(row["name"], item.sample)
                views.add(row["name"], item.views)
                predictions.add(row["name"], item.prediction)
    write_csv(files.predictions / SAMPLES_FILE, samples)
    write_curves(samples, files.curves)
    write_json(files.metrics, metrics)


class _Reader:
    """Reads samples and their predictions, one at a time."""

    def __init__(self, detector: Detector, samples: Pack[Sample], predictions: Pack[Prediction]) -> None:
        self._detector, self._samples, self._predictions = detector, samples, predictions

    def item(self, row: Mapping[str, Any]) -> GalleryItem:
        sample = self._samples[row["name"]]
        return GalleryItem(sample, self._detector.render(sample), self._predictions[row["name"]], row)

    def scores(self, samples: pd.DataFrame) -> StoredSamples:
        return StoredSamples(samples, lambda category: (self._samples, self._predictions))

    def localised(self, samples: pd.DataFrame) -> Iterator[tuple[str, np.ndarray | None, np.ndarray]]:
        for name in samples["name"]:
            yield name, self._samples.read(name, ("mask",)).mask, self._predictions[name].point_scores


def _predict_index(
    detector: Detector, index: pd.DataFrame, root: Path, scratch: Path
) -> tuple[dict[str, GsclipError], list[dict[str, Any]]]:
    """Prepare and predict the samples of an index into two packs.

    Returns:
        Why scans are rejected, by name, in the order of the index; and rows of ``samples.csv`` of the others. Packs may
        hold rejected ones as well: that another scan contradicts the label comes to light behind them.
    """
    rows: list[dict[str, Any]] = []
    problems: dict[str, GsclipError] = {}
    duplicates = checks.Duplicates()
    with write_pack(scratch / _SAMPLES) as samples, write_pack(scratch / _PREDICTIONS) as predictions:
        for _, identity in tqdm(index.iterrows(), total=len(index), desc="evaluate", unit="scan", mininterval=5):
            name, own, check = identity["name"], identity["dataset"] == own_parts.DATASET, checks.READABLE
            try:
                scan = DATASETS[identity["dataset"]].read(str(root), identity, 0)
                checks.usable(scan, name, identity["label"] if own else None)
                check = checks.PREPARATION
                sample = detector.prepare(scan, name)
                views = detector.render(sample)
                tokens = detector.encode(views)
                prediction = detector.predict(sample, views, tokens)
            except Exception as error:  # one broken scan never stops a batch
                problems[name] = checks.named(unexpected(name, error), check)
                continue
            if own and not duplicates.add(checks.fingerprint(scan), name, identity["scan_path"], identity["label"]):
                continue
            samples.add(name, sample)
            predictions.add(name, prediction)
            rows.append(sample_row(identity, sample, views, tokens, prediction, detector.config.threshold))
    problems |= duplicates.errors()
    rejected = {name: problems[name] for name in index["name"] if name in problems}
    return rejected, [row for row in rows if row["name"] not in rejected]


def _write_report(
    folder: Path, metrics: Mapping[str, Any], samples: pd.DataFrame, rejected: pd.DataFrame, reader: _Reader
) -> None:
    localised = add_localisation(samples, reader.localised(samples))
    run = Run(metrics=metrics, samples=localised, rejected=rejected)
    write_report(folder, run, reader.item)
    write_csv(folder / SAMPLES_FILE, localised)
    write_csv(folder / REJECTED_FILE, rejected)
    rows = evaluated_rows(localised)
    span = score_range(rows)
    for row in tqdm(rows.to_dict("records"), desc="heat maps", mininterval=5):
        path = folder / "maps" / f"{row['name']}.png"
        with atomic_path(path) as temporary:
            named = {str(column): value for column, value in row.items()}
            temporary.write_bytes(draw(reader.item(named), span, run.threshold))


def _role(detector: Detector, dataset: str, category: str) -> str:
    trained_on = detector.config.trained_on
    seen = trained_on.get("dataset") == dataset and category in trained_on.get("auxiliary_categories", ())
    return AUXILIARY if seen else TEST
