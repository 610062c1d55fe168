"""Detectors with untrained prompts and streams: all of the machinery, none of the skill."""

from pathlib import Path

import torch

from gsclip.detector import Detector, DetectorConfig
from gsclip.params import load_params
from gsclip.prompts.geometry_prompts import build_prompts
from gsclip.streams.streams import build_streams

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")


def untrained_detector(
    backbone, *, stage1=None, stage2=None, features=None, predict=None, render=None, scan=None, **facts
):
    """Build a detector of two views and small clouds.

    Arguments change single values of the repository's parameters, group by group; ``facts`` are further fields of the
    configuration.
    """
    torch.manual_seed(0)
    config = DetectorConfig(
        scan=PARAMS.prepare.scan.model_copy(update=scan or {}),
        render=PARAMS.render.model_copy(update={"views": 2, **(render or {})}),
        features=PARAMS.features.model_copy(update={"cloud_points": 512, **(features or {})}),
        stage1=PARAMS.stage1.model_copy(update=stage1 or {}),
        stage2=PARAMS.stage2.model_copy(update=stage2 or {}),
        predict=PARAMS.predict.model_copy(update=predict or {}),
        **facts,
    )
    streams = build_streams(backbone, config.stage2) if config.stage2.depth_stream else (None, None)
    return Detector(config, backbone, build_prompts(backbone, config.stage1), *streams)


def as_if_trained(detector, grouping):
    """Give a detector what training changes: statistics of the batch norms (of the clouds given), LoRA and SRM."""
    torch.manual_seed(1)
    for module in detector.prompts.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 1.0
    with torch.no_grad():
        detector.prompts.train()(detector.backbone.clip, grouping)
        for name, parameter in detector.depth_stream.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
        for parameter in detector.refinement.parameters():
            parameter.mul_(3)
    detector.prompts.eval()
    return detector
