"""What the commands of :mod:`gsclip.cli` do with files: a broken scan is rejected, the others go on."""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from gsclip.data import checks, own_parts
from gsclip.data.checking import Checked
from gsclip.data.checking import check_dataset as check_all
from gsclip.data.datasets import AUXILIARY, DATASETS, TEST, listing, warn_of_cameras, warn_of_gaps
from gsclip.data.preparation import DEFAULT_SCAN_PARAMS, PartPoints, part_points, prepare_sample
from gsclip.data.preparing import REJECTED_FILE
from gsclip.data.sample import Sample
from gsclip.data.scan_files import read_scan
from gsclip.decision import read_threshold
from gsclip.detector import Detector, read_config
from gsclip.errors import GsclipError, InputError, unexpected
from gsclip.metrics.sample_scores import StoredSamples
from gsclip.metrics.table import evaluate_samples
from gsclip.monitoring.drift import read_samples
from gsclip.monitoring.log import LOG_FOLDER, RUNS_FILE, BatchLog, read_window
from gsclip.monitoring.reference import FALSE_ALARM_RATE, SETTINGS_FILE, make_reference, model_version
from gsclip.monitoring.rows import SAMPLES_FILE, sample_row, samples_table
from gsclip.params import EvaluateParams, Profile, ScanParams
from gsclip.report.bundle import RunFiles
from gsclip.report.content import Run
from gsclip.report.curves import write_curves
from gsclip.report.gallery import GalleryItem, ItemReader, add_localisation, draw, evaluated_rows, score_range
from gsclip.report.page import write_report
from gsclip.report.palette import colours
from gsclip.results import VIEWS_FILE, check_problems_file, check_rendered_results, check_score_results
from gsclip.run_log import RunLog
from gsclip.scans import find_scans
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack, atomic_directory, atomic_path, write_csv, write_json, write_pack
from gsclip.views.cameras import camera_angles
from gsclip.views.renderer import render_views
from gsclip.views.views import Views

MAX_NAME = 200  # bytes of a scan's name: file systems take 255, of which results need some
DECISIONS = ("normal", "abnormal")
_SAMPLES, _PREDICTIONS = "samples.h5", "predictions.h5"

_log = logging.getLogger(__name__)


def render_files(
    paths: Sequence[Path],
    output: Path,
    *,
    views: int,
    image_size: int,
    cameras: str,
    params: ScanParams = DEFAULT_SCAN_PARAMS,
) -> list[GsclipError]:
    """Render scans to ``<output>/<name>/{rendered,depth}_<view>.png`` and ``<name>/views.npz``.

    Rendered images are 8 bit grey, depth images 16 bit; ``views.npz`` holds pixel (v, n, 2) and visibility (v, n) of
    every point, its place (n, 3), and the cameras' angles (v, 2) in degrees.

    Returns:
        Why scans were rejected; they are listed in ``rejected.csv`` too.

    Raises:
        InputError: when a folder holds no scan, or a result would replace what `gsclip render` has not written; then
            nothing is written.
    """
    angles = camera_angles(cameras, views)

    def render(name: str, path: Path) -> None:
        sample = prepare_sample(checks.usable(read_scan(path), str(path)), str(path), params=params)
        rendered = render_views(sample, image_size=image_size, cameras=cameras, views=views)
        with atomic_directory(output / name) as folder:
            for number in range(views):
                Image.fromarray(rendered.rendered[number]).save(folder / f"rendered_{number}.png")
                Image.fromarray(rendered.depth[number]).save(folder / f"depth_{number}.png")
            np.savez_compressed(
                folder / VIEWS_FILE,
                points=sample.points,
                pixels=rendered.pixels,
                visible=rendered.visible,
                angles=np.array(angles, dtype=np.float32),
            )

    scans = find_scans(paths, output)
    check_rendered_results(scans, output)
    return _for_each(scans, output, render)


@dataclasses.dataclass(frozen=True)
class ScoredScan:
    """What scoring one scan gives.

    Attributes:
        facts: content of ``<name>.json``.
        part: points of the part, and their rows in the scan.
        sample: what was scored.
        views: its views.
        prediction: its scores.
        row: its row of ``samples.csv``.
    """

    facts: dict[str, Any]
    part: PartPoints
    sample: Sample
    views: Views
    prediction: Prediction
    row: dict[str, Any]


STEPS = ("read", "prepare", "render", "encode", "predict")


