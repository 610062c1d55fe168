"""The paper's configuration at full size on this machine: one step of each stage, and one scan scored.

Random weights take the place of CLIP's: time, memory and gradients do not depend on their values, scores do and are
not reported. Every phase runs in a process of its own, so its peak of memory is its own.

    python -m benchmarks.full_size --scan scan.tiff --output benchmarks/results/full_size
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.shared import processor, write_results
from gsclip.data.preparing import prepare_dataset
from gsclip.data.scan_files import read_scan
from gsclip.detector import Detector, DetectorConfig
from gsclip.determinism import make_deterministic
from gsclip.features.backbone import Backbone, load_backbone
from gsclip.features.packing import write_features
from gsclip.packs import PackFolders
from gsclip.params import Params, load_params
from gsclip.prompts.geometry_prompts import build_prompts, load_prompts
from gsclip.streams.streams import build_streams, load_streams
from gsclip.training.fit import Places, TrainingSet, fit_stage1, fit_stage2
from gsclip.views.packing import write_views

ROOT = Path(__file__).parents[1]
CATEGORY, OBJECTS = "castle_nut", 4


def parameters(precision: str, steps: int) -> Params:
    """The paper's preset, on a few generated parts and with random weights."""
    values = load_params(ROOT / "presets" / "paper.yaml").model_dump()
    values["prepare"] = {
        **values["prepare"],
        "dataset": "procedural",
        "auxiliary_categories": [CATEGORY],
        "test_categories": ["elbow"],
        "auxiliary_samples": OBJECTS,
    }
    values["experiments"]["one_vs_rest"] = [CATEGORY]
    values["features"]["weights"] = "random"
    values["stage1"]["epochs"] = values["stage2"]["epochs"] = steps
    values["stage2"]["precision"] = precision
    return Params.model_validate(values)


def prepare(params: Params, work: Path) -> dict[str, Any]:
    """Generate, render and encode the parts that the steps learn from."""
    index = prepare_dataset(params.prepare, work / "prepared")
    index = index[(index["category"] == CATEGORY) & (index["split"] == "train")]
    index.to_csv(work / "names.csv", index=False)
    folders = _folders(work)
    folders.views.mkdir()
    write_views(index, folders.prepared, folders.views, params.render)
    backbone = _backbone(params)
    start = time.perf_counter()
    write_features(index, folders.prepared, folders.views, folders.features, backbone, params.features)
    return {"seconds_per_object": (time.perf_counter() - start) / len(index)}


def stage1(params: Params, work: Path) -> dict[str, Any]:
    """Steps of stage 1."""
    backbone = _backbone(params)
    torch.manual_seed(params.stage1.seed)
    before = {name: value.clone() for name, value in build_prompts(backbone, params.stage1).state_dict().items()}
    start = time.perf_counter()
    fit_stage1(params, backbone, _training(work), _places(work, "stage1"))
    seconds = (time.perf_counter() - start) / params.stage1.epochs
    prompts = load_prompts(work / "stage1", backbone, params.stage1)
    return _learned(seconds, before, dict(prompts.named_parameters()), work / "stage1.csv")


def stage2(params: Params, work: Path) -> dict[str, Any]:
    """Steps of stage 2."""
    backbone = _backbone(params)
    torch.manual_seed(params.stage2.seed)
    before = _trained(*build_streams(backbone, params.stage2))
    start = time.perf_counter()
    fit_stage2(params, backbone, _training(work), work / "stage1", _places(work, "stage2"))
    seconds = (time.perf_counter() - start) / params.stage2.epochs
    depth_stream, refinement = load_streams(work / "stage2", backbone, params.stage2)
    if depth_stream is None or refinement is None:
        raise RuntimeError("the preset has no depth stream")
    after = _trained(depth_stream, refinement, lora_only=True)
    return _learned(seconds, before, after, work / "stage2.csv")


def score(params: Params, work: Path, scan: Path) -> dict[str, Any]:
    """Score one scan."""
    backbone = _backbone(params)
    config = DetectorConfig.of(params)
    prompts = load_prompts(work / "stage1", backbone, params.stage1)
    detector = Detector(config, backbone, prompts, *load_streams(work / "stage2", backbone, params.stage2))
    start = time.perf_counter()
    sample = detector.prepare(read_scan(scan), str(scan))
    views = detector.render(sample)
    middle = time.perf_counter()
    prediction = detector.predict(sample, views)
    end = time.perf_counter()
    finite = bool(np.isfinite(prediction.object_score) and np.isfinite(prediction.point_scores).all())
    return {
        "seconds": end - start,
        "seconds_prepare_and_render": middle - start,
        "points": len(sample.points),
        "finite": finite,
    }


