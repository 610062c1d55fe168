import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from scipy.spatial import cKDTree
from tests.data.synthesis.shapes import BLOCK, block, hill_scan, ring, ring_cloud, sheet, thin_box, write_mesh
from typer.testing import CliRunner

from gsclip.cli import app
from gsclip.data.checks import REJECTED_COLUMNS
from gsclip.data.own_parts import SPLITS, own_parts_index, read_row
from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.sensor import CHANGED
from gsclip.data.sample import Scan
from gsclip.data.scan_files import read_scan
from gsclip.data.synthesis import files
from gsclip.data.synthesis.files import Settings, find_sources, open_source, splits_of, synthesize
from gsclip.data.synthesis.solids import DIAGONAL, MeshSolid, noise_of, outward_normals
from gsclip.data.synthesis.strikes import KINDS, changed_from
from gsclip.errors import InputError
from gsclip.storage import sha256

SETTINGS = Settings(points=10_000, size=(0.1, 0.3), strength=(0.015, 0.06), side=96)


def diagonal(points):
    return float(np.linalg.norm(np.ptp(points, axis=0)))


def within(sample, settings=SETTINGS):
    """Whether size and strength are in the ranges asked for."""
    return settings.size[0] <= sample.size <= settings.size[1] and (
        settings.strength[0] <= sample.strength <= settings.strength[1]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_on_a_mesh(tmp_path, kind):
    path = write_mesh(tmp_path / "block.ply", block())
    source, make = open_source(path, "block.ply", SETTINGS)
    assert source == "mesh"
    sample = make(kind, 0)
    assert within(sample)
    # Distances from the flawless block, of which geometry knows everything.
    half = np.array(BLOCK) / 2
    q = np.abs(sample.points - half) - half
    away = np.abs(np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)) / np.linalg.norm(BLOCK)
    assert (away[~sample.mask] <= 1.01 * CHANGED / DIAGONAL).all()
    assert (away[sample.mask] >= 0.9 * CHANGED / DIAGONAL).all()
    assert away[sample.mask].max() >= SETTINGS.strength[0]
    # The mask is as large as the size says, for the number of points on so much surface.
    x, y, z = BLOCK
    area = sample.mask.sum() * 2 * (x * y + y * z + z * x) / SETTINGS.points
    assert np.sqrt(4 / np.pi * area) / np.linalg.norm(BLOCK) == pytest.approx(sample.size, rel=0.2)
    # All points but those at the defect lie where they lay, and none but those are gone.
    assert 0.9 * SETTINGS.points < len(sample.points) < 1.15 * SETTINGS.points
    assert (away[~sample.mask] < 1e-6).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_on_a_cloud(tmp_path, kind):
    base = ring_cloud()
    np.save(tmp_path / "ring.npy", base)
    source, make = open_source(tmp_path / "ring.npy", "ring.npy", SETTINGS)
    assert source == "cloud"
    sample = make(kind, 1)
    assert within(sample)
    rows = {row.tobytes() for row in base}
    same = np.array([row.tobytes() in rows for row in sample.points])
    assert same.mean() > 0.8
    assert not (sample.mask & same).any()  # a ring is thick: nothing is cut through

    def off(points):  # distance from the flawless ring, in parts of its size
        radius = np.hypot(points[:, 0], points[:, 1])
        return np.abs(np.hypot(radius - 30, points[:, 2]) - 12) / diagonal(base)

    noise = 0.02 / diagonal(base)
    limit = changed_from(0.0) / DIAGONAL
    # Within noise and what a coarse cloud says about its surface.
    assert (off(sample.points[sample.mask]) > 0.5 * limit).all()
    assert off(sample.points[~sample.mask]).max() < 1.5 * limit + 5 * noise
    assert off(sample.points[sample.mask]).max() > SETTINGS.strength[0] - 5 * noise
    # Fresh points lie about as densely as the others.
    spacing = np.median(cKDTree(base).query(base, k=2)[0][:, 1])
    fresh = sample.points[sample.mask]
    assert 0.5 < np.median(cKDTree(fresh).query(fresh, k=2)[0][:, 1]) / spacing < 1.5


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_on_an_organised_scan(tmp_path, kind, parallel):
    scan = hill_scan(parallel)
    tifffile.imwrite(tmp_path / "hill.tiff", scan, photometric="rgb")
    source, make = open_source(tmp_path / "hill.tiff", "hill.tiff", SETTINGS)
    assert source == "organised"
    sample = make(kind, 0)
    assert within(sample)
    size = diagonal(prepare_sample(read_scan(tmp_path / "hill.tiff")).points)
    changed = ~((sample.points == scan) | (np.isnan(sample.points) & np.isnan(scan))).all(axis=2)
    assert not np.isnan(scan[changed]).any()  # no measurement appears where there was none
    moved = np.linalg.norm(sample.points - scan, axis=2)
    assert moved[changed & ~sample.mask & np.isfinite(moved)].max(initial=0) < 1.01 * CHANGED / DIAGONAL * size
    shown = sample.mask & np.isfinite(moved)
    assert shown.sum() >= 8
    assert (moved[shown] > 0.99 * CHANGED / DIAGONAL * size).all()
    # Along the rays: those of a camera keep x / z and y / z, parallel ones x and y.
    ways = [points[..., :2] if parallel else points[..., :2] / points[..., 2:] for points in (scan, sample.points)]
    np.testing.assert_allclose(ways[1][shown], ways[0][shown], atol=1e-6)
    if kind not in ("bulge", "hole", "bend"):  # a hole's rim may be raised, an end bent up
        assert (sample.points[shown][:, 2] > scan[shown][:, 2]).all()
    if kind == "bulge":
        assert (sample.points[shown][:, 2] < scan[shown][:, 2]).all()
    assert not (sample.mask & (scan[..., 2] > 0.599)).any()  # the table stays


