"""What a thousand objects cost, step by step: CPU seconds, bytes on disk, memory; and how that grows.

Prepare, render, features and predict are measured on generated parts, all different, at each of ``--sizes``: what they
do for one object does not depend on the others, so the cost of one is the slope between the smallest and the largest
size; what is left at zero objects is the start of the processes. Evaluate, the step that sees all objects together, is
measured at each of ``--replicated`` with the same predictions under many names, since scoring as many objects would
take hours. The model is the embedded one, untrained: costs do not depend on the values of weights.

    python -m benchmarks.scaling --output benchmarks/results/scaling
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.full_size import ROOT, machine
from benchmarks.measured import INDEX, bytes_in, folders_in, measure, replicate
from benchmarks.shared import save_untrained, write_results
from gsclip.data.preparing import prepare_dataset
from gsclip.data.sample import Sample
from gsclip.detector import Detector
from gsclip.determinism import make_deterministic
from gsclip.features.packing import write_features
from gsclip.metrics.sample_scores import StoredSamples
from gsclip.metrics.table import evaluate_samples
from gsclip.monitoring.rows import SAMPLES_FILE, samples_table
from gsclip.params import Params, load_params
from gsclip.predicting import write_predictions
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack, write_csv, write_json
from gsclip.views.packing import write_views

CATEGORY, AUXILIARY = "elbow", "castle_nut"
OBJECT_STEPS = ("prepare", "render", "features", "predict")
OUTPUTS = {"prepare": "prepared", "render": "views", "features": "features", "predict": "predictions"}
PER_DAY, USED = 1_000_000, 0.7


def parameters(count: int, views: int) -> Params:
    """The repository's parameters, on so many generated parts of one test category."""
    values = load_params(ROOT / "params.yaml").model_dump()
    values["prepare"] |= {
        "auxiliary_categories": [AUXILIARY], "test_categories": [CATEGORY], "auxiliary_samples": 2,
        "calibration_samples": 2, "test_samples": count,
    }  # fmt: skip
    values["experiments"]["one_vs_rest"] = [AUXILIARY]
    values["render"]["views"] = views
    return Params.model_validate(values)


def run_step(step: str, work: Path, count: int, views: int) -> None:
    """Do one step for the objects in a folder; prepare makes them."""
    make_deterministic()
    params, folders = parameters(count, views), folders_in(work)
    if step == "prepare":
        index = prepare_dataset(params.prepare, folders.prepared)
        write_csv(work / INDEX, index[index["category"] == CATEGORY])
        return
    index = pd.read_csv(work / INDEX, keep_default_na=False)
    if step == "render":
        write_views(index, folders.prepared, folders.views, params.render)
    elif step == "features":
        backbone = Detector.from_pretrained(work.parent / "model").backbone
        write_features(index, folders.prepared, folders.views, folders.features, backbone, params.features)
    elif step == "predict":
        detector = Detector.from_pretrained(work.parent / "model")
        rows = write_predictions(detector, index, folders, work / "predictions")
        write_csv(work / "predictions" / SAMPLES_FILE, samples_table(rows))
    else:
        with (
            Pack(folders.prepared / f"{CATEGORY}.h5", Sample) as samples,
            Pack(work / "predictions" / f"{CATEGORY}.h5", Prediction) as predictions,
        ):
            scored = StoredSamples(index, lambda _: (samples, predictions))
            config = params.evaluate
            write_json(
                work / "metrics.json",
                evaluate_samples(scored, config.pro_limit, config.seed, config.bootstrap_repeats),
            )


