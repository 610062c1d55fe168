"""Incremental prepare, render and features: what is new is made, the rest taken over, bytes as those of a fresh run."""

import ast
import json
import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gsclip import reuse
from gsclip.data import own_parts, preparing
from gsclip.data.datasets import DATASETS
from gsclip.data.preparing import prepare_dataset, row_key
from gsclip.features import packing as features_packing
from gsclip.features.backbone import load_backbone
from gsclip.features.encode import ViewTokens
from gsclip.params import FeaturesParams, PrepareParams, RenderParams
from gsclip.reuse import KEYS_FILE, Store
from gsclip.storage import sha256
from gsclip.views import packing as views_packing

STEPS = ("prepared", "views", "features")
MADE = {"prepared": "prepare_sample", "views": "render_views", "tokens": "rendered_tokens", "groupings": "group_points"}
PREPARE = {
    "dataset": "own_parts", "auxiliary_categories": ("nut",), "test_categories": ("lid",), "auxiliary_samples": 2,
    "calibration_samples": 2, "test_samples": 2, "rejected_share_limit": 0.5, "background": "auto",
    "max_points": 200_000, "seed": 0,
}  # fmt: skip
RENDER = {"cameras": "front", "views": 1, "image_size": 240}
FEATURES = {
    "backbone": "embedded", "weights": "", "weights_sha256": "", "rendered_encoding": "normals",
    "depth_encoding": "contrast", "local_blocks": 1, "local_layers": (4,), "cloud_points": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


def quick_tokens(_encoder, views, _encoding):
    """Stand in for the backbone: tokens that depend on the views."""
    return ViewTokens((views.rendered[:, ::8, ::8] / 255).astype(np.float16))


def add_scan(root, category, number, *, defect="good", size=400):
    folder = root / category / "test" / defect
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([number, *category.encode()])
    points = random.normal(size=(size, 3)).astype(np.float32)
    np.save(folder / f"{number:03d}.npy", points)
    if defect != "good":
        np.save(folder / f"{number:03d}_mask.npy", points[:, 0] > 1)


class Project:
    """Raw data, outputs and stores in a folder; ``run`` gives the numbers of records that were made anew."""

    def __init__(self, folder, backbone, monkeypatch):
        self.folder, self.root, self.backbone = folder, folder / "raw", backbone
        self.made = Counter()
        monkeypatch.setattr(preparing, "ordered_map", map)  # in this process, where calls can be counted
        for module in (views_packing, features_packing):
            monkeypatch.setattr(module, "ordered_map", lambda function, items, few: map(function, items))
        monkeypatch.setattr(features_packing, "rendered_tokens", quick_tokens)
        for module, name in (
            (preparing, "prepare_sample"), (views_packing, "render_views"), (features_packing, "rendered_tokens"),
            (features_packing, "group_points"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, self.counted(name, getattr(module, name)))
        for category in ("nut", "lid"):
            for number in range(2):
                add_scan(self.root, category, number)
            add_scan(self.root, category, 2, defect="dent")

    def counted(self, name, function):
        def call(*arguments, **keywords):
            self.made[name] += 1
            return function(*arguments, **keywords)

        return call

    def run(self, *, outputs="data", store="store", prepare=(), render=(), features=()):
        self.made.clear()
        data = self.folder / outputs
        shutil.rmtree(data, ignore_errors=True)  # as DVC does
        stores = {step: Store(self.folder / store / step) if store else None for step in STEPS}
        params = PrepareParams(**PREPARE | {"root": str(self.root)} | dict(prepare))
        accepted = prepare_dataset(params, data / "prepared", stores["prepared"])
        views_packing.write_views(
            accepted, data / "prepared", data / "views", RenderParams(**RENDER | dict(render)), stores["views"]
        )
        features_packing.write_features(
            accepted, data / "prepared", data / "views", data / "features", self.backbone,
            FeaturesParams(**FEATURES | dict(features)), stores["features"],
        )  # fmt: skip
        for step, kept in stores.items():
            if kept is not None:
                kept.keep(data / step)
        return tuple(self.made[name] for name in MADE.values())

    def digests(self, outputs="data"):
        files = sorted(path for path in (self.folder / outputs).rglob("*") if path.is_file())
        return {path.relative_to(self.folder / outputs).as_posix(): sha256(path) for path in files}

    def assert_as_fresh(self, **changes):
        incremental = self.digests()
        self.run(outputs="fresh", store="", **changes)
        assert len(incremental) == 10  # two categories of four packs, two tables
        assert incremental == self.digests("fresh")


@pytest.fixture
def project(tmp_path, backbone, monkeypatch):
    project = Project(tmp_path, backbone, monkeypatch)
    assert project.run() == (6, 6, 6, 6)
    return project


def test_without_a_change_nothing_is_made_and_packs_are_links(project):
    before = project.digests()
    assert project.run() == (0, 0, 0, 0)
    assert project.digests() == before
    for step in STEPS:
        for pack in (project.folder / "data" / step).glob("*.h5"):
            assert os.path.samefile(pack, project.folder / "store" / step / pack.name)


def test_of_ten_more_scans_these_alone_are_made(project, caplog):
    caplog.set_level(logging.INFO, "gsclip.reuse")
    for number in range(10, 20):
        add_scan(project.root, "nut", number)
    assert project.run() == (10, 10, 10, 10)
    assert "prepare: nut: 3 of 13 taken over, 10 prepared" in caplog.messages
    assert "render: nut: 3 of 13 taken over, 10 rendered" in caplog.messages
    assert "features: nut: 3 of 13 taken over, 10 encoded" in caplog.messages
    assert "render: lid: 3 of 3 taken over, 0 rendered" in caplog.messages
    project.assert_as_fresh()


def test_scans_before_between_and_behind_the_others_come_out_in_their_order(project):
    (project.root / "lid/test/good/001.npy").rename(project.root / "lid/test/good/005.npy")
    for number in (3, 7):
        add_scan(project.root, "lid", number)
    assert project.run() == (3, 3, 3, 3)  # a renamed scan is another one
    project.assert_as_fresh()


def test_scans_are_removed_without_making_any(project):
    (project.root / "nut/test/good/000.npy").unlink()
    assert project.run() == (0, 0, 0, 0)
    project.assert_as_fresh()


def test_one_category_changes_alone(project):
    for path in (project.root / "lid").rglob("*.npy"):
        if "_mask" not in path.name:
            np.save(path, np.load(path) * (2, 1, 1))
    untouched = {file: value for file, value in project.digests().items() if "nut" in file}
    assert project.run() == (3, 3, 3, 3)
    assert untouched.items() <= project.digests().items()
    project.assert_as_fresh()


def test_another_unit_of_length_needs_no_new_tokens(project):
    path = project.root / "lid/test/good/000.npy"
    np.save(path, np.load(path) * 2)
    assert project.run() == (1, 1, 0, 1)  # the views are the same
    project.assert_as_fresh()


def test_a_changed_mask_is_noticed(project):
    path = project.root / "lid/test/dent/002_mask.npy"
    np.save(path, ~np.load(path))
    assert project.run() == (1, 1, 1, 1)
    project.assert_as_fresh()


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({"prepare": {"background": "none"}}, (6, 0, 0, 0)),  # clouds have no background: the same samples
        ({"prepare": {"rejected_share_limit": 0.4}}, (0, 0, 0, 0)),
        ({"render": {"views": 2}}, (0, 6, 6, 0)),
        ({"features": {"cloud_points": 300}}, (0, 0, 0, 6)),
        ({"features": {"local_layers": (3, 4)}}, (0, 0, 6, 0)),
        ({"features": {"depth_encoding": "grey"}}, (0, 0, 0, 0)),
    ],
)
def test_a_changed_parameter_makes_what_depends_on_it(project, changes, made):
    assert project.run(**changes) == made
    project.assert_as_fresh(**changes)


