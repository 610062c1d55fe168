"""Results never take the place of a file that no earlier call wrote: the whole call is refused, nothing is touched."""

import functools
import json
import os

import numpy as np
import pytest
from tests.data.scan_corpus import ply, png, write_camera
from tests.detectors import untrained_detector
from typer.testing import CliRunner

from gsclip.cli import app
from gsclip.errors import InputError
from gsclip.features.backbone import load_backbone
from gsclip.results import check_score_results


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "gsclip"
    untrained_detector(load_backbone(), threshold=0.5, trained_on={}).save(folder)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files(folder):
    """Bytes of all files below a folder, by path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder, *arguments):
    """Run a command that must be refused on one line with nothing changed; the line."""
    before = files(folder)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert files(folder) == before
    lines = result.output.strip().splitlines()
    assert len(lines) == 1, result.output
    assert "another --output" in lines[0]
    return lines[0]


def test_scores_never_replace_the_scans(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / f"{name}.ply").write_bytes(ply())
    monkeypatch.chdir(tmp_path)
    line = refused(tmp_path, "score", "a.ply", "b.ply", "--model", "none", "--output", ".")
    assert line.startswith("gsclip: a.ply: is a scan of this call")
    (tmp_path / "links").symlink_to(tmp_path)
    refused(tmp_path, "score", "b.ply", "--model", "none", "--output", "links")
    (tmp_path / "c.npz").symlink_to(tmp_path / "a.ply")
    assert "c.npz" in refused(tmp_path, "score", "c.npz", "--model", "none", "--output", ".")


def test_scores_never_replace_what_belongs_to_a_scan(tmp_path):
    (tmp_path / "part.png").write_bytes(png())
    write_camera(tmp_path)
    (tmp_path / "camera.json").rename(tmp_path / "part.json")
    arguments = ("--model", "none", "--output", tmp_path)
    assert "part.json: is the camera file of part.png" in refused(tmp_path, "score", tmp_path / "part.png", *arguments)
    (tmp_path / "nut.xyz").touch()
    (tmp_path / "nut_mask.npz").touch()
    (tmp_path / "nut_mask.tiff").touch()
    named = (tmp_path / "nut.xyz", tmp_path / "nut_mask.tiff")
    assert "nut_mask.npz: is the mask of nut.xyz" in refused(tmp_path, "score", *named, *arguments)


@pytest.mark.parametrize(
    ("name", "content"),
    [("nut.ply", ply()), ("nut.json", b"{}"), ("nut.json", b"[" * 10**5), ("nut.npz", b"mine"), ("nut.npz", b""),
     ("samples.csv", b"name,weight\n"), ("rejected.csv", b"part\n"), ("rejected.csv", b""),
     ("rejected.csv", b"name,problem,owner\n"), ("samples.csv", b"name,object_score\n")],
)  # fmt: skip
def test_scores_never_replace_files_of_others(tmp_path, name, content):
    (tmp_path / "nut.tiff").touch()
    (tmp_path / name).write_bytes(content)
    line = refused(tmp_path, "score", tmp_path / "nut.tiff", "--model", "none", "--output", tmp_path)
    assert f"{name}: is no result of an earlier call" in line


def test_problems_of_a_check_never_replace_files_of_others(tmp_path):
    scan = tmp_path / "parts" / "good" / "a.ply"
    scan.parent.mkdir(parents=True)
    scan.write_bytes(ply())
    line = refused(tmp_path, "check", tmp_path / "parts", "--output", scan)
    assert "a.ply: is no table of problems of an earlier call" in line
    report = tmp_path / "problems.csv"
    for _ in range(2):  # its own earlier table may be replaced
        result = CliRunner().invoke(app, ["check", str(tmp_path / "parts"), "--output", str(report)])
        assert result.exit_code == 0, result.output
    assert report.read_text().startswith("name,path,check,problem,remedy")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, functools.partial(os.symlink, "nowhere")])
def test_what_is_no_file_is_not_replaced(tmp_path, make):
    make(tmp_path / "nut.json")
    with pytest.raises(InputError, match="is no result"):
        check_score_results({"nut": tmp_path / "nut.tiff"}, tmp_path)


def test_scores_go_beside_the_scans_where_no_name_is_taken_and_replace_earlier_ones(model, tmp_path):
    np.savetxt(tmp_path / "nut.xyz", np.random.default_rng(0).normal(size=(500, 3)))
    (tmp_path / "lid.ply").write_bytes(ply())
    for _ in range(2):
        result = run("score", tmp_path / "nut.xyz", "--model", model, "--output", tmp_path)
        assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "nut.json").read_text())["name"] == "nut"
    assert (tmp_path / "lid.ply").read_bytes() == ply()
    # The result is a scan itself, where it is named: then it stays.
    refused(tmp_path, "score", tmp_path / "nut.ply", "--model", "none", "--output", tmp_path)


def render(folder, *scans):
    return ("render", *scans, "--views", 1, "--size", 32, "--output", folder)


def test_images_replace_those_of_an_earlier_call_alone(tmp_path):
    (tmp_path / "nut.ply").write_bytes(ply())
    out = tmp_path / "out"
    (out / "nut").mkdir(parents=True)
    for views in (2, 1):
        assert run(*render(out, tmp_path / "nut.ply"), "--views", views).exit_code == 0
    assert sorted(path.name for path in (out / "nut").iterdir()) == ["depth_0.png", "rendered_0.png", "views.npz"]
    (out / "nut" / "notes.txt").write_text("mine")
    line = refused(tmp_path, *render(out, tmp_path / "nut.ply"))
    assert f"{out / 'nut' / 'notes.txt'}: is no result of an earlier call" in line
    assert f"would replace the folder {out / 'nut'}" in line


@pytest.mark.parametrize("names", [["depth_0.png"], ["views.npz"], ["depth_0.png", "views.npz"], ["depth_0.png/mine"],
                                   [".hidden"]])  # fmt: skip
def test_folders_of_others_that_look_like_results_stay(tmp_path, names):
    (tmp_path / "lid.ply").write_bytes(ply())
    for name in names:
        path = tmp_path / "nut" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    (tmp_path / "nut.ply").write_bytes(ply())
    line = refused(tmp_path, *render(tmp_path, tmp_path / "lid.ply", tmp_path / "nut.ply"))
    assert str(tmp_path / "nut" / names[0].split("/")[0]) in line


def test_a_scan_in_the_folder_of_its_images_stays(tmp_path):
    (tmp_path / "nut.ply").write_bytes(ply())
    assert run(*render(tmp_path, tmp_path / "nut.ply")).exit_code == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "nut.ply").symlink_to(tmp_path / "nut" / "views.npz")
    line = refused(tmp_path, *render(tmp_path, tmp_path / "other" / "nut.ply"))
    assert f"lies in {tmp_path / 'nut'}" in line


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("other")])
def test_what_is_no_folder_is_not_replaced_by_images(tmp_path, make):
    (tmp_path / "lid.ply").write_bytes(ply())
    make(tmp_path / "lid")
    assert "lid: is no folder" in refused(tmp_path, *render(tmp_path, tmp_path / "lid.ply"))
    (tmp_path / "rejected.csv").write_text("mine")
    assert "rejected.csv: is no result" in refused(tmp_path, *render(tmp_path, tmp_path / "lid.ply"))


def test_a_folder_of_scans_cannot_be_that_of_the_results(tmp_path):
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "a.ply").write_bytes(ply())
    for folder in ("src", "src/deep"):
        for command in (("score", "--model", "none"), ("render",)):
            line = refused(tmp_path, *command, tmp_path / folder, "--output", tmp_path / "src")
            assert f"the results would go to {tmp_path / 'src'}, which holds it" in line
