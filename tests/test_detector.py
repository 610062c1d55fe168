"""The detector's variants: what its parameters switch on and off."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.detector import Detector, DetectorConfig
from gsclip.features.backbone import load_backbone
from gsclip.params import load_params
from gsclip.prompts.geometry_prompts import build_prompts

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def scan():
    return generate_scan("elbow", 0, None, 0, grid=(120, 120))


def build(backbone, *, stage1=None, features=None, predict=None):
    """A detector of the rendered stream alone, with untrained prompts."""
    params = load_params(ROOT / "params.yaml")
    torch.manual_seed(0)
    config = DetectorConfig(
        render=params.render.model_copy(update={"views": 2}),
        features=params.features.model_copy(update={"cloud_points": 512, **(features or {})}),
        stage1=params.stage1.model_copy(update=stage1 or {}),
        stage2=params.stage2.model_copy(update={"depth_stream": False}),
        predict=params.predict.model_copy(update=predict or {}),
    )
    return Detector(config, backbone, build_prompts(backbone, config.stage1), None, None)


def test_hand_written_prompts_are_saved_loaded_and_scored(backbone, scan, tmp_path):
    detector = build(backbone, stage1={"prompts": "hand_written"})
    first = detector.score(scan.points)
    detector.save(tmp_path / "model")
    again = Detector.from_pretrained(tmp_path / "model").score(scan.points)
    np.testing.assert_array_equal(again.point_scores, first.point_scores)
    learned = build(backbone).score(scan.points)
    assert np.abs(learned.point_scores - first.point_scores).max() > 0.01


def test_colours_count_only_where_they_are_asked_for(backbone, scan):
    random = np.random.default_rng(0)
    colors = random.integers(0, 256, scan.points.shape).astype(np.uint8)
    without, asked = build(backbone), build(backbone, predict={"rgb": True})
    plain = without.score(scan.points)
    np.testing.assert_array_equal(without.score(scan.points, colors).point_scores, plain.point_scores)
    np.testing.assert_array_equal(asked.score(scan.points).point_scores, plain.point_scores)
    assert np.abs(asked.score(scan.points, colors).point_scores - plain.point_scores).max() > 1e-3


def test_the_encoding_of_the_rendered_views_reaches_the_backbone(backbone, scan):
    sample = prepare_sample(scan)
    normals, grey = build(backbone), build(backbone, features={"rendered_encoding": "grey"})
    views = normals.render(sample)
    first, second = normals.encode(views).tokens, grey.encode(views).tokens
    assert first.shape == second.shape
    assert np.abs(first.astype(np.float32) - second.astype(np.float32)).max() > 0.05


def test_a_part_scored_alone_or_after_others_gets_the_same_bits(backbone, scan):
    detector = build(backbone)
    first = detector.score(scan.points)
    detector.score(generate_scan("jar_lid", 0, None, 0, grid=(120, 120)).points)
    again = detector.score(scan.points)
    assert again.object_score == first.object_score
    np.testing.assert_array_equal(again.point_scores, first.point_scores)
