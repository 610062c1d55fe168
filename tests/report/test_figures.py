import numpy as np
import pandas as pd
import pytest

from gsclip.metrics.table import categories_table
from gsclip.metrics.threshold import confusion
from gsclip.report.curves import pr_curves, roc_curves
from gsclip.report.figures import (
    category_figure,
    kinds_figure,
    learning_figure,
    operating_figure,
    pr_figure,
    roc_figure,
    score_histogram,
)


def test_curves_are_drawn_as_they_are_with_chance_beside(run):
    curves = roc_curves(run.samples)
    figure = roc_figure(curves)
    assert [trace.name for trace in figure.data] == ["all samples", "bolt", "ring", "chance"]
    assert list(figure.data[1].x) == curves.loc[curves["category"] == "bolt", "fpr"].tolist()
    chance = pr_figure(pr_curves(run.samples), abnormal_share=0.25).data[-1]
    assert list(chance.y) == [0.25, 0.25]


def test_histogram_counts_every_sample_once_and_marks_the_threshold():
    labels = np.array([0, 0, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.9, 0.5, 0.9])
    defective, good, line = score_histogram(labels, scores, 0.4).data
    assert (sum(good.y), sum(defective.y)) == (-3, 2)
    assert (min(line.y), max(line.y)) == (min(good.y), max(defective.y))
    assert list(line.x) == [0.4, 0.4]
    assert len(score_histogram(labels, scores, None).data) == 2


def test_a_threshold_beyond_all_scores_is_on_the_histogram_and_equal_scores_are_drawn():
    figure = score_histogram(np.array([0, 1]), np.array([0.5, 0.5]), 0.5)
    assert sum(figure.data[0].y) == -sum(figure.data[1].y) == 1
    assert "-1" not in figure.layout.yaxis.ticktext
    far = score_histogram(np.array([0, 1]), np.array([0.1, 0.2]), 0.9)
    assert max(far.data[0].x) > 0.85


def test_every_threshold_has_its_recall_and_false_alarms():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.8])
    recall, alarms, precision, line = operating_figure(labels, scores, 0.5).data

    def at(trace, threshold):
        return trace.y[max(place for place, level in enumerate(trace.x) if level <= threshold)]

    for threshold in (0.05, 0.3, 0.5, 0.7, 0.9):
        counts = confusion(labels, scores, threshold)
        level = min(score for score in [*scores, 2] if score >= threshold)
        if level < 2:
            assert at(recall, level) == pytest.approx(100 * counts.recall)
            assert at(alarms, level) == pytest.approx(100 * counts.false_positive / 2)
            assert at(precision, level) == pytest.approx(100 * counts.precision)
    assert recall.y[-1] == alarms.y[-1] == 0
    assert list(line.x) == [0.5, 0.5]


def test_scores_by_kind_hold_every_part_and_start_with_good_ones():
    figure = kinds_figure(["cut", "good", "cut", "<b>"], np.array([0.2, 0.3, 0.8, 0.1]), 0.5)
    assert [box.name for box in figure.data] == ["good", "&lt;b&gt;", "cut"]
    assert list(figure.data[2].x) == [0.2, 0.8]
    assert figure.layout.shapes[0].x0 == 0.5


def test_bars_show_our_figures_between_random_and_oracle(run):
    table = categories_table(run.metrics)
    ours, random, oracle = category_figure(table, "o_auroc", "Object AUROC").data
    assert list(ours.x) == table["o_auroc"].tolist()
    assert list(ours.x + np.array(ours.error_x.array)) == pytest.approx(table["o_auroc_high"].tolist())
    assert list(random.x) == table["o_auroc_random"].tolist()
    assert list(oracle.x) == [1.0, 1.0]


def test_names_from_data_are_no_markup(run):
    curves = roc_curves(run.samples).assign(category="<a href='http://x'>y</a>")
    assert roc_figure(curves).data[0].name == "&lt;a href=&#x27;http://x&#x27;&gt;y&lt;/a&gt;"
    table = categories_table(run.metrics).assign(category="<b>")
    assert set(category_figure(table, "o_auroc", "Object AUROC").data[0].y) == {"&lt;b&gt;"}


def test_learning_curves_hold_the_terms_that_there_are():
    curve = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "segmentation": [0.5, 0.4], "consistency": np.nan})
    figure = learning_figure(curve.assign(learning_rate=0.1))
    assert [trace.name for trace in figure.data] == ["loss", "segmentation"]
    assert list(figure.data[0].y) == [2.0, 1.0]
