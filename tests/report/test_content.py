import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from tests.report.plates import make_run, reader

from gsclip.report.content import plain_text, report_content
from gsclip.report.gallery import draw_gallery
from gsclip.report.published import PUBLISHED, published_for


@pytest.fixture(scope="module")
def content(run, items):
    return report_content(run, draw_gallery(run.samples, reader(items), count=2, threshold=run.threshold))


def limits_of(run):
    return " ".join(report_content(run)["limits"])


def test_results_are_those_of_the_metrics(run, content):
    for row in content["results"]:
        assert {source: row[source] for source in ("ours", "random", "oracle")} == run.metrics["mean"][row["metric"]]
    intervals = {row["metric"]: row["interval"] for row in content["results"]}
    assert intervals["o_auroc"] == run.metrics["o_auroc_interval"]
    assert intervals["point_pro"] is None


def test_another_data_set_stands_beside_the_own_one(run, content):
    assert content["cross"] is None
    other = report_content(dataclasses.replace(run, cross=run.metrics))["cross"]
    assert other["results"] == content["results"]
    assert other["samples"] == content["samples"]


def test_decisions_are_counted_at_the_threshold(content):
    counts = {key: content["decisions"][key] for key in ("true_positive", "false_positive", "false_negative")}
    # Per category: 0.62 of the good ones is a false alarm, 0.42 of the defective ones is missed.
    assert counts == {"true_positive": 6, "false_positive": 2, "false_negative": 2}
    assert content["decisions"]["precision"] == 0.75


def test_kinds_of_defects_come_worst_first_with_what_was_found(content):
    assert [(row["defect"], row["found"], row["samples"]) for row in content["defects"]] == [
        ("cut", 2, 4),
        ("dent", 4, 4),
    ]


def test_gallery_says_what_was_an_alarm(content):
    assert [(row["group"], row["defect"], row["alarm"]) for row in content["gallery"]] == [
        ("worst", "cut", True),
        ("worst", "cut", True),
        ("highest-good", "good", True),
        ("highest-good", "good", True),
        ("best", "dent", True),
        ("best", "dent", True),
    ]


def test_all_values_are_plain(content):
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_limits_name_the_embedded_backbone_and_generated_parts_only_where_they_hold(run, items):
    assert "not CLIP" in limits_of(run)
    assert "generated" in limits_of(run)
    assert "test split" not in limits_of(run)
    facts = {
        "dataset": "mvtec_3d_ad",
        "training_dataset": "mvtec_3d_ad",
        "training_splits": ["test"],
        "backbone": "ViT-B-32",
    }
    real = make_run(items, data=facts)
    assert "not CLIP" not in limits_of(real)
    assert "generated" not in limits_of(real)
    assert "test split of the auxiliary categories" in limits_of(real)
    assert "had seen" not in limits_of(real)
    assert "that training had seen" in limits_of(make_run(items, data={**facts, "calibration_held_out": False}))
    across = make_run(items, data={**facts, "training_dataset": "procedural"})
    assert "trained on generated parts alone" in limits_of(across)
    assert report_content(real)["embedded_backbone"] is False


def test_limits_say_when_the_result_cannot_be_told_from_chance(run):
    def with_interval(low, high):
        return dataclasses.replace(run, metrics={**run.metrics, "o_auroc_interval": [low, high]})

    assert "cannot be told from chance" in limits_of(with_interval(0.4, 0.7))
    assert "cannot be told from chance" not in limits_of(with_interval(0.6, 0.7))
    assert "0.600 to 0.700" in limits_of(with_interval(0.6, 0.7))


def test_limits_count_rejected_scans_and_defects_without_points(run):
    assert "1 scan was rejected" in limits_of(run)
    blind = run.samples.assign(
        point_auroc=np.where(run.samples["name"].str.endswith("2"), np.nan, run.samples["point_auroc"])
    )
    assert "On 2 of 8 defective samples" in limits_of(dataclasses.replace(run, samples=blind))
    several = pd.concat([run.rejected, run.rejected])
    assert "2 scans were rejected" in limits_of(dataclasses.replace(run, rejected=several))


def test_rejected_scans_have_their_reasons(run):
    row = {"name": "ring/test/good/009", "path": "a.ply", "check": "points", "problem": "few", "remedy": "scan again"}
    known = report_content(dataclasses.replace(run, rejected=pd.DataFrame([row])))
    assert known["rejected"] == [row]
    (less,) = report_content(run)["rejected"]
    assert (less["problem"], less["remedy"]) == ("only 3 distinct points", "")


def test_a_run_without_threshold_has_no_decisions(items):
    content = report_content(make_run(items, threshold=None))
    assert content["decisions"] is None
    assert content["defects"][0]["found"] is None
    assert "threshold was chosen" not in " ".join(content["limits"])


def test_published_figures_are_of_the_data_set_or_of_the_usual_one():
    assert {row.dataset for row in published_for("eyecandies")} == {"eyecandies"}
    assert {row.dataset for row in published_for("procedural")} == {"mvtec_3d_ad"}
    figures = next(row for row in PUBLISHED if row.method == "GS-CLIP")
    assert (figures.o_auroc, figures.o_ap, figures.pixel_auroc, figures.pixel_pro) == (83.6, 96.5, 96.3, 86.4)


@pytest.mark.parametrize(
    ("value", "text"),
    [(["a", "b"], "a, b"), ({"stage1": 0, "stage2": 1}, "stage1 0, stage2 1"), (True, "true"), ("", "–"), (0, "0")],
)
def test_values_read_as_plain_text(value, text):
    assert plain_text(value) == text
