"""Tables of many runs, from made-up metrics of known mean and spread."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from gsclip.experiments.data_sets import EncodedData
from gsclip.experiments.protocols import ablation_runs, cross_data_set_runs, one_vs_rest_runs
from gsclip.experiments.tables import FIGURES, ablation_page, long_table, protocols_page
from gsclip.experiments.variants import ABLATION, PAPER_SCORES
from gsclip.packs import PackFolders
from gsclip.params import load_params
from gsclip.report.published import PUBLISHED_ABLATION

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
INDEX = pd.DataFrame(
    {
        "name": ["vase/train/good/0", "vase/validation/good/0", "biscuit/train/hole/0", "elbow/test/good/0"],
        "category": ["vase", "vase", "biscuit", "elbow"],
        "split": ["train", "validation", "train", "test"],
    }
)
DATA = EncodedData("procedural", PackFolders(Path("a"), Path("b"), Path("c")), INDEX)
OTHER = dataclasses.replace(DATA, dataset="mvtec_3d_ad")


def metrics(run, value):
    # Every metric has a value of its own: a figure in the wrong column shows.
    figures = {
        metric: {"ours": value + 0.001 * place, "random": 0.5, "oracle": 1.0}
        for place, metric in enumerate((*FIGURES, "point_iou"))
    }
    return {
        "data": {
            "auxiliary_categories": list(run.auxiliary),
            "training_splits": ["train"],
            "training_samples": 20 * len(run.auxiliary),
            "samples": 15,
            "test_splits": ["test"],
        },
        "mean": figures,
        "o_auroc_interval": [value - 0.1, value + 0.1],
        "point_auroc_interval": [value - 0.1, value + 0.1],
        "categories": {
            "elbow": {**figures, "samples": 15, "o_auroc_interval": [0.4, 0.8], "point_auroc_interval": [0.4, 0.8]}
        },
    }


def finished(runs, value):
    return [(run, metrics(run, value(run))) for run in runs]


def line(page, start):
    return next(text for text in page.splitlines() if text.startswith(f"| {start} |"))


def test_ablation_runs_every_seed_but_what_learns_nothing_once():
    runs = ablation_runs(PARAMS, DATA, [DATA])
    for variant in ABLATION:
        seeds = [run.seed for run in runs if run.row == variant.name]
        assert seeds == ([0, 1, 2] if variant.seeded else [0])


def test_rows_of_the_ablation_differ_in_what_their_name_says():
    rows = {run.row: run.params for run in ablation_runs(PARAMS, DATA, [DATA]) if run.seed == 0}
    off = rows["learned prompts (PointAD-like)"]
    assert [off.stage1.shape_prompt, off.stage1.defect_prompt, off.stage2.depth_stream] == [False] * 3
    assert rows["+ SRM + shape + defect"].stage2.consistency_weight == 0
    last = rows["+ SRM + shape + defect + L_con (GS-CLIP)"]
    paper = PARAMS.model_copy(update={"predict": PARAMS.predict.model_copy(update=PAPER_SCORES)})
    assert last.model_copy(update={"prepare": None}) == paper.model_copy(update={"prepare": None})
    assert rows["hand-written prompts (CLIP baseline)"].stage1.prompts == "hand_written"


def test_every_published_row_stands_beside_one_of_ours():
    assert {variant.published for variant in ABLATION if variant.published} == {row.row for row in PUBLISHED_ABLATION}


def test_the_page_gives_mean_spread_and_differences_seed_by_seed():
    def value(run):
        lucky = 0.01 * (1 if run.seed else -1)  # of the shape prompt: not the same under every seed
        part = (0.05 if "SRM" in run.row else 0) - (0.02 if "L_con" in run.row else 0)
        return 0.6 + 0.1 * run.seed + part + (lucky if run.row.endswith("shape") else 0)

    table = long_table("ablation", finished(ablation_runs(PARAMS, DATA, [DATA]), value))
    assert len(table) == 2 * 20  # a mean and a category each
    page = ablation_page(table, "Backbone.")
    cells = line(page, "learned prompts (PointAD-like)").strip("| ").split(" | ")
    assert cells[1:] == ["3", *(f"{70 + 0.1 * place:.1f} ± 10.0" for place in range(7)), "80.9/91.7", "93.5", "83.1"]
    assert line(page, "SRM").split(" | ")[1:2] == ["+5.0 ± 0.0"]
    assert line(page, "SRM").endswith("better |")
    assert line(page, "L_con").endswith("worse |")
    assert line(page, "shape prompt").endswith("not shown |")  # two seeds of three are higher
    assert line(page, "defect prompt").endswith("not shown |")  # no difference
    assert "Published, not ours" in page
    assert "60 samples of the split train" in page
    assert "reaches 10 points to either side" in page


def test_two_seeds_tell_nothing():
    params = PARAMS.model_copy(update={"experiments": PARAMS.experiments.model_copy(update={"seeds": (0, 1)})})
    runs = finished(ablation_runs(params, DATA, [DATA]), lambda run: 0.7 if "SRM" in run.row else 0.6)
    assert line(ablation_page(long_table("ablation", runs), "B."), "SRM").endswith("not shown |")


def test_one_vs_rest_trains_on_one_category_and_tests_on_all_others():
    runs = one_vs_rest_runs(PARAMS, DATA)
    assert [(run.auxiliary, run.seed) for run in runs[:3]] == [(("castle_nut",), 0), (("vase",), 0), (("biscuit",), 0)]
    assert len(runs) == 9
    assert set(runs[1].tested()["category"]) == {"biscuit", "elbow"}
    assert "validation" not in set(runs[0].tested()["split"])


def test_another_data_set_is_tested_whole():
    runs = cross_data_set_runs(PARAMS, DATA, OTHER)
    assert set(runs[1].tested()["category"]) == {"vase", "biscuit", "elbow"}


def test_protocols_average_over_auxiliary_categories_and_spread_over_seeds():
    def value(run):
        return {"castle_nut": 0.5, "vase": 0.6, "biscuit": 0.7}[run.row] + 0.1 * run.seed

    page = protocols_page(long_table("one-vs-rest", finished(one_vs_rest_runs(PARAMS, DATA), value)), "Backbone.")
    assert "**70.0 ± 10.0**" in line(page, "**mean**")
    assert line(page, "trained on vase alone").split(" | ")[1] == "70.0 ± 10.0"
    assert line(page, "random scores").split(" | ")[1] == "50.0"
    published = line(page, "published: GS-CLIP on mvtec_3d_ad, one-vs-rest, 3D only¹").strip("| ").split(" | ")
    assert published[1:] == ["83.6", "96.5", "–", "–", "96.3", "–", "86.4"]
    assert "Each run is trained on castle_nut" in page


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_one_seed_has_no_spread(seeds):
    params = PARAMS.model_copy(update={"experiments": PARAMS.experiments.model_copy(update={"seeds": seeds})})
    page = protocols_page(long_table("one-vs-rest", finished(one_vs_rest_runs(params, DATA), lambda _: 0.5)), "B.")
    assert ("±" in line(page, "trained on vase alone")) == (len(seeds) > 1)
