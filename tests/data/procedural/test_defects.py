from functools import cache

import numpy as np
import pytest

from gsclip.data.procedural.camera import compose
from gsclip.data.procedural.dataset import visible_surface
from gsclip.data.procedural.defects import ELEMENT_KINDS, KINDS, applicable_kinds, choose_site, make_defect
from gsclip.data.procedural.families import FAMILIES
from gsclip.data.procedural.sensor import changed, measure, retrace, trace

GRID = (96, 96)
STRUCK = ("stepped_shaft", "spur_gear", "stud_brick")


@cache
def seen(name):
    part = FAMILIES[name].build(np.random.default_rng(8))
    scene = compose(part, np.random.default_rng(9), GRID)
    hits = trace(part.field(), scene)
    return part, scene, hits, visible_surface(part, scene, hits)


def struck(name, kind, seed=0, size=14):
    part, scene, _, surface = seen(name)
    rng = np.random.default_rng(seed)
    site = choose_site(part, kind, surface, size * scene.pitch, rng)
    return site, make_defect(part, kind, site, surface, rng)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_shows_near_its_place_and_nowhere_else(kind):
    name = STRUCK[KINDS.index(kind) % len(STRUCK)]
    part, scene, hits, _ = seen(name)
    _, damage = struck(name, kind)
    local = retrace(damage.field, scene, hits, part.field(), damage.centre, damage.reach)
    mask = changed(hits, local)
    assert 3 < mask.sum() < 0.25 * hits.part.sum()
    # Casting every ray again finds nothing outside of the ball.
    everywhere = retrace(damage.field, scene, hits, part.field(), np.zeros(3), part.bound)
    assert (changed(hits, everywhere) != mask).sum() <= 1


@pytest.mark.parametrize("kind", ["concavity", "hole", "crack", "scratch", "flattening", "break", "missing_element"])
def test_kinds_that_remove_material_never_bring_the_surface_nearer(kind):
    part, scene, hits, _ = seen("spur_gear")
    for seed in range(3):
        _, damage = struck("spur_gear", kind, seed)
        after = retrace(damage.field, scene, hits, part.field(), damage.centre, damage.reach)
        nearer = hits.range - after.range > 0.05
        if kind == "hole":  # its rim may be raised
            assert (changed(hits, after) & ~nearer).any()
        else:
            assert nearer.sum() <= 2


def test_a_bulge_brings_the_surface_nearer():
    part, scene, hits, _ = seen("stepped_shaft")
    for seed in range(3):
        _, damage = struck("stepped_shaft", "bulge", seed)
        after = retrace(damage.field, scene, hits, part.field(), damage.centre, damage.reach)
        moved = hits.range[changed(hits, after)] - after.range[changed(hits, after)]
        assert (moved > 0).all()
        assert moved.max() > 0.3


def test_anchors_lie_on_the_visible_surface_off_the_silhouette():
    part, scene, _, surface = seen("vase")
    for kind in KINDS:
        for seed in range(4):
            site = choose_site(part, kind, surface, 10 * scene.pitch, np.random.default_rng(seed))
            nearest = np.linalg.norm(surface.points - site.anchor, axis=1)
            assert nearest.min() == 0
            assert np.linalg.norm(site.normal) == pytest.approx(1.0)
            if kind in ELEMENT_KINDS:
                assert surface.elements[nearest.argmin()] == site.element
            else:
                assert site.element == -1
                assert surface.normals[nearest.argmin()] @ surface.view > 0.4


def test_a_bent_or_missing_element_leaves_its_siblings_alone():
    part, scene, hits, surface = seen("stud_brick")
    for kind in ELEMENT_KINDS:
        site, damage = struck("stud_brick", kind, seed=3)
        mask = changed(hits, retrace(damage.field, scene, hits, part.field(), damage.centre, damage.reach))
        known = (hits.part & np.isfinite(hits.range)).ravel()
        siblings = (surface.elements >= 0) & (surface.elements != site.element)
        assert mask.ravel()[known][surface.elements == site.element].mean() > 0.2
        assert mask.ravel()[known][siblings].mean() < 0.02


@pytest.mark.parametrize("kind", ["hole", "missing_element"])
def test_a_defect_changes_the_measurement_nearby_only(kind):
    # Otherwise noise or gaps elsewhere would give damaged scans away.
    part, scene, hits, _ = seen("stud_brick")
    _, damage = struck("stud_brick", kind, seed=1)
    after = retrace(damage.field, scene, hits, part.field(), damage.centre, damage.reach)
    good, bad = (measure(scene, met, np.random.default_rng(0)) for met in (hits, after))
    rows = np.flatnonzero((hits.range != after.range).any(axis=1) & ~np.isnan(hits.range).all(axis=1))
    elsewhere = np.ones(GRID[0], dtype=bool)
    elsewhere[max(rows.min() - 6, 0) : rows.max() + 7] = False
    assert elsewhere.sum() > 20
    np.testing.assert_array_equal(good[elsewhere], bad[elsewhere])
    assert not np.array_equal(good, bad, equal_nan=True)


def test_bends_need_elements_that_stand_out():
    assert set(applicable_kinds(FAMILIES["spur_gear"].build(np.random.default_rng(0)))) == set(KINDS)
    bored = FAMILIES["pipe_flange"].build(np.random.default_rng(0))
    assert set(KINDS) - set(applicable_kinds(bored)) == {"bend"}