def measure_step(step: str, work: Path, count: int, views: int) -> dict[str, float]:
    """Run a step in a process of its own (which starts others); time, memory, bytes written."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--step", step, "--work", str(work), "--count", str(count)]
    found = measure([*command, "--views", str(views)])
    written = bytes_in(work / OUTPUTS[step]) if step in OUTPUTS else 0
    return {"objects": count, **asdict(found), "bytes": written}


def per_object(runs: list[dict[str, float]], field: str) -> float:
    """Slope between the smallest and the largest size; of one size, the quotient."""
    first, last = min(runs, key=lambda run: run["objects"]), max(runs, key=lambda run: run["objects"])
    if first["objects"] == last["objects"]:
        return last[field] / last["objects"]
    return (last[field] - first[field]) / (last["objects"] - first["objects"])


def cluster(results: dict[str, Any]) -> dict[str, float]:
    """What :data:`PER_DAY` scans a day need, by calculation from the measured costs."""
    costs = results["per_object"]
    cpu = sum(costs[step]["cpu_seconds"] for step in OBJECT_STEPS)
    worker = max(run["process_mib"] for step in OBJECT_STEPS for run in results["runs"][step])
    cores = PER_DAY * cpu / 86400 / USED
    travelling = sum(costs[step]["bytes"] for step in OBJECT_STEPS) + costs["prepare"]["bytes"]
    return {
        "cpu_seconds_per_scan": cpu,
        "cores": cores,
        "memory_gib": cores * worker / 1024,
        "worker_mib": worker,
        "results_gib_per_day": PER_DAY * costs["predict"]["bytes"] / 2**30,
        "packs_gib_per_day": PER_DAY * sum(costs[step]["bytes"] for step in OBJECT_STEPS) / 2**30,
        "network_mib_per_second": PER_DAY * travelling / 86400 / 2**20,
    }


def page(results: dict[str, Any]) -> str:
    """Markdown of what :func:`main` writes as JSON."""
    costs, need, runs = results["per_object"], results["cluster"], results["runs"]
    sizes = [int(run["objects"]) for run in runs["predict"]]
    lines = [
        "# What scaling costs",
        "",
        f"Generated parts, {results['views']} views, embedded backbone, on {results['machine']}. Prepare to predict on "
        f"{', '.join(map(str, sizes))} different parts; evaluate on {results['different']} different ones under many "
        "names, since scoring as many would take hours. `python -m benchmarks.scaling`.",
        "",
        "| step | CPU seconds per 1,000 | of the start | MB on disk per 1,000 | most memory of one process, MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for step, members in runs.items():
        cost, first = costs[step], members[0]
        start = max(0.0, first["cpu_seconds"] - cost["cpu_seconds"] * first["objects"])
        largest = max(run["process_mib"] for run in members)
        lines.append(
            f"| {step} | {1000 * cost['cpu_seconds']:,.1f} | {start:.1f} | {cost['bytes'] / 1000:,.1f} | "
            f"{largest:,.0f} |"
        )
    lines += [
        "",
        "How it grows:",
        "",
        "| step | objects | seconds | CPU seconds per object | peak memory of all processes, MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for step, members in runs.items():
        for run in members:
            count = int(run["objects"])
            lines.append(
                f"| {step} | {count:,} | {run['seconds']:.1f} | {run['cpu_seconds'] / count:.4f} | "
                f"{run['peak_mib']:,.0f} |"
            )
    lines += [
        "",
        f"## {PER_DAY:,} scans a day, by calculation",
        "",
        f"* cores = scans a day × CPU seconds a scan / 86,400 s / {USED:.0%} use = {PER_DAY:,} × "
        f"{need['cpu_seconds_per_scan']:.2f} / 86,400 / {USED} = **{need['cores']:,.0f}**",
        f"* memory = cores × most memory of one process = {need['cores']:,.0f} × {need['worker_mib']:,.0f} MiB = "
        f"**{need['memory_gib']:,.0f} GiB**",
        f"* disk a day: predictions {need['results_gib_per_day']:,.0f} GiB, all packs {need['packs_gib_per_day']:,.0f} "
        "GiB = scans a day × bytes a scan",
        f"* through the scheduler: {need['network_mib_per_second']:,.0f} MiB/s = scans a day × bytes a scan that "
        "workers get and give / 86,400 s, counted as they lie on disk",
        "",
        "CPU seconds a scan are the sum over prepare, render, features and predict. Preparing here includes making the "
        "part; reading and preparing a real scan of 400 × 400 pixels is another figure, to be put in its place.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure all steps at all sizes; print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 100], help="different objects, prepare to predict")
    parser.add_argument("--replicated", type=int, nargs="+", default=[100, 1000, 10_000], help="objects of evaluate")
    parser.add_argument("--views", type=int, default=9)
    parser.add_argument("--output", type=Path, help="without suffix: .json and .md are written")
    for name, kind in (("--step", str), ("--work", Path), ("--count", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step, arguments.work, arguments.count, arguments.views)
        return
    runs: dict[str, list[dict[str, float]]] = {step: [] for step in (*OBJECT_STEPS, "evaluate")}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        save_untrained(folder / "model")
        for count in sorted(arguments.sizes):
            work = folder / f"made-{count}"
            for step in OBJECT_STEPS:
                runs[step].append(measure_step(step, work, count, arguments.views))
                print(step, runs[step][-1], file=sys.stderr)
        index = pd.read_csv(work / INDEX, keep_default_na=False)
        for count in sorted(arguments.replicated):
            many = folder / f"replicated-{count}"
            replicate(work, many, index, count, ("prepared", "predictions"))
            runs["evaluate"].append(measure_step("evaluate", many, count, arguments.views))
            print("evaluate", runs["evaluate"][-1], file=sys.stderr)
    results: dict[str, Any] = {
        "machine": machine(),
        "views": arguments.views,
        "different": len(index),
        "runs": runs,
        "per_object": {
            step: {field: per_object(members, field) for field in ("cpu_seconds", "bytes")}
            for step, members in runs.items()
        },
    }
    results["cluster"] = cluster(results)
    print(page(results))
    if arguments.output is not None:
        write_results(arguments.output, results, page(results))


if __name__ == "__main__":
    main()