def score_scan(
    detector: Detector, name: str, path: Path, begin: Callable[[str], None] = lambda step: None
) -> ScoredScan:
    """Score one scan; nothing is written.

    Args:
        detector: the model.
        name: of the scan.
        path: its file.
        begin: called with each of :data:`STEPS` as it begins.

    Raises:
        GsclipError: when the scan cannot be used.
    """
    clock = _Clock()
    begin("read")
    scan = checks.usable(read_scan(path), str(path))
    clock.lap("read")
    begin("prepare")
    sample = detector.prepare(scan, str(path))
    clock.lap("prepare")
    begin("render")
    views = detector.render(sample)
    clock.lap("render")
    begin("encode")
    tokens = detector.encode(views)
    clock.lap("encode")
    begin("predict")
    prediction = detector.predict(sample, views, tokens)
    clock.lap("predict")
    decision = detector.decide(prediction.object_score)
    part = part_points(scan, sample)
    facts = {
        "name": name,
        "scan": path,
        "object_score": prediction.object_score,
        "decision": None if decision is None else DECISIONS[decision],
        "threshold": detector.config.threshold,
        "points": len(part.points),
        "thinned_to": None if sample.nearest is None else len(sample.points),
        "offset": part.offset,
        "profile": detector.config.predict.profile,
        "seconds": clock.seconds(),
        "trained_on": detector.config.trained_on,
    }
    row = sample_row({"name": name}, sample, views, tokens, prediction, detector.config.threshold)
    return ScoredScan(facts, part, sample, views, prediction, row)


def score_files(
    paths: Sequence[Path],
    model: Path,
    output: Path,
    profile: Profile | None = None,
    monitoring: Path | None = None,
    threshold: Path | None = None,
) -> list[GsclipError]:
    """Score scans: per scan ``<name>.json``, ``<name>.ply`` and ``<name>.npz``; one row each in ``samples.csv``.

    Args:
        paths: scan files, and folders of them.
        model: folder of the detector.
        output: folder of the results.
        profile: takes the place of the model's own.
        monitoring: folder of the monitoring: every scan is logged in its ``log`` (:mod:`gsclip.monitoring.log`) as
            soon as it is scored or rejected, and the batch in its ``runs.jsonl``.
        threshold: file of a decision threshold (:mod:`gsclip.decision`); that of the model where ``None``.

    Returns:
        Why scans were rejected; they are listed in ``rejected.csv`` too.

    Raises:
        InputError: when the model or the threshold cannot be read, a folder holds no scan, or a result would replace
            what `gsclip score` has not written; then nothing is written.
    """
    scans = find_scans(paths, output)
    check_score_results(scans, output)
    detector = Detector.from_pretrained(model, profile)
    if threshold is not None:
        chosen = read_threshold(threshold, detector.config.files).threshold
        detector.config = detector.config.model_copy(update={"threshold": chosen})
    rows: list[dict[str, Any]] = []
    extents: list[np.ndarray] = []
    version = model_version(detector.config)
    log = None if monitoring is None else BatchLog(monitoring / LOG_FOLDER, version)
    runs = RunLog(None if monitoring is None else monitoring / RUNS_FILE, None if log is None else log.batch)

    def score(name: str, path: Path) -> None:
        scored = score_scan(detector, name, path)
        write_json(output / f"{name}.json", scored.facts)
        write_scores(output / name, scored, detector.config.score_range)
        rows.append(scored.row)
        if log is not None:
            log.scored(path, scored.row)
        extents.append(np.ptp(scored.sample.points.astype(np.float64), axis=0))

    with runs.timed("score", scans=len(scans), model=version) as found:
        rejected = _for_each(scans, output, score, None if log is None else log.rejected)
        write_csv(output / SAMPLES_FILE, samples_table(rows))
        found |= {"scored": len(rows), "rejected": len(rejected)}
    if extents:
        _log.info("%s", own_parts.assumptions(np.array(extents)))
    return rejected


def reference_files(
    output: Path,
    *,
    samples: Path | None = None,
    model: Path | None = None,
    monitoring: Path | None = None,
    scans: int = 1000,
    rate: float = FALSE_ALARM_RATE,
) -> str:
    """Make a reference of the monitoring, from a ``samples.csv`` and its model, or from the newest scans of a log.

    Args:
        output: folder of the reference.
        samples: file that `gsclip score` wrote for scans known to be in order.
        model: folder of the model that scored them.
        monitoring: folder of the monitoring whose log holds such scans, all of one model.
        scans: newest ones of the log at most.
        rate: share of windows without drift that raise an alarm.

    Returns:
        What was made, on one line.

    Raises:
        InputError: neither or both sources are given, or what they hold cannot be used.
    """
    if (monitoring is None) == (samples is None) or (samples is None) != (model is None):
        raise InputError("reference", "needs one source", "give --samples with --model, or --monitoring")
    if samples is not None and model is not None:
        rows, version, where = read_samples(samples), model_version(read_config(model)), str(samples)
    else:
        where = str((monitoring or Path()) / LOG_FOLDER)
        rows = read_window(where, scans).rows
        models = sorted(set(rows["model"])) if len(rows) else [""]
        if len(models) > 1:
            problem = f"holds scans of several models among the newest {len(rows)}: {', '.join(models)}"
            raise InputError(where, problem, "take fewer scans, by --scans")
        version = models[0]
    if output.exists() and not (output / SETTINGS_FILE).is_file():
        problem = "is no reference of an earlier call, and one would replace it"
        raise InputError(output, problem, "choose another --output")
    count = make_reference(rows, output, model=version, name=where, rate=rate)
    return f"reference of {count} scans, model {version}, false alarms in {100 * rate:g} % of windows"


