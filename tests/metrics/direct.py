"""Every metric by its definition, in loops: thresholds are tried one by one, and elements counted anew at each."""

import itertools

import numpy as np
from scipy import ndimage


def auroc(labels, scores):
    """Share of the pairs of an abnormal and a normal element that are in order; ties count one half."""
    pairs = [(a, n) for a in scores[labels] for n in scores[~labels]]
    return np.mean([1.0 if a > n else 0.5 if a == n else 0.0 for a, n in pairs])


def counts(labels, scores):
    """(true alarms, false alarms) at each distinct score as a threshold, from the highest on."""
    return [
        (int((scores[labels] >= threshold).sum()), int((scores[~labels] >= threshold).sum()))
        for threshold in np.unique(scores)[::-1]
    ]


def average_precision(labels, scores):
    total = before = 0.0
    for true, false in counts(labels, scores):
        total += (true - before) / labels.sum() * true / (true + false)
        before = true
    return total


def f1_max(labels, scores):
    return max(2 * true / (true + false + labels.sum()) for true, false in counts(labels, scores))


def false_positive_rate(labels, scores, recall):
    return next(false / (~labels).sum() for true, false in counts(labels, scores) if true / labels.sum() >= recall)


def intersection_over_union(labels, alarms):
    return (labels & alarms).sum() / (labels | alarms).sum()


def per_region_overlap(samples, limit):
    """Every distinct score is a threshold; overlap and false positive rate are counted anew at each."""
    samples = list(samples)
    every = np.unique(np.concatenate([scores[regions >= 0] for scores, regions in samples]))[::-1]
    normal = np.concatenate([scores[regions == 0] for scores, regions in samples])
    defects = [scores[regions == r] for scores, regions in samples for r in np.unique(regions[regions > 0])]
    curve = [(0.0, 0.0)]
    for threshold in every:
        curve.append(((normal >= threshold).mean(), np.mean([(part >= threshold).mean() for part in defects])))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area / limit


def pro_paper_protocol(maps, masks):
    """200 equal steps; an alarm lies strictly above a threshold; rates below 0.3 rescaled to [0, 1]."""
    low, high = min(item.min() for item in maps), max(item.max() for item in maps)
    normal = np.concatenate([scores[~mask] for scores, mask in zip(maps, masks, strict=True)])
    rates, overlaps = [], []
    for threshold in np.linspace(low, high, 201):
        rate = (normal > threshold).mean()
        found = []
        for scores, mask in zip(maps, masks, strict=True):
            labelled, number = ndimage.label(mask, np.ones((3, 3)))
            found += [(scores[labelled == region] > threshold).mean() for region in range(1, number + 1)]
        if rate < 0.3:
            rates.append(rate)
            overlaps.append(np.mean(found))
    rates, overlaps = np.array(rates[::-1]), np.array(overlaps[::-1])
    if rates[0] == rates[-1]:
        return None
    return np.trapezoid(overlaps, (rates - rates[0]) / (rates[-1] - rates[0]))
