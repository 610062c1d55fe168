import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from gsclip.report.curves import PR_COLUMNS, ROC_COLUMNS, pr_curves, roc_curves, write_curves


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 1], 20)
    return pd.DataFrame(
        {
            "name": [f"{i}" for i in range(60)],
            "category": np.repeat(["ring", "bolt"], 30),
            "role": "test",
            "label": labels,
            "object_score": rng.random(60) + 0.3 * labels,
        }
    )


def test_all_categories_together_come_first_then_each_by_name(samples):
    for curves, columns in ((roc_curves(samples), ROC_COLUMNS), (pr_curves(samples), PR_COLUMNS)):
        assert tuple(curves.columns) == columns
        assert curves["category"].unique().tolist() == ["all", "bolt", "ring"]


def test_area_under_each_curve_is_the_auroc(samples):
    curves = roc_curves(samples)
    for category, rows in curves.groupby("category"):
        chosen = samples if category == "all" else samples[samples["category"] == category]
        area = np.trapezoid(rows["tpr"], rows["fpr"])
        assert area == pytest.approx(roc_auc_score(chosen["label"], chosen["object_score"]))


def test_precision_ends_at_the_share_of_the_abnormal(samples):
    rows = pr_curves(samples).query("category == 'all'")
    assert rows["recall"].is_monotonic_increasing
    assert rows["recall"].iloc[-1] == 1
    assert rows["precision"].iloc[-1] == pytest.approx(2 / 3)


def test_auxiliary_and_unlabelled_samples_are_left_out(samples):
    more = pd.concat(
        [samples, samples.assign(role="auxiliary", category="vase"), samples.assign(label=np.nan, category="odd")]
    )
    pd.testing.assert_frame_equal(roc_curves(more), roc_curves(samples))


def test_categories_of_one_class_have_no_curve(samples):
    good = samples[samples["label"] == 0]
    assert roc_curves(good).empty
    assert tuple(roc_curves(good).columns) == ROC_COLUMNS
    mixed = pd.concat([samples[samples["category"] == "bolt"], good[good["category"] == "ring"]])
    assert roc_curves(mixed)["category"].unique().tolist() == ["all", "bolt"]


def test_files_hold_the_curves_and_are_the_same_bytes_each_time(samples, tmp_path):
    write_curves(samples, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(first) == ["pr.csv", "roc.csv"]
    assert first["roc.csv"].startswith(b"fpr,tpr,category\n0.0,0.0,all\n")
    np.testing.assert_allclose(pd.read_csv(tmp_path / "roc.csv")["tpr"], roc_curves(samples)["tpr"])
    write_curves(samples, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
