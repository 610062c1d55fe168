import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gsclip.data.sample import Sample
from gsclip.errors import InputError
from gsclip.metrics.region_overlap import image_regions, per_region_overlap
from gsclip.metrics.sample_scores import sample_scores
from gsclip.metrics.table import METRICS, SOURCES, SampleScores, categories_table, evaluate_samples
from gsclip.scores.prediction import Prediction


def plate(name, category, defect, seed, *, organised=True, strength=0.3):
    """A square plate of 20 x 20 points in a grid of 40 x 40; its defect is a square, one of its pixels is missing."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[10:30, 10:30]
    pixels = np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.int32)
    grid_mask = np.zeros((40, 40), dtype=bool)
    if defect != "good":
        grid_mask[12:17, 12:17] = True
        grid_mask[29:32, 20:24] = True  # two of its three rows lie where nothing was measured
    mask = grid_mask[pixels[:, 0], pixels[:, 1]]
    points = np.concatenate([pixels, rng.normal(0, 0.01, (400, 1))], axis=1).astype(np.float32)
    sample = Sample(
        points=points,
        normals=np.tile(np.float32([0, 0, -1]), (400, 1)),
        pixels=pixels if organised else None,
        grid=(40, 40) if organised else None,
        mask=mask,
        grid_mask=grid_mask if organised else None,
    )
    label = int(defect != "good")
    scores = np.clip(rng.random(400) * 0.7 + strength * mask, 0, 1).astype(np.float32)
    prediction = Prediction(
        object_score=float(np.clip(rng.normal(0.4 + 0.2 * label, 0.1), 0, 1)),
        point_scores=scores,
        view_probabilities=np.zeros(1, dtype=np.float32),
        view_maps=np.zeros((1, 2, 2), dtype=np.float32),
    )
    return sample_scores(name, category, defect, label, prediction, sample)


def plates(category, seed, **options):
    kinds = ["good"] * 6 + ["hole"] * 5 + ["cut"] * 4
    return [
        plate(f"{category}/test/{kind}/{i:03d}", category, kind, seed * 100 + i, **options)
        for i, kind in enumerate(kinds)
    ]


@pytest.fixture(scope="module")
def samples():
    return [*plates("bolt", 1), *plates("ring", 2)]


@pytest.fixture(scope="module")
def metrics(samples):
    return evaluate_samples(iter(samples), seed=7, bootstrap_repeats=200, threshold=0.5, data={"test": "plates"})


def test_structure_holds_every_metric_as_a_triple(metrics):
    assert list(metrics) == [
        "data", "mean", "o_auroc_interval", "o_ap_interval", "point_auroc_interval",
        "threshold", "f1_at_threshold", "categories", "defects",
    ]  # fmt: skip
    for figures in (metrics["mean"], *metrics["categories"].values()):
        for metric in METRICS:
            assert list(figures[metric]) == list(SOURCES)
            assert all(0 <= value <= 1 for value in figures[metric].values())
    assert metrics["categories"]["ring"]["samples"] == 15
    assert metrics["categories"]["ring"]["defective"] == 9
    assert metrics["data"]["samples"] == 30
    assert metrics["data"]["test"] == "plates"


def test_figures_agree_with_direct_computation(samples, metrics):
    ring = [sample for sample in samples if sample.category == "ring"]
    masks = np.concatenate([sample.point_mask for sample in ring])
    scores = np.concatenate([sample.point_scores for sample in ring])
    figures = {metric: triple["ours"] for metric, triple in metrics["categories"]["ring"].items() if metric in METRICS}
    assert figures["point_auroc"] == pytest.approx(roc_auc_score(masks, scores))
    grids = np.concatenate([sample.grid_mask.ravel() for sample in ring])
    pixels = np.concatenate([sample.pixel_scores.ravel() for sample in ring])
    assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(grids, pixels))
    labels, objects = [sample.label for sample in ring], [sample.object_score for sample in ring]
    assert figures["o_auroc"] == pytest.approx(roc_auc_score(labels, objects))
    parts = [(sample.pixel_scores, image_regions(sample.grid_mask)) for sample in ring]
    assert figures["pixel_pro"] == pytest.approx(per_region_overlap(parts, 0.3))


def test_mean_is_over_categories(metrics):
    for metric in METRICS:
        rows = [figures[metric]["ours"] for figures in metrics["categories"].values()]
        assert metrics["mean"][metric]["ours"] == pytest.approx(np.mean(rows))


def test_oracle_is_perfect_on_points_and_not_on_the_grid_where_points_are_missing(metrics):
    mean = metrics["mean"]
    for metric in ("o_auroc", "o_ap", "point_auroc", "point_pro"):
        assert mean[metric]["oracle"] == pytest.approx(1.0)
    # Per defective scan 37 pixels of ground truth, 8 of them without a point: those tie with the background.
    assert mean["pixel_auroc"]["oracle"] == pytest.approx(1 - 8 / 37 / 2, abs=1e-6)
    assert 0.5 < mean["pixel_pro"]["oracle"] < 1


def test_chance_is_half_on_points_and_far_above_on_the_grid(metrics):
    assert metrics["mean"]["point_auroc"]["random"] == pytest.approx(0.5, abs=0.06)
    assert metrics["mean"]["pixel_auroc"]["random"] > 0.7


def test_intervals_surround_the_figures_and_are_reproducible(samples, metrics):
    for metric in ("o_auroc", "o_ap", "point_auroc"):
        low, high = metrics[f"{metric}_interval"]
        assert low < metrics["mean"][metric]["ours"] < high
    again = evaluate_samples(samples, seed=7, bootstrap_repeats=200, threshold=0.5, data={"test": "plates"})
    assert json.dumps(again) == json.dumps(metrics)


def test_figures_do_not_depend_on_the_order_of_samples(samples, metrics):
    again = evaluate_samples(samples[::-1], seed=7, bootstrap_repeats=200, threshold=0.5)
    assert again["categories"] == metrics["categories"]


def test_another_seed_changes_chance_and_nothing_of_ours(samples, metrics):
    other = evaluate_samples(samples, seed=8, bootstrap_repeats=10)
    assert other["mean"]["point_auroc"]["random"] != metrics["mean"]["point_auroc"]["random"]
    assert other["mean"]["point_auroc"]["ours"] == metrics["mean"]["point_auroc"]["ours"]


def test_kinds_of_defects_stand_against_the_good_samples_of_their_category(samples, metrics):
    assert {kind: row["samples"] for kind, row in metrics["defects"].items()} == {"cut": 8, "hole": 10}
    expected, expected_points = [], []
    for category in ("bolt", "ring"):
        chosen = [s for s in samples if s.category == category and s.defect in ("good", "hole")]
        expected.append(roc_auc_score([s.label for s in chosen], [s.object_score for s in chosen]))
        masks = np.concatenate([s.point_mask for s in chosen])
        expected_points.append(roc_auc_score(masks, np.concatenate([s.point_scores for s in chosen])))
    assert metrics["defects"]["hole"]["o_auroc"] == pytest.approx(np.mean(expected))
    assert metrics["defects"]["hole"]["point_auroc"] == pytest.approx(np.mean(expected_points))


def test_unorganised_samples_have_no_pixel_metrics():
    result = evaluate_samples(plates("vase", 3, organised=False), bootstrap_repeats=10)
    assert result["mean"]["pixel_auroc"] == {"ours": None, "random": None, "oracle": None}
    assert result["mean"]["pixel_pro"]["oracle"] is None
    assert result["mean"]["point_pro"]["oracle"] == pytest.approx(1.0)
    assert result["threshold"] is None
    assert result["f1_at_threshold"] is None


def test_a_category_of_good_samples_alone_has_no_ranking_figures_and_does_not_spoil_the_mean(samples):
    good = [plate(f"nut/test/good/{i}", "nut", "good", i) for i in range(3)]
    result = evaluate_samples([*samples, *good], bootstrap_repeats=10)
    assert result["categories"]["nut"]["o_auroc"]["ours"] is None
    assert result["categories"]["nut"]["o_auroc_interval"] == [None, None]
    assert result["mean"]["o_auroc"] == evaluate_samples(samples, bootstrap_repeats=10)["mean"]["o_auroc"]
    assert result["o_auroc_interval"][0] is not None


def test_background_that_scores_nothing_cannot_help_point_metrics(samples):
    """The part's points alone decide: another background changes nothing there (it does in the pixel figures)."""
    padded = []
    for sample in samples:
        grid_mask = np.pad(sample.grid_mask, 30)
        scores = np.pad(sample.pixel_scores, 30)
        padded.append(dataclasses.replace(sample, grid_mask=grid_mask, pixel_scores=scores, pixels=sample.pixels + 30))
    before = evaluate_samples(samples, bootstrap_repeats=10)["mean"]
    after = evaluate_samples(padded, bootstrap_repeats=10)["mean"]
    assert after["point_auroc"] == before["point_auroc"]
    assert after["point_pro"] == before["point_pro"]
    assert after["pixel_auroc"]["random"] > before["pixel_auroc"]["random"]