@pytest.mark.parametrize(
    ("file", "made"),
    [
        ("data/scan_files.py", (6, 0, 0, 0)),
        ("data/procedural/sdf.py", (6, 0, 0, 0)),
        ("data/synthesis/clouds.py", (0, 0, 0, 0)),
        ("views/cameras.py", (0, 6, 0, 0)),
        ("features/stem.py", (0, 0, 6, 6)),
        ("features/embedded/config.json", (0, 0, 6, 6)),
        ("prompts/gddm.py", (0, 0, 0, 0)),
        ("storage.py", (6, 6, 6, 6)),
    ],
)
def test_changed_code_makes_what_depends_on_it(project, monkeypatch, file, made):
    package = project.folder / "gsclip"
    shutil.copytree(reuse.PACKAGE, package, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    with (package / file).open("a") as source:
        source.write("\n")
    monkeypatch.setattr(reuse, "PACKAGE", package)
    assert project.run() == made


def test_other_weights_encode_anew(project, backbone):
    weight = backbone.clip.visual.proj
    before = weight.detach().clone()
    try:
        weight.data[0, 0] += 1
        assert project.run() == (0, 0, 6, 0)
    finally:
        weight.data.copy_(before)


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_pack_costs_time_alone(project, damage):
    path = project.folder / "store/views/nut.h5"
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert project.run() == (0, 3, 0, 0)
    project.assert_as_fresh()
    assert project.run() == (0, 0, 0, 0)


def test_an_output_that_is_written_in_place_damages_no_later_run(project):
    with (project.folder / "data/views/nut.h5").open("r+b") as file:
        file.seek(3000)
        file.write(b"other")
    assert project.run() == (0, 3, 0, 0)
    project.assert_as_fresh()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nut.h5": 1}', '{"nut.h5": {"sha256": "", "records": {"a": 1}}}'])
def test_a_broken_table_of_keys_costs_time_alone(project, content):
    (project.folder / "store/views" / KEYS_FILE).write_text(content)
    assert project.run() == (0, 6, 0, 0)
    project.assert_as_fresh()


def test_a_step_that_fails_leaves_the_store(project, monkeypatch):
    add_scan(project.root, "nut", 5)

    def fail(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(views_packing, "render_views", fail)
        with pytest.raises(RuntimeError, match="killed"):
            project.run()
    assert not (project.folder / "data/views/nut.h5").exists()
    assert project.run() == (1, 1, 1, 1)
    project.assert_as_fresh()


def test_a_store_half_replaced_gives_what_a_fresh_run_does(project):
    """Killed between the packs and the table of their keys."""
    table = (project.folder / "store/views" / KEYS_FILE).read_bytes()
    add_scan(project.root, "nut", 5)
    project.run()
    (project.folder / "store/views" / KEYS_FILE).write_bytes(table)
    assert project.run() == (0, 4, 0, 0)
    project.assert_as_fresh()


def test_a_store_that_cannot_be_written_is_a_warning(project, caplog):
    shutil.rmtree(project.folder / "store")
    (project.folder / "store").write_text("a file")
    assert project.run() == (6, 6, 6, 6)
    assert sum("cannot be written" in message for message in caplog.messages) == len(STEPS)
    project.assert_as_fresh()


def test_without_hard_links_packs_are_copied(project, monkeypatch):
    def no_links(*_):
        raise OSError(1, "not permitted")

    monkeypatch.setattr(os, "link", no_links)
    shutil.rmtree(project.folder / "store")
    project.run()
    assert project.run() == (0, 0, 0, 0)
    pack = project.folder / "data/views/nut.h5"
    assert not os.path.samefile(pack, project.folder / "store/views/nut.h5")
    project.assert_as_fresh()


def test_the_store_holds_the_last_packs_and_nothing_else(project):
    add_scan(project.root, "cap", 0)
    (project.folder / "store/views/.half").touch()
    project.run(prepare={"test_categories": ("cap",)})
    assert {path.name for path in (project.folder / "store/views").iterdir()} == {"nut.h5", "cap.h5", KEYS_FILE}
    table = json.loads((project.folder / "store/views" / KEYS_FILE).read_text())
    assert {file: len(content["records"]) for file, content in table.items()} == {"nut.h5": 3, "cap.h5": 1}


def test_rejected_scans_are_tried_again(project):
    broken = project.root / "nut/test/good/009.npy"
    broken.write_bytes(b"broken")
    assert project.run() == (0, 0, 0, 0)
    rejected = (project.folder / "data/prepared/rejected.csv").read_text()
    assert "good/009" in rejected
    assert project.run() == (0, 0, 0, 0)
    assert (project.folder / "data/prepared/rejected.csv").read_text() == rejected
    project.assert_as_fresh()
    add_scan(project.root, "nut", 9)
    assert project.run() == (1, 1, 1, 1)


def test_a_copy_of_a_scan_that_was_taken_over_is_still_a_duplicate(project):
    shutil.copy(project.root / "nut/test/good/000.npy", project.root / "nut/test/good/008.npy")
    project.run()
    assert "duplicate" in (project.folder / "data/prepared/rejected.csv").read_text()
    project.assert_as_fresh()
    (project.root / "nut/test/good/000.npy").unlink()
    assert project.run() == (1, 1, 1, 1)
    project.assert_as_fresh()


@pytest.mark.parametrize(
    ("there", "copy"),
    [("good/000", "dent/009"), ("dent/002", "good/000.again"), ("good/001", "dent/000"), ("dent/002", "good/002")],
)
def test_scans_whose_labels_contradict_each_other_leave_nothing_behind(project, there, copy):
    before = project.digests()
    there, copy = (project.root / "lid/test" / f"{place}.npy" for place in (there, copy))
    content = there.read_bytes()
    copy.write_bytes(content)
    assert project.run() == (1, 0, 0, 0)
    project.assert_as_fresh()
    rejected = project.digests()
    table = (project.folder / "data/prepared/rejected.csv").read_text()
    assert table.count("duplicate") == 2
    assert project.run() == (2, 0, 0, 0)
    assert project.digests() == rejected
    copy.unlink()
    there.unlink()
    project.run()
    packs = {file: value for file, value in project.digests().items() if file.endswith(".h5")}
    assert packs.items() <= rejected.items()
    there.write_bytes(content)
    assert project.run() == (1, 1, 1, 1)
    assert project.digests() == before


def test_procedural_scans_are_known_by_row_and_seed():
    index = DATASETS["procedural"].index(
        PrepareParams(**PREPARE | {
            "dataset": "procedural", "root": "", "auxiliary_categories": ("vase",), "test_categories": ("elbow",)
        })
    )  # fmt: skip
    keys = [row_key("procedural", "", seed, row) for seed in (0, 1) for _, row in index.iterrows()]
    assert len(set(keys)) == 2 * len(index)
    assert keys[: len(index)] == [row_key("procedural", "", 0, row) for _, row in index.iterrows()]


def test_a_scan_is_known_by_its_files_its_label_and_its_camera(tmp_path):
    folder = tmp_path / "nut" / "good"
    folder.mkdir(parents=True)
    for name, content in (("a.png", b"image"), ("a_rgb.png", b"colours"), ("a.json", b"{}"), ("b.npy", b"scan")):
        (folder / name).write_bytes(content)

    def keys():
        index = own_parts.own_parts_index(tmp_path)
        return {row["name"]: row_key("own_parts", str(tmp_path), 0, row) for _, row in index.iterrows()}

    before = keys()
    assert set(before) == {"nut/test/good/a", "nut/test/good/b"}
    for name in ("a.png", "a_rgb.png", "a.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        changed = keys()
        assert changed["nut/test/good/a"] != before["nut/test/good/a"], name
        assert changed["nut/test/good/b"] == before["nut/test/good/b"]
        (folder / name).write_bytes(content)
    assert keys() == before


def test_a_label_makes_another_scan_of_an_unlabelled_one(tmp_path):
    (tmp_path / "nut").mkdir()
    np.save(tmp_path / "nut/a.npy", np.zeros((3, 3)))
    (row,) = (row for _, row in own_parts.own_parts_index(tmp_path).iterrows())
    before = row_key("own_parts", str(tmp_path), 0, row)
    (tmp_path / "labels.csv").write_text("scan,category,label\nnut/a.npy,nut,0\n")
    (labelled,) = (row for _, row in own_parts.own_parts_index(tmp_path).iterrows())
    assert labelled.equals(row)
    assert row_key("own_parts", str(tmp_path), 0, labelled) != before


def test_a_depth_image_of_eyecandies_is_known_by_its_depths(tmp_path):
    data = tmp_path / "Confetto/test_public/data"
    data.mkdir(parents=True)
    for name in ("00_depth.png", "00_metadata.yaml", "00_info_depth.yaml"):
        (data / name).write_text("anomalous: 0")
    (row,) = (row for _, row in DATASETS["eyecandies"].listing(tmp_path).iterrows())
    before = row_key("eyecandies", str(tmp_path), 0, row)
    assert row_key("eyecandies", str(tmp_path), 0, row) == before
    (data / "00_info_depth.yaml").write_text("normalization: {min: 1, max: 2}")
    assert row_key("eyecandies", str(tmp_path), 0, row) != before


# Texts of errors, checks of parameters, whose values are in the keys, and the order of work.
WITHOUT_EFFECT = {"errors.py", "params.py", "parallel.py", "reuse.py"}


@pytest.mark.parametrize("step", [preparing, views_packing, features_packing])
def test_the_code_in_a_key_is_all_that_the_step_uses(step):
    package = reuse.PACKAGE
    declared = {path.relative_to(package).as_posix() for path in reuse.code_files(step.CODE)}
    waiting, used = [Path(step.__file__)], set()
    while waiting:
        path = waiting.pop()
        name = path.relative_to(package).as_posix()
        if name in used or name in WITHOUT_EFFECT:
            continue
        used.add(name)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gsclip"):
                base = package.parent / node.module.replace(".", "/")
                candidates = [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
                waiting += [candidate for candidate in candidates if candidate.is_file()]
    assert len(used) > 5
    assert used <= declared
    assert declared - used <= {
        name for name in declared if name.endswith(("__init__.py", ".json")) or name == "data/checking.py"
    }


def test_a_pattern_without_code_is_an_error():
    with pytest.raises(ValueError, match="no code matches"):
        reuse.code_digest(("views/*.py", "views/gone.py"))
