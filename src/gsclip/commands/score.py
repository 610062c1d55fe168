"""`gsclip score`."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsclip.commands.batch import for_each
from gsclip.data import checks
from gsclip.data.open3d_core import open3d_core
from gsclip.data.preparation import PartPoints, assumptions, part_points
from gsclip.data.sample import Sample
from gsclip.data.scan_files import read_scan
from gsclip.decision import read_threshold
from gsclip.detector import Detector, model_version
from gsclip.errors import GsclipError, InputError
from gsclip.monitoring.log import LOG_FOLDER, RUNS_FILE, BatchLog
from gsclip.monitoring.rows import SAMPLE_COLUMNS, SAMPLES_FILE, sample_row
from gsclip.params import Profile
from gsclip.report.palette import colours
from gsclip.results import check_score_results
from gsclip.run_log import RunLog
from gsclip.scans import find_scans
from gsclip.scores.prediction import Prediction
from gsclip.storage import atomic_path, write_json, write_rows
from gsclip.views.views import Views

DECISIONS = ("normal", "abnormal")

_log = logging.getLogger(__name__)


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
    version = model_version(detector.config)  # a threshold changes no score: the model stays the same
    open3d_core()  # loaded here, so that the seconds of the first scan's steps are theirs alone
    if threshold is not None:
        chosen = read_threshold(threshold, detector.config.files, detector.config.predict.profile).threshold
        detector.config = detector.config.model_copy(update={"threshold": chosen})
    rows: list[dict[str, Any]] = []
    extents: list[np.ndarray] = []
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
        rejected = for_each(scans, output, score, None if log is None else log.rejected)
        write_rows(output / SAMPLES_FILE, SAMPLE_COLUMNS, rows)
        found |= {"scored": len(rows), "rejected": len(rejected)}
    if extents:
        _log.info("%s", assumptions(np.array(extents)))
    return rejected


def write_scores(path: Path, scored: ScoredScan, span: tuple[float, float]) -> None:
    """Write ``<path>.ply`` (points, colours, scores) and ``<path>.npz``, both of all points of the part.

    Arrays of the latter: those of :class:`~gsclip.data.preparation.PartPoints` and ``point_scores`` (m,); of an
    organised scan also ``pixels`` (m, 2) and ``grid`` (h, w).
    """
    open3d = open3d_core()
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
