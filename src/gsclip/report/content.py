"""What the page says, as JSON values: ``report.json`` holds them, and the page prints them and nothing else.

Figures are fractions as in ``metrics.json``; published ones are per cent, as their authors gave them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from gsclip.metrics.table import METRICS, categories_table
from gsclip.metrics.threshold import confusion
from gsclip.report.gallery import Picture, evaluated_rows
from gsclip.report.published import EYECANDIES, MVTEC_3D_AD, published_for

METRIC_NAMES = {
    "o_auroc": ("Object AUROC", "one score a part"),
    "o_ap": ("Object AP", "one score a part"),
    "point_auroc": ("Point AUROC", "points of the part"),
    "point_pro": ("Point PRO", "points of the part"),
    "pixel_auroc": ("Pixel AUROC", "whole grid of the scan, background as 0"),
    "pixel_pro": ("Pixel PRO", "whole grid of the scan, background as 0"),
    "o_f1_max": ("Object F1, best", "one score a part; threshold by the test labels: an upper bound"),
    "point_ap": ("Point AP", "points of the part"),
    "point_f1_max": ("Point F1, best", "points of the part; threshold by the test labels: an upper bound"),
    "point_iou": ("Point IoU", "points of the part; threshold from auxiliary samples"),
    "point_fpr95": ("Point FPR at 95 % recall", "points of the part; the lower the better"),
    "pixel_pro_paper_protocol": ("Pixel PRO, 200 thresholds", "whole grid; protocol of the paper"),
}
PROCEDURAL = "procedural"
EMBEDDED = "embedded"  # as gsclip.features.backbone calls it, whose import takes seconds
TEST_SPLIT = "test"
DATASET_NAMES = {PROCEDURAL: "Procedural parts", MVTEC_3D_AD: "MVTec 3D-AD", EYECANDIES: "Eyecandies"}
STAGE_NAMES = {"stage1": "Stage 1: geometry-aware prompts", "stage2": "Stage 2: synergistic views"}
SHOWN_FACTS = {
    "protocol": "Protocol",
    "training_dataset": "Training data set",
    "auxiliary_categories": "Trained on",
    "training_samples": "Training samples",
    "training_defective": "Defective training samples",
    "calibration_samples": "Samples for the threshold",
    "test_categories": "Tested on",
    "backbone_note": "Backbone",
    "cameras": "Cameras",
    "views": "Views",
    "epochs": "Epochs",
    "seeds": "Seeds",
}


@dataclass(frozen=True)
class Run:
    """What one evaluation left behind.

    Attributes:
        metrics: as :func:`gsclip.metrics.table.evaluate_samples` returns it, or read from ``metrics.json``.
        samples: rows of ``samples.csv``, with ``point_auroc`` (:func:`gsclip.report.gallery.add_localisation`).
        rejected: scans that could not be used: columns ``name``, ``problem``, and, where they are known, ``path``,
            ``check`` and ``remedy``.
        learning: learning curves by stage (``stage1``, ``stage2``), columns as in ``stage1.csv``; empty where nothing
            was trained.
        parameters: values by group and name.
        cross: metrics of the same model on another data set; ``None`` where there are none.
    """

    metrics: Mapping[str, Any]
    samples: pd.DataFrame
    rejected: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["name", "problem"]))
    learning: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cross: Mapping[str, Any] | None = None

    @property
    def threshold(self) -> float | None:
        """Decision threshold of the object score."""
        return self.metrics.get("threshold")


def report_content(run: Run, pictures: Sequence[Picture] = ()) -> dict[str, Any]:
    """Collect every word and figure of the page.

    Args:
        run: the run.
        pictures: the samples shown.

    Returns:
        JSON-ready, ``None`` where a figure is not defined: ``title``, ``facts``, ``results``, ``cross`` (of another
        data set, if any), ``decisions``, ``categories`` (worst first), ``defects`` (worst first), ``learning`` (names
        of the stages), ``gallery``, ``rejected``, ``limits``, ``published``, ``parameters``.
    """
    metrics = run.metrics
    data = metrics["data"]
    samples = evaluated_rows(run.samples)
    return {
        "title": f"{_dataset_name(str(data.get('dataset', 'unnamed data set')))}: zero-shot 3D anomaly detection",
        "facts": _facts(data),
        "embedded_backbone": data.get("backbone") == EMBEDDED,
        "samples": data["samples"],
        "defective": data["defective"],
        "results": _results(metrics),
        "cross": None
        if run.cross is None
        else {
            "dataset": _dataset_name(str(run.cross["data"].get("dataset", ""))),
            "categories": list(run.cross["categories"]),
            "samples": run.cross["data"]["samples"],
            "defective": run.cross["data"]["defective"],
            "results": _results(run.cross),
        },
        "threshold": run.threshold,
        "f1_at_threshold": metrics.get("f1_at_threshold"),
        "decisions": _decisions(samples, run.threshold),
        "categories": _categories(metrics),
        "defects": _defects(metrics, samples, run.threshold),
        "gallery": [_shown(picture, run.threshold) for picture in pictures],
        "learning": [STAGE_NAMES.get(stage, stage) for stage in run.learning],
        "rejected": [
            {column: str(row.get(column, "")) for column in ("name", "path", "check", "problem", "remedy")}
            for row in run.rejected.fillna("").to_dict("records")
        ],
        "limits": _limits(run, samples),
        "published": [
            {**dataclasses.asdict(row), "dataset": _dataset_name(row.dataset)}
            for row in published_for(str(data.get("dataset", "")))
        ],
        "parameters": {group: dict(values) for group, values in run.parameters.items()},
    }


def _results(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean figures beside chance and ground truth, with their intervals."""
    return [
        {
            "metric": metric,
            "name": METRIC_NAMES[metric][0],
            "domain": METRIC_NAMES[metric][1],
            **metrics["mean"][metric],
            "interval": metrics.get(f"{metric}_interval"),
        }
        for metric in METRICS
    ]


