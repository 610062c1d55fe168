"""Loaders: the pipeline's files as typed values, cached on path and time of change.

Every loader raises :class:`gsclip.errors.InputError`, with a remedy, when a file is missing, broken, or does not fit
the others. Samples are read one at a time and thinned to what a browser can show, so memory stays bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import streamlit as st
from pydantic import BaseModel, Field, ValidationError

from dashboards import figures
from gsclip.data.sample import Sample
from gsclip.errors import InputError
from gsclip.params import Profile
from gsclip.scores.prediction import Prediction, scored_places, scored_views
from gsclip.storage import Pack
from gsclip.views.views import Views

WORKSPACE_VARIABLE = "GSCLIP_WORKSPACE"
METRICS_FILE = "outputs/metrics.json"
SAMPLES_FILE = "outputs/predictions/samples.csv"
CURVES_FOLDER = "outputs/curves"
MODEL_FOLDER = "models/gsclip"
TEST, AUXILIARY = "test", "auxiliary"
GOOD = "good"
MAX_POINTS = 50_000  # a browser turns more in jerks
THUMBNAIL = 240  # pixels
REMEDY = f"run `make demo`, or name the folder that holds the outputs in {WORKSPACE_VARIABLE}"

TEXT_COLUMNS = ("name", "category", "defect", "role")
NUMBER_COLUMNS = ("object_score", "map_max", "map_mean", "points", "extent_x", "extent_y", "extent_z")
OPTIONAL_COLUMNS = ("label", "decision", "threshold")
OUTCOMES = ("missed", "false alarm", "found", "passed", "called abnormal", "called normal", "undecided")

Record = TypeVar("Record")
Stamp = tuple[int, int]


class Triple(BaseModel):
    """One figure of ours, of seeded random scores, and of the ground truth itself as score."""

    ours: float | None
    random: float | None
    oracle: float | None


class Figures(BaseModel):
    """The metrics of one category, or their means; intervals are (low, high) at 95 %."""

    o_auroc: Triple
    o_ap: Triple
    point_auroc: Triple
    point_pro: Triple
    pixel_auroc: Triple
    pixel_pro: Triple


class CategoryFigures(Figures):
    """One category."""

    samples: int
    defective: int
    o_auroc_interval: tuple[float | None, float | None]


class KindFigures(BaseModel):
    """One kind of defect."""

    o_auroc: float | None
    point_auroc: float | None
    samples: int


class Metrics(BaseModel):
    """What ``gsclip.metrics.table.evaluate_samples`` writes, as far as it is shown."""

    data: dict[str, Any]
    mean: Figures
    o_auroc_interval: tuple[float | None, float | None] | None = None
    o_ap_interval: tuple[float | None, float | None] | None = None
    point_auroc_interval: tuple[float | None, float | None] | None = None
    threshold: float | None = None
    point_threshold: float | None = None
    f1_at_threshold: float | None = None
    categories: dict[str, CategoryFigures] = Field(min_length=1)
    defects: dict[str, KindFigures] = Field(default_factory=dict)


@dataclass(frozen=True)
class Inspection:
    """What is shown of one sample.

    Attributes:
        points: (m, 3) float32, sensor frame, every n/m-th of the sample's n points; m is at most 50 000.
        normals: (m, 3) float32.
        scores: (m,) float32 point scores.
        mask: (m,) bool ground truth, ``None`` where it is unknown.
        colors: (m, 3) uint8 the scan's own colours; ``None`` where it has none.
        rendered: (v, h, w) uint8.
        depth: (v, h, w) uint16, near = bright.
        foreground: (v, h, w) bool.
        view_masks: (v, h, w) bool rendered ground truth, ``None`` where it is unknown.
        maps: (v, h, w) float32 anomaly maps at the size of the images.
        view_probabilities: (v,) float32.
        places: v places of the views in the list of cameras.
        total_points: n.
    """

    points: np.ndarray
    normals: np.ndarray
    scores: np.ndarray
    mask: np.ndarray | None
    colors: np.ndarray | None
    rendered: np.ndarray
    depth: np.ndarray
    foreground: np.ndarray
    view_masks: np.ndarray | None
    maps: np.ndarray
    view_probabilities: np.ndarray
    places: list[int]
    total_points: int


def workspace() -> Path:
    """Folder in which ``data`` and ``outputs`` lie: of the environment variable, else the current folder."""
    return Path(os.environ.get(WORKSPACE_VARIABLE) or ".")


def load_metrics(root: Path) -> Metrics:
    """Read ``outputs/metrics.json``."""
    return _read_metrics(str(root), _stamp(root, METRICS_FILE))


def profile(root: Path) -> Profile | None:
    """Profile of a run's scores; ``None`` where its metrics cannot be read."""
    try:
        return load_metrics(root).data.get("profile", "full")
    except InputError:
        return None