@pytest.mark.parametrize("kind", ["dent", "hole", "bend"])
def test_scans_of_a_mesh_from_the_front(tmp_path, kind):
    path = write_mesh(tmp_path / "ring.stl", ring())
    settings = Settings(view="front", side=120, size=(0.08, 0.3))
    _, make = open_source(path, "ring.stl", settings)
    good, damaged = make("good", 0), make(kind, 0)
    for sample in (good, damaged):
        assert sample.points.shape == (120, 120, 3)
        assert np.isnan(sample.points).any(axis=2).mean() > 0.1  # gaps, as a sensor has them
        # In the unit of the mesh: nothing is larger than the ring.
        assert 0.7 * 84 < diagonal(prepare_sample(Scan(sample.points)).points) < 1.05 * np.linalg.norm([84, 84, 24])
    assert not good.mask.any()
    assert within(damaged, settings)
    both = np.isfinite(good.points).all(axis=2) & np.isfinite(damaged.points).all(axis=2)
    part = np.zeros(both.shape, dtype=bool)
    part[tuple(prepare_sample(Scan(good.points)).pixels.T)] = True
    off = np.linalg.norm(good.points - damaged.points, axis=2)
    # One pose and its own noise: apart from the defect both scans show the same.
    if np.median(off[both & part & ~damaged.mask]) < 0.2:  # else the first pose did not show the defect
        assert np.median(off[both & part & damaged.mask]) > 3 * np.median(off[both & part & ~damaged.mask])
    assert prepare_sample(Scan(damaged.points, damaged.mask)).mask.sum() >= 8


