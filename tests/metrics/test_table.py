import dataclasses
import json
import tracemalloc
import weakref
import zlib

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, jaccard_score, precision_recall_curve, roc_auc_score, roc_curve
from tests.metrics import direct

from gsclip.data.sample import Sample
from gsclip.errors import InputError
from gsclip.metrics.region_overlap import image_regions, per_region_overlap, pro_paper_protocol
from gsclip.metrics.sample_scores import StoredSamples, sample_scores
from gsclip.metrics.table import (
    HEADLINE_METRICS,
    METRICS,
    SOURCES,
    SampleScores,
    categories_table,
    evaluate_samples,
)
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack, write_pack

SETTINGS = {"seed": 7, "bootstrap_repeats": 200, "threshold": 0.5, "point_threshold": 0.6, "data": {"test": "plates"}}


def plate(name, category, defect, seed, *, organised=True, strength=0.3, levels=None):
    """A square plate of 20 x 20 points in a grid of 40 x 40; it has two defects, and 8 of their pixels no point."""
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
    scores = np.clip(rng.random(400) * 0.7 + strength * mask, 0, 1)
    object_score = np.clip(rng.normal(0.4 + 0.2 * label, 0.1), 0, 1)
    if levels is not None:
        scores, object_score = np.round(scores * levels) / levels, np.round(object_score * levels) / levels
    prediction = Prediction(
        object_score=float(object_score),
        point_scores=scores.astype(np.float32),
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
    return evaluate_samples(samples, **SETTINGS)


def test_structure_holds_every_metric_as_a_triple(metrics):
    assert list(metrics) == [
        "data", "mean", "o_auroc_interval", "o_ap_interval", "point_auroc_interval",
        "threshold", "f1_at_threshold", "precision_at_threshold", "recall_at_threshold", "point_threshold",
        "categories", "defects",
    ]  # fmt: skip
    assert set(HEADLINE_METRICS) < set(METRICS)
    for figures in (metrics["mean"], *metrics["categories"].values()):
        for metric in METRICS:
            assert list(figures[metric]) == list(SOURCES)
            for source, value in figures[metric].items():
                if (metric, source) == ("pixel_pro_paper_protocol", "oracle"):
                    assert value is None  # it has no false positive, hence no curve
                else:
                    assert 0 <= value <= 1
    assert metrics["categories"]["ring"]["samples"] == 15
    assert metrics["categories"]["ring"]["defective"] == 9
    assert metrics["data"]["samples"] == 30
    assert metrics["data"]["test"] == "plates"


def test_figures_agree_with_scikit_learn_and_with_public_functions(samples, metrics):
    ring = [sample for sample in samples if sample.category == "ring"]
    masks = np.concatenate([sample.point_mask for sample in ring])
    scores = np.concatenate([sample.point_scores for sample in ring])
    figures = {metric: triple["ours"] for metric, triple in metrics["categories"]["ring"].items() if metric in METRICS}
    assert figures["point_auroc"] == pytest.approx(roc_auc_score(masks, scores))
    assert figures["point_ap"] == pytest.approx(average_precision_score(masks, scores))
    assert figures["point_f1_max"] == pytest.approx(best_f1(masks, scores))
    assert figures["point_iou"] == pytest.approx(jaccard_score(masks, scores >= 0.6))
    rate, recall, _ = roc_curve(masks, scores, drop_intermediate=False)
    assert figures["point_fpr95"] == pytest.approx(rate[np.argmax(recall >= 0.95)])
    grids = np.concatenate([sample.grid_mask.ravel() for sample in ring])
    pixels = np.concatenate([sample.pixel_scores.ravel() for sample in ring])
    assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(grids, pixels))
    labels, objects = [sample.label for sample in ring], [sample.object_score for sample in ring]
    assert figures["o_auroc"] == pytest.approx(roc_auc_score(labels, objects))
    assert figures["o_ap"] == pytest.approx(average_precision_score(labels, objects))
    assert figures["o_f1_max"] == pytest.approx(best_f1(labels, objects))
    parts = [(sample.pixel_scores, image_regions(sample.grid_mask)) for sample in ring]
    assert figures["pixel_pro"] == pytest.approx(per_region_overlap(parts, 0.3))
    maps, truths = [sample.pixel_scores for sample in ring], [sample.grid_mask for sample in ring]
    assert figures["pixel_pro_paper_protocol"] == pytest.approx(pro_paper_protocol(maps, truths))


