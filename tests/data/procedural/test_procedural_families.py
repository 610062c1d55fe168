import numpy as np
import pytest
import torch

from gsclip.data.procedural.families import FAMILIES, categories

SEEDS = (0, 1)


def directions(count, seed):
    vectors = torch.randn(3, count, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=0)


def in_ball(radius, count, seed):
    radii = radius * torch.rand(1, count, generator=torch.Generator().manual_seed(seed + 100)) ** (1 / 3)
    return directions(count, seed) * radii


def test_the_roles_share_no_family():
    roles = {role: categories(role) for role in ("backbone", "auxiliary", "test")}
    assert {role: len(names) for role, names in roles.items()} == {"backbone": 19, "auxiliary": 3, "test": 7}
    assert len({name for names in roles.values() for name in names}) == len(FAMILIES) == 29


def test_captions_name_families_differently():
    nouns = [family.noun for family in FAMILIES.values()]
    assert len(set(nouns)) == len(nouns)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_ball_holds_the_part_and_the_part_is_not_empty(name, seed):
    part = FAMILIES[name].build(np.random.default_rng(seed))
    field = part.field()
    assert field(part.bound * directions(2000, seed)).min() > 0
    # About a thousandth of the ball at least, else nothing would be seen.
    assert (field(in_ball(part.bound, 8000, seed)) < 0).float().mean() > 0.001


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_ball_of_the_fields_radius_reaches_into_the_part(name, seed):
    # What sphere tracing relies on. Some steps may be too long by the width of a hair, where grooves meet the axis.
    part = FAMILIES[name].build(np.random.default_rng(seed))
    field = part.field()
    points = in_ball(part.bound, 8000, seed)
    radius = field(points)
    reached = field(points + directions(8000, seed + 7) * radius.clamp(min=0) * 0.99)
    wrong = (reached < -0.002) & (radius > 0.05)
    assert wrong.sum() <= 2
    assert not (reached[wrong] < -0.1).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_generator_builds_the_same_part_and_another_a_different_one(name):
    points = in_ball(10.0, 500, 0)
    first, same, other = (FAMILIES[name].build(np.random.default_rng(s)).field()(points) for s in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_element_stands_where_the_fold_says(name):
    part = FAMILIES[name].build(np.random.default_rng(5))
    points = in_ball(part.bound, 4000, 5)
    local, number = part.repeat.fold(points)
    assert number.min() >= 0
    assert number.max() < part.repeat.count
    for k in (0, part.repeat.count - 1):
        torch.testing.assert_close(part.repeat.place(points, k)[:, number == k], local[:, number == k],
                                   atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_omitting_an_element_leaves_the_others_alone(name):
    part = next(
        part
        for part in (FAMILIES[name].build(np.random.default_rng(seed)) for seed in range(6, 26))
        if part.repeat.count > 1
    )
    points = in_ball(part.bound, 5000, 6)
    _, number = part.repeat.fold(points)
    whole, lacking = part.elements()(points), part.elements(omitted=1)(points)
    assert torch.equal(whole[number != 1], lacking[number != 1])
    others = torch.stack([part.single(k)(points) for k in range(part.repeat.count) if k != 1]).amin(dim=0)
    torch.testing.assert_close(lacking[number == 1], others[number == 1], atol=1e-3, rtol=1e-3)
