"""Scoring one object: embedded backbone, the paper's size, and every profile that the parameters offer."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch

from benchmarks.naive.scoring import naive_scores
from benchmarks.naive.views import naive_views
from benchmarks.shared import untrained
from benchmarks.speed.common import (
    MODEL,
    ROOT,
    Check,
    Found,
    Row,
    Settings,
    interleaved,
    read_one_scan,
    speed_up,
    where_time_goes,
)
from gsclip.data.sample import Scan
from gsclip.detector import Detector
from gsclip.params import Params, PredictParams, load_params

EQUAL = 1e-4
SECONDS, SPEED_UP, FAST_SPEED_UP = 1.0, 2.0, 6.0
FULL, FAST = "full", "fast"
PROFILE = "profile"  # name of the parameter in gsclip.params.PredictParams


def load_detector(settings: Settings) -> tuple[Detector, str]:
    """The detector that the settings name, and what it is."""
    if settings.model is not None:
        return Detector.from_pretrained(settings.model), "the model given"
    if MODEL.is_dir():
        return Detector.from_pretrained(MODEL), "models/gsclip"
    return untrained(load_params(ROOT / "params.yaml")), "an untrained detector"


def measure(settings: Settings) -> Found:
    """Rows ``object``, ``scoring`` and one of each profile, with the embedded backbone."""
    torch.set_num_threads(settings.threads)
    scan, description = read_one_scan(settings)
    detector, model = load_detector(settings)
    how = f"{description}, {model}, {settings.threads} threads"
    # Held against the same function: naive code encodes all patches, without self-similarity. Profiles: as they ship.
    exact = detector.with_predict(patches="all", self_similarity=0.0)
    rows = _rows(exact, scan, how, settings.repeats, "", settings.now)
    sample = detector.prepare(scan)
    views = detector.render(sample)
    return Found(
        [*rows, *profiles(detector, scan, settings, rows[0].naive)],
        {
            "prepare": where_time_goes(lambda: detector.prepare(scan)),
            "score": where_time_goes(lambda: detector.predict(sample, views)),
        },
    )


def measure_full_size(settings: Settings) -> Found:
    """Rows ``object_full_size`` and ``scoring_full_size``: ViT-L/14 at 336 pixels, random weights.

    Quick settings take a ViT-B/32, on two views, to see that it runs.
    """
    torch.set_num_threads(settings.threads)
    values = load_params(ROOT / "presets" / "paper.yaml").model_dump()
    values["features"]["weights"] = "random"
    if settings.quick:
        values["features"] |= {"backbone": "ViT-B-32", "local_blocks": 2, "local_layers": [12], "cloud_points": 512}
        values["render"] |= {"image_size": 224, "views": 2}
    params = Params.model_validate(values)
    scan, description = read_one_scan(settings)
    detector = untrained(params)
    how = f"{description}, {params.features.backbone} with random weights, {settings.threads} threads"
    sample = detector.prepare(scan)
    views = detector.render(sample)
    rows = _rows(detector, scan, how, 1, "_full_size", settings.now)
    return Found(rows, {"score, full size": where_time_goes(lambda: detector.predict(sample, views))})


def _rows(
    detector: Detector, scan: Scan, how: str, repeats: int, suffix: str, now: Callable[[], float]
) -> list[Row]:
    """Of the whole way from the scan, and of encoding and scoring alone."""
    sample = detector.prepare(scan)
    views = detector.render(sample)
    config = detector.config.render
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = detector.predict(sample, views)

    def naive() -> None:
        found["naive"] = naive_scores(detector, sample, views)

    full_size = bool(suffix)
    warm_up = not full_size
    seconds = interleaved({"ours": ours, "naive": naive}, repeats, warm_up=warm_up, now=now)
    difference = max(
        abs(found["ours"].object_score - found["naive"].object_score),
        float(np.abs(found["ours"].point_scores - found["naive"].point_scores).max()),
    )
    checks = [Check("difference of the scores", difference, "<=", EQUAL, "")]
    ratio = speed_up(seconds["naive"], seconds["ours"])
    if full_size:
        checks.insert(0, Check("naive / ours", ratio, ">=", SPEED_UP, "×"))
    naive_how = "Naive: one view at a time, groupings by sorting all distances, prompts padded, a loop over all points"
    scoring = Row(
        name=f"scoring{suffix}",
        what=f"encoding and scoring an object{', full size' if full_size else ''}",
        how=f"{how}; the same views for both. {naive_how}",
        ours=seconds["ours"],
        naive=seconds["naive"],
        checks=checks,
    )

    steps: dict[str, list[float]] = {}
    wholes, drawn = [], []
    for _ in range(1 if full_size else repeats):
        times = _steps(detector, scan, now)
        wholes.append(sum(times.values()))
        for step, value in times.items():
            steps.setdefault(step, []).append(value)
        start = now()
        # Without windows: their libraries and the compiler's, which torchvision loads, do not get along in one process.
        naive_views(sample, image_size=config.image_size, cameras=config.cameras, views=config.views)
        drawn.append(now() - start)
    preparing = statistics.median(steps["prepare"])
    whole = Row(
        name=f"object{suffix}",
        what=f"an object from scan to scores{', full size' if full_size else ''}",
        how=f"{how}; background, normals, views, encoding of all patches, scores. Naive: our background and normals, "
        "views without windows, scores as in the next row",
        ours=wholes,
        naive=[preparing + draw + value for draw, value in zip(drawn, seconds["naive"], strict=True)],
        figures={"seconds": {step: statistics.median(values) for step, values in steps.items()}},
    )
    return [whole, scoring]


def _steps(detector: Detector, scan: Scan, now: Callable[[], float]) -> dict[str, float]:
    """Seconds of each step of one object."""
    seconds: dict[str, float] = {}

    def timed(step: str, function: Callable[[], Any]) -> Any:  # noqa: ANN401
        start = now()
        result = function()
        seconds[step] = now() - start
        return result

    sample = timed("prepare", lambda: detector.prepare(scan))
    views = timed("render", lambda: detector.render(sample))
    tokens = timed("encode", lambda: detector.encode(views))
    grouping = timed("group", lambda: detector.group(sample))
    timed("refine and score", lambda: detector.predict(sample, views, tokens, grouping))
    return seconds


# Profiles of scoring: nothing here names one but `full`, beside which the others are timed, and `fast`, which has a
# target. A parameter `predict.profile` with a Literal of names is measured as soon as gsclip.params has it.
def profile_names() -> tuple[str, ...]:
    """Names of the profiles that the parameters offer; empty where there is no such parameter."""
    field = PredictParams.model_fields.get(PROFILE)
    annotation = None if field is None else field.annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def profiles(detector: Detector, scan: Scan, settings: Settings, naive: list[float]) -> list[Row]:
    """A row of each profile, from scan to scores; accuracy is not measured here (docs/speed.md).

    Args:
        detector: of any profile.
        scan: what is scored.
        settings: of the benchmark.
        naive: seconds of naive code for the same, all views.
    """
    names = profile_names()
    if not names:
        return []
    detectors = {name: detector.with_predict(**{PROFILE: name}) for name in names}

    def score(name: str) -> Callable[[], object]:
        chosen = detectors[name]

        def run() -> object:
            sample = chosen.prepare(scan)
            return chosen.predict(sample, chosen.render(sample))

        return run

    seconds = interleaved({name: score(name) for name in detectors}, settings.repeats, now=settings.now)
    rows = []
    for name in names:
        ratio = speed_up(naive, seconds[name])
        checks = [Check("naive / fast", ratio, ">=", FAST_SPEED_UP, "×")] if name == FAST else []
        if name == FULL:
            checks = [Check("ours, an object", statistics.median(seconds[name]), "<=", SECONDS, "s")]
        rows.append(
            Row(
                name=f"profile_{name}",
                what=f"an object from scan to scores, profile {name}",
                how=f"patches: {'part' if detectors[name].part_alone else 'all'}; naive: as for the whole object",
                ours=seconds[name],
                naive=naive,
                checks=checks,
                figures={"full / fast": speed_up(seconds[FULL], seconds[name])} if name == FAST else {},
            )
        )
    return rows