def best_f1(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9))


@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("organised", [True, False])
def test_every_figure_of_every_source_agrees_with_its_definition(organised, levels):
    kinds = ["good", "hole", "hole", "good", "cut"]
    chosen = [
        plate(f"nut/{i}", "nut", kind, i, organised=organised, levels=levels) for i, kind in enumerate(kinds)
    ]
    chosen[1] = ignoring(chosen[1], slice(60, 90))
    limit, point_threshold = 0.2, 0.6
    result = evaluate_samples(chosen, limit, seed=3, bootstrap_repeats=2, point_threshold=point_threshold)
    kept = [sample.point_regions >= 0 for sample in chosen]
    alarms = np.concatenate([s.point_scores[k] >= point_threshold for s, k in zip(chosen, kept, strict=True)])
    for source, threshold in (("ours", point_threshold), ("random", 1 - alarms.mean()), ("oracle", 1)):
        figures = {metric: result["categories"]["nut"][metric][source] for metric in METRICS}
        points, pixels, objects = zip(*(scores_of(sample, source, seed=3) for sample in chosen), strict=True)
        expected = direct_figures(chosen, points, pixels, objects, limit, threshold)
        assert figures == {
            metric: None if value is None else pytest.approx(value, abs=1e-12) for metric, value in expected.items()
        }


def ignoring(sample, points):
    """Points that are left out of the figures over points."""
    regions = np.where(sample.point_mask, sample.point_regions, 0)
    chosen = np.zeros(len(regions), dtype=bool)
    chosen[points] = True
    regions[chosen & ~sample.point_mask] = -1
    assert (regions == -1).any()
    return dataclasses.replace(sample, point_regions=regions)


def scores_of(sample, source, seed):
    """Scores of a sample's points and pixels and its object score, of a source."""
    def draws(stream):
        return np.random.default_rng([seed, zlib.crc32(sample.name.encode()), stream])

    if source == "ours":
        return sample.point_scores, sample.pixel_scores, sample.object_score
    if source == "random":
        points, of_part = draws(0).random(len(sample.point_scores), dtype=np.float32), draws(1).random()
    else:
        points, of_part = np.float32(sample.point_mask), float(sample.label)
    if sample.pixels is None:
        return points, None, of_part
    image = np.zeros(sample.grid_mask.shape, dtype=np.float32)
    for (row, column), score in zip(sample.pixels, points, strict=True):
        image[row, column] = score
    return points, image, of_part


def direct_figures(chosen, points, pixels, objects, limit, point_threshold):
    labels, objects = np.array([sample.label for sample in chosen], dtype=bool), np.array(objects)
    regions = np.concatenate([sample.point_regions for sample in chosen])
    part = regions[regions >= 0] > 0, np.concatenate(points)[regions >= 0]
    figures = {
        "o_auroc": direct.auroc(labels, objects),
        "o_ap": direct.average_precision(labels, objects),
        "o_f1_max": direct.f1_max(labels, objects),
        "point_auroc": direct.auroc(*part),
        "point_pro": direct.per_region_overlap(zip(points, [s.point_regions for s in chosen], strict=True), limit),
        "point_ap": direct.average_precision(*part),
        "point_f1_max": direct.f1_max(*part),
        "point_iou": direct.intersection_over_union(part[0], part[1] >= point_threshold),
        "point_fpr95": direct.false_positive_rate(*part, 0.95),
        **dict.fromkeys(("pixel_auroc", "pixel_pro", "pixel_pro_paper_protocol")),
    }
    if chosen[0].pixels is not None:
        masks = [sample.grid_mask for sample in chosen]
        grid = np.concatenate([mask.ravel() for mask in masks]), np.concatenate([image.ravel() for image in pixels])
        images = zip(pixels, [image_regions(mask) for mask in masks], strict=True)
        figures["pixel_auroc"] = direct.auroc(*grid)
        figures["pixel_pro"] = direct.per_region_overlap(images, limit)
        figures["pixel_pro_paper_protocol"] = direct.pro_paper_protocol(pixels, masks)
    return figures


