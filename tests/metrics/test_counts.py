import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from tests.metrics import direct

from gsclip.metrics.counts import DefectScores
from gsclip.metrics.ranking import pair_counts


def some_samples(seed, levels):
    """Six samples of different size, the first without a defect; -1 is to be ignored."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(6):
        regions = rng.choice([-1, 0, 0, 0, 0, 0, 1, 2], 30 + 5 * number)
        regions[rng.integers(len(regions))] = 0
        if number == 0:
            regions = np.minimum(regions, 0)
        scores = rng.random(len(regions)) + 0.3 * (regions > 0)
        samples.append((np.float32(scores if levels is None else np.round(scores * levels) / levels), regions))
    return samples


def counted(samples, names="abcdef"):
    defects = DefectScores()
    for name, (scores, regions) in zip(names, samples, strict=False):
        defects.add(name, scores, regions)
    counts = defects.counts()
    for scores, regions in samples:
        counts.add(scores[regions == 0])
    return counts


def pooled(samples):
    scores, regions = (np.concatenate(arrays) for arrays in zip(*samples, strict=True))
    return regions[regions >= 0] > 0, scores[regions >= 0]


@pytest.mark.parametrize("levels", [None, 4, 20])
@pytest.mark.parametrize("seed", [0, 1, 2])
class TestAgreement:
    def test_with_the_definitions(self, seed, levels):
        samples = some_samples(seed, levels)
        counts, elements = counted(samples), pooled(samples)
        assert counts.auroc() == pytest.approx(direct.auroc(*elements), abs=1e-12)
        assert counts.average_precision() == pytest.approx(direct.average_precision(*elements), abs=1e-12)
        assert counts.f1_max() == pytest.approx(direct.f1_max(*elements), abs=1e-12)
        for recall in (0.05, 0.5, 0.95, 1.0):
            expected = direct.false_positive_rate(*elements, recall)
            assert counts.false_positive_rate(recall) == pytest.approx(expected, abs=1e-12)

    def test_with_scikit_learn(self, seed, levels):
        samples = some_samples(seed, levels)
        counts, (labels, scores) = counted(samples), pooled(samples)
        assert counts.auroc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert counts.average_precision() == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        precision, recall, _ = precision_recall_curve(labels, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        assert counts.f1_max() == pytest.approx(f1.max(), abs=1e-12)
        rate, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert counts.false_positive_rate(0.95) == pytest.approx(rate[np.argmax(recall >= 0.95)], abs=1e-12)

    def test_of_the_pairs_of_samples_in_any_order(self, seed, levels):
        samples = some_samples(seed, levels)
        kept = [(scores[regions >= 0], regions[regions >= 0] > 0) for scores, regions in samples]
        expected = pair_counts([mask for _, mask in kept], [scores for scores, _ in kept])
        order = [3, 0, 5, 1, 4, 2]
        counts = counted(samples, "bdfaec")
        wins = [counts.by_sample(counts.add(scores[regions == 0])) for scores, regions in samples]
        np.testing.assert_array_equal(np.stack(wins, axis=1), expected[order])


def test_recall_is_reached_by_exactly_its_share():
    # 19 of 20 defect elements are 95 %: the twentieth, below all others, need not be found.
    scores, regions = np.float32([*np.arange(40, 21, -1), 0, 30.5, 10]), np.array([1] * 20 + [0, 0])
    assert counted([(scores, regions)]).false_positive_rate(0.95) == 0.5
    assert counted([(scores, regions)]).false_positive_rate(0.951) == 1.0


def test_regions_gain_alike_whatever_their_size():
    scores, regions = np.float32([5, 5, 7, 5, 6]), np.array([1, 1, 1, 3, 3])
    counts = counted([(scores, regions), (np.float32([7, 1]), np.array([2, 0]))])
    assert counts.distinct.tolist() == [5, 6, 7]
    assert counts.hits.tolist() == [3, 1, 2]
    np.testing.assert_allclose(counts.gains, [(2 / 3 + 1 / 2) / 3, (1 / 2) / 3, (1 / 3 + 1) / 3])


def test_figures_do_not_depend_on_the_order_of_the_passes():
    samples = some_samples(3, 10)
    there, back = counted(samples), counted(samples[::-1], "fedcba")
    assert there.auroc() == back.auroc()
    np.testing.assert_array_equal(there.gains, back.gains)
    np.testing.assert_array_equal(there.above, back.above)
    np.testing.assert_array_equal(there.at_or_above, back.at_or_above)


@pytest.mark.parametrize("regions", [[], [0, 0], [1, 1], [-1, -1], [-1, 1]])
def test_figures_that_need_both_classes_are_nan_where_one_is_missing(regions):
    counts = counted([(np.arange(len(regions), dtype=np.float32), np.array(regions, dtype=int))])
    assert np.isnan([counts.auroc(), counts.average_precision(), counts.f1_max(), counts.false_positive_rate(1)]).all()


def test_scores_and_regions_of_different_size_are_rejected():
    with pytest.raises(ValueError, match="3 scores but 2"):
        DefectScores().add("a", np.zeros(3), np.zeros(2))
