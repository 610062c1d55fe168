"""Changes the size of a defect until it shows as large as is aimed at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from gsclip.data.procedural.defects import Site

SIZES = 5  # that are tried at each place
CLOSE = 1.5  # times too large or too small: near enough to the size aimed at

Result = TypeVar("Result")


def fit_size(
    site: Site,
    strike: Callable[[Site], tuple[Result, float]],
    aim: float,
    allowed: tuple[float, float],
    good_depth: Callable[[Result], bool] = lambda result: True,
    deepen: Callable[[Site, Result], Site] = lambda site, result: site,
) -> Result | None:
    """Strike one place again and again, each time with another size.

    Args:
        site: the place, with the size to begin with.
        strike: from a site to what becomes of the part and the area that is marked, in any unit.
        aim: the area wanted, in the same unit, above 0.
        allowed: smallest and largest area.
        good_depth: whether a result's depth is allowed.
        deepen: the site with another depth, by what the last result had; by default the kind has its own way.

    Returns:
        The result allowed whose area is nearest to the aim, the first one nearer than :data:`CLOSE`, or ``None``
        where none is allowed.
    """
    best, off = None, np.inf
    for _ in range(SIZES):
        result, area = strike(site)
        ratio = area / aim if area > 0 else 0.1
        if allowed[0] <= area <= allowed[1] and good_depth(result) and abs(np.log(ratio)) < off:
            best, off = result, abs(float(np.log(ratio)))
        if off < np.log(CLOSE):
            break
        site = deepen(replace(site, size=site.size * float(np.clip(ratio**-0.5, 0.5, 2.0))), result)
    return best