def check_dataset(
    root: Path, dataset: str, output: Path | None = None, params: ScanParams = DEFAULT_SCAN_PARAMS
) -> Checked:
    """Check all scans of a data set; write its problems as CSV where ``output`` names a file.

    Args:
        root: folder of the data set.
        dataset: name of one that lies in a folder, ``own_parts`` for scans of your own.
        output: file for the problems, columns of :data:`gsclip.data.checks.REJECTED_COLUMNS`.
        params: how a scan becomes a sample.

    Raises:
        InputError: when the data set cannot be listed, or ``output`` would replace anything but an earlier table.
    """
    if output is not None:
        check_problems_file(output)
    checked = check_all(root, dataset, params=params)
    if output is not None:
        write_csv(output, checked.problems)
    return checked


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


def _for_each(
    scans: Mapping[str, Path],
    output: Path,
    work: Callable[[str, Path], None],
    refuse: Callable[[Path, str], None] | None = None,
) -> list[GsclipError]:
    """Do the work for each scan; collect and list what is rejected, and tell ``refuse`` at once."""
    output.mkdir(parents=True, exist_ok=True)
    rejected: list[GsclipError] = []
    for name, path in tqdm(scans.items(), unit="scan", disable=len(scans) < 2, mininterval=2):
        try:
            if len(os.fsencode(name)) > MAX_NAME:
                raise InputError(path, "has too long a name for files of results", "rename it", checks.READABLE)
            work(name, path)
        except OSError:  # of the output: the next scan would fail, too
            raise
        except Exception as error:  # one broken scan never stops a batch
            rejected.append(checks.named(unexpected(path, error), checks.PREPARATION))
            if refuse is not None:
                refuse(path, str(rejected[-1]))
    write_csv(output / REJECTED_FILE, _rejected_table(rejected))
    return rejected


def _rejected_table(rejected: Sequence[GsclipError]) -> pd.DataFrame:
    """Table of ``rejected.csv``; what stands for the name is the file, or the sample of a data set."""
    places = [error.where if isinstance(error, InputError) else "" for error in rejected]
    return checks.rejected_table(
        [checks.rejected_row(place, place, error) for place, error in zip(places, rejected, strict=True)]
    )


def write_scores(path: Path, scored: ScoredScan, span: tuple[float, float]) -> None:
    """Write ``<path>.ply`` (points, colours, scores) and ``<path>.npz``, both of all points of the part.

    Arrays of the latter: those of :class:`~gsclip.data.preparation.PartPoints` and ``point_scores`` (m,); of an
    organised scan also ``pixels`` (m, 2) and ``grid`` (h, w).
    """
    import open3d

    part, sample, prediction = scored.part, scored.sample, scored.prediction
    scores = sample.spread(prediction.point_scores)
    tensor = open3d.core.Tensor.from_numpy
    cloud = open3d.t.geometry.PointCloud(tensor(part.points))
    cloud.point.colors = tensor(np.ascontiguousarray(colours(scores, span)))
    cloud.point.score = tensor(np.ascontiguousarray(scores[:, None], dtype=np.float32))
    with atomic_path(path.with_name(path.name + ".ply")) as temporary:
        if not open3d.t.io.write_point_cloud(temporary, cloud):
            raise InputError(path, "the cloud could not be written", "is there space left on the disk?")
    arrays = {"points": part.points, "point_scores": scores, "rows": part.rows, "offset": part.offset}
    if sample.pixels is not None:
        arrays |= {"pixels": sample.pixels, "grid": np.array(sample.grid)}
    with atomic_path(path.with_name(path.name + ".npz")) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


@dataclasses.dataclass
class _Clock:
    """Seconds between laps."""

    _start: float = dataclasses.field(default_factory=time.perf_counter)
    _laps: dict[str, float] = dataclasses.field(default_factory=dict)

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name] = now - self._start
        self._start = now

    def seconds(self) -> dict[str, float]:
        laps = {name: round(value, 3) for name, value in self._laps.items()}
        return {**laps, "total": round(sum(self._laps.values()), 3)}
