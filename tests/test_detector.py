"""The detector's variants: what its parameters switch on and off."""

import numpy as np
import pytest
from tests.detectors import untrained_detector

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.detector import Detector
from gsclip.features.backbone import load_backbone


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def scan():
    return generate_scan("elbow", 0, None, 0, grid=(120, 120))


def build(backbone, **changes):
    """A detector of the rendered stream alone."""
    return untrained_detector(backbone, stage2={"depth_stream": False}, **changes)


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