@pytest.fixture
def good_parts(tmp_path):
    folder = tmp_path / "good"
    write_mesh(folder / "block.ply", block())
    (folder / "rings").mkdir()
    np.save(folder / "rings" / "a.npy", ring_cloud())
    (folder / "hills").mkdir()
    tifffile.imwrite(folder / "hills" / "a.tiff", hill_scan(), photometric="rgb")
    (folder / "broken.ply").write_bytes(b"ply\nnothing")
    return folder


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_becomes_a_data_set_that_is_read_back(tmp_path, good_parts):
    settings = Settings(kinds=("dent", "hole"), points=10_000, per_kind=2, good=2, size=(0.1, 0.3), split="train")
    rejected = synthesize(good_parts, tmp_path / "out", settings)
    out = tmp_path / "out"
    assert [error.where for error in rejected] == [str(good_parts / "broken.ply")]
    rows = pd.read_csv(out / "rejected.csv", keep_default_na=False)
    assert tuple(rows.columns) == REJECTED_COLUMNS
    assert rows.loc[0, ["name", "path", "check"]].tolist() == ["broken.ply", str(good_parts / "broken.ply"), "readable"]

    index = own_parts_index(out, splits=SPLITS)
    counts = index.groupby(["category", "defect"]).size().to_dict()
    assert counts == {
        **{(category, kind): 2 for category in ("block", "rings", "hills") for kind in ("dent", "hole")},
        ("block", "good"): 2,
        ("rings", "good"): 1,
        ("hills", "good"): 1,
    }
    assert set(index["split"]) == {"train"}
    for _, row in index.iterrows():
        scan = read_row(out, row)
        assert scan.organised == (row["category"] == "hills")
        assert scan.mask.any() == (row["label"] == 1)
        assert prepare_sample(scan).mask.any() == (row["label"] == 1)
    row = index[(index["category"] == "rings") & (index["label"] == 0)].iloc[0]
    np.testing.assert_array_equal(read_row(out, row).points, ring_cloud())

    with (out / "labels.csv").open() as file:
        assert csv.DictReader(file).fieldnames == ["scan", "category", "split", "defect", "mask"]
    record = json.loads((out / "synthesis.json").read_text())
    assert record["parameters"]["kinds"] == ["dent", "hole"]
    assert {source["path"]: source["sha256"] for source in record["sources"]} == {
        name: sha256(good_parts / name) for name in ("block.ply", "rings/a.npy", "hills/a.tiff")
    }
    assert {sample["scan"] for sample in record["samples"]} == set(index["scan_path"])


def test_the_layout_of_organised_scans_is_that_of_mvtec_3d_ad(tmp_path):
    from gsclip.data.mvtec3d import mvtec_3d_ad_index

    (tmp_path / "good" / "hills").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "good" / "hills" / "a.tiff", hill_scan(), photometric="rgb")
    synthesize(tmp_path / "good", tmp_path / "out", Settings(kinds=("bulge",), size=(0.1, 0.3)))
    index = mvtec_3d_ad_index(tmp_path / "out", splits=["test"])
    assert index["name"].tolist() == ["hills/test/bulge/000", "hills/test/good/000"]


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(tmp_path, good_parts):
    (good_parts / "broken.ply").unlink()
    settings = Settings(kinds=("bulge", "hole"), points=10_000, size=(0.1, 0.3), seed=3)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            synthesize(good_parts, tmp_path / str(number), settings)
            results.append(content(tmp_path / str(number)))
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1]
    synthesize(good_parts, tmp_path / "other", replace(settings, seed=4))
    other = content(tmp_path / "other")
    assert set(other) == set(results[0])
    damaged = [name for name in other if "/bulge/" in name or "/hole/" in name]
    assert all(other[name] != results[0][name] for name in damaged if name.endswith((".ply", ".tiff")))


def test_what_fails_in_the_middle_leaves_nothing_and_keeps_what_was_there(tmp_path, good_parts, monkeypatch):
    settings = Settings(kinds=("dent",), points=10_000, size=(0.1, 0.3))
    out = tmp_path / "out"
    synthesize(good_parts, out, settings)
    before = content(out)
    write = files._write

    def full(root: Path, place: Path, *args: object):
        if place.parts[-1] == "dent":
            raise OSError(28, "No space left on device", str(root))
        return write(root, place, *args)

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        synthesize(good_parts, out, settings)
    with pytest.raises(OSError, match="No space left"):
        synthesize(good_parts, tmp_path / "new", settings)
    assert content(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "out"]