def _dataset_name(dataset: str) -> str:
    return DATASET_NAMES.get(dataset, dataset)


def _facts(data: Mapping[str, Any]) -> list[dict[str, str]]:
    named = {**data, "training_dataset": _dataset_name(str(data.get("training_dataset") or ""))}
    return [{"name": name, "value": plain_text(named[key])} for key, name in SHOWN_FACTS.items() if key in data]


def plain_text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Write a JSON value as a reader expects it: lists and mappings without brackets and quotes."""
    if value is None or value == "" or value == []:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain_text(item) for item in value)
    return str(value)


def _decisions(samples: pd.DataFrame, threshold: float | None) -> dict[str, Any] | None:
    """Counts, precision and recall at the threshold; nothing without a threshold."""
    if threshold is None:
        return None
    counts = confusion(samples["label"].to_numpy(), samples["object_score"].to_numpy(), threshold)
    return {**dataclasses.asdict(counts), "precision": _figure(counts.precision), "recall": _figure(counts.recall)}


def _categories(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figures of the categories, worst object AUROC first."""
    order = categories_table(metrics)["category"]
    return [{"category": category, **metrics["categories"][category]} for category in order]


def _defects(metrics: Mapping[str, Any], samples: pd.DataFrame, threshold: float | None) -> list[dict[str, Any]]:
    """Figures by kind of defect, worst first, with the share found at the threshold."""
    rows = []
    for kind, figures in metrics["defects"].items():
        scores = samples.loc[(samples["defect"] == kind) & (samples["label"] == 1), "object_score"]
        found = None if threshold is None else int((scores >= threshold).sum())
        rows.append({"defect": kind, **figures, "found": found})
    return sorted(rows, key=lambda row: (row["o_auroc"] is None, row["o_auroc"] or 0.0, row["defect"]))


def _shown(picture: Picture, threshold: float | None) -> dict[str, Any]:
    row = picture.row
    score = float(row["object_score"])
    return {
        "group": picture.group,
        "name": str(row["name"]),
        "defect": str(row["defect"]),
        "object_score": score,
        "alarm": None if threshold is None else score >= threshold,
        "point_auroc": _figure(row["point_auroc"]),
    }


def _figure(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _limits(run: Run, samples: pd.DataFrame) -> list[str]:
    """What a reader must not conclude from the figures: each sentence only where it holds."""
    metrics, data = run.metrics, run.metrics["data"]
    limits = []
    if data.get("backbone") == EMBEDDED:
        limits.append(
            "The embedded backbone is a small network trained on generated shapes. It is not CLIP, and these figures "
            "say nothing about GS-CLIP with CLIP's weights."
        )
    if data.get("dataset") == PROCEDURAL:
        limits.append(
            "Parts, defects and sensor are generated. Figures on scans of real parts differ: expect lower ones."
        )
    elif data.get("training_dataset") == PROCEDURAL:
        limits.append("The model was trained on generated parts alone; it has seen no scan of a real one.")
    if data.get("training_dataset", PROCEDURAL) != PROCEDURAL and TEST_SPLIT in data.get("training_splits", ()):
        limits.append(
            "Training needs masks of defects, which public data sets have in the test split only: training read the "
            "test split of the auxiliary categories. It read nothing of the categories tested."
        )
    low, high = metrics.get("o_auroc_interval") or [None, None]
    if low is not None and high is not None:
        if low <= 0.5 <= high:
            meaning = "it cannot be told from chance"
        else:
            meaning = "differences between runs that stay inside it mean little"
        limits.append(
            f"The 95 % interval of the object AUROC of {data['samples']} samples is {low:.3f} to {high:.3f}: {meaning}."
        )
    limits.append(
        "The intervals cover the choice of test samples. They do not cover the training: another seed gives another "
        "model."
    )
    chance, oracle = (metrics["mean"]["pixel_auroc"][source] for source in ("random", "oracle"))
    if chance is not None and oracle is not None:
        limits.append(
            f"Pixel figures count the background of the scan: random scores reach a pixel AUROC of {chance:.3f}, the "
            f"ground truth itself {oracle:.3f}. Point figures count the part alone."
        )
    limits.append(
        "PRO is exact: it depends on the order of the scores alone. Published PRO uses 200 thresholds and depends on "
        "their scale."
    )
    if run.threshold is not None:
        seen = "" if data.get("calibration_held_out", True) else " that training had seen, for want of others"
        limits.append(
            f"The threshold was chosen on samples of the auxiliary categories{seen}. Set it again on parts of your own "
            "before relying on it."
        )
    defective = samples[samples["label"] == 1]
    blind = int(defective["point_auroc"].isna().sum())
    if blind:
        limits.append(
            f"On {blind} of {len(defective)} defective samples the sensor measured no point of the defect: point "
            "scores cannot show it."
        )
    rejected = len(run.rejected)
    if rejected:
        subject = "1 scan was rejected and is" if rejected == 1 else f"{rejected} scans were rejected and are"
        limits.append(f"{subject} in none of the figures.")
    return limits
