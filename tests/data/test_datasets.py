import logging

import pandas as pd
import pytest

from gsclip.data import anomaly_shapenet, eyecandies, mvtec3d, real3d_ad
from gsclip.data.datasets import DATASETS, completeness, listing, warn_of_cameras, warn_of_gaps
from gsclip.data.official import OFFICIAL_COUNTS
from gsclip.errors import InputError

FROM_FOLDERS = ("mvtec_3d_ad", "eyecandies", "real3d_ad", "anomaly_shapenet")


def index(category, **defects):
    """As many test samples of each kind of defect as said."""
    kinds = [kind for kind, number in defects.items() for _ in range(number)]
    rows = {"category": category, "split": "test", "defect": kinds, "label": [int(kind != "good") for kind in kinds]}
    return pd.DataFrame(rows)


def rows(table):
    return [(*row[:-1], None if pd.isna(row[-1]) else row[-1]) for row in table.itertuples(index=False, name=None)]


def test_what_is_there_is_set_against_what_is_official():
    table = completeness("mvtec_3d_ad", index("cable_gland", hole=11, good=10, bent=34))
    assert list(table.columns) == ["category", "split", "defect", "found", "official"]
    assert rows(table) == [
        ("cable_gland", "test", "good", 10, 21),
        ("cable_gland", "test", "bent", 34, None),
        ("cable_gland", "test", "hole", 11, None),
        ("cable_gland", "test", "abnormal", 45, 87),
        ("cable_gland", "test", "all", 55, 108),
    ]


def test_a_kind_that_is_missing_altogether_is_in_the_table():
    table = completeness("real3d_ad", index("shell", bulge=3))
    assert rows(table) == [
        ("shell", "test", "good", 0, 52),
        ("shell", "test", "bulge", 3, None),
        ("shell", "test", "abnormal", 3, 48),
        ("shell", "test", "all", 3, 100),
    ]


def test_what_is_not_known_is_left_open():
    for dataset, category in (("anomaly_shapenet", "vase0"), ("mvtec_3d_ad", "bottle"), ("procedural", "vase")):
        table = completeness(dataset, index(category, good=2, hole=1))
        assert list(table["found"]) == [2, 1, 1, 3]
        assert table["official"].isna().all()


def test_official_numbers_add_up_to_those_of_the_papers():
    def total(dataset, *key):
        return sum(number for (_, *rest), number in OFFICIAL_COUNTS[dataset].items() if tuple(rest) == key)

    assert [
        total("mvtec_3d_ad", *key)
        for key in (("train", "good"), ("validation", "good"), ("test", "good"), ("test", "abnormal"))
    ] == [2656, 294, 249, 948]
    assert total("real3d_ad", "train", "all") + total("real3d_ad", "test", "all") == 1254
    assert total("eyecandies", "train", "all") + total("eyecandies", "validation", "all") == 11000
    assert total("eyecandies", "test", "all") == 500
    for module in (mvtec3d, eyecandies, real3d_ad, anomaly_shapenet):
        assert {category for category, *_ in OFFICIAL_COUNTS[module.DATASET]} == set(module.OFFICIAL_CATEGORIES)


def test_gaps_are_one_warning(caplog):
    table = pd.concat([index("cable_gland", good=10, hole=45), index("rope", good=32, cut=69), index("tire", good=1)])
    with caplog.at_level(logging.WARNING, logger="gsclip"):
        warn_of_gaps("mvtec_3d_ad", table)
        warn_of_gaps("mvtec_3d_ad", index("rope", good=32, cut=69))
        warn_of_gaps("anomaly_shapenet", index("vase0", good=1))
    assert caplog.messages == ["mvtec_3d_ad is not complete here: cable_gland/test 55 of 108, tire/test 1 of 112"]


def test_categories_and_splits_that_are_missing_altogether_are_gaps_where_all_were_asked_for(caplog):
    table = completeness("real3d_ad", index("shell", good=52, bulge=48), ("train", "validation", "test"))
    sums = table[table["defect"] == "all"].set_index(["category", "split"])
    assert set(sums.index) == {(name, split) for name in real3d_ad.OFFICIAL_CATEGORIES for split in ("train", "test")}
    assert list(sums.loc[("shell", "test"), ["found", "official"]]) == [100, 100]
    assert list(sums.loc[("shell", "train"), ["found", "official"]]) == [0, 4]
    assert sums["found"].sum() == 100
    car = table[(table["category"] == "car") & (table["split"] == "test")].drop(columns=["category", "split"])
    assert rows(car) == [("good", 0, 50), ("abnormal", 0, 50), ("all", 0, 100)]
    with caplog.at_level(logging.WARNING, logger="gsclip"):
        warn_of_gaps("real3d_ad", index("shell", good=52, bulge=48), ("test",))
        warn_of_gaps("anomaly_shapenet", index("vase0", good=1), ("test",))
    assert caplog.messages[0].startswith("real3d_ad is not complete here: airplane/test missing, candybar/test missing")
    assert "shell" not in caplog.messages[0]
    assert caplog.messages[1].count("/test missing") == 39  # also where the number is not known
    assert "vase0" not in caplog.messages[1]


def test_data_sets_without_an_official_number_have_no_gaps(caplog):
    table = index("vase", good=2)
    assert completeness("procedural", table, ("test",)).equals(completeness("procedural", table))
    warn_of_gaps("procedural", table, ("test",))
    assert not caplog.messages


@pytest.mark.parametrize("dataset", DATASETS)
def test_cameras_on_one_side_of_whole_clouds_are_warned_of(caplog, dataset):
    with caplog.at_level(logging.WARNING, logger="gsclip"):
        warn_of_cameras(dataset, "full")
        assert not caplog.messages
        warn_of_cameras(dataset, "front")
    if dataset in ("real3d_ad", "anomaly_shapenet"):
        assert f"{dataset} has points on all sides" in caplog.text
    elif dataset in FROM_FOLDERS:
        assert not caplog.messages


@pytest.mark.parametrize("dataset", FROM_FOLDERS)
def test_data_sets_from_folders_are_listed_and_say_their_licence(dataset, tmp_path):
    with pytest.raises(InputError, match="data set folder not found"):
        listing(dataset)(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no category with the split test; name the data set's top folder"):
        listing(dataset)(tmp_path)
    assert DATASETS[dataset].licence.startswith("check: ")


def test_what_has_no_folder_is_not_listed():
    with pytest.raises(InputError, match=r"data set nix: is not known; use mvtec_3d_ad, eyecandies, real3d_ad"):
        listing("nix")
    with pytest.raises(InputError, match="data set procedural: is generated and has no folder"):
        listing("procedural")
