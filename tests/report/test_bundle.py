import json

import numpy as np
import pandas as pd
import pytest
from tests.report.plates import reader

from gsclip.errors import InputError
from gsclip.report.bundle import PackReader, RunFiles, read_run, read_samples
from gsclip.report.page import write_report
from gsclip.storage import write_json, write_pack


def write_workspace(root, items, run):
    for category in ("bolt", "ring"):
        members = [item for item in items if item.row["category"] == category]
        for folder, part in (
            ("data/prepared", "sample"),
            ("data/views", "views"),
            ("outputs/predictions", "prediction"),
        ):
            with write_pack(root / folder / f"{category}.h5") as pack:
                for item in members:
                    pack.add(item.row["name"], getattr(item, part))
    run.samples.drop(columns="point_auroc").to_csv(root / "outputs/predictions/samples.csv", index=False)
    run.rejected.to_csv(root / "data/prepared/rejected.csv", index=False)
    (root / "outputs/curves").mkdir()
    run.learning["stage1"].to_csv(root / "outputs/curves/stage1.csv", index=False)
    write_json(root / "outputs/metrics.json", run.metrics)


@pytest.fixture
def workspace(tmp_path, items, run):
    write_workspace(tmp_path, items, run)
    return tmp_path


def test_a_run_read_from_files_is_the_run_in_memory(workspace, run):
    again = read_run(RunFiles.of(workspace))
    assert again.metrics == run.metrics
    pd.testing.assert_frame_equal(again.samples, run.samples)
    pd.testing.assert_frame_equal(again.rejected, run.rejected)
    assert list(again.learning) == ["stage1"]
    pd.testing.assert_frame_equal(again.learning["stage1"], run.learning["stage1"])


def test_the_page_is_the_same_from_packs_and_from_memory(workspace, run, items, tmp_path_factory):
    memory, packs = tmp_path_factory.mktemp("memory"), tmp_path_factory.mktemp("packs")
    files = RunFiles.of(workspace)
    again = read_run(files, run.parameters)
    write_report(memory, run, reader(items), gallery=1)
    write_report(packs, again, PackReader(files), gallery=1)
    assert (packs / "index.html").read_bytes() == (memory / "index.html").read_bytes()


def test_another_data_set_is_read_where_it_was_evaluated(workspace, run):
    path = workspace / "outputs/cross.json"
    write_json(path, {"skipped": "cross.root is empty"})
    assert read_run(RunFiles.of(workspace)).cross is None
    write_json(path, run.metrics)
    assert read_run(RunFiles.of(workspace)).cross == run.metrics
    path.write_text("{")
    with pytest.raises(InputError, match=r"cross\.json: cannot be read"):
        read_run(RunFiles.of(workspace))


def test_what_is_optional_may_be_missing(workspace):
    (workspace / "data/prepared/rejected.csv").unlink()
    (workspace / "outputs/curves/stage1.csv").unlink()
    again = read_run(RunFiles.of(workspace))
    assert again.rejected.empty
    assert again.learning == {}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("outputs/metrics.json", None, "cannot be read"),
        ("outputs/metrics.json", "{", "cannot be read"),
        ("outputs/metrics.json", "[]", "lacks categories, data, defects, mean"),
        ("outputs/predictions/samples.csv", None, "cannot be read"),
        ("outputs/predictions/samples.csv", "", "cannot be read"),
        ("outputs/predictions/samples.csv", "name,category,defect,label\n", "lacks the column object_score"),
        (
            "outputs/predictions/samples.csv",
            "name,category,defect,label,object_score\na,b,good,0,high\n",
            "has text in the column object_score",
        ),
        ("outputs/curves/stage1.csv", "epoch\n1\n", "lacks the column loss"),
        ("outputs/predictions/ring.h5", None, "cannot be read as a pack"),
        ("data/prepared/ring.h5", "text", "cannot be read as a pack"),
    ],
)
def test_broken_files_are_named_on_one_line_with_a_remedy(workspace, file, content, message):
    path = workspace / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_run(RunFiles.of(workspace))
    assert str(path) in str(caught.value)
    assert "dvc repro" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_stay_text_and_empty_labels_are_missing(tmp_path):
    path = tmp_path / "samples.csv"
    path.write_text("name,category,defect,label,object_score,map_max\n007,NA,null,1,0.1,0.5\n1e3,nan,,,0.25,\n")
    samples = read_samples(path)
    assert samples["name"].tolist() == ["007", "1e3"]
    assert samples["category"].tolist() == ["NA", "nan"]
    assert samples["defect"].tolist() == ["null", ""]
    assert np.isnan(samples["label"][1])
    assert np.isnan(samples["map_max"][1])


def test_metrics_are_read_exactly(workspace, run):
    written = json.loads((workspace / "outputs/metrics.json").read_text())
    assert written["mean"] == run.metrics["mean"]
