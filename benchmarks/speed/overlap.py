"""Exact per-region overlap against 200 thresholds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.naive.overlap import naive_overlap
from benchmarks.speed.common import Check, Found, Row, Settings, interleaved, smooth_maps, speed_up, where_time_goes
from gsclip.metrics.counts import DefectScores
from gsclip.metrics.region_overlap import counted_overlap, image_regions, per_region_overlap

SPEED_UP = 20.0
SHARE = 0.5  # of the size of all maps, that memory may grow by


def measure(settings: Settings) -> Found:
    """Row ``overlap``."""
    count, side = (8, 48) if settings.quick else (100, 336)
    samples = smooth_maps(count, side)

    def labelled() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((scores, image_regions(mask)) for scores, mask in samples)

    # The naive one takes half a minute at full size.
    seconds = interleaved(
        {
            "ours": lambda: in_two_passes(labelled),
            "one pass": lambda: per_region_overlap(labelled()),
            "naive": lambda: naive_overlap(samples),
        },
        min(settings.repeats, 3),
        warm_up=settings.quick,
        now=settings.now,
    )
    exact, once = in_two_passes(labelled), per_region_overlap(labelled())
    peaks = {name: _peak_mib(function) for name, function in (
        ("two passes", lambda: in_two_passes(lambda: _streamed(count, side))),
        ("two passes, a quarter of the maps", lambda: in_two_passes(lambda: _streamed(count // 4, side))),
        ("one pass", lambda: per_region_overlap(_streamed(count, side))),
    )}  # fmt: skip
    # The naive one's memory does not depend on the number of thresholds.
    with np.errstate(invalid="ignore"):  # so few thresholds give no area
        peaks["naive"] = _peak_mib(lambda: naive_overlap(iter(smooth_maps(count, side)), 2))
    growth = peaks["two passes"] - peaks["two passes, a quarter of the maps"]
    share = growth / ((count - count // 4) * side**2 * 4 / 2**20)
    row = Row(
        name="overlap",
        what=f"exact PRO@0.3 over {count} maps of {side}²",
        how=(
            "maps read one by one, in two passes (one pass, which keeps the scores, for comparison). "
            "Naive: 200 thresholds, regions labelled anew at each, all maps in memory"
        ),
        ours=seconds["ours"],
        naive=seconds["naive"],
        checks=[
            Check("naive / ours", speed_up(seconds["naive"], seconds["ours"]), ">=", SPEED_UP, "×"),
            Check("growth of the peak memory, of the size of the maps", share, "<=", SHARE, ""),
        ],
        figures={
            "one_pass_seconds": sorted(seconds["one pass"])[len(seconds["one pass"]) // 2],
            "peak_mib": peaks,
            "pro": exact,
            "pro_one_pass": once,
            "pro_200_thresholds": naive_overlap(samples) if settings.quick else None,
        },
    )
    return Found([row], {"PRO": where_time_goes(lambda: in_two_passes(labelled))})


def in_two_passes(read: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> float:
    """Exact PRO as the evaluation computes it: the scores of defects first, then counts, sample by sample."""
    defects = DefectScores()
    for number, (scores, regions) in enumerate(read()):
        defects.add(f"{number:06}", scores, regions)
    counts = defects.counts()
    for scores, regions in read():
        counts.add(scores[regions == 0])
    return counted_overlap(counts)


def _streamed(count: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps as of :func:`smooth_maps`, of which one is in memory at a time."""
    for number in range(count):
        ((scores, mask),) = smooth_maps(2, side, number)[1:]
        yield scores, image_regions(mask)


def _peak_mib(function: Callable[[], object]) -> float:
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20