def test_categories_table_is_worst_first(metrics):
    table = categories_table(metrics)
    assert table["o_auroc"].is_monotonic_increasing
    row = table.iloc[0]
    figures = metrics["categories"][row["category"]]
    assert row["point_pro_oracle"] == figures["point_pro"]["oracle"]
    assert [row["o_auroc_low"], row["o_auroc_high"]] == figures["o_auroc_interval"]


def test_scattered_categories_and_empty_input_are_rejected(samples):
    with pytest.raises(InputError, match="sort them by category"):
        evaluate_samples([samples[0], samples[-1], samples[1]], bootstrap_repeats=2)
    with pytest.raises(InputError, match="no sample"):
        evaluate_samples([])


def test_scores_join_their_ground_truth(samples):
    sample = samples[-1]
    assert sample.point_regions.max() == 2
    assert sample.pixel_scores[12, 12] == sample.point_scores[2 * 20 + 2]
    assert sample.pixel_scores[0, 0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"object_score": float("nan")}, "not finite"),
        ({"point_scores": np.zeros(3)}, "3 scores for 400 points"),
        ({"label": -1}, "label -1"),
        ({"point_regions": np.zeros(400, dtype=int)}, "outside every region"),
        ({"pixels": None}, "lacks pixel scores"),
        ({"grid_mask": np.zeros((4, 4), dtype=bool)}, "another shape"),
    ],
)
def test_contradictions_are_named(samples, change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(samples[-1], **change)


def test_abnormal_sample_without_mask_and_foreign_prediction_are_rejected():
    points = np.zeros((5, 3), dtype=np.float32)
    prediction = Prediction(0.5, np.zeros(5, np.float32), np.zeros(1, np.float32), np.zeros((1, 2, 2), np.float32))
    with pytest.raises(InputError, match="no mask"):
        sample_scores("a", "c", "hole", 1, prediction, Sample(points=points, normals=points))
    with pytest.raises(InputError, match="5 scores for 4 points"):
        sample_scores("a", "c", "good", 0, prediction, Sample(points=points[:4], normals=points[:4]))


def test_sample_scores_is_frozen(samples):
    with pytest.raises(dataclasses.FrozenInstanceError):
        samples[0].label = 1
    assert isinstance(samples[0], SampleScores)
