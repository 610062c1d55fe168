"""The exported file computes what the model does, and says what it is."""

import json

import numpy as np
import pytest
from tests.detectors import untrained_detector

from gsclip import export
from gsclip.data.procedural.dataset import generate_scan
from gsclip.errors import GsclipError
from gsclip.export import export_onnx
from gsclip.features.backbone import load_backbone
from gsclip.features.images import depth_images, rendered_images
from gsclip.storage import sha256


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def scan():
    return generate_scan("elbow", 0, None, 0, grid=(120, 120))


@pytest.mark.filterwarnings("ignore")  # of the exporter's own
def test_the_file_gives_the_tokens_of_the_model_for_any_number_of_views(backbone, scan, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    detector = untrained_detector(backbone, predict={"profile": "fast"})  # all patches, float32 in the file
    path = tmp_path / "model.onnx"
    assert export_onnx(detector, path, scan) < 5e-4
    described = json.loads((tmp_path / "model.onnx.json").read_text())
    assert described["sha256"] == sha256(path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    more = untrained_detector(backbone, render={"views": 3}, predict={"patches": "all"})
    views = more.render(more.prepare(scan))
    config = detector.config.features
    inputs = {
        "rendered": rendered_images(views, config.rendered_encoding).numpy(),
        "depth": depth_images(views, config.depth_encoding).numpy(),
    }
    expected = more.refine(views, more.encode(views)).numpy()
    np.testing.assert_allclose(session.run(None, inputs)[0], expected, atol=5e-4)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["gsclip"])
    assert facts["features"]["depth_encoding"] == config.depth_encoding


def test_what_cannot_be_exported_is_said_in_one_line(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PACKAGES", ("json", "no_such_package"))
    with pytest.raises(GsclipError, match="needs no_such_package"):
        export_onnx(untrained_detector(backbone), tmp_path / "model.onnx")
    monkeypatch.setattr(export, "PACKAGES", ())
    with pytest.raises(GsclipError, match="no depth stream"):
        export_onnx(untrained_detector(backbone, stage2={"depth_stream": False}), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
