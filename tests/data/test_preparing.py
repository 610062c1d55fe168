import functools

import numpy as np
import pandas as pd
import pytest

from gsclip.data import datasets, preparing
from gsclip.data.datasets import DataSet
from gsclip.data.index import INDEX_COLUMNS, read_index
from gsclip.data.sample import Sample, Scan
from gsclip.errors import GsclipError, InputError
from gsclip.params import PrepareParams
from gsclip.storage import Pack


def index(_):
    rows = [
        {"name": f"{category}/test/{defect}/{number:03d}", "dataset": "procedural", "category": category,
         "split": "test", "defect": defect, "label": int(defect != "good"),
         "scan_path": "", "mask_path": "", "color_path": ""}
        for category in ("b", "a") for number, defect in enumerate(["good", "hole", "good"])
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(INDEX_COLUMNS))


def read(_root, row, _seed, *, broken):
    if row["name"] in broken:
        raise InputError(row["name"], "is broken", "scan it again")
    random = np.random.default_rng(len(row["name"]))
    points = random.normal(size=(300, 3)).astype(np.float32)
    return Scan(points, mask=points[:, 0] > 1 if row["label"] else np.zeros(300, bool))


@pytest.fixture
def prepare(monkeypatch, tmp_path):
    # In this process: the data set of the test is not known to others.
    monkeypatch.setattr(preparing, "ordered_map", map)

    def run(broken=(), limit=0.5):
        reader = functools.partial(read, broken=broken)
        monkeypatch.setattr(preparing, "DATASETS", {"procedural": DataSet(index, reader)})
        params = PrepareParams(
            dataset="procedural", root="", auxiliary_categories=("a",), test_categories=("b",), auxiliary_samples=2,
            calibration_samples=2, test_samples=2, rejected_share_limit=limit,
            background="auto", max_points=200_000, seed=0,
        )  # fmt: skip
        return preparing.prepare_dataset(params, tmp_path), tmp_path

    return run


def test_every_sample_is_in_the_pack_of_its_category(prepare):
    accepted, folder = prepare()
    assert read_index(folder / "index.csv").equals(accepted)
    for category in ("a", "b"):
        with Pack(folder / f"{category}.h5", Sample) as pack:
            assert sorted(pack.names) == sorted(accepted.loc[accepted["category"] == category, "name"])
            assert pack[f"{category}/test/hole/001"].mask.any()
    assert pd.read_csv(folder / "rejected.csv").empty


def test_broken_scans_are_listed_and_the_others_go_on(prepare):
    accepted, folder = prepare(broken=("a/test/good/002",))
    assert len(accepted) == 5
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected["name"].tolist() == ["a/test/good/002"]
    assert rejected.columns.tolist() == ["name", "path", "check", "problem", "remedy"]
    assert rejected.loc[0, ["check", "problem", "remedy"]].tolist() == ["readable", "is broken", "scan it again"]
    with Pack(folder / "a.h5", Sample) as pack:
        assert "a/test/good/002" not in pack


def test_gaps_of_published_data_sets_are_warned_of(prepare, monkeypatch, caplog):
    counts = {("a", "test", "all"): 7, ("c", "test", "all"): 5}
    monkeypatch.setattr(datasets, "OFFICIAL_COUNTS", {"procedural": counts})
    prepare()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["procedural is not complete here: a/test 3 of 7"]


def test_too_many_rejected_scans_fail_the_stage(prepare):
    with pytest.raises(GsclipError, match="2 of 6 samples are rejected"):
        prepare(broken=("a/test/good/002", "b/test/hole/001"), limit=0.2)


def test_category_without_samples_fails_the_stage(prepare):
    with pytest.raises(GsclipError, match="all samples of a are rejected"):
        prepare(broken=("a/test/good/000", "a/test/hole/001", "a/test/good/002"))


def test_category_in_both_roles_is_refused():
    with pytest.raises(ValueError, match="not be zero-shot"):
        PrepareParams(
            dataset="procedural", root="", auxiliary_categories=("a", "b"), test_categories=("b",),
            auxiliary_samples=2, calibration_samples=2, test_samples=2, rejected_share_limit=0,
            background="auto", max_points=200_000, seed=0,
        )  # fmt: skip
