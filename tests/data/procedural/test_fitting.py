import numpy as np
import pytest

from gsclip.data.procedural.defects import Site
from gsclip.data.procedural.fitting import CLOSE, SIZES, fit_size

SITE = Site(anchor=np.zeros(3), normal=np.array([0.0, 0.0, 1.0]), size=2.0, element=-1)


def test_the_size_is_changed_until_the_area_is_near_the_aim():
    tried = []

    def strike(site):  # shows four times as large as it should
        tried.append(site.size)
        return site.size, 4 * site.size**2

    found = fit_size(SITE, strike, 4.0, (1.0, 20.0))
    assert 4 / CLOSE < 4 * found**2 < 4 * CLOSE
    assert tried == [2.0, 1.0]


def test_of_areas_never_near_the_nearest_that_is_allowed_is_kept():
    areas = iter([50.0, 2.0, 0.0, 30.0, 90.0])
    found = fit_size(SITE, lambda site: (value := next(areas), value), 10.0, (1.0, 40.0))
    assert found == 30.0
    assert next(areas, None) is None  # all were tried
    assert fit_size(SITE, lambda site: ("tiny", 0.0), 10.0, (1.0, 40.0)) is None


def test_the_depth_follows_its_own_range():
    depths = []

    def strike(site):
        depths.append(site.depth or 1.0)
        return depths[-1], 4.0

    def deepen(site, result):
        from dataclasses import replace

        return replace(site, depth=2 * result)

    found = fit_size(SITE, strike, 4.0, (1.0, 20.0), lambda depth: 3.0 < depth < 5.0, deepen)
    assert found == 4.0
    assert depths == pytest.approx([1.0, 2.0, 4.0])
    assert fit_size(SITE, strike, 4.0, (1.0, 20.0), lambda depth: depth < 0) is None
    assert len(depths) == 3 + SIZES
