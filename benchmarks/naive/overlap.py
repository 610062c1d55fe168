"""Per-region overlap by 200 thresholds, regions labelled anew at each of them, all maps in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from gsclip.metrics.region_overlap import EIGHT_CONNECTED

STEPS = 200
LIMIT = 0.3


def naive_overlap(samples: Iterable[tuple[np.ndarray, np.ndarray]], steps: int = STEPS) -> float:
    """PRO by the papers' protocol; the result is that of :func:`gsclip.metrics.region_overlap.pro_paper_protocol`.

    Args:
        samples: pairs of anomaly map (h, w) and mask (h, w).
        steps: equal steps between lowest and highest score.
    """
    maps, masks = (np.stack(part) for part in zip(*samples, strict=True))
    defect = masks > 0
    normal = ~defect
    rates, overlaps = [], []
    for threshold in np.linspace(maps.min(), maps.max(), steps + 1):
        alarms = maps > threshold
        found = []
        for alarm, mask in zip(alarms, defect, strict=True):
            labels, count = ndimage.label(mask, EIGHT_CONNECTED)
            for region in range(1, count + 1):
                rows, columns = np.argwhere(labels == region).T  # the coordinates of a region, as regionprops has them
                found.append(alarm[rows, columns].sum() / len(rows))
        rates.append((alarms & normal).sum() / normal.sum())
        overlaps.append(np.mean(found))
    rate, overlap = np.array(rates), np.array(overlaps)
    kept = rate < LIMIT
    x, y = rate[kept][::-1], overlap[kept][::-1]
    return float(np.trapezoid(y, (x - x[0]) / (x[-1] - x[0])))
