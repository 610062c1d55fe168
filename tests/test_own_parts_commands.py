"""Own parts from the command line: any unit gives the same scores; masks are optional; what is assumed is told once."""

import functools
import json
import logging

import numpy as np
import pandas as pd
import pytest
from tests.data.scan_corpus import ply, text
from tests.detectors import untrained_detector
from typer.testing import CliRunner

from gsclip.cli import app
from gsclip.commands.score import score_files
from gsclip.data import preparing
from gsclip.data.own_parts import own_parts_index
from gsclip.features.backbone import load_backbone
from gsclip.params import ScanParams


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "gsclip"
    untrained_detector(load_backbone(), threshold=0.5, trained_on={}).save(folder)
    return folder


def part(seed, dent=False):
    """(2500, 3) float64: a lens, 84 x 82 x 10, with or without a dent."""
    random = np.random.default_rng(seed)
    u, v = random.uniform(-1, 1, (2, 2500))
    z = 5 * (u**2 + v**2)
    if dent:
        z += 4 * np.exp(-20 * ((u - 0.3) ** 2 + v**2))
    return np.column_stack([42 * u, 41 * v, z + 600])


@pytest.mark.parametrize("away", [0, 1e5])
def test_scores_do_not_depend_on_the_unit_nor_on_the_place(model, tmp_path, away):
    points = part(0, dent=True)
    for name, factor in (("mm", 1.0), ("m", 0.001), ("inch", 1 / 25.4), ("nm", 1e6)):
        np.save(tmp_path / f"{name}.npy", (points + away) * factor)
    assert not score_files([tmp_path], model, tmp_path / "out")
    samples = pd.read_csv(tmp_path / "out" / "samples.csv").set_index("name")
    for name in ("m", "inch", "nm"):
        assert samples.loc[name, "object_score"] == pytest.approx(samples.loc["mm", "object_score"], abs=2e-3)
        with np.load(tmp_path / "out" / f"{name}.npz") as arrays, np.load(tmp_path / "out" / "mm.npz") as same:
            assert np.corrcoef(arrays["point_scores"], same["point_scores"])[0, 1] > 0.99


def test_what_is_assumed_is_told_once(model, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(preparing, "ordered_map", map)
    root = tmp_path / "lens" / "good"
    root.mkdir(parents=True)
    for seed in range(3):
        (root / f"{seed}.xyz").write_bytes(text(part(seed)))
    with caplog.at_level(logging.INFO, "gsclip"):
        score_files([root], model, tmp_path / "out")
    told = [record.getMessage() for record in caplog.records if "taken as it is" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("median extent of 3 scans 83.9 x 81.9 x 9.81: ")
    assert told[0].endswith("scores do not depend on the unit; the cameras look along +z")
    caplog.clear()
    with caplog.at_level(logging.INFO, "gsclip"):
        index = own_parts_index(tmp_path, ["lens"])
        read = functools.partial(preparing.read_row, "own_parts", str(tmp_path), 0)
        params = ScanParams(background="auto", max_points=5000)
        preparing.prepare_index(index, read, tmp_path / "prepared", params, 0)
    assert sum("taken as it is" in record.getMessage() for record in caplog.records) == 1


def test_parts_without_masks_are_evaluated_by_their_object_scores(model, tmp_path):
    for label, dent in (("good", False), ("dent", True)):
        folder = tmp_path / "parts" / "lens" / label
        folder.mkdir(parents=True)
        for seed in range(2):
            points = part(seed + 10 * dent, dent).astype(np.float32)
            (folder / f"{seed}.ply").write_bytes(ply("binary_little_endian", points=points))
    arguments = ["--dataset", "own_parts", "--root", tmp_path / "parts", "--model", model]
    result = CliRunner().invoke(app, ["evaluate", *map(str, [*arguments, "--output", tmp_path / "m.json"])])
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["mean"]["o_auroc"]["oracle"] == 1
    assert metrics["mean"]["o_auroc"]["ours"] is not None
    assert metrics["mean"]["point_auroc"]["ours"] is None
    np.save(tmp_path / "parts/lens/dent/0_mask.npy", part(10, True)[:, 0] > 20)
    result = CliRunner().invoke(app, ["evaluate", *map(str, [*arguments, "--output", tmp_path / "m.json"])])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "m.json").read_text())["mean"]["point_auroc"]["oracle"] == 1


@pytest.fixture(scope="module")
def with_duplicates(model, tmp_path_factory):
    """Folder of an evaluation of scans that are there twice: metrics, report, and what the command printed."""
    folder = tmp_path_factory.mktemp("duplicates")
    for name, seed, dent in (
        ("good/a", 0, False), ("good/b", 0, False), ("good/c", 1, False), ("good/d", 2, False),
        ("dent/a", 3, True), ("dent/b", 3, True), ("dent/c", 2, False), ("dent/e", 4, True),
    ):  # fmt: skip
        path = folder / "parts" / "lens" / f"{name}.ply"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ply("binary_little_endian", points=part(seed, dent).astype(np.float32)))
    (folder / "parts" / "lens" / "good" / "broken.ply").write_bytes(b"")
    arguments = ["--dataset", "own_parts", "--root", folder / "parts", "--model", model]
    outputs = ["--output", folder / "m.json", "--report", folder / "report"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, [*arguments, *outputs])])
    assert result.exit_code == 2, result.output
    return folder, result.output


def test_scans_that_are_there_twice_are_evaluated_once_and_contradictions_never(with_duplicates):
    folder, output = with_duplicates
    names = {f"lens/test/{name}" for name in ("good/a", "good/c", "dent/a", "dent/e")}
    assert set(pd.read_csv(folder / "report" / "samples.csv")["name"]) == names
    metrics = json.loads((folder / "m.json").read_text())
    assert (metrics["data"]["samples"], metrics["data"]["rejected"]) == (4, 5)
    assert "lens/test/good/b: holds the same points as lens/good/a.ply; keep one of them" in output
    assert "lens/test/good/d: holds the same points as lens/dent/c.ply, which counts as defective" in output
    assert "lens/test/dent/c: holds the same points as lens/good/d.ply, which counts as good" in output


def test_evaluation_and_preparation_reject_the_same(with_duplicates, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "ordered_map", map)
    folder, _ = with_duplicates
    read = functools.partial(preparing.read_row, "own_parts", str(folder / "parts"), 0)
    params = ScanParams(background="auto", max_points=5000)
    preparing.prepare_index(own_parts_index(folder / "parts"), read, tmp_path, params, 1.0)
    expected = pd.read_csv(tmp_path / "rejected.csv")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "report" / "rejected.csv"), expected)
    assert expected.columns.tolist() == ["name", "path", "check", "problem", "remedy"]
    assert expected["check"].tolist().count("duplicate") == 4