def load_category_table(root: Path) -> pd.DataFrame:
    """Categories, worst object AUROC first; columns of :func:`gsclip.metrics.table.categories_table`."""
    return _category_table(str(root), _stamp(root, METRICS_FILE))


def load_samples(root: Path, threshold: float | None = None) -> pd.DataFrame:
    """Read ``outputs/predictions/samples.csv``, worst sample first.

    Decisions are those of ``threshold``, or of each row's own where it is ``None``.

    Labelled samples come by their margin, rising: the distance of the score from the threshold, negative on the
    wrong side. Samples without a label or a threshold follow by their score, falling.

    Returns:
        The file's columns, and ``outcome`` (one of :data:`OUTCOMES`) and ``margin`` (missing where it is not defined).
    """
    table = _read_samples(str(root), _stamp(root, SAMPLES_FILE))
    return table if threshold is None else judged(table, threshold)


def judged(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The same samples under another threshold, worst first again."""
    decision = (table["object_score"] >= threshold).astype("int64")
    return _worst_first(table.assign(threshold=threshold, decision=decision))


def own_threshold(table: pd.DataFrame) -> float | None:
    """Threshold that the run's model decided by; ``None`` where there is none, or more than one."""
    found = table["threshold"].dropna().unique()
    return float(found[0]) if len(found) == 1 and table["threshold"].notna().all() else None


def calibration_rows(root: Path, workspace_root: Path) -> pd.DataFrame:
    """Labelled auxiliary samples, from which a threshold may be suggested.

    Those of the run; else those of the pipeline's run where its model decided by the same threshold, so is the same,
    and scored in the same profile.
    """
    own = load_samples(root)
    chosen = own[(own["role"] == AUXILIARY) & own["label"].notna()]
    if chosen.empty and root != workspace_root:
        try:
            other = load_samples(workspace_root)
        except InputError:
            return chosen
        threshold = own_threshold(own)
        same_model = threshold is not None and own_threshold(other) == threshold
        if same_model and profile(workspace_root) == profile(root):
            chosen = other[(other["role"] == AUXILIARY) & other["label"].notna()]
    return chosen


def load_curves(root: Path, name: str) -> pd.DataFrame | None:
    """A table of ``outputs/curves`` such as ``roc``, ``pr``, ``stage1``; ``None`` where there is none."""
    path = f"{CURVES_FOLDER}/{name}.csv"
    if not (root / path).is_file():
        return None
    return _read_curves(str(root), path, _stamp(root, path))


def load_localisation(root: Path) -> pd.Series:
    """Point AUROC within each labelled defective sample of the test, by its name; takes seconds for a thousand."""
    stamp = _stamp(root, SAMPLES_FILE)
    return _localisation(str(root), stamp)


def load_thumbnail(root: Path, category: str, name: str, limits: tuple[float, float]) -> bytes:
    """PNG of the front view under its anomaly map, the defect outlined."""
    _check_category(category)
    return _thumbnail(str(root), category, name, limits, tuple(_stamp(root, path) for path in _packs(category)[1:]))


def colour_range(samples: pd.DataFrame) -> tuple[float, float]:
    """Scores at the ends of the colour scale: one range for all samples of a run."""
    from gsclip.report.gallery import score_range

    return score_range(samples)


def model_files(root: Path) -> dict[str, str]:
    """Checksums of the run's model by file name; empty where there is no model."""
    import json

    try:
        content = json.loads((root / MODEL_FOLDER / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    files = content.get("files") if isinstance(content, dict) else None
    return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}


def load_inspection(root: Path, category: str, name: str) -> Inspection:
    """Read one sample with its views and its prediction."""
    _check_category(category)
    stamps = tuple(_stamp(root, path) for path in _packs(category))
    return _read_inspection(str(root), category, name, stamps)


def _check_category(category: str) -> None:
    if category in ("", ".", "..") or Path(category).name != category or "\0" in category:
        raise _broken(SAMPLES_FILE, f"{category!r} is no name of a category")


def _packs(category: str) -> tuple[str, str, str]:
    return (f"data/prepared/{category}.h5", f"data/views/{category}.h5", f"outputs/predictions/{category}.h5")


def _stamp(root: Path, path: str) -> Stamp:
    """Time of change and size: with the path the key of the cache."""
    try:
        status = (root / path).stat()
    except FileNotFoundError as error:
        raise InputError(path, "not found", REMEDY) from error
    except (OSError, ValueError) as error:
        raise InputError(path, "cannot be read", REMEDY) from error
    return status.st_mtime_ns, status.st_size


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn whatever a broken file makes its reader raise into an InputError."""
    try:
        yield
    except InputError as error:
        raise _broken(path, error.problem) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise _broken(path, "is broken or not in the expected form") from error


def _broken(path: str, problem: str) -> InputError:
    return InputError(path, problem, "run `make demo` to make it again")


@st.cache_data(max_entries=4, show_spinner=False)
def _read_metrics(root: str, stamp: Stamp) -> Metrics:
    try:
        return Metrics.model_validate_json((Path(root) / METRICS_FILE).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise _broken(METRICS_FILE, f"{place}: {first['msg']}") from error
    except OSError as error:
        raise InputError(METRICS_FILE, "cannot be read", REMEDY) from error


@st.cache_data(max_entries=4, show_spinner=False)
def _category_table(root: str, stamp: Stamp) -> pd.DataFrame:
    from gsclip.metrics.table import categories_table

    return categories_table(_read_metrics(root, stamp).model_dump())


@st.cache_data(max_entries=4, show_spinner=False)
def _read_samples(root: str, stamp: Stamp) -> pd.DataFrame:
    from gsclip.report.bundle import read_samples

    with _explained(SAMPLES_FILE):
        table = read_samples(Path(root) / SAMPLES_FILE)
        _check_samples(table)
        return _worst_first(table)


def _check_samples(table: pd.DataFrame) -> None:
    if missing := {*TEXT_COLUMNS, *NUMBER_COLUMNS, *OPTIONAL_COLUMNS} - set(table):
        raise _broken(SAMPLES_FILE, f"lacks the column {min(missing)}")
    if table.empty:
        raise _broken(SAMPLES_FILE, "lists no sample")
    for column in (*NUMBER_COLUMNS, *OPTIONAL_COLUMNS):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if not np.isfinite(numbers[table[column].notna()] if column in OPTIONAL_COLUMNS else numbers).all():
            raise _broken(SAMPLES_FILE, f"the column {column} holds what is no number")
    for column in ("label", "decision"):
        if not table[column].dropna().isin([0, 1]).all():
            raise _broken(SAMPLES_FILE, f"the column {column} holds other values than 0 and 1")
    if table["name"].duplicated().any():
        raise _broken(SAMPLES_FILE, "lists a sample twice")


def _worst_first(table: pd.DataFrame) -> pd.DataFrame:
    label, decision = table["label"], table["decision"]
    above = table["object_score"] - table["threshold"]
    outcomes = {
        "missed": (label == 1) & (decision == 0),
        "false alarm": (label == 0) & (decision == 1),
        "found": (label == 1) & (decision == 1),
        "passed": (label == 0) & (decision == 0),
        "called abnormal": label.isna() & (decision == 1),
        "called normal": label.isna() & (decision == 0),
    }
    table = table.assign(
        outcome=np.select(list(outcomes.values()), list(outcomes), default="undecided"),
        margin=np.where(label.isna(), np.nan, np.where(label == 1, above, -above)),
    )
    order = table.assign(falling=-table["object_score"]).sort_values(["margin", "falling", "name"])
    return table.loc[order.index].reset_index(drop=True)


@st.cache_data(max_entries=8, show_spinner=False)
def _read_inspection(root: str, category: str, name: str, stamps: tuple[Stamp, ...]) -> Inspection:
    prepared, viewed, predicted = _packs(category)
    sample = _record(root, prepared, Sample, name, ("points", "normals", "mask", "colors"))
    views = _record(root, viewed, Views, name, ("rendered", "depth", "foreground", "mask"))
    prediction = _record(root, predicted, Prediction, name)
    with _explained(predicted):
        views = scored_views(views, prediction)
    _check_shapes(predicted, name, sample, views, prediction)
    return inspect(sample, views, prediction)


def inspect(sample: Sample, views: Views, prediction: Prediction) -> Inspection:
    """What is shown of a scored sample; the views are those that were scored."""
    from gsclip.report.palette import anomaly_maps

    shown = np.linspace(0, len(sample.points) - 1, min(len(sample.points), MAX_POINTS)).round().astype(int)
    return Inspection(
        points=sample.points[shown],
        normals=sample.normals[shown],
        scores=prediction.point_scores[shown],
        mask=None if sample.mask is None else sample.mask[shown],
        colors=None if sample.colors is None else sample.colors[shown],
        rendered=views.rendered,
        depth=views.depth,
        foreground=views.foreground,
        view_masks=views.mask,
        maps=anomaly_maps(prediction, views.rendered.shape[-1]),
        view_probabilities=prediction.view_probabilities,
        places=scored_places(prediction),
        total_points=len(sample.points),
    )


def _record(root: str, path: str, kind: type[Record], name: str, fields: tuple[str, ...] | None = None) -> Record:
    with _explained(path), Pack(Path(root) / path, kind) as pack:
        return pack.read(name, fields)


@st.cache_data(max_entries=600, show_spinner=False)
def _thumbnail(root: str, category: str, name: str, limits: tuple[float, float], stamps: tuple[Stamp, ...]) -> bytes:
    from gsclip.report.palette import anomaly_maps

    _, viewed, predicted = _packs(category)
    with _explained(viewed), Pack(Path(root) / viewed, Views) as views:
        rendered, foreground = (views.part(name, field, 0) for field in ("rendered", "foreground"))
        truth = views.part(name, "mask", 0)
    prediction = _record(root, predicted, Prediction, name, ("view_maps",))
    with _explained(predicted):
        if rendered is None or foreground is None or prediction.view_maps is None:
            raise _broken(predicted, f"lacks the views of {name!r}")
        front = replace(prediction, view_maps=prediction.view_maps[:1])
        anomaly_map = anomaly_maps(front, rendered.shape[-1])[0]
        return figures.thumbnail(rendered, foreground, anomaly_map, limits=limits, truth=truth, size=THUMBNAIL)


@st.cache_data(max_entries=4, show_spinner=False)
def _localisation(root: str, stamp: Stamp) -> pd.Series:
    from gsclip.metrics.ranking import auroc

    table = _read_samples(root, stamp)
    rows = table[(table["label"] == 1) & (table["role"] == TEST)]
    found: dict[str, float] = {}
    for category, members in rows.groupby("category", sort=True):
        _check_category(str(category))
        prepared, _, predicted = _packs(str(category))
        with (
            _explained(predicted),
            Pack(Path(root) / prepared, Sample) as samples,
            Pack(Path(root) / predicted, Prediction) as predictions,
        ):
            for name in members["name"]:
                mask = samples.read(name, ("mask",)).mask
                if mask is not None:
                    found[name] = auroc(mask, predictions.read(name, ("point_scores",)).point_scores)
    return pd.Series(found, dtype=float)


@st.cache_data(max_entries=16, show_spinner=False)
def _read_curves(root: str, path: str, stamp: Stamp) -> pd.DataFrame:
    with _explained(path):
        table = pd.read_csv(Path(root) / path, dtype={"category": str}, keep_default_na=False, na_values=[""])
        numbers = table.drop(columns="category", errors="ignore")
        if table.empty or not all(np.issubdtype(kind, np.number) for kind in numbers.dtypes):
            raise _broken(path, "is empty or holds what is no number")
        return table


def _check_shapes(path: str, name: str, sample: Sample, views: Views, prediction: Prediction) -> None:
    """Records of different runs do not fit together; of a broken one fields are missing."""
    with _explained(path):
        points, images = sample.points.shape, views.rendered.shape
        fits = (
            len(points) == 2
            and points[1] == 3
            and points[0] > 0
            and sample.normals.shape == points
            and (sample.mask is None or sample.mask.shape == points[:1])
            and (sample.colors is None or sample.colors.shape == points)
            and len(images) == 3
            and all(image.shape == images for image in (views.depth, views.foreground))
            and (views.mask is None or views.mask.shape == images)
            and prediction.point_scores.shape == points[:1]
            and prediction.view_maps.ndim == 3
            and prediction.view_probabilities.shape == prediction.view_maps.shape[:1] == images[:1]
        )
        if not fits:
            raise _broken(path, f"does not fit the views and points of {name!r}")
        numbers = (sample.points, sample.normals, prediction.point_scores, prediction.view_maps)
        if not all(np.isfinite(values).all() for values in numbers):
            raise _broken(path, f"{name!r} has a value that is not finite")
