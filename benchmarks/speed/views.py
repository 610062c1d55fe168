"""Nine views of one scan, on one core; and how time grows with the number of points."""

from __future__ import annotations

import math
import statistics

import numpy as np
import torch

from benchmarks.naive.views import naive_depths, naive_views, window_available
from benchmarks.speed.common import Check, Found, Row, Settings, interleaved, read_one_scan, speed_up, where_time_goes
from gsclip.data.preparation import prepare_sample
from gsclip.data.sample import Sample
from gsclip.views.renderer import render_views

SIZE = 336
SECONDS, SPEED_UP = 0.15, 60.0
STEEPEST = 1.1  # exponent of the growth with the number of points


def measure(settings: Settings) -> Found:
    """Rows ``views`` and ``views_growth``."""
    torch.set_num_threads(1)
    size = 96 if settings.quick else SIZE
    scan, description = read_one_scan(settings)
    start = settings.now()
    sample = prepare_sample(scan)
    prepared = settings.now() - start
    window = window_available()
    seconds = interleaved(
        {
            "ours": lambda: render_views(sample, image_size=size),
            "naive": lambda: (
                naive_views(sample, image_size=size, window=window),
                naive_depths(sample, image_size=size),
            ),
        },
        settings.repeats,
        now=settings.now,
    )
    ours, naive = seconds["ours"], seconds["naive"]
    pictures = "an Open3D window for each rendered image and mask" if window else "no window (none can be opened here)"
    row = Row(
        name="views",
        what="nine views of a scan: rendered, depth, correspondence, visibility, mask",
        how=(
            f"{description}, {len(sample.points):,} points of the part, images of {size}², one thread; the normals "
            f"are given. Naive: {pictures}, Python loops over all points of each view, the depth in a pass of its "
            "own, as the references do"
        ),
        ours=ours,
        naive=naive,
        checks=[
            Check("naive / ours", speed_up(naive, ours), ">=", SPEED_UP, "×"),
            Check("ours, a scan and core", statistics.median(ours), "<=", SECONDS, "s"),
        ],
        figures={"points": len(sample.points), "window": window, "background_and_normals_seconds": prepared},
    )
    profiles = {"render": where_time_goes(lambda: render_views(sample, image_size=size))}
    return Found([row, _growth(settings, size)], profiles)


def _growth(settings: Settings, size: int) -> Row:
    counts = [10_000, 100_000, 1_000_000] + ([3_000_000] if settings.large else [])
    if settings.quick:
        counts = [1_000, 10_000]
    medians = {}
    for count in counts:
        sample = knobbly_ring(count)
        render = {"ours": lambda sample=sample: render_views(sample, image_size=size)}
        runs = interleaved(render, settings.repeats, now=settings.now)
        medians[count] = statistics.median(runs["ours"])
    before, last = counts[-2:]
    exponent = math.log(medians[last] / medians[before]) / math.log(last / before)
    return Row(
        name="views_growth",
        what="nine views by the number of points",
        how=f"a ring with knobs, {', '.join(f'{count:,}' for count in counts)} points, one thread",
        ours=runs["ours"],
        checks=[Check(f"exponent of the growth from {before:,} on", exponent, "<=", STEEPEST, "")],
        figures={"seconds": {str(count): value for count, value in medians.items()}},
    )


def knobbly_ring(count: int) -> Sample:
    """A sample of ``count`` points in random order on a ring with knobs; its normals are those of the smooth ring."""
    random = np.random.default_rng(0)
    around, across = random.uniform(0, 2 * np.pi, (2, count))
    radius = 0.3 + 0.02 * np.sin(12 * around) * np.sin(5 * across)
    outwards = np.stack([np.cos(around), np.sin(around), np.zeros(count)], 1)
    normals = np.cos(across)[:, None] * outwards + np.sin(across)[:, None] * np.array([0.0, 0.0, 1.0])
    points = outwards + radius[:, None] * normals
    return Sample(points.astype(np.float32), normals.astype(np.float32), mask=(around < 0.2))
