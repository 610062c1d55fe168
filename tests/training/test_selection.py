"""What a model says about its data and parameters: digests that depend on what shapes the model and on nothing else."""

import os
import re

import numpy as np
import pandas as pd
import pytest
from tests.detectors import PARAMS

from gsclip.data.datasets import DATASETS, DataSet
from gsclip.data.index import INDEX_COLUMNS
from gsclip.data.sample import Sample
from gsclip.errors import InputError
from gsclip.storage import write_pack
from gsclip.training.selection import (
    calibration_names,
    data_sha256,
    licences,
    parameters_sha256,
    training_names,
)

AUXILIARY = ("vase", "biscuit")


def make_index():
    rows = []
    for category in ("biscuit", "vase", "elbow"):
        splits = ("test",) if category == "elbow" else ("train", "validation")
        for split in splits:
            for number, defect in enumerate(("good", "hole")):
                name = f"{category}/{split}/{defect}/{number:03d}"
                rows.append((name, "procedural", category, split, defect, number, f"{number}.tiff", "", ""))
    return pd.DataFrame(rows, columns=list(INDEX_COLUMNS))


def write_packs(folder, index, changed=None):
    """Packs of every category; the record of the name ``changed`` differs in one number."""
    for category, rows in index.groupby("category"):
        with write_pack(folder / f"{category}.h5") as pack:
            for name in rows["name"]:
                points = np.random.default_rng(len(name)).normal(size=(50, 3)).astype(np.float32)
                points[0, 0] += name == changed
                pack.add(name, Sample(points, points))
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_packs(tmp_path_factory.mktemp("prepared"), make_index())


def digest(folder, index=None, auxiliary=AUXILIARY):
    value = data_sha256(folder, make_index() if index is None else index, auxiliary)
    assert re.fullmatch("[0-9a-f]{64}", value)
    return value


def test_the_digest_of_the_data_does_not_depend_on_place_time_or_other_categories(prepared, tmp_path):
    again = write_packs(tmp_path / "elsewhere", make_index(), changed="elbow/test/hole/001")
    for path in again.iterdir():
        os.utime(path, (1, 1))
    assert digest(again) == digest(prepared)
    index = make_index()
    assert digest(prepared, index[index["category"] != "elbow"].reset_index(drop=True)) == digest(prepared)
    moved = index.assign(scan_path="/elsewhere/" + index["scan_path"])
    assert digest(prepared, moved) == digest(prepared)
    assert digest(prepared, auxiliary=AUXILIARY[::-1]) == digest(prepared)


@pytest.mark.parametrize("name", ["vase/train/hole/001", "biscuit/validation/good/000"])
def test_the_digest_of_the_data_depends_on_every_sample_used(prepared, tmp_path, name):
    assert digest(write_packs(tmp_path, make_index(), changed=name)) != digest(prepared)
    index = make_index()
    assert digest(prepared, index[index["name"] != name]) != digest(prepared)


def test_the_digest_of_the_data_depends_on_labels_roles_order_and_categories(prepared):
    index = make_index()
    assert digest(prepared, index.assign(label=1 - index["label"])) != digest(prepared)
    assert digest(prepared, index.assign(split="train")) != digest(prepared)
    assert digest(prepared, index[::-1]) != digest(prepared)
    assert digest(prepared, auxiliary=AUXILIARY[:1]) != digest(prepared)


def test_the_digest_of_the_data_covers_what_is_trained_on_and_calibrated_with(prepared):
    index = make_index()
    used = {*training_names(index, AUXILIARY), *calibration_names(index, AUXILIARY)}
    assert used == set(index.loc[index["category"] != "elbow", "name"])


def test_a_missing_pack_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"biscuit\.h5: pack of samples not found; run `dvc repro prepare`"):
        digest(tmp_path)


def changed(group, **values):
    return PARAMS.model_copy(update={group: getattr(PARAMS, group).model_copy(update=values)})


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("prepare", {"seed": 7}),
        ("prepare", {"auxiliary_samples": 3}),
        ("prepare", {"auxiliary_categories": ("vase",)}),
        ("prepare", {"background": "none"}),
        ("prepare", {"max_points": 5000}),
        ("prepare", {"mask_color": "00ff00"}),
        ("render", {"views": 2}),
        ("features", {"cloud_points": 999}),
        ("stage1", {"learning_rate": 0.1}),
        ("stage2", {"lora_rank": 2}),
        ("predict", {"smoothing": 0.0}),
    ],
)
def test_the_digest_of_the_parameters_depends_on_what_shapes_the_model(group, values):
    value = parameters_sha256(changed(group, **values))
    assert re.fullmatch("[0-9a-f]{64}", value)
    assert value != parameters_sha256(PARAMS)


@pytest.mark.parametrize(
    ("group", "values"),
    [
        ("prepare", {"root": "/elsewhere"}),
        ("prepare", {"test_categories": ("elbow",)}),
        ("prepare", {"test_samples": 3}),
        ("evaluate", {"bootstrap_repeats": 3}),
        ("cross", {"root": "/elsewhere"}),
        ("report", {"gallery": 1}),
    ],
)
def test_the_digest_of_the_parameters_leaves_out_what_does_not_reach_the_model(group, values):
    assert parameters_sha256(changed(group, **values)) == parameters_sha256(PARAMS)


def test_the_digest_of_the_parameters_is_that_of_canonical_json():
    import hashlib
    import json

    values = PARAMS.model_dump(mode="json")
    names = ("auxiliary_categories", "auxiliary_samples", "background", "calibration_samples", "dataset", "mask_color")
    names += ("max_points", "seed")
    content = {name: values[name] for name in ("stage2", "stage1", "render", "predict", "features")}
    content["prepare"] = {name: values["prepare"][name] for name in names}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert parameters_sha256(PARAMS) == hashlib.sha256(text.encode()).hexdigest()


def test_generated_parts_and_the_embedded_backbone_need_no_look():
    sentences = licences(PARAMS)
    assert sentences["pointnet"] is None
    for part in ("code", "backbone", "data"):
        assert sentences[part].startswith("Apache-2.0: ")


def test_real_data_and_foreign_weights_need_a_look():
    real = licences(changed("prepare", dataset="mvtec_3d_ad"))["data"]
    assert real.startswith("check: ")
    assert "CC BY-NC-SA 4.0" in real
    for weights in ("openai", "laion2b_s32b_b82k"):
        sentence = licences(changed("features", backbone="ViT-L-14", weights=weights))["backbone"]
        assert sentence.startswith("check: ")
        assert ("MIT" in sentence) == (weights == "openai")
    checkpoint = licences(changed("stage1", pointnet_weights="s3dis.pth"))["pointnet"]
    assert checkpoint.startswith("check: ")
    assert "s3dis.pth" in checkpoint


def test_every_data_set_states_its_licence_and_one_that_states_none_needs_a_look():
    default = DataSet.licence
    assert default.startswith("check: ")
    assert all(entry.licence != default for entry in DATASETS.values())
