"""Scoring of uploaded scans: limits, the same readers and messages as the command line, results as files."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards import data
from gsclip.errors import GsclipError, InputError, one_line, unexpected

if TYPE_CHECKING:
    from gsclip.data.sample import Sample
    from gsclip.detector import Detector
    from gsclip.scores.prediction import Prediction
    from gsclip.views.views import Views

MAX_MEGABYTES = 200  # of all files together; as server.maxUploadSize
MAX_FILES = 4  # a scan and what belongs to it: a camera, colours
STEPS = ("model", "read", "prepare", "render", "encode", "predict", "write")
_scoring = threading.Lock()  # one scan at a time: a scan takes all cores and up to gigabytes


@dataclass(frozen=True)
class Upload:
    """A file as it was uploaded."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Result:
    """A scored scan, ready to be shown and downloaded.

    Attributes:
        name: of the scan.
        facts: content of the JSON file.
        inspection: what is drawn.
        score_range: scores at the ends of the model's colour scale.
        cameras: arrangement of the model's cameras.
        threshold: of the model; ``None`` for none.
        point_threshold: of the model; ``None`` for none.
        ply: cloud coloured by score.
        sample: the part, for its report.
        views: its views.
        prediction: its scores.
    """

    name: str
    facts: dict[str, Any]
    inspection: data.Inspection
    score_range: tuple[float, float]
    cameras: str
    threshold: float | None
    point_threshold: float | None
    ply: bytes
    sample: Sample
    views: Views
    prediction: Prediction


def check(uploads: Sequence[Upload]) -> None:
    """Refuse what is too much, before anything is read.

    Raises:
        InputError: no file, too many, too large, empty, or two of one name.
    """
    where = uploads[0].name if uploads else "upload"
    size = sum(len(upload.content) for upload in uploads)
    if not uploads:
        raise InputError(where, "holds no file", "choose a scan")
    if len(uploads) > MAX_FILES:
        remedy = "choose one scan and what belongs to it; `gsclip score` takes whole folders"
        raise InputError(where, f"comes with {len(uploads) - 1} more files, at most {MAX_FILES} are taken", remedy)
    if size > MAX_MEGABYTES * 2**20:
        remedy = "use `gsclip score` for it, or thin the cloud"
        raise InputError(where, f"{size / 2**20:.0f} MB, at most {MAX_MEGABYTES} MB are taken", remedy)
    if len({safe_name(upload.name) for upload in uploads}) < len(uploads):
        raise InputError(where, "comes twice", "choose files of different names")


def safe_name(name: str) -> str:
    """Name of a file without folders, of harmless characters; its extension stays."""
    base = re.sub(r"[^\w.+-]", "_", Path(name.replace("\\", "/")).name).lstrip(".")[-120:]
    return base or "scan"


def score_upload(uploads: Sequence[Upload], model: Path, begin: Callable[[str], None]) -> Result:
    """Score an uploaded scan.

    Args:
        uploads: the scan, and files that belong to it, such as a camera file.
        model: folder of the detector.
        begin: called with each of :data:`STEPS` as it begins.

    Raises:
        InputError: the message that ``gsclip score`` prints.
    """
    check(uploads)
    with tempfile.TemporaryDirectory(prefix="gsclip-upload-") as name:
        folder = Path(name)
        for upload in uploads:
            (folder / safe_name(upload.name)).write_bytes(upload.content)
        try:
            return _score(folder, [folder / safe_name(upload.name) for upload in uploads], model, begin)
        except Exception as error:  # the page tells it, as the command line does, and goes on
            told = unexpected(uploads[0].name, error)
            raise _without_folder(told, folder, uploads[0].name) from error


def _score(folder: Path, paths: list[Path], model: Path, begin: Callable[[str], None]) -> Result:
    begin("model")
    from gsclip.commands.score import score_scan, write_scores
    from gsclip.scans import find_scans

    detector = load_detector(model)
    scans = find_scans(paths if len(paths) == 1 else [folder])
    if len(scans) > 1:
        raise InputError(paths[0], f"is one of {len(scans)} scans", "choose one scan at a time")
    (scan_name, path), *_others = scans.items()
    with _scoring:
        scored = score_scan(detector, scan_name, path, begin)
    begin("write")
    config = detector.config
    write_scores(folder / "result", scored, config.score_range)
    sample, views, prediction = scored.sample, scored.views, scored.prediction
    return Result(
        name=scan_name,
        facts={**scored.facts, "scan": path.name},
        # Ground truth that an upload may hold is not shown.
        inspection=replace(data.inspect(sample, views, prediction), mask=None, view_masks=None),
        score_range=config.score_range,
        cameras=config.render.cameras,
        threshold=config.threshold,
        point_threshold=config.point_threshold,
        ply=(folder / "result.ply").read_bytes(),
        sample=sample,
        views=views,
        prediction=prediction,
    )


def json_bytes(result: Result, threshold: float | None) -> bytes:
    """Content of the JSON file of ``gsclip score``, decided by a threshold."""
    from gsclip.commands.score import DECISIONS
    from gsclip.storage import plain

    score = result.facts["object_score"]
    decision = None if threshold is None else DECISIONS[int(score >= threshold)]
    facts = plain({**result.facts, "threshold": threshold, "decision": decision})
    return (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode()


def load_detector(model: Path) -> Detector:
    """The model, kept in memory until its configuration changes.

    Raises:
        InputError: when the folder holds no complete model.
    """
    try:
        status = (model / "config.json").stat()
    except OSError:
        status = None
    return _detector(str(model), () if status is None else (status.st_mtime_ns, status.st_size))


@st.cache_resource(max_entries=1, show_spinner=False)
def _detector(model: str, stamp: tuple[int, ...]) -> Detector:
    from gsclip.detector import Detector

    return Detector.from_pretrained(model)


def _without_folder(error: GsclipError, folder: Path, name: str) -> InputError:
    """The same error without the place where the upload lay."""
    if not isinstance(error, InputError):
        return InputError(name, one_line(error), "check the file")
    parts = (str(part).replace(f"{folder}/", "").replace(str(folder), name) for part in (error.where, error.problem))
    where, problem = parts
    return InputError(where, problem, error.remedy.replace(f"{folder}/", ""), error.check)