def test_mean_is_over_categories(metrics):
    for metric in METRICS:
        rows = [figures[metric]["ours"] for figures in metrics["categories"].values()]
        assert metrics["mean"][metric]["ours"] == pytest.approx(np.mean(rows))


def test_oracle_is_perfect_on_points_and_not_on_the_grid_where_points_are_missing(metrics):
    mean = metrics["mean"]
    for metric in METRICS:
        if metric.startswith(("o_", "point_")):
            assert mean[metric]["oracle"] == pytest.approx(0.0 if metric == "point_fpr95" else 1.0)
    # Per defective scan 37 pixels of ground truth, 8 of them without a point: those tie with the background.
    assert mean["pixel_auroc"]["oracle"] == pytest.approx(1 - 8 / 37 / 2, abs=1e-6)
    assert 0.5 < mean["pixel_pro"]["oracle"] < 1


def test_chance_is_half_on_points_and_far_above_on_the_grid(metrics):
    mean = metrics["mean"]
    assert mean["point_auroc"]["random"] == pytest.approx(0.5, abs=0.06)
    assert mean["point_fpr95"]["random"] == pytest.approx(0.95, abs=0.04)
    assert mean["point_ap"]["random"] == pytest.approx(9 * 29 / (15 * 400), abs=0.02)  # the share of defect points
    assert mean["pixel_auroc"]["random"] > 0.7


def test_chance_of_the_point_decisions_is_that_of_as_many_alarms(samples, metrics):
    """Stretched scores with a threshold stretched likewise decide alike, and so does chance."""
    stretched = [
        dataclasses.replace(s, point_scores=s.point_scores / 16, pixel_scores=s.pixel_scores / 16) for s in samples
    ]
    other = evaluate_samples(stretched, **{**SETTINGS, "point_threshold": 0.6 / 16})
    assert other["mean"]["point_iou"] == metrics["mean"]["point_iou"]
    alarms = np.mean([sample.point_scores >= 0.6 for sample in samples])
    defects = np.mean([sample.point_mask for sample in samples])
    expected = alarms * defects / (defects + alarms * (1 - defects))
    assert metrics["mean"]["point_iou"]["random"] == pytest.approx(expected, rel=0.3)


def test_intervals_surround_the_figures_and_are_reproducible(samples, metrics):
    for metric in ("o_auroc", "o_ap", "point_auroc"):
        low, high = metrics[f"{metric}_interval"]
        assert low < metrics["mean"][metric]["ours"] < high
    again = evaluate_samples(samples, **SETTINGS)
    assert json.dumps(again) == json.dumps(metrics)


def test_figures_do_not_depend_on_the_order_of_samples(samples, metrics):
    again = evaluate_samples(samples[::-1], **SETTINGS)
    assert again["categories"] == metrics["categories"]
    clouds = [plate(f"vase/{i}", "vase", "hole", i, organised=False) for i in range(5)]
    there, back = (evaluate_samples(order, **SETTINGS) for order in (clouds, [clouds[i] for i in (3, 0, 4, 2, 1)]))
    assert there == back


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
    assert result["mean"]["pixel_pro_paper_protocol"] == {"ours": None, "random": None, "oracle": None}


def test_pixel_figures_of_a_mixed_category_are_those_of_its_organised_samples():
    organised = plates("vase", 3)
    clouds = [plate(f"vase/test/hole/cloud-{i}", "vase", "hole", i, organised=False) for i in range(3)]
    mixed = evaluate_samples([*clouds, *organised], bootstrap_repeats=10)["mean"]
    alone = evaluate_samples(organised, bootstrap_repeats=10)["mean"]
    for metric in METRICS:
        assert (mixed[metric] == alone[metric]) == (metric.startswith("pixel_") or metric == "point_iou"), metric


def test_without_thresholds_there_are_no_decisions(samples):
    result = evaluate_samples(samples, bootstrap_repeats=10)
    for name in ("threshold", "f1_at_threshold", "precision_at_threshold", "recall_at_threshold", "point_threshold"):
        assert result[name] is None
    assert result["mean"]["point_iou"] == {"ours": None, "random": None, "oracle": None}


def test_decisions_at_the_threshold_are_counted_over_all_samples(samples, metrics):
    alarms = [sample for sample in samples if sample.object_score >= 0.5]
    found = sum(sample.label for sample in alarms)
    assert 0 < found < len(alarms)
    assert metrics["precision_at_threshold"] == pytest.approx(found / len(alarms))
    assert metrics["recall_at_threshold"] == pytest.approx(found / 18)
    assert metrics["f1_at_threshold"] == pytest.approx(2 * found / (len(alarms) + 18))


