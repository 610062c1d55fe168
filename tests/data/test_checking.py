"""The command that checks a data set."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.data.scan_corpus import cloud, numpy_bytes, organised, ply, png, tiff
from typer.testing import CliRunner

from gsclip.cli import app
from gsclip.data import checking, preparing
from gsclip.data.own_parts import SPLITS, own_parts_index
from gsclip.data.preparation import DEFAULT_SCAN_PARAMS
from gsclip.data.sample import Sample
from gsclip.storage import Pack

GRID = organised()


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    monkeypatch.setattr(checking, "ordered_map", lambda function, rows, workers=None: map(function, rows))


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)], env={"COLUMNS": "300"})


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def parts(tmp_path):
    root = tmp_path / "parts"
    write(root / "nut" / "good" / "a.ply", ply())
    write(root / "nut" / "hole" / "b.ply", ply(points=cloud() * np.float32(2)))
    write(root / "nut" / "train" / "good" / "c.ply", ply(points=cloud() * np.float32(3)))
    return root


def test_a_clean_folder(parts):
    result = check(parts)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-2:] == ["3 of 3 scans can be used", "no problems"]
    assert "median extent of 3 scans 0.28 x 0.22" in result.output
    assert "the cameras look along +z" in result.output
    assert "1 defective scans have no mask" in result.output
    rows = [line.split() for line in result.output.splitlines() if line.startswith("nut")]
    assert ["nut", "train", "good", "1", "1", "–"] in rows
    assert ["nut", "test", "hole", "1", "1", "–"] in rows


def test_the_parameters_of_scans_decide_what_a_sample_is(tmp_path):
    v, u = np.mgrid[:40, :40] / 40
    table = np.stack([u, v, 1 + 1e-3 * np.sin(40 * u)], axis=-1).astype(np.float32)  # and no part on it
    write(tmp_path / "nut" / "good" / "a.npy", numpy_bytes(table))
    result = check(tmp_path, "--background", "none")
    assert result.exit_code == 0, result.output
    assert "1 scans are organised: every measured point is kept" in result.output
    assert "1 scans are organised: a table, if any, is removed" in check(tmp_path).output
    assert check(tmp_path, "--max-points", 999).exit_code == 2


def test_problems_are_listed_and_written(parts, tmp_path):
    write(parts / "nut" / "good" / "broken.ply", ply()[:900])
    write(parts / "nut" / "good" / "twin.ply", ply("binary_big_endian"))
    write(parts / "nut" / "hole" / "b_mask.npy", numpy_bytes(np.zeros(len(cloud()), bool)))
    flat = cloud() * np.float32([1, 1, 0])
    write(parts / "nut" / "[flat]" / "d.ply", ply(points=flat))
    result = check(parts, "--output", tmp_path / "report.csv")
    assert result.exit_code == 1, result.output
    assert "4 problems of 4 scans" in result.output
    assert "nut/test/[flat]/d" in result.output
    report = pd.read_csv(tmp_path / "report.csv")
    assert report.columns.tolist() == ["name", "path", "check", "problem", "remedy"]
    assert dict(zip(report["name"], report["check"], strict=True)) == {
        "nut/test/[flat]/d": "coplanar",
        "nut/test/good/broken": "readable",
        "nut/test/good/twin": "duplicate",
        "nut/test/hole/b": "mask",
    }
    assert report.set_index("name").loc["nut/test/good/twin", "problem"] == "holds the same points as nut/good/a.ply"
    rows = [line.split() for line in result.output.splitlines()]
    assert ["nut", "test", "good", "3", "1", "–"] in rows


def test_paths_are_relative_to_the_folder_where_they_lie_in_it(tmp_path, monkeypatch):
    parts = tmp_path / "parts"
    write(parts / "nut" / "good" / "a.ply", b"ply")
    write(parts / "nut" / "good" / "b.png", png())
    write(tmp_path / "camera.json", b"{}")
    monkeypatch.chdir(tmp_path)
    for folder in (Path("parts"), parts, Path("./parts")):
        found = checking.check_dataset(folder, "own_parts", workers=1).problems["path"].tolist()
        assert found == ["nut/good/a.ply", str(folder.parent / "camera.json")]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_nothing_is_wrapped_in_the_middle_of_a_word(parts, columns):
    name = "part_2024-11-03_line3_station_7_turned_by_a_quarter_and_scanned_again_after_the_lamp_was_changed"
    write(parts / "nut" / "good" / f"{name}.ply", ply()[:900])
    write(parts / "nut" / "good" / "twin.ply", ply("binary_big_endian"))
    result = CliRunner().invoke(app, ["check", str(parts)], env={"COLUMNS": str(columns)})
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert f"nut/test/good/{name} (check: readable)" in lines
    assert f"  nut/good/{name}.ply" in lines
    assert "3 of 5 scans can be used" in lines
    assert "no problems" not in lines
    words = "the cameras look along +z"
    assert words in " ".join(result.stdout.split())
    sentences = [line for line in lines if "/" not in line and "–" not in line and "official" not in line]
    assert max(map(len, sentences)) <= columns


def test_a_kind_of_defect_named_as_the_sum_counts_once(parts):
    write(parts / "nut" / "all" / "d.ply", ply(points=cloud() * np.float32(4)))
    assert "4 of 4 scans can be used" in check(parts).output.splitlines()


def test_the_stage_prepare_sets_the_same_scans_aside(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "ordered_map", map)
    for place, factor in (
        ("nut/good/b2.ply", 2), ("nut/dent/b3.ply", 2), ("nut/train/dent/c2.ply", 3), ("nut/good/a2.ply", 1),
        ("lid/good/d.ply", 5), ("lid/good/d2.ply", 5), ("lid/hole/e.ply", 6), ("nut/good/e.ply", 7),
        ("nut/good/e2.ply", 7),
    ):  # fmt: skip
        write(parts / place, ply(points=cloud() * np.float32(factor)))
    write(parts / "nut" / "good" / "e_mask.npy", numpy_bytes(np.ones(len(cloud()), bool)))  # its twin is usable
    write(parts / "lid" / "good" / "broken.ply", b"ply")
    checked = checking.check_dataset(parts, "own_parts", workers=1)
    index = own_parts_index(parts, splits=SPLITS)
    read = functools.partial(preparing.read_row, "own_parts", str(parts), 0)
    accepted = preparing.prepare_index(index, read, tmp_path / "prepared", DEFAULT_SCAN_PARAMS, 1)
    rejected = pd.read_csv(tmp_path / "prepared" / "rejected.csv")
    columns = ["name", "check", "problem", "remedy"]
    assert sorted(rejected[columns].values.tolist()) == sorted(checked.problems[columns].values.tolist())
    assert sorted(accepted["name"]) == ["lid/test/good/d", "lid/test/hole/e", "nut/test/good/a", "nut/test/good/e2"]
    found = dict(zip(rejected["name"], rejected["problem"], strict=True))
    assert found["nut/test/hole/b"] == "holds the same points as nut/good/b2.ply, which counts as good"
    assert found["nut/test/good/b2"] == "holds the same points as nut/dent/b3.ply, which counts as defective"
    assert found["nut/train/good/c"] == "holds the same points as nut/train/dent/c2.ply, which counts as defective"
    assert found["lid/test/good/d2"] == "holds the same points as lid/good/d.ply"
    for category in ("nut", "lid"):
        with Pack(tmp_path / "prepared" / f"{category}.h5", Sample) as pack:
            assert sorted(pack.names) == sorted(accepted.loc[accepted["category"] == category, "name"])


@pytest.mark.parametrize(
    "arguments", [("nowhere",), ("parts", "--dataset", "nix"), ("parts", "--dataset", "procedural")]
)
def test_what_cannot_be_checked_is_one_line(parts, arguments):
    result = check(parts.parent / arguments[0], *arguments[1:])
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1, result.output


def test_an_incomplete_copy_of_a_published_data_set_is_a_problem(tmp_path):
    for number in range(2):
        folder = tmp_path / "bagel" / "test" / "good"
        write(folder / "xyz" / f"{number:03d}.tiff", tiff(array=GRID * np.float32(1 + number)))
        write(folder / "gt" / f"{number:03d}.png", png(np.zeros(GRID.shape[:2], np.uint8)))
    result = check(tmp_path, "--dataset", "mvtec_3d_ad")
    assert result.exit_code == 1, result.output
    assert ["bagel", "test", "good", "2", "2", "22"] in [line.split() for line in result.output.splitlines()]
    assert "split train is left out" in result.output
    assert ["tire", "test", "good", "0", "0", "25"] in [line.split() for line in result.output.splitlines()]
    assert "2 of 2 scans can be used" in result.output
    assert "not complete: 4145 scans of the official data set are not here" in result.output
    assert "no problems" not in result.output


def test_missing_ground_truth_of_a_published_data_set_is_one_problem(tmp_path):
    folder = tmp_path / "bagel" / "test" / "hole"
    for number in range(2):
        write(folder / "xyz" / f"{number:03d}.tiff", tiff(array=GRID * np.float32(1 + number)))
    mask = np.zeros(GRID.shape[:2], np.uint8)
    mask[4:6, 4:6] = 255
    write(folder / "gt" / "001.png", png(mask))
    result = check(tmp_path, "--dataset", "mvtec_3d_ad", "--output", tmp_path / "report.csv")
    assert result.exit_code == 1, result.output
    report = pd.read_csv(tmp_path / "report.csv")
    assert report[["name", "path", "check", "problem"]].values.tolist() == [
        ["bagel/test/hole/000", "bagel/test/hole/gt/000.png", "readable", "mask file not found"]
    ]


def mvtec_scans(root, categories):
    for number, place in enumerate(f"{category}/test/good" for category in categories):
        write(root / place / "xyz" / "000.tiff", tiff(array=GRID * np.float32(1 + number)))
        write(root / place / "gt" / "000.png", png(np.zeros(GRID.shape[:2], np.uint8)))


def test_two_scans_of_one_number_cost_themselves_alone(tmp_path):
    mvtec_scans(tmp_path, ("bagel", "tire"))
    folder = tmp_path / "bagel" / "test" / "good" / "xyz"
    write(folder / "000.tif", (folder / "000.tiff").read_bytes())
    checked = checking.check_dataset(tmp_path, "mvtec_3d_ad", workers=1)
    assert checked.problems[["name", "path", "check"]].values.tolist() == [
        ["bagel/test/good/000.tif", "bagel/test/good/xyz/000.tif", "readable"],
        ["bagel/test/good/000.tiff", "bagel/test/good/xyz/000.tiff", "readable"],
    ]
    assert checked.problems["problem"].str.startswith("000.tif and 000.tiff are the same sample").all()
    sums = checked.counts[checked.counts["defect"] == "all"].set_index(["category", "split"])["usable"]
    assert (sums["bagel", "test"], sums["tire", "test"]) == (0, 1)


@pytest.mark.parametrize("categories", [("nut", "lid"), ("nut",)])
def test_a_split_that_cannot_be_listed_is_a_problem_of_its_category(tmp_path, categories):
    mvtec_scans(tmp_path, categories)
    write(tmp_path / "lid" / "train" / "good" / "xyz" / "000.tiff", tiff(array=GRID * np.float32(9)))
    write(tmp_path / "nut" / "test" / "good" / "gt" / "000.PNG", png())
    if len(list((tmp_path / "nut" / "test" / "good" / "gt").iterdir())) < 2:
        pytest.skip("this file system does not tell upper from lower case")
    result = check(tmp_path, "--dataset", "mvtec_3d_ad", "--output", tmp_path / "report.csv")
    assert result.exit_code == 1, result.output
    report = pd.read_csv(tmp_path / "report.csv")
    place = "nut/test" if "lid" in categories else "split test"
    assert report[["name", "path"]].values.tolist() == [[place, "nut/test/good/gt"]]
    assert report["problem"].tolist() == ["holds 000.PNG and 000.png: it is not clear which one counts"]
    assert "no problems" not in result.output
    assert f"{len(categories)} of {len(categories)} scans can be used" in result.output


def test_what_the_listing_leaves_out_stands_in_the_report(tmp_path):
    root = tmp_path / "parts"
    write(root / "nut" / "good" / "a.ply", ply())
    write(root / "nut" / "good" / "b_mask.npy", numpy_bytes(np.ones(3)))
    write(root / "loose.ply", ply())
    write(root / "nut" / "c.ply", ply(points=cloud() * np.float32(2)))
    lines = " ".join(check(root).output.split())
    assert "assumed: 1 scans lie in no folder of a category, left out: loose.ply" in lines
    assert "assumed: masks or images without a scan, left out: nut/good/b_mask.npy" in lines
    assert lines.count("1 scans have no label") == 1
    write(root / "labels.csv", b"scan,category,label\nnut/good/a.ply,nut,0\n")
    result = check(root)
    assert result.exit_code == 0, result.output
    assert "assumed: 2 scans are not named in labels.csv, left out: loose.ply, nut/c.ply" in " ".join(
        result.output.split()
    )