def test_a_share_of_the_parts_goes_to_the_split_validation_with_all_of_its_samples(tmp_path, good_parts):
    settings = Settings(kinds=("dent",), points=10_000, size=(0.1, 0.3), split="train", validation=0.3, seed=2)
    for name in ("first", "second"):
        synthesize(good_parts, tmp_path / name, settings)
    assert content(tmp_path / "first") == content(tmp_path / "second")
    index = own_parts_index(tmp_path / "first", splits=SPLITS)
    splits = index.groupby("category")["split"].unique()
    assert sorted(len(names) for names in splits) == [1, 1, 1]
    assert sorted(names[0] for names in splits) == ["train", "train", "validation"]
    assert set(index.loc[index["split"] == "validation", "defect"]) == {"dent", "good"}
    for path in index["scan_path"]:
        assert read_scan(tmp_path / "first" / path)
    # A part is the same in either split.
    plain = content(tmp_path / "first")
    synthesize(good_parts, tmp_path / "plain", replace(settings, validation=0.0))
    scans = {name for name in content(tmp_path / "plain") if name.endswith((".ply", ".tiff"))}
    assert scans == {name.replace("/validation/", "/train/") for name in plain if name.endswith((".ply", ".tiff"))}


def test_the_share_for_validation_is_spread_over_the_parts_and_drawn_by_the_seed():
    sources = [Path(f"{number:03d}.ply") for number in range(40)]
    drawn = {
        seed: splits_of(Path("good"), sources, Settings(split="train", validation=0.25, seed=seed)) for seed in range(8)
    }
    for splits in drawn.values():
        assert splits.count("validation") == 10
        assert all(splits[start : start + 4].count("validation") == 1 for start in range(0, 40, 4))
    assert len({tuple(splits) for splits in drawn.values()}) > 1
    for share, expected in ((0.01, 1), (0.99, 39), (0.5, 20), (0.0, 0)):
        settings = Settings(split="train", validation=share)
        assert splits_of(Path("good"), sources, settings).count("validation") == expected
    with pytest.raises(InputError, match="one part alone"):
        splits_of(Path("good"), sources[:1], Settings(validation=0.5))


@pytest.mark.parametrize("seed", range(3))
def test_broken_files_take_no_place_in_the_split_validation(tmp_path, seed):
    for name in ("b", "e"):
        write_mesh(tmp_path / "good" / f"{name}.ply", block())
    for name in ("a", "c", "d", "f"):
        (tmp_path / "good" / f"{name}.ply").write_bytes(b"junk")
    settings = Settings(kinds=("dent",), points=10_000, size=(0.1, 0.3), validation=0.3, seed=seed)
    rejected = synthesize(tmp_path / "good", tmp_path / "out", settings)
    assert [Path(error.where).name for error in rejected] == ["a.ply", "c.ply", "d.ply", "f.ply"]
    assert set(own_parts_index(tmp_path / "out", splits=SPLITS)["split"]) == {"test", "validation"}


def test_a_split_of_broken_files_alone_is_told(tmp_path):
    for name in ("a", "b"):
        write_mesh(tmp_path / "good" / f"{name}.ply", block())
    settings = Settings(kinds=("dent",), points=10_000, size=(0.1, 0.3), validation=0.5)
    validation = splits_of(tmp_path, [Path("a"), Path("b")], settings).index("validation")
    (tmp_path / "good" / f"{'ab'[validation]}.ply").write_bytes(b"junk")
    rejected = synthesize(tmp_path / "good", tmp_path / "out", settings)
    assert "no sample of the split validation could be made" in str(rejected[1])
    assert set(own_parts_index(tmp_path / "out", splits=SPLITS)["split"]) == {"test"}


