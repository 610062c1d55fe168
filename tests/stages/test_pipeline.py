"""The pipeline itself, by DVC, on a tiny configuration: every stage, twice, and an experiment."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from benchmarks.tiny import shrink

from gsclip.data.index import read_index
from gsclip.detector import Detector, model_version, read_config
from gsclip.monitoring.reference import read_reference
from gsclip.params import load_params
from gsclip.storage import sha256
from gsclip.training.selection import data_sha256, parameters_sha256

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "src").symlink_to(ROOT / "src")
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data/raw").mkdir(parents=True)
    (folder / "experiments").mkdir()
    shutil.copy(ROOT / "experiments/dvc.yaml", folder / "experiments/dvc.yaml")
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    shrink(folder / "params.yaml")
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    call(folder, "git", "add", "dvc.yaml", "params.yaml", ".dvc", ".gitignore", ".dvcignore")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "start")
    call(folder, "dvc", "repro", "--quiet")
    return folder


def call(folder, *command):
    # The programs of this environment, whatever the caller's PATH is.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def test_metrics_hold_ours_random_and_oracle(project):
    metrics = json.loads((project / "outputs/metrics.json").read_text())
    assert set(metrics["categories"]) == {"elbow", "ring_cake"}
    assert metrics["data"]["samples"] == 8
    assert metrics["data"]["training_samples"] == 4
    assert metrics["mean"]["o_auroc"]["oracle"] == 1
    for metric in ("point_auroc", "point_pro", "pixel_auroc", "pixel_pro"):
        assert 0 <= metrics["mean"][metric]["ours"] <= metrics["mean"][metric]["oracle"] + 1e-9


def test_without_another_data_set_there_is_no_cross_evaluation(project):
    assert "cross.root is empty" in json.loads((project / "outputs/cross.json").read_text())["skipped"]


def test_outputs_are_complete(project):
    samples = pd.read_csv(project / "outputs/predictions/samples.csv")
    assert set(samples["role"]) == {"auxiliary", "test"}
    assert samples["object_score"].between(0, 1).all()
    assert (samples["decision"] == (samples["object_score"] >= samples["threshold"])).all()
    assert len(pd.read_csv(project / "outputs/curves/stage1.csv")) == 2
    assert len(pd.read_csv(project / "outputs/curves/stage2.csv")) == 1
    assert "elbow" in (project / "outputs/report/index.html").read_text()
    assert json.loads((project / "outputs/report/report.json").read_text())["samples"] == 8
    assert list((project / "outputs/overlays").glob("*.png"))
    assert not list((project / ".gsclip/checkpoints").glob("*"))
    reference = read_reference(project / "outputs/reference")
    assert reference.settings.model == model_version(read_config(project / "models/gsclip"))
    assert len(reference.rows) == (samples["label"] == 0).sum()


def test_training_changed_what_it_should(project):
    detector = Detector.from_pretrained(project / "models/gsclip")
    lora = {name: value for name, value in detector.depth_stream.named_parameters() if "lora_B" in name}
    assert lora
    assert all(value.abs().max() > 0 for value in lora.values())  # LoRA starts at zero


def test_the_model_holds_thresholds_digests_and_licences(project):
    config = read_config(project / "models/gsclip")
    assert 0 < config.threshold < 1
    assert 0 < config.point_threshold < 1
    index = read_index(project / "data/prepared/index.csv")
    assert config.origin.data_sha256 == data_sha256(project / "data/prepared", index, ["castle_nut"])
    assert config.origin.parameters_sha256 == parameters_sha256(load_params(project / "params.yaml"))
    assert config.origin.licences.data.startswith("Apache-2.0")
    for name, checksum in config.files.items():
        assert sha256(project / "models/gsclip" / name) == checksum


def test_second_run_does_nothing(project):
    assert "up to date" in call(project, "dvc", "repro")


def test_same_inputs_give_the_same_bytes(project):
    folders = (project / "models/gsclip", project / "outputs")
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    before = {path: sha256(path) for path in files}
    shutil.rmtree(project / ".gsclip/packs")  # nothing is taken over
    call(project, "dvc", "repro", "--quiet", "--force", "--no-run-cache")
    assert {path: sha256(path) for path in files} == before


def test_ablation_and_protocols_take_over_what_is_done(project):
    """Both tables; then a table that is lost comes back without any training, from the results of its runs."""
    for name, rows in (("ablation", 8), ("protocols", 1)):
        call(project, "dvc", "repro", "--quiet", f"experiments/dvc.yaml:table@{name}")
        table = pd.read_csv(project / f"outputs/experiments/{name}.csv")
        means = table[table["category"] == "mean"]
        assert len(means) == rows
        assert means["o_auroc"].between(0, 1).all()
        assert set(means["trained_on"]) == {"castle_nut"}
        assert f"# {'Ablation' if name == 'ablation' else 'Evaluation protocols'}" in (
            project / f"outputs/experiments/{name}.md"
        ).read_text()
    page = project / "outputs/experiments/ablation.md"
    text, work = page.read_text(), project / ".gsclip/experiments"
    page.unlink()
    models = {path: path.stat().st_mtime_ns for path in (work / "models").rglob("*")}
    lost = next((work / "results").iterdir())
    lost.unlink()  # as if a run had been killed before its result was there
    call(project, "dvc", "repro", "--quiet", "--force", "--single-item", "experiments/dvc.yaml:table@ablation")
    assert page.read_text() == text
    assert {path: path.stat().st_mtime_ns for path in (work / "models").rglob("*")} == models
    assert lost.is_file()
    assert not list((work / "checkpoints").glob("*"))


def test_experiment_changes_a_parameter_and_compares(project):
    call(project, "dvc", "exp", "run", "--quiet", "-S", "predict.map_weight=1.0", "-S", "stage2.depth_stream=false")
    changed = json.loads(call(project, "dvc", "params", "diff", "--json"))
    assert changed["params.yaml"]["predict.map_weight"]["new"] == 1.0
    assert json.loads(call(project, "dvc", "exp", "show", "--json"))
    config = json.loads((project / "models/gsclip/config.json").read_text())
    assert config["predict"]["map_weight"] == 1.0
    assert Detector.from_pretrained(project / "models/gsclip").depth_stream is None
    assert pd.read_csv(project / "outputs/curves/stage2.csv").empty
