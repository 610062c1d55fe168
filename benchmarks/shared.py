"""What benchmarks share: untrained detectors, the processor's name, files of results."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from gsclip.detector import Detector, DetectorConfig
from gsclip.features.backbone import load_backbone
from gsclip.params import Params, load_params
from gsclip.prompts.geometry_prompts import build_prompts
from gsclip.storage import write_json, write_text
from gsclip.streams.streams import build_streams

ROOT = Path(__file__).parents[1]


def untrained(params: Params) -> Detector:
    """A detector with random prompts and streams; LoRA is made to count, as training would.

    Time and memory do not depend on the values of weights.
    """
    torch.manual_seed(0)
    backbone = load_backbone(*params.features.backbone_arguments)
    config = DetectorConfig.of(params)
    depth_stream, refinement = build_streams(backbone, params.stage2) if params.stage2.depth_stream else (None, None)
    if depth_stream is not None:
        with torch.no_grad():
            for name, parameter in depth_stream.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.01)
    return Detector(config, backbone, build_prompts(backbone, params.stage1), depth_stream, refinement)


def save_untrained(folder: Path) -> None:
    """Write an untrained detector with the repository's parameters."""
    untrained(load_params(ROOT / "params.yaml")).save(folder)


def processor() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_results(output: Path, results: Any, page: str) -> None:  # noqa: ANN401 - any JSON value
    """Write ``<output>.json`` and ``<output>.md``; a suffix of ``output`` does not count."""
    write_json(output.with_suffix(".json"), results)
    write_text(output.with_suffix(".md"), page)
