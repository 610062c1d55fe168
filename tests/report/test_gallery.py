import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests.report.plates import make_items, make_run, reader

from gsclip.report.gallery import (
    BEST,
    HIGHEST_GOOD,
    WORST,
    add_localisation,
    choose,
    draw_gallery,
    evaluated_rows,
    score_range,
    write_overlays,
)


def table(**columns):
    return pd.DataFrame(columns)


@pytest.fixture
def ranked():
    return table(
        name=["a", "b", "c", "d", "e", "f", "g"],
        label=[1, 1, 1, 1, 0, 0, 1],
        point_auroc=[0.9, 0.2, 0.5, 0.2, np.nan, np.nan, np.nan],
        object_score=[0.5, 0.5, 0.5, 0.5, 0.3, 0.8, 0.1],
    )


def names(groups):
    return {group: rows["name"].tolist() for group, rows in groups.items()}


def test_worst_and_best_are_ranked_within_samples_and_good_ones_by_score(ranked):
    assert names(choose(ranked, 2)) == {WORST: ["b", "d"], HIGHEST_GOOD: ["f", "e"], BEST: ["a", "c"]}


def test_the_choice_does_not_depend_on_the_order_of_samples(ranked):
    assert names(choose(ranked[::-1], 2)) == names(choose(ranked, 2))


def test_no_sample_is_both_best_and_worst(ranked):
    groups = names(choose(ranked, 10))
    assert groups[WORST] == ["b", "d"]
    assert groups[BEST] == ["a", "c"]
    single = names(choose(ranked[ranked["name"] == "a"], 4))
    assert single == {WORST: [], HIGHEST_GOOD: [], BEST: ["a"]}


def test_a_defect_without_points_is_in_neither(ranked):
    assert all("g" not in chosen for chosen in names(choose(ranked, 9)).values())


def test_localisation_is_the_auroc_within_the_sample():
    mask = np.array([True, False, False, True])
    scores = np.array([0.9, 0.1, 0.5, 0.4])
    samples = add_localisation(
        table(name=["a", "b", "c"]), [("a", mask, scores), ("b", np.zeros(4, bool), scores), ("c", None, scores)]
    )
    assert samples["point_auroc"][0] == roc_auc_score(mask, scores)
    assert samples["point_auroc"][1:].isna().all()


def test_only_labelled_test_rows_are_evaluated():
    samples = table(name=["a", "b", "c"], label=[1.0, 0.0, np.nan], role=["test", "auxiliary", "test"])
    rows = evaluated_rows(samples)
    assert rows["name"].tolist() == ["a"]
    assert rows["label"].dtype.kind == "i"


def test_one_range_spans_the_scores_of_all_samples(run):
    low, high = score_range(run.samples)
    assert low == run.samples["map_mean"].min()
    assert high == run.samples["map_max"].max()
    assert score_range(run.samples[["name"]]) == (0.0, 1.0)


def test_gallery_holds_the_chosen_samples_in_order(run, items):
    pictures = draw_gallery(run.samples, reader(items), count=1, threshold=0.5)
    assert [picture.group for picture in pictures] == [WORST, HIGHEST_GOOD, BEST]
    assert [picture.row["defect"] for picture in pictures] == ["cut", "good", "dent"]
    assert pictures[0].row["point_auroc"] < 0.1 < 0.9 < pictures[2].row["point_auroc"]
    assert all(picture.png.startswith(b"\x89PNG") for picture in pictures)


def test_overlays_are_three_a_category_and_replace_older_ones(run, items, tmp_path):
    folder = tmp_path / "overlays"
    folder.mkdir()
    (folder / "gone-best.png").write_bytes(b"old")
    written = write_overlays(run.samples, reader(items), folder, threshold=0.5)
    assert [path.name for path in written] == sorted(
        f"{category}-{group}.png" for category in ("bolt", "ring") for group in (BEST, HIGHEST_GOOD, WORST)
    )
    assert sorted(folder.iterdir()) == written
    first = {path.name: path.read_bytes() for path in written}
    write_overlays(run.samples, reader(items), folder, threshold=0.5)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_overlays_are_thirty_at_most_the_worst_first_and_stay_in_their_folder(tmp_path):
    items = make_items(categories=("..\\x",))
    rows = make_run(items).samples
    many = pd.concat([rows.assign(category=f"{number:02d}") for number in range(13)])
    files = [path.name for path in write_overlays(many, reader(items), tmp_path / "many", threshold=None)]
    assert len(files) == 30
    assert sum(file.endswith("-worst.png") for file in files) == 13
    written = write_overlays(rows, reader(items), tmp_path / "odd", threshold=None)
    assert written[0].name == "..%5Cx-best.png"
