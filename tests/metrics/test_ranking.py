import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from gsclip.metrics.ranking import (
    auroc,
    average_precision,
    bootstrap_interval,
    bootstrap_values,
    interval,
    pair_counts,
    pooled_auroc,
    pr_curve_table,
    resampling_counts,
    roc_curve_table,
)


@pytest.fixture
def ranking():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    return labels, np.round(rng.normal(labels, 1.0), 1)


def test_auroc_counts_pairs_won_and_ties_as_half():
    # Pairs (abnormal, normal): 0.8 beats both, 0.4 beats 0.1 and ties with 0.4 -> 3.5 of 4.
    assert auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8])) == 0.875


def test_average_precision_of_a_hand_computed_ranking():
    # Hits at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx(5 / 6)


def test_both_agree_with_scikit_learn(ranking):
    labels, scores = ranking
    assert auroc(labels, scores) == roc_auc_score(labels, scores)
    assert average_precision(labels, scores) == average_precision_score(labels, scores)


def test_weights_count_as_repetition():
    labels, scores, weights = np.array([0, 1, 0]), np.array([0.0, 0.5, 0.9]), np.array([7, 2, 3])
    assert auroc(labels, scores, weights) == pytest.approx(auroc(labels.repeat(weights), scores.repeat(weights)))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_nan_everywhere(label):
    labels, scores = np.full(5, label), np.arange(5.0)
    assert np.isnan(auroc(labels, scores))
    assert np.isnan(average_precision(labels, scores))
    assert np.isnan(bootstrap_interval(labels, scores, auroc, 10, seed=0)).all()
    assert len(roc_curve_table(labels, scores)) == 0
    assert len(pr_curve_table(labels, scores)) == 0


def test_interval_is_reproducible_holds_the_estimate_and_narrows_with_samples(ranking):
    labels, scores = ranking
    low, high = bootstrap_interval(labels, scores, auroc, 200, seed=3)
    assert (low, high) == bootstrap_interval(labels, scores, auroc, 200, seed=3)
    assert (low, high) != bootstrap_interval(labels, scores, auroc, 200, seed=4)
    assert low < auroc(labels, scores) < high
    few_low, few_high = bootstrap_interval(labels[:50], scores[:50], auroc, 200, seed=3)
    assert few_high - few_low > 2 * (high - low)


def test_resamples_keep_the_size_of_each_class():
    labels = np.array([0] * 3 + [1] * 7)
    shares = bootstrap_values(labels, np.zeros(10), lambda drawn, _: drawn.mean(), 20, np.random.default_rng(0))
    assert (shares == 0.7).all()
    counts = resampling_counts(labels, 20, np.random.default_rng(0))
    assert (counts[:, :3].sum(axis=1) == 3).all()
    assert (counts[:, 3:].sum(axis=1) == 7).all()


def test_interval_takes_the_outer_quantiles():
    assert interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))


def test_pair_counts_give_the_auroc_of_any_multiset_of_samples():
    rng = np.random.default_rng(1)
    masks = [rng.random(n) < 0.3 for n in (40, 25, 60)] + [np.zeros(30, dtype=bool)]
    scores = [np.round(rng.random(mask.size) + 0.2 * mask, 1) for mask in masks]
    wins = pair_counts(masks, scores)
    abnormal = np.array([mask.sum() for mask in masks])
    normal = np.array([(~mask).sum() for mask in masks])
    multisets = [[0, 1, 2, 3], [0, 3], [1, 1, 2, 3, 3]]
    counts = np.array([np.bincount(chosen, minlength=4) for chosen in multisets], dtype=float)
    expected = [
        roc_auc_score(np.concatenate([masks[i] for i in chosen]), np.concatenate([scores[i] for i in chosen]))
        for chosen in multisets
    ]
    np.testing.assert_allclose(pooled_auroc(wins, abnormal, normal, counts), expected, rtol=1e-12)


def test_pooled_auroc_of_good_samples_alone_is_nan():
    wins = pair_counts([np.zeros(4, dtype=bool)], [np.arange(4.0)])
    assert np.isnan(pooled_auroc(wins, np.array([0]), np.array([4]), np.ones((1, 1)))).all()


def test_roc_table_is_short_rises_and_keeps_the_area():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 5000)
    scores = rng.normal(labels, 1.0)
    table = roc_curve_table(labels, scores)
    assert list(table) == ["false_positive_rate", "true_positive_rate", "threshold"]
    assert len(table) == 200
    assert table.iloc[0, :2].tolist() == [0, 0]
    assert table.iloc[-1, :2].tolist() == [1, 1]
    assert table["threshold"].isna().sum() == 1
    area = auc(table["false_positive_rate"], table["true_positive_rate"])
    assert area == pytest.approx(auroc(labels, scores), abs=2e-3)


def test_precision_recall_table_rises_in_recall_from_zero_to_one(ranking):
    table = pr_curve_table(*ranking)
    assert table["recall"].is_monotonic_increasing
    assert table["recall"].iloc[0] == 0
    assert table["recall"].iloc[-1] == 1
    assert len(table) <= 200
