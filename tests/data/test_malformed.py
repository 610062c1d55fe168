"""A corpus of broken inputs: each is rejected with a line of its own, and the good scans beside them go on."""

import functools
import io
import json
import os
import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import tifffile
from tests.data.scan_corpus import (
    cloud,
    colours,
    numpy_bytes,
    off,
    organised,
    pcd,
    ply,
    png,
    text,
    tiff,
    valid_files,
    write_camera,
)
from tests.detectors import untrained_detector
from tests.explosive import Explosive

from gsclip.commands.render import render_files
from gsclip.commands.score import score_files
from gsclip.data import preparing
from gsclip.data.own_parts import own_parts_index
from gsclip.features.backbone import load_backbone
from gsclip.params import ScanParams

SCAN_PARAMS = ScanParams(background="none", max_points=200_000)


def flat():
    points = cloud().copy()
    points[:, 2] = 1
    return points


def line():
    return np.linspace(0, 1, 400)[:, None] * np.ones(3)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def npy_header(shape, kind="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def zip_bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", npy_header((10**10, 3)) + bytes(10**6))
    return buffer.getvalue()


def objects(path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Explosive(path)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def tiff_header_bomb():
    content = bytearray(tiff())
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[name]
            content[tag.valueoffset : tag.valueoffset + tag.valuebytecount] = (60_000).to_bytes(
                tag.valuebytecount, "little"
            )
    return bytes(content)


def cut(content, kept=0.6):
    return content[: int(kept * len(content))]


NAN = np.full((400, 3), np.nan, dtype=np.float32)
MOSTLY_NAN = np.concatenate([cloud(), NAN])
VALID = valid_files()
# By file name: content, and words of the message that only this problem has.
CORPUS = {
    # truncated
    **{
        f"cut_{name}": (cut(content), None)
        for name, content in VALID.items()
        if name not in ("rows.xyz", "rows.xyzrgb", "mesh.obj")  # whose end nothing marks
    },
    "cut_row.xyz": (text(cloud()) + b"0.1 0.2\n", "only 180 of 181 rows hold points"),
    # of another kind than the extension says
    **{
        f"letter{extension}": (b"Dear Sir,\nplease find the scan enclosed.\n", "cannot be read as")
        for extension in (".ply", ".pcd", ".xyz", ".pts", ".obj", ".off", ".stl", ".npy", ".npz", ".tiff", ".png")
    },
    "zip.ply": (numpy_bytes(archive=True), "cannot be read as PLY"),
    "ply.npy": (ply(), "cannot be read as a NumPy array"),
    "png.tiff": (png(), "cannot be read as TIFF"),
    "zeros.ply": (bytes(5000), "cannot be read as PLY"),
    "zeros.tiff": (bytes(5000), "cannot be read as TIFF"),
    "zeros.stl": (bytes(5000), "cannot be read as STL"),
    "empty.ply": (b"", "is empty"),
    "empty.png": (b"", "is empty"),
    "unknown.las": (b"LASF", "no installed library reads LAS and LAZ files"),
    # points that are no part
    "nan.npy": (numpy_bytes(NAN), "has only 0 distinct points"),
    "infinite.npy": (numpy_bytes(np.full((400, 3), np.inf)), "has only 0 distinct points"),
    "mostly_nan.npy": (numpy_bytes(MOSTLY_NAN), "% of the points are missing"),
    "one.xyz": (b"1 2 3\n", "has only 1 distinct points"),
    "one.ply": (ply(points=cloud()[:1]), "has only 1 distinct points"),
    "same.npy": (numpy_bytes(np.ones((500, 3))), "has only 1 distinct points"),
    "flat.npy": (numpy_bytes(flat()), "in one plane"),
    "line.npy": (numpy_bytes(line()), "on one line"),
    "narrow.npy": (numpy_bytes(cloud()[None]), "the grid has the size 1 x 180"),
    "huge.npy": (numpy_bytes(cloud() * 1e15), "is absurd"),
    "beyond.npy": (numpy_bytes(cloud().astype(np.float64) * 1e300), "has only 0 distinct points"),
    "tiny.npy": (numpy_bytes(cloud().astype(np.float64) * 1e-12), "is absurd"),
    "far.npy": (numpy_bytes(cloud() + np.float32(5000)), "cannot tell the points"),
    "no_points.ply": (ply(points=cloud()[:0]), "cannot be read as PLY"),
    # wrong types and shapes
    "integers.npy": (numpy_bytes(np.zeros((400, 3), int)), "holds int64"),
    "words.npy": (numpy_bytes(np.array(["a", "b"])), "holds <U1"),
    "table.npy": (numpy_bytes(np.zeros((400, 4))), "has the shape 400 x 4"),
    "records.npy": (numpy_bytes(np.zeros(9, dtype=[("x\n", "f4"), ("y", "f4")])), "instead of float coordinates"),
    "photo.tiff": (tiff(array=np.zeros((20, 20, 3), np.uint8)), "holds uint8"),
    "photo.png": (png(np.zeros((20, 20, 3), np.uint8)), "is an image of mode RGB"),
    "lacks_key.npz": (numpy_bytes(archive=True, vertices=cloud()), "has no array 'points'"),
    "rgb_out.xyzrgb": (text(np.hstack([cloud(), colours() * 9.0])), "colours out of range"),
    # promises that no file keeps
    "promise.ply": (ply("binary_little_endian", promised=2**31), "ends before the 2147483648 points"),
    "promise_text.ply": (ply(promised=2**31), "ends before the 2147483648 points"),
    "promise.pcd": (pcd("binary", promised=2**31), "ends before the 2147483648 points"),
    "promise_packed.pcd": (pcd("binary_compressed", promised=2**31), "ends before the points"),
    "promise.npy": (npy_header((10**12, 3)), "more than can be read"),
    "promise.stl": (bytes(80) + struct.pack("<I", 2**31), "ends before the 2147483648 facets"),
    "promise.pts": (b"2147483648\n" + text(cloud()), "ends before the 2147483648 points"),
    "promise.off": (b"OFF\n2147483648 1 0\n" + text(cloud()), "ends before the 2147483648 points"),
    "bomb.png": (png_bomb(), "more pixels than can be read"),
    "bomb.npz": (zip_bomb(), "more than can be read"),
    "bomb.tiff": (tiff_header_bomb(), "more than can be read"),
    # meshes
    "no_vertices.obj": (b"f 1 2 3\n", "faces between vertices"),
    "no_vertices_no_faces.obj": (b"o part\n", "cannot be read as OBJ"),
    "foreign_vertex.off": (off().replace(b"\n3 0 1 16\n", b"\n3 0 1 999\n"), "faces between vertices"),
    "no_area.obj": (b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "cannot be read as OBJ"),
    "no_facets.stl": (bytes(84), "cannot be read as STL"),
}


def write_corpus(folder):
    """Write the corpus to a folder; the number of inputs that must be rejected, and words of their messages."""
    write_camera(folder)
    expected = {}
    for name, (content, words) in CORPUS.items():
        (folder / name).write_bytes(content)
        expected[name] = words or ""
    np.save(folder / "objects.npy", np.zeros(1))
    (folder / "objects.npy").write_bytes(objects(folder / "exploded"))
    expected["objects.npy"] = "cannot be read as a NumPy array of numbers"
    os.symlink(folder / "loop.ply", folder / "loop.ply")
    os.symlink(folder / "nowhere", folder / "dangling.xyz")
    os.mkfifo(folder / "pipe.ply")
    (folder / "folder.ply").mkdir()
    expected |= {
        "loop.ply": "is a link that leads to no file",
        "dangling.xyz": "is a link that leads to no file",
        "pipe.ply": "is a pipe or a device",
        "folder.ply": "is a folder",
    }
    foreign = os.path.join(os.fsencode(folder), b"name\xff.ply")
    with open(foreign, "wb") as file:
        file.write(ply())
    expected["name\\udcff.ply"] = "has a name that is not UTF-8"
    (folder / "two\nlines.ply").write_bytes(b"no cloud")
    expected["two\\nlines.ply"] = "cannot be read as PLY"
    (folder / "locked.ply").write_bytes(ply())
    (folder / "locked.ply").chmod(0)
    expected["locked.ply"] = "cannot be read; check its permissions"
    return expected


@pytest.fixture
def _no_permission(monkeypatch):
    """The superuser may read every file: let this one be told otherwise."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and access(path, mode))


def write_good(folder):
    names = ("text.ply", "binary.pcd", "mesh.off", "grid.npy", "lzw.tiff", "depth.png")
    for name in names:
        (folder / f"fine_{name}").write_bytes(VALID[name])
    return [f"fine_{name}" for name in names]


def holds(rejected, expected, folder):
    """Compare rejected.csv with what is expected: one row for each input, with its own problem and a remedy."""
    found = {os.path.relpath(row.path, folder): row for row in rejected.itertuples()}
    assert set(found) == set(expected)
    assert len(rejected) == len(expected) >= 40
    for name, words in expected.items():
        row = found[name]
        assert words in f"{row.problem}; {row.remedy}", name
        assert row.remedy, name
        assert row.check, name
        assert "\n" not in row.problem + row.remedy


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "gsclip"
    untrained_detector(load_backbone(), threshold=0.5, trained_on={}).save(folder)
    return folder


@pytest.mark.usefixtures("_no_permission")
def test_scoring_a_folder_of_broken_scans(model, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    expected = write_corpus(scans)
    good = write_good(scans)
    rejected = score_files([scans], model, tmp_path / "out")
    assert sorted(os.path.basename(json.loads(path.read_text())["scan"]) for path in (tmp_path / "out").glob("*.json")
                  ) == sorted(good)  # fmt: skip
    assert len(pd.read_csv(tmp_path / "out" / "samples.csv")) == len(good)
    holds(pd.read_csv(tmp_path / "out" / "rejected.csv", keep_default_na=False), expected, scans)
    lines = [str(error) for error in rejected]
    assert len(lines) == len(set(lines)) == len(expected)
    assert all(line.startswith(str(scans)) and "\n" not in line for line in lines)
    assert "Traceback" not in capsys.readouterr().err
    assert not (scans / "exploded").exists()


@pytest.mark.usefixtures("_no_permission")
def test_preparing_a_folder_of_broken_scans(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(preparing, "ordered_map", map)  # in this process, where permissions are told
    root = tmp_path / "parts"
    folder = root / "nut" / "good"
    folder.mkdir(parents=True)
    expected = write_corpus(folder)
    good = write_good(folder)
    masks = {
        "short.ply": ("short_mask.npy", numpy_bytes(np.zeros(7, bool)), "the mask has 7 values and the scan 180"),
        "words.xyz": ("words_mask.txt", b"good\nbad\n", "cannot be read as a table of labels"),
        "picture.xyz": ("picture_mask.png", png(), "the scan has no pixels"),
        "marked.xyz": ("marked_mask.csv", b"label\n" + b"1\n" * 180, "the label says good and the mask marks 180"),
        "other.tiff": ("other_mask.png", png(np.zeros((3, 4), np.uint8)), "has 3 x 4 pixels and the scan 12 x 15"),
        "plain.xyz": ("plain_mask.ply", ply(), "the mask has no colours"),
    }
    for number, (name, (mask, content, words)) in enumerate(masks.items()):
        points = organised() * np.float32(2 + number)
        (folder / name).write_bytes(
            tiff(array=points) if name.endswith(".tiff") else ply(points=points.reshape(-1, 3))
            if name.endswith(".ply") else text(points.reshape(-1, 3))
        )  # fmt: skip
        (folder / mask).write_bytes(content)
        expected[name if "the label says" in words else mask] = words
    # The same wave in files of two kinds each.
    expected["fine_text.ply"] = "holds the same points as nut/good/fine_binary.pcd"
    expected["fine_lzw.tiff"] = "holds the same points as nut/good/fine_grid.npy"
    index = own_parts_index(root)
    read = functools.partial(preparing.read_row, "own_parts", str(root), 0)
    accepted = preparing.prepare_index(index, read, tmp_path / "prepared", SCAN_PARAMS, 1.0)
    rejected = pd.read_csv(tmp_path / "prepared" / "rejected.csv", keep_default_na=False)
    rejected["path"] = [path if os.path.isabs(path) else str(root / path) for path in rejected["path"]]
    holds(rejected, expected, folder)
    assert {os.path.basename(path) for path in accepted["scan_path"]} == set(good) - set(expected)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("limit", [0.4, 0.6])
def test_the_stage_fails_only_beyond_the_limit(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(preparing, "ordered_map", map)
    folder = tmp_path / "parts" / "nut" / "good"
    folder.mkdir(parents=True)
    for number in range(4):
        content = ply(points=cloud() * np.float32(1 + number))
        (folder / f"{number}.ply").write_bytes(cut(content) if number % 2 else content)
    read = functools.partial(preparing.read_row, "own_parts", str(tmp_path / "parts"), 0)
    arguments = (own_parts_index(tmp_path / "parts"), read, tmp_path / "prepared", SCAN_PARAMS, limit)
    if limit > 0.5:
        assert len(preparing.prepare_index(*arguments)) == 2
    else:
        with pytest.raises(preparing.GsclipError, match="2 of 4 samples are rejected"):
            preparing.prepare_index(*arguments)


def test_a_scan_named_on_the_command_line_tells_why_it_is_not_read(tmp_path):
    (tmp_path / "a.las").write_bytes(b"LASF")
    (tmp_path / "depth.png").write_bytes(png())
    very_long = tmp_path / ("x" * 300 + ".ply")
    errors = render_files(
        [tmp_path / "a.las", tmp_path / "depth.png", very_long], tmp_path / "out", views=1, image_size=64,
        cameras="front",
    )  # fmt: skip
    for error, words in zip(errors, ("LAS", "without a camera file", "too long a name"), strict=True):
        assert words in str(error)
