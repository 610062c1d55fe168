"""Every scan that is named, or lies in a folder that is, has a name of its own; what is left out is told."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.data.scan_corpus import ply, png, write_camera
from tests.unreadable import refuse

from gsclip.commands.render import render_files
from gsclip.errors import InputError
from gsclip.scans import find_scans


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def render(folder, output):
    return render_files([folder], output, views=1, image_size=32, cameras="front")


def test_what_is_left_out_is_told_once(tmp_path, monkeypatch, caplog):
    parts = tmp_path / "parts"
    refuse(monkeypatch, [parts / "closed"])
    touch(parts, "a.ply", "a.png", "closed/b.ply", "elsewhere/c.ply")
    (parts / "link").symlink_to(parts / "elsewhere")
    (parts / "elsewhere" / "round").symlink_to(parts)
    assert list(find_scans([parts])) == ["a", "c"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{parts / 'closed'}: cannot be looked into (Permission denied) and is left out; check its permissions",
        f"{parts}: 1 pictures have the name of a scan beside them and no camera file, left out: a.png",
        f"{parts}: 2 links to folders are not followed, left out: elsewhere/round, link",
    ]
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        find_scans([parts / "closed"])
    (tmp_path / "named").symlink_to(parts / "elsewhere")
    assert list(find_scans([tmp_path / "named"])) == ["c"]  # who names it wants it


def test_results_beside_the_scans_are_not_told_of(tmp_path, caplog):
    touch(tmp_path, "a.ply", "out/a/rendered_0.png")
    np.savez(tmp_path / "out" / "a.npz", points=np.zeros((1, 3)), point_scores=np.zeros(1))
    (tmp_path / "results").symlink_to(tmp_path / "out")
    assert list(find_scans([tmp_path], tmp_path / "out")) == ["a"]
    assert not caplog.records


def test_scans_among_the_results_are_told(tmp_path, caplog):
    touch(tmp_path, "a.ply", "out/b.ply", "out/deep/c.xyz")
    assert list(find_scans([tmp_path], tmp_path / "out")) == ["a"]
    problem = "2 scans lie in the folder of the results, left out: out/b.ply, out/deep/c.xyz"
    assert caplog.messages == [f"{tmp_path}: {problem}"]


def test_images_without_a_camera_are_rejected_as_such(tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "depth.png").write_bytes(png())
    touch(parts, "empty.PNG", "part.ply", "part_mask.png", "part_rgb.png", "part.png", "rgb/part.png", "gt/other.png")
    rejected = [str(error) for error in render(parts, tmp_path / "out")]
    assert len(rejected) == 3
    assert "depth.png: is a depth image without a camera file depth.json or camera.json" in rejected[0]
    assert "empty.PNG: scan file is empty" in rejected[1] or "empty.PNG: depth image file is empty" in rejected[1]
    assert "part.ply: scan file is empty" in rejected[2]
    table = pd.read_csv(tmp_path / "out" / "rejected.csv")
    assert set(table["check"]) == {"readable"}
    write_camera(parts)
    touch(parts, "part.ply")
    assert len(find_scans([parts])) == 4  # part.png is a depth image now


def test_a_folder_of_nothing_that_can_be_read_is_not_called_empty(tmp_path):
    (tmp_path / "photo.png").write_bytes(png())
    (tmp_path / "part.las").write_bytes(b"LASF")
    assert len(render(tmp_path, tmp_path / "out")) == 2
    touch(tmp_path, "none/.hidden.ply", "none/notes.txt", "none/.hidden/a.ply")
    with pytest.raises(InputError, match=r"holds no scans; known are .*, and \.png with a camera file"):
        find_scans([tmp_path / "none"])


@pytest.mark.parametrize(
    "files",
    [
        ("x.ply", "x.xyz", "x.ply.ply"),
        ("x.ply", "x.xyz", "x.ply.ply", "x.ply.xyz", "x.ply.ply.ply", "x.xyz.ply"),
        ("a/x.ply", "a/x.xyz", "b/x.ply", "b/x.xyz"),
        ("a-b/x.ply", "a/b-x.ply", "a-b-x.ply", "a/b/x.ply"),
        ("x.ply", "x-2.ply", "x.xyz", "x.ply-2.ply", "x.ply.ply", "x.ply.xyz"),
    ],
)
def test_names_are_unique_whatever_they_are(tmp_path, files):
    touch(tmp_path, *files)
    found = find_scans([tmp_path])
    assert sorted(found.values()) == sorted(tmp_path / name for name in files)
    assert found == find_scans([tmp_path])
    assert not any("/" in name for name in found)
    relative = find_scans([Path(name) for name in files])
    assert len(relative) == len(files)


def test_names_are_as_short_as_they_can_be(tmp_path):
    touch(tmp_path, "x.ply", "x.xyz", "x.ply.ply")
    names = {path.name: name for name, path in find_scans([tmp_path]).items()}
    assert names == {"x.ply": "x.ply", "x.xyz": "x.xyz", "x.ply.ply": f"{tmp_path.name}-x.ply"}
    assert list(find_scans([Path("a.ply"), Path("b/a.ply")])) == ["a", "b-a"]
    assert list(find_scans([Path("a-b/x.ply"), Path("a/b-x.ply")])) == ["x", "b-x"]
    assert list(find_scans([Path("x/b-a.ply"), Path("x-b/a.ply"), Path("a.ply")])) == ["b-a", "x-b-a", "a"]


def test_the_same_path_counts_once(tmp_path):
    touch(tmp_path, "a.ply")
    assert find_scans([tmp_path, tmp_path / "a.ply"]) == {"a": tmp_path / "a.ply"}


def test_no_name_leads_out_of_the_folder_of_the_results(tmp_path):
    for path in (Path("..ply"), Path("...ply"), Path("/x.ply"), Path("/a/x.ply")):
        for others in ([], [Path("/x.xyz")]):
            for name in find_scans([path, *others]):
                assert os.path.dirname(os.path.normpath(os.path.join("/out", name))) == "/out"
    assert list(find_scans([Path("rejected.csv.ply")])) == ["rejected.csv-2"]  # the table has this name


def test_a_scan_that_is_a_pair_of_dots_leaves_the_results_alone(tmp_path):
    (tmp_path / "..ply").write_bytes(ply())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    assert not render_files([tmp_path / "..ply"], tmp_path / "out", views=1, image_size=32, cameras="front")
    assert sorted(os.listdir(tmp_path / "out")) == ["..ply", "mine.txt", "rejected.csv"]