def test_a_category_of_good_samples_alone_has_no_ranking_figures_and_does_not_spoil_the_mean(samples):
    good = [plate(f"nut/test/good/{i}", "nut", "good", i) for i in range(3)]
    result = evaluate_samples([*samples, *good], bootstrap_repeats=10, point_threshold=0.5)
    for metric in METRICS:
        assert result["categories"]["nut"][metric] == {"ours": None, "random": None, "oracle": None}, metric
    assert result["categories"]["nut"]["o_auroc_interval"] == [None, None]
    assert result["mean"]["o_auroc"] == evaluate_samples(samples, bootstrap_repeats=10)["mean"]["o_auroc"]
    assert result["o_auroc_interval"][0] is not None


def test_a_category_of_defective_samples_alone_has_figures_over_points_and_none_over_parts():
    result = evaluate_samples(
        [plate(f"nut/{i}", "nut", "hole", i) for i in range(3)], bootstrap_repeats=10, point_threshold=0.5
    )
    for metric, triple in result["mean"].items():
        assert (triple["ours"] is None) == metric.startswith("o_"), metric
    assert result["o_auroc_interval"] == [None, None]
    assert result["defects"]["hole"]["o_auroc"] is None


def test_a_part_that_is_one_defect_has_no_ranking_over_points():
    whole = plate("nut/0", "nut", "hole", 0, organised=False)
    ones = np.ones(400, dtype=np.int32)
    whole = dataclasses.replace(whole, point_mask=ones.astype(bool), point_regions=ones)
    mean = evaluate_samples([whole], bootstrap_repeats=10, point_threshold=0.5)["mean"]
    assert {metric for metric, triple in mean.items() if triple["ours"] is not None} == {"point_iou"}
    assert mean["point_iou"]["ours"] == np.mean(whole.point_scores >= 0.5)


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


def test_categories_table_holds_every_metric_and_reads_older_evaluations(metrics):
    table = categories_table(metrics)
    assert set(METRICS) < set(table.columns)
    older = {
        "categories": {
            name: {key: figure for key, figure in figures.items() if key not in METRICS or key in HEADLINE_METRICS}
            for name, figures in metrics["categories"].items()
        }
    }
    pd.testing.assert_frame_equal(categories_table(older), table[categories_table(older).columns])


class Made:
    """Samples of one category that are made anew in each iteration; counts how many are alive at the same time."""

    def __init__(self, count, make):
        self.count, self.make = count, make
        self.made, self.most_alive = [], 0

    def __iter__(self):
        for number in range(self.count):
            yield self.counted(self.make(number))

    def counted(self, sample):
        self.made.append(weakref.ref(sample))
        self.most_alive = max(self.most_alive, sum(reference() is not None for reference in self.made))
        return sample


@pytest.mark.parametrize("organised", [True, False])
def test_every_sample_is_read_twice_and_two_are_in_memory_at_most(organised):
    kinds = ["good", "hole", "cut", "good"]

    def make(number):
        category = "bolt" if number < 20 else "nut"
        return plate(f"{category}/{number:02d}", category, kinds[number % 4], number, organised=organised)

    made = Made(40, make)
    result = evaluate_samples(made, bootstrap_repeats=2, point_threshold=0.5)
    assert len(made.made) == 80
    assert made.most_alive <= 2
    assert result == evaluate_samples([make(number) for number in range(40)], bootstrap_repeats=2, point_threshold=0.5)


def large(number):
    """A disc of 40 000 points in a grid of 300 x 300; every second one has a defect of 12 points."""
    rows, columns = np.mgrid[-150:150, -150:150]
    pixels = np.argwhere(np.hypot(rows, columns) < 113)
    grid_mask = np.zeros((300, 300), dtype=bool)
    grid_mask[140:143, 140:144] = number % 2 == 1
    mask = grid_mask[pixels[:, 0], pixels[:, 1]]
    scores = np.random.default_rng(number).random(len(pixels), dtype=np.float32)
    image = np.zeros((300, 300), dtype=np.float32)
    image[pixels[:, 0], pixels[:, 1]] = scores
    defect = "hole" if number % 2 else "good"
    regions = mask.astype(np.int32)
    return SampleScores(
        f"{number:03d}", "disc", defect, number % 2, number / 80, scores, mask, regions, image, grid_mask, pixels
    )


