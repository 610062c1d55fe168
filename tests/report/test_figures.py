import numpy as np
import pandas as pd
import pytest

from gsclip.metrics.table import categories_table
from gsclip.report.curves import pr_curves, roc_curves
from gsclip.report.figures import category_figure, learning_figure, pr_figure, roc_figure, score_histogram


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
    good, defective, line = score_histogram(labels, scores, 0.4).data
    assert (sum(good.y), sum(defective.y)) == (3, 2)
    assert list(line.x) == [0.4, 0.4]
    assert len(score_histogram(labels, scores, None).data) == 2


def test_a_threshold_beyond_all_scores_is_on_the_histogram_and_equal_scores_are_drawn():
    figure = score_histogram(np.array([0, 1]), np.array([0.5, 0.5]), 0.5)
    assert sum(figure.data[0].y) == sum(figure.data[1].y) == 1
    far = score_histogram(np.array([0, 1]), np.array([0.1, 0.2]), 0.9)
    assert max(far.data[0].x) > 0.85


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