def test_files_of_others_in_the_output_are_not_deleted(tmp_path, good_parts):
    settings = Settings(kinds=("dent",), points=10_000, size=(0.1, 0.3))
    out = tmp_path / "out"
    synthesize(good_parts, out, settings)
    synthesize(good_parts, out, replace(settings, kinds=("bulge",)))  # what it wrote itself is replaced
    assert not any("/dent/" in name for name in content(out))
    for name in ("notes.txt", "block/test/good/mine.ply", ".hidden/x"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        before = content(out)
        with pytest.raises(InputError) as caught:
            synthesize(good_parts, out, settings)
        assert caught.value.where == str(out / name)
        assert "was not written by synthesize" in str(caught.value)
        assert content(out) == before
        (out / name).unlink()
    (out / "synthesis.json").write_text("[]")
    with pytest.raises(InputError, match="is no record of synthesised data"):
        synthesize(good_parts, out, settings)


def test_a_file_that_comes_while_data_is_made_is_not_deleted(tmp_path, good_parts, monkeypatch):
    settings = Settings(kinds=("dent",), points=10_000, size=(0.1, 0.3))
    out = tmp_path / "out"
    synthesize(good_parts, out, settings)
    write = files._write

    def late(*args: object):
        (out / "notes.txt").write_text("mine")
        return write(*args)

    monkeypatch.setattr(files, "_write", late)
    with pytest.raises(InputError, match="was not written by synthesize"):
        synthesize(good_parts, out, settings)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_with_something_else_is_not_replaced(tmp_path, good_parts):
    with pytest.raises(InputError, match="holds something else"):
        synthesize(good_parts, good_parts, SETTINGS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        synthesize(good_parts, tmp_path / "file", SETTINGS)
    assert (tmp_path / "file").read_text() == "x"
    assert (good_parts / "block.ply").is_file()


def test_a_kind_that_a_part_cannot_take_is_reported(tmp_path):
    write_mesh(tmp_path / "good" / "tray.ply", thin_box())
    settings = Settings(kinds=("scratch", "dent", "hole"), size=(0.08, 0.2), strength=(0.02, 0.06), points=30_000)
    rejected = synthesize(tmp_path / "good", tmp_path / "out", settings)
    assert len(rejected) == 1
    row = pd.read_csv(tmp_path / "out" / "rejected.csv").iloc[0]
    assert (row["name"], row["path"], row["check"]) == ("tray.ply", rejected[0].where, "preparation")
    assert row["remedy"] == "change --size or --strength, or leave the kind out"
    assert "takes no scratch of that size and strength (1 of 1 samples not made)" in str(rejected[0])
    assert sorted(own_parts_index(tmp_path / "out")["defect"]) == ["dent", "good", "hole"]


def test_thin_walls_are_dented_on_both_faces_and_cut_through_with_a_marked_rim(tmp_path):
    path = write_mesh(tmp_path / "tray.ply", thin_box())
    settings = Settings(size=(0.08, 0.2), strength=(0.02, 0.06), points=30_000)
    _, make = open_source(path, "tray.ply", settings)
    good = make("good", 0).points
    for kind in ("dent", "hole"):
        sample = make(kind, 0)
        assert sample.mask.sum() >= 8
        # Places on the flawless tray that are left without a point nearby: the defect.
        gone = good[cKDTree(sample.points).query(good)[0] > 1.2]
        assert len(gone) > 10
        marked = sample.points[sample.mask]
        # The farthest that a lost place lies from a marked one: the radius of the hole, the depth of the dent.
        assert cKDTree(marked).query(gone)[0].max() < 0.15 * diagonal(good)
        if kind == "dent":  # still closed: as much surface as before
            assert abs(len(sample.points) / settings.points - 1) < 0.03
            assert sample.mask.sum() > 0.5 * len(gone)


def test_parts_that_cannot_be_used_are_refused_with_the_reason(tmp_path):
    def refused(path, settings=SETTINGS):
        with pytest.raises(InputError) as caught:
            open_source(path, path.name, settings)
        assert str(path) in str(caught.value)
        return str(caught.value)

    open_mesh = write_mesh(tmp_path / "sheet.ply", sheet())
    assert "faces point both ways" in refused(open_mesh)
    assert "is not closed" in refused(open_mesh, Settings(view="front"))
    np.save(tmp_path / "ring.npy", ring_cloud())
    assert "no faces" in refused(tmp_path / "ring.npy", Settings(view="front"))
    assert "too few points" in refused(tmp_path / "ring.npy", Settings(size=(0.005, 0.01)))
    np.save(tmp_path / "noisy.npy", ring_cloud(noise=0.5))
    message = refused(tmp_path / "noisy.npy")
    assert "would hide defects that shallow" in message
    needed = float(message.split("--strength from ")[1].split()[0])
    open_source(tmp_path / "noisy.npy", "noisy.npy", Settings(size=(0.1, 0.3), strength=(1.05 * needed, 0.2)))
    tifffile.imwrite(tmp_path / "table.tiff", np.where(np.isnan(hill_scan()), 0, np.nan), photometric="rgb")
    with pytest.raises(InputError):
        open_source(tmp_path / "table.tiff", "table.tiff", SETTINGS)


def test_masks_and_colours_are_no_parts(tmp_path):
    for name in ("a.ply", "a_mask.ply", "masks/a.npy", "hills/xyz/0.tiff", "hills/gt/0.tiff", "hills/rgb/0.png"):
        (tmp_path / "good" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "good" / name).touch()
    found = find_sources(tmp_path / "good", tmp_path / "out")
    assert [path.relative_to(tmp_path / "good").as_posix() for path in found] == ["a.ply", "hills/xyz/0.tiff"]


def test_a_folder_of_nothing_usable_is_an_error_and_makes_no_folder(tmp_path):
    with pytest.raises(InputError, match="not found"):
        synthesize(tmp_path / "none", tmp_path / "out", SETTINGS)
    (tmp_path / "good").mkdir()
    with pytest.raises(InputError, match="holds no meshes or scans"):
        synthesize(tmp_path / "good", tmp_path / "out", SETTINGS)
    (tmp_path / "good" / "x.ply").write_bytes(b"junk")
    with pytest.raises(InputError, match="nothing could be made of 1 files"):
        synthesize(tmp_path / "good", tmp_path / "out", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kinds": ("rust",)}, "--kinds: not known: rust; choose among bulge"),
        ({"kinds": ("dent", "dent")}, "--kinds: none named, or one named twice"),
        ({"kinds": ()}, "--kinds: none named"),
        ({"view": "back"}, "--view: back is not known"),
        ({"split": "all"}, "--split: all is not known"),
        ({"size": (0.2, 0.1)}, "--size: 0.2 to 0.1 is no range"),
        ({"size": (0.1, 0.9)}, "--size: 0.1 to 0.9 is no range"),
        ({"strength": (0.0, 0.1)}, "--strength: 0 to 0.1 is no range"),
        ({"strength": (float("nan"), 0.1)}, "--strength: nan to 0.1 is no range"),
        ({"validation": 1.0}, "--validation: 1 is no share"),
        ({"validation": float("nan")}, "--validation: nan is no share"),
        ({"validation": 0.2, "split": "validation"}, "--validation: all parts go to the split validation"),
        ({"points": 10}, "--points: 10 is too small"),
        ({"seed": -1}, "--seed: -1 is too small"),
        ({"per_kind": 0, "good": 0}, "no samples are asked for"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(InputError) as caught:
        Settings(**values)
    assert message in str(caught.value)


def test_a_closed_mesh_is_told_from_an_open_one_and_normals_point_outwards():
    mesh = ring()
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    solid = MeshSolid(vertices, triangles[:, ::-1])  # wound inside out
    assert solid.closed
    points, normals = solid.sample(4000, np.random.default_rng(0))
    outside = solid.field(torch.from_numpy((points + 0.3 * normals).T.astype(np.float32)))
    torch.testing.assert_close(outside, torch.full_like(outside, 0.3), atol=0.03, rtol=0)
    assert not MeshSolid(vertices, triangles[: len(triangles) // 3]).closed


def test_normals_and_noise_of_a_cloud():
    cloud = ring_cloud(noise=0.1).astype(np.float64)
    normals = outward_normals(cloud)
    flat = cloud * [1, 1, 0]
    outwards = cloud - flat / np.linalg.norm(flat, axis=1, keepdims=True) * 30
    assert (np.einsum("nd,nd->n", normals, outwards) > 0).mean() > 0.999
    assert noise_of(cloud) == pytest.approx(0.1, rel=0.3)


def test_the_command(tmp_path, good_parts):
    arguments = ["synthesize", str(good_parts), "--output", str(tmp_path / "out"), "--kinds", "dent"]
    options = ["--points", "10000", "--size", "0.1", "0.3", "--split", "validation"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 2  # one file is broken
    assert "broken.ply" in result.output
    assert set(own_parts_index(tmp_path / "out", splits=SPLITS)["split"]) == {"validation"}
    result = CliRunner().invoke(app, [*arguments, *options[:-2], "--validation", "0.3"])
    assert result.exit_code == 2
    assert set(own_parts_index(tmp_path / "out", splits=SPLITS)["split"]) == {"test", "validation"}
    result = CliRunner().invoke(app, [*arguments, "--kinds", "rust"])
    assert result.exit_code == 2
    assert "choose among bulge, dent" in result.output
