import numpy as np
import pandas as pd
import pytest
import torch

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import (
    MASK_SHARE,
    generate_from_row,
    generate_pair,
    generate_scan,
    kinds,
    procedural_index,
)
from gsclip.data.procedural.defects import ELEMENT_KINDS, KINDS, TRAINING_KINDS
from gsclip.data.procedural.families import FAMILIES
from gsclip.errors import InputError

GRID = (96, 96)


def same(first, second):
    return np.array_equal(first.points, second.points, equal_nan=True) and np.array_equal(first.mask, second.mask)


@pytest.mark.parametrize("number", range(len(FAMILIES)))
def test_every_family_gives_a_valid_scan_with_every_defect_in_turn(number):
    family = list(FAMILIES)[number]
    # Of families without a fixed design, not every part has elements to strike.
    possible = [kind for kind in kinds(family) if FAMILIES[family].weight == 1 or kind not in ELEMENT_KINDS]
    defect = possible[number % len(possible)]
    good, damaged = generate_pair(family, number, defect, 1, grid=GRID)
    for scan in (good, damaged):
        assert scan.points.shape == (*GRID, 3)
        assert scan.points.dtype == np.float32
        assert scan.mask.shape == GRID
        assert scan.mask.dtype == bool
        assert 0.5 < np.nanmedian(scan.points[..., 2]) < 0.8  # metres
        assert prepare_sample(scan).points.shape[0] > 600
    assert not good.mask.any()
    sample = prepare_sample(damaged)
    assert sample.mask.sum() >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_marks_a_small_share_of_the_part(kind):
    # Of those that are put together anew, of more weight, not every part can have every kind.
    able = [name for name, family in FAMILIES.items() if family.weight == 1 and kind in kinds(name)]
    for index, family in enumerate(able[:: len(able) // 2][:2]):
        scan = generate_scan(family, index, kind, 2, grid=GRID)
        # Of the pixels of the part; of its points alone it is somewhat more.
        share = scan.mask.sum() / len(prepare_sample(scan).points)
        assert 0.8 * MASK_SHARE[0] < share < 1.5 * MASK_SHARE[1]


def test_a_kind_for_training_alone_is_made_on_demand_and_never_listed():
    assert not set(TRAINING_KINDS) & set(KINDS)
    assert all(not set(TRAINING_KINDS) & set(kinds(family)) for family in FAMILIES)
    for family in ("flange_bolt", "tapered_rod"):
        scan = generate_scan(family, 1, "crushing", 2, grid=GRID)
        share = scan.mask.sum() / len(prepare_sample(scan).points)
        assert 0.8 * MASK_SHARE[0] < share < 1.5 * MASK_SHARE[1]
    index = procedural_index(["flange_bolt"], 10, 0, "train", only="crushing")
    assert set(index["defect"]) == {"good", "crushing"}


def test_the_same_numbers_give_the_same_bytes_on_any_number_of_threads():
    threads = torch.get_num_threads()
    scans = []
    for count in (1, 2):
        torch.set_num_threads(count)
        scans.append(generate_scan("impeller", 3, "bend", 4, grid=GRID))
    torch.set_num_threads(threads)
    assert same(*scans)


def test_each_number_counts():
    first = generate_scan("jar_lid", 0, None, 0, grid=GRID)
    for family, index, defect, seed in (
        ("jar_lid", 1, None, 0),
        ("jar_lid", 0, "hole", 0),
        ("jar_lid", 0, None, 1),
        ("vase", 0, None, 0),
    ):
        assert not same(first, generate_scan(family, index, defect, seed, grid=GRID))


def test_a_pair_shows_one_part_in_one_pose_with_noise_of_its_own():
    good, damaged = generate_pair("spur_gear", 2, "missing_element", 5, grid=GRID)
    assert same(damaged, generate_scan("spur_gear", 2, "missing_element", 5, grid=GRID))
    both = np.isfinite(good.points[..., 2]) & np.isfinite(damaged.points[..., 2])
    sound = both & ~damaged.mask
    off = np.abs(good.points[..., 2] - damaged.points[..., 2])[sound]
    assert (off > 0).mean() > 0.99
    part = prepare_sample(good).pixels
    on_part = np.zeros(GRID, dtype=bool)
    on_part[tuple(part.T)] = True
    step = np.nanmedian(np.linalg.norm(np.diff(good.points, axis=1), axis=2))
    assert np.median(np.abs(good.points[..., 2] - damaged.points[..., 2])[both & ~damaged.mask & on_part]) < 0.2 * step


def test_the_index_lists_good_and_damaged_samples():
    index = procedural_index(["castle_nut", "vase"], 20, 3, "train")
    assert len(index) == 40
    assert (index["dataset"] == "procedural").all()
    assert index["name"].iloc[0].split("/")[:2] == ["castle_nut", "train"]
    assert index["name"].iloc[-1].endswith("/019")
    for category, rows in index.groupby("category"):
        assert (rows["label"] == 0).mean() == pytest.approx(0.4)
        counts = rows.loc[rows["label"] == 1, "defect"].value_counts()
        assert set(counts.index) == set(kinds(category))
        assert counts.max() - counts.min() <= 1
    pd.testing.assert_frame_equal(index, procedural_index(["castle_nut", "vase"], 20, 3, "train"))


@pytest.mark.parametrize("samples", [2, 5])
def test_few_samples_hold_both_good_and_damaged_ones(samples):
    assert set(procedural_index(["vase"], samples, 0, "test")["label"]) == {0, 1}


def test_rows_give_their_scans_and_splits_differ():
    for split in ("train", "test"):
        index = procedural_index(["stud_brick"], 4, 0, split)
        row = index[index["label"] == 1].iloc[0]
        assert same(generate_from_row(row, 0, grid=GRID), generate_from_row(row, 0, grid=GRID))
        assert generate_from_row(row, 0, grid=GRID).mask.any()
    good = index[index["label"] == 0].iloc[0]
    other = good.replace({"test": "train"}, regex=False).copy()
    other["name"], other["split"] = good["name"].replace("/test/", "/train/"), "train"
    first, second = generate_from_row(good, 0, grid=GRID), generate_from_row(other, 0, grid=GRID)
    assert not first.mask.any()
    assert not same(first, second)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(InputError, match=r"'teapot'.*not known; choose one of flange_bolt, "):
        generate_scan("teapot", 0, None, 0)
    with pytest.raises(InputError, match=r"'rust'.*not known; choose one of bulge, "):
        generate_scan("vase", 0, "rust", 0)
    with pytest.raises(InputError, match=r"pipe_flange, defect 'bend': cannot be had by this family; choose one of"):
        generate_scan("pipe_flange", 0, "bend", 0)
    with pytest.raises(InputError, match="negative"):
        generate_scan("vase", -1, None, 0)
    with pytest.raises(InputError, match="negative"):
        generate_scan("vase", 0, None, -1)


def test_an_index_of_nothing_is_refused():
    for categories, samples in (([], 3), (["vase", "vase"], 3), (["vase"], 0), (["teapot"], 3)):
        with pytest.raises(InputError):
            procedural_index(categories, samples, 0, "train")
    with pytest.raises(InputError, match="index is not valid"):
        procedural_index(["vase"], 3, 0, "holiday")


def test_rows_of_other_data_sets_are_refused():
    row = procedural_index(["vase"], 2, 0, "test").iloc[0].copy()
    row["dataset"] = "mvtec_3d_ad"
    with pytest.raises(InputError, match="no sample of the procedural data set"):
        generate_from_row(row, 0)
