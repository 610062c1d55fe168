import numpy as np
import pytest
from sklearn.metrics import f1_score

from gsclip.errors import InputError
from gsclip.metrics.threshold import (
    BINS,
    Confusion,
    ScoreHistogram,
    best_f1_threshold,
    confusion,
    lowest_cost_threshold,
)


def test_threshold_lies_between_the_classes_when_they_are_separable():
    assert best_f1_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9])) == (pytest.approx(0.4), 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, 60), [0, 1])
    scores = np.round(rng.normal(labels, 1.5), 1)
    threshold, f1 = best_f1_threshold(labels, scores)
    assert f1 == pytest.approx(f1_score(labels, scores >= threshold))
    assert f1 == pytest.approx(max(f1_score(labels, scores >= other) for other in np.unique(scores)))


def test_of_equal_thresholds_the_one_with_fewest_alarms_is_taken():
    # Alarms from 0.9 on: 1 hit, 0 false, 1 missed -> F1 2/3. From 0.1 on: 2 hits, 2 false -> F1 2/3 as well.
    threshold, f1 = best_f1_threshold(np.array([1, 0, 0, 1]), np.array([0.9, 0.5, 0.4, 0.1]))
    assert f1 == pytest.approx(2 / 3)
    assert threshold == pytest.approx(0.7)


def test_equal_scores_make_everything_an_alarm():
    assert best_f1_threshold(np.array([0, 1]), np.array([0.5, 0.5])) == (0.5, pytest.approx(2 / 3))


def counted(*parts):
    histogram = ScoreHistogram()
    for labels, scores in parts:
        histogram.add(np.array(labels), np.array(scores))
    return histogram.best_f1_threshold()


@pytest.mark.parametrize("seed", range(5))
def test_a_histogram_finds_the_threshold_of_all_scores_together(seed):
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(4):
        labels = rng.random(5000) < 0.05
        parts.append((labels, rng.beta(np.where(labels, 3, 1), 4).astype(np.float32)))
    labels, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
    exact, best = best_f1_threshold(labels, scores)
    threshold, f1 = counted(*parts)
    assert f1 == pytest.approx(best, abs=2e-4)
    assert f1 == pytest.approx(f1_score(labels, scores >= threshold))
    assert threshold == pytest.approx(exact, abs=0.02)  # the top of F1 is flat


def test_a_histogram_puts_the_threshold_between_the_classes_to_the_width_of_a_bin():
    threshold, f1 = counted(([0, 0, 1], [0.1, 0.2, 0.6]), ([1], [0.9]))
    assert (threshold, f1) == (pytest.approx(0.4, abs=1 / BINS), 1.0)


def test_a_histogram_holds_both_ends_and_rounding_beyond_them():
    assert counted(([0, 1], [0.0, 1.0])) == (pytest.approx(0.5, abs=1 / BINS), 1.0)
    assert counted(([0, 1], [-1e-7, 1 + 1e-7])) == (pytest.approx(0.5, abs=1 / BINS), 1.0)


def test_a_histogram_of_equal_scores_makes_everything_an_alarm():
    assert counted(([0, 1], [0.5, 0.5])) == (0.5, pytest.approx(2 / 3))


@pytest.mark.parametrize("parts", [(), (([0, 0], [0.1, 0.2]),), (([1], [0.1]), ([1], [0.2]))])
def test_a_histogram_of_one_class_has_no_threshold(parts):
    assert counted(*parts) is None


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_rejected_with_a_remedy(label):
    with pytest.raises(InputError, match="auxiliary categories that hold both"):
        best_f1_threshold(np.full(3, label), np.arange(3.0))


def test_a_score_at_the_threshold_is_an_alarm():
    decided = confusion(np.array([1, 1, 0, 0, 1]), np.array([0.5, 0.4, 0.5, 0.1, 0.9]), 0.5)
    assert decided == Confusion(true_positive=2, false_positive=1, false_negative=1, true_negative=1)
    assert (decided.precision, decided.recall, decided.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_rates_without_a_denominator_are_nan():
    empty = Confusion(0, 0, 0, 4)
    assert np.isnan([empty.precision, empty.recall, empty.f1]).all()


def cost_of(labels, scores, threshold, miss, false_alarm, share):
    counts = confusion(labels, scores, threshold)
    misses = counts.false_negative / (counts.false_negative + counts.true_positive)
    alarms = counts.false_positive / (counts.false_positive + counts.true_negative)
    return share * miss * misses + (1 - share) * false_alarm * alarms


@pytest.mark.parametrize(
    ("miss", "false_alarm", "share"), [(1, 1, 0.5), (10, 1, 0.1), (1, 10, 0.3), (0, 1, 0.5), (1, 0, 0.2)]
)
def test_no_threshold_costs_less_than_the_suggested_one(miss, false_alarm, share):
    random = np.random.default_rng(3)
    labels = np.arange(60) % 3 == 0
    scores = np.round(np.clip(random.normal(0.4 + 0.15 * labels, 0.15), 0, 1), 2)
    threshold, cost = lowest_cost_threshold(labels, scores, miss=miss, false_alarm=false_alarm, defective_share=share)
    assert cost == pytest.approx(cost_of(labels, scores, threshold, miss, false_alarm, share))
    for other in np.linspace(0, 1, 401):
        assert cost <= cost_of(labels, scores, other, miss, false_alarm, share) + 1e-12
    assert 0 <= threshold <= 1
    assert threshold not in scores or threshold in (0, 1)


def test_dearer_misses_never_raise_the_threshold():
    labels, scores = np.array([0, 0, 1, 0, 1, 1]), np.array([0.1, 0.3, 0.35, 0.5, 0.6, 0.9])
    thresholds = [lowest_cost_threshold(labels, scores, miss=miss, false_alarm=1)[0] for miss in (0.01, 0.5, 1, 5, 100)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > thresholds[-1]


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ([0, 0], {"miss": 1, "false_alarm": 1}),
        ([1, 1], {"miss": 1, "false_alarm": 1}),
        ([0, 1], {"miss": 0, "false_alarm": 0}),
        ([0, 1], {"miss": -1, "false_alarm": 2}),
        ([0, 1], {"miss": 1, "false_alarm": 1, "defective_share": 1.0}),
        ([0, 1], {"miss": float("nan"), "false_alarm": 1}),
    ],
)
def test_costs_and_samples_that_say_nothing_are_refused(labels, options):
    with pytest.raises(InputError, match="suggested threshold"):
        lowest_cost_threshold(np.array(labels), np.array([0.2, 0.4]), **options)