def main() -> None:
    """Run every phase in a process of its own, and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, required=True, help="a real scan")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/full_size"), help="without suffix")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        phases: dict[str, Callable[..., dict[str, Any]]] = {
            "prepare": prepare,
            "stage1": stage1,
            "stage2": stage2,
            "score": score,
        }
        make_deterministic()
        extra = (arguments.scan,) if arguments.phase == "score" else ()
        result = phases[arguments.phase](parameters(arguments.precision, arguments.steps), arguments.work, *extra)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({**result, "peak_gib": peak}))
        return
    results: dict[str, Any] = {"machine": machine(), "scan": arguments.scan.name}
    with tempfile.TemporaryDirectory() as folder:
        # LoRA's second matrix starts at zero: the first one learns from the second step on.
        for name, phase, precision, steps in (
            ("features", "prepare", "float32", 1),
            ("stage1", "stage1", "float32", 2),
            ("stage2", "stage2", "float32", 1),
            ("stage2_bfloat16", "stage2", "bfloat16", 2),
            ("score", "score", "bfloat16", 2),
        ):
            command = [sys.executable, "-m", "benchmarks.full_size", "--phase", phase, "--work", folder]
            command += ["--scan", str(arguments.scan), "--precision", precision, "--steps", str(steps)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results[name] = json.loads(output.splitlines()[-1])
            print(name, results[name], flush=True)
    write_results(arguments.output, results, _page(results))


def _page(results: dict[str, Any]) -> str:
    lines = [
        "# Full size on a CPU",
        "",
        f"The paper's preset (ViT-L-14-336 with random weights, nine views of 336 pixels) on {results['machine']}. "
        f"A step is one of the optimizer's: {OBJECTS} objects. `python -m benchmarks.full_size`.",
        "",
        "| | seconds | peak memory, GiB | |",
        "| --- | ---: | ---: | --- |",
    ]
    names = {
        "features": ("tokens of the frozen stream, an object (once)", "seconds_per_object"),
        "stage1": ("stage 1, a step", "seconds_per_step"),
        "stage2": ("stage 2, a step, float32", "seconds_per_step"),
        "stage2_bfloat16": ("stage 2, a step, bfloat16", "seconds_per_step"),
        "score": (f"scoring {results['scan']}", "seconds"),
    }
    for key, (name, seconds) in names.items():
        result = results[key]
        said = ""
        if "trained" in result:
            losses = ", then ".join(f"{loss:.3f}" for loss in result["losses"])
            said = f"loss {losses}; of {result['tensors']} trained tensors ({result['trained']:,} parameters) "
            said += f"{result['tensors_changed']} changed"
        elif "points" in result:
            said = f"{result['points']} points, all scores finite: {result['finite']}"
        lines.append(f"| {name} | {result[seconds]:.1f} | {result['peak_gib']:.1f} | {said} |")
    lines += ["", "LoRA's second matrices start at zero, so that its first ones cannot change in the first step.", ""]
    return "\n".join(lines)


def _learned(seconds: float, before: dict[str, Any], after: dict[str, Any], curve: Path) -> dict[str, Any]:
    changed = [name for name, value in after.items() if not torch.equal(value, before[name])]
    return {
        "seconds_per_step": seconds,
        "losses": pd.read_csv(curve)["loss"].tolist(),
        "trained": sum(value.numel() for value in after.values()),
        "tensors": len(after),
        "tensors_changed": len(changed),
        "tensors_unchanged": sorted(set(after) - set(changed)),
    }


def _trained(depth_stream: Any, refinement: torch.nn.Module, *, lora_only: bool = False) -> dict[str, Any]:  # noqa: ANN401
    """Clones of what stage 2 trains; a loaded adapter is frozen, so it is told by its name."""
    lora = {name: value for name, value in depth_stream.named_parameters() if "lora_" in name}
    if not lora_only and not all(value.requires_grad for value in lora.values()):
        raise RuntimeError("LoRA is frozen")
    return {name: value.detach().clone() for name, value in {**lora, **dict(refinement.named_parameters())}.items()}


def _backbone(params: Params) -> Backbone:
    return load_backbone(*params.features.backbone_arguments)


def _folders(work: Path) -> PackFolders:
    return PackFolders(work / "prepared", work / "views", work / "features")


def _training(work: Path) -> TrainingSet:
    return TrainingSet(_folders(work), pd.read_csv(work / "names.csv")["name"].tolist())


def _places(work: Path, stage: str) -> Places:
    return Places(work / stage, work / f"{stage}.csv", work / "checkpoints")


def machine() -> str:
    """Processor, cores that may be used, and version of torch, in one line."""
    return f"{processor()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}"


if __name__ == "__main__":
    main()
