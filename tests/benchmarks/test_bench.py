"""The speed table: every group of rows runs at a tiny size, results are written, targets and comparisons are right."""

import json

import pytest
from benchmarks import bench
from benchmarks.speed import scoring
from benchmarks.speed.common import Check, Row, Settings, interleaved, where_time_goes
from benchmarks.speed.overlap import in_two_passes
from benchmarks.speed.page import compare, page

from gsclip.metrics.region_overlap import per_region_overlap

MACHINE = {"processor": "a", "cores": 2, "threads": 1, "memory_gib": 8.0, "load_before": 0.1, "python": "3"}
MACHINE |= {"commit": "c", "libraries": {"torch": "2"}}


def results(*rows, **more):
    base = {"machine": MACHINE, "quick": False, "clock": "wall", "failed": {}, "peak_mib": {"views": 8.0}}
    return base | {"rows": [row.as_json() for row in rows], "profiles": {}} | more


def row(name="views", ours=(1.0, 2.0, 4.0), naive=(10.0, 30.0, 20.0), checks=()):
    return Row(name, f"what {name}", "how", list(ours), list(naive), list(checks))


def test_a_row_gives_medians_and_their_ratio():
    found = row().as_json()
    assert (found["ours_seconds"], found["naive_seconds"], found["ratio"]) == (2.0, 20.0, 10.0)
    assert row(naive=()).as_json()["ratio"] is None


@pytest.mark.parametrize(("relation", "value", "met"), [
    (">=", 8.0, True), (">=", 7.9, False), ("<=", 8.0, True), ("<=", 8.1, False), (">=", float("nan"), False),
])  # fmt: skip
def test_a_target_is_met_on_its_own_side(relation, value, met):
    assert Check("figure", value, relation, 8.0, "×").met is met


def test_variants_run_in_turn_forwards_and_backwards():
    order = []
    seconds = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_where_time_goes_finds_the_function_that_takes_it():
    def spins():
        total = 0
        for number in range(1_000_000):
            total += number
        return total

    top = where_time_goes(lambda: [spins(), sorted([2, 1])])
    assert "test_bench.py" in top[0]["where"]
    assert top[0]["share"] > 0.3
    assert sum(entry["share"] for entry in top) <= 1 + 1e-9


def test_the_page_says_what_is_not_met():
    good, bad = Check("naive / ours", 70.0, ">=", 60.0, "×"), Check("ours", 0.3, "<=", 0.15, "s")
    text = page(results(row(checks=[good, bad]), failed={"overlap": "exit code 1"}))
    lines = text.splitlines()
    assert "| what views | 20.000 | 2.000 | 10.0 | naive / ours: 70 | ≥ 60 × | yes |" in lines
    assert "| | | | | ours: 0.3 | ≤ 0.15 s | **no** |" in lines
    assert "Not measured: overlap (exit code 1)." in lines
    assert "figures mean nothing" not in text
    assert "figures mean nothing" in page(results(row(), quick=True))


def test_an_earlier_result_is_compared_row_by_row():
    before = results(row(ours=[4.0]), row("gone"))
    now = results(row(ours=[2.0]), row("new"))
    found = compare(now, before)
    assert [entry["name"] for entry in found["rows"]] == ["views"]
    assert found["rows"][0]["times_as_fast"] == 2.0
    assert (found["rows"][0]["ratio_before"], found["rows"][0]["ratio_now"]) == (5.0, 10.0)
    assert found["same_machine"]
    other = results(row()) | {"machine": {**before["machine"], "cores": 64}}
    assert not compare(now, other)["same_machine"]
    assert "| what views | 4.000 | 2.000 | 2.00 | 5.0 | 10.0 |" in page({**now, "against": found})


def test_both_exact_overlaps_agree():
    from benchmarks.speed.common import smooth_maps

    from gsclip.metrics.region_overlap import image_regions

    samples = [(scores, image_regions(mask)) for scores, mask in smooth_maps(5, 40)]
    assert sum(regions.any() for _, regions in samples) == 3
    assert in_two_passes(lambda: iter(samples)) == per_region_overlap(samples)


def test_profiles_are_those_that_the_parameters_offer(monkeypatch):
    from typing import Literal

    from pydantic import Field, create_model

    from gsclip.params import PredictParams

    offered = create_model("Offered", __base__=PredictParams, profile=(Literal["full", "fast"], Field("full")))
    monkeypatch.setattr(scoring, "PredictParams", offered)
    assert scoring.profile_names() == ("full", "fast")
    without = create_model("Without", smoothing=(float, 4.0))
    monkeypatch.setattr(scoring, "PredictParams", without)
    assert scoring.profile_names() == ()


ROWS = {
    "views": {"views", "views_growth"},
    "overlap": {"overlap"},
    "training": {"stage1", "stage2"},
    "scoring": {"object", "scoring"},
    "startup": {"help", "start"},
}


@pytest.mark.slow
@pytest.mark.parametrize("group", ROWS)
def test_a_group_is_measured_and_written(tmp_path, group):
    output = tmp_path / "speed"
    with pytest.raises(SystemExit) as ended:
        bench.main(["--quick", "--only", group, "--repeats", "1", "--threads", "1", "--output", str(output)])
    assert ended.value.code == 0
    found = json.loads(output.with_suffix(".json").read_text())
    names = {entry["name"] for entry in found["rows"]}
    assert names >= ROWS[group]
    assert all(name.startswith("profile_") for name in names - ROWS[group])
    assert all(entry["ours_seconds"] > 0 for entry in found["rows"])
    assert found["profiles"]
    assert found["peak_mib"][group] > 0
    for entry in found["rows"]:
        assert entry["what"] in output.with_suffix(".md").read_text()
    if group == "scoring":
        (equal,) = [check for entry in found["rows"] for check in entry["checks"] if "difference" in check["what"]]
        assert equal["met"]
    if group == "training":
        figures = next(entry["figures"] for entry in found["rows"] if entry["name"] == "stage2")
        assert figures["tensors_changed"] == figures["tensors_trained"] > 0


def test_a_group_that_fails_is_listed(tmp_path, capfd):
    output = tmp_path / "speed"
    with pytest.raises(SystemExit) as ended:
        bench.main(["--quick", "--only", "views", "--scans", str(tmp_path / "none"), "--output", str(output)])
    assert ended.value.code == 1
    assert json.loads(output.with_suffix(".json").read_text())["failed"] == {"views": "exit code 1"}
    assert "none" in capfd.readouterr().err


def test_settings_travel_to_the_process_of_a_group():
    settings = Settings(quick=True, repeats=3, scans="somewhere")
    assert Settings(**json.loads(json.dumps(vars(settings)))) == settings