def test_memory_does_not_grow_with_the_number_of_samples():
    def peak(count):
        tracemalloc.start()
        evaluate_samples(Made(count, large), bootstrap_repeats=10, point_threshold=0.5)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(2)  # what is allocated once
    assert peak(80) < 1.15 * peak(20)


def test_samples_that_can_be_read_only_once_or_change_are_rejected(samples):
    with pytest.raises(TypeError, match="read twice"):
        evaluate_samples(iter(samples), bootstrap_repeats=2)

    class Changing:
        def __init__(self):
            self.orders = [samples[1:15], samples[:15]]

        def __iter__(self):
            return iter(self.orders.pop())

    with pytest.raises(ValueError, match="differ between the first and the second pass"):
        evaluate_samples(Changing(), bootstrap_repeats=2)


def test_stored_samples_are_read_by_category_and_name_as_often_as_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    rows, direct_scores = [], {}
    with write_pack(tmp_path / "samples.h5") as samples, write_pack(tmp_path / "predictions.h5") as predictions:
        for name, category, defect in [("b/1", "b", "hole"), ("b/0", "b", "good"), ("a/0", "a", "cut")]:
            mask = np.zeros(50, dtype=bool)
            mask[:5] = defect != "good"
            points = rng.random((50, 3)).astype(np.float32)
            sample = Sample(points=points, normals=points, mask=mask)
            prediction = Prediction(0.25, rng.random(50, dtype=np.float32), np.zeros(1), np.zeros((1, 2, 2)))
            samples.add(name, sample)
            predictions.add(name, prediction)
            label = int(defect != "good")
            rows.append({"name": name, "category": category, "defect": defect, "label": label})
            direct_scores[name] = sample_scores(name, category, defect, label, prediction, sample)
    with (
        Pack(tmp_path / "samples.h5", Sample) as samples,
        Pack(tmp_path / "predictions.h5", Prediction) as predictions,
    ):
        asked = []
        stored = StoredSamples(pd.DataFrame(rows), lambda category: asked.append(category) or (samples, predictions))
        for _ in range(2):
            read = list(stored)
            assert [sample.name for sample in read] == ["a/0", "b/0", "b/1"]
            for sample in read:
                expected = dataclasses.asdict(direct_scores[sample.name])
                for key, value in dataclasses.asdict(sample).items():
                    np.testing.assert_array_equal(value, expected[key])
    assert asked == ["a", "b", "b"] * 2


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


def test_of_an_abnormal_sample_without_mask_the_object_score_alone_counts(samples):
    points = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    prediction = Prediction(0.99, np.ones(5, np.float32), np.zeros(1, np.float32), np.zeros((1, 2, 2), np.float32))
    for grid in ({}, {"pixels": np.zeros((5, 2), np.int32), "grid": (2, 2)}):
        sample = Sample(points=points, normals=points, **grid)
        unknown = sample_scores("zz", samples[0].category, "crack", 1, prediction, sample)
        with_it = evaluate_samples([unknown, *samples], point_threshold=0.5)["categories"][samples[0].category]
        without = evaluate_samples(samples, point_threshold=0.5)["categories"][samples[0].category]
        assert with_it["defective"] == without["defective"] + 1
        assert with_it["o_ap"]["ours"] > without["o_ap"]["ours"]
        for metric in ("point_auroc", "point_pro", "point_iou", "pixel_auroc"):
            assert with_it[metric] == without[metric]


def test_foreign_predictions_are_rejected():
    points = np.zeros((5, 3), dtype=np.float32)
    prediction = Prediction(0.5, np.zeros(5, np.float32), np.zeros(1, np.float32), np.zeros((1, 2, 2), np.float32))
    with pytest.raises(InputError, match="5 scores for 4 points"):
        sample_scores("a", "c", "good", 0, prediction, Sample(points=points[:4], normals=points[:4]))


def test_sample_scores_is_frozen(samples):
    with pytest.raises(dataclasses.FrozenInstanceError):
        samples[0].label = 1
    assert isinstance(samples[0], SampleScores)
