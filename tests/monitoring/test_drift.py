"""Drift of tables in the form of samples.csv: what is found, what is not, and what is refused."""

import json

import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from tests.monitoring.windows import window

from gsclip.errors import InputError
from gsclip.monitoring.columns import EMBEDDING_COLUMNS, VALUE_COLUMNS
from gsclip.monitoring.distances import calibrate_thresholds, embedding_distance, spread, value_distance
from gsclip.monitoring.drift import compare_files, compare_windows, drift_report, read_samples
from gsclip.monitoring.page import map_obstacle


def test_windows_of_the_same_kind_do_not_drift():
    result = compare_windows(window(200, seed=0), window(60, seed=1))
    assert not result.drifted
    assert result.verdict == (
        "no drift: 60 samples against 200 of the reference, none of 19 columns beyond its threshold"
    )


@pytest.mark.parametrize("column", ["spacing", "object_score", "depth_std", "embedding"])
def test_a_shift_is_found_in_its_column_only(column):
    result = compare_windows(window(200, seed=0), window(60, seed=1, **{column: 1.5}))
    assert result.drifted_columns == (column,)
    assert result.verdict.endswith(f"1 of 19 columns: {column}")


def test_worst_column_comes_first():
    result = compare_windows(window(200, seed=0), window(60, seed=1, spacing=1.5, depth_std=3))
    assert result.drifted_columns == ("depth_std", "spacing")


def test_false_alarms_are_as_rare_as_promised():
    alarms = [compare_windows(window(120, 2 * seed), window(40, 2 * seed + 1)).drifted for seed in range(60)]
    assert np.mean(alarms) <= 0.1, "the rate is 0.05; 60 repetitions exceed 0.1 by chance in 1 of 30 cases at most"


def test_a_constant_column_drifts_when_it_changes():
    current = window(60, seed=1)
    current["visible_share"] = 0.9
    result = compare_windows(window(200, seed=0), current)
    assert result.drifted_columns == ("visible_share",)


def test_unit_of_length_does_not_matter():
    reference, current = window(50, 0, spacing=1), window(50, 1)
    lengths = ["spacing", "extent_x", "extent_y", "extent_z"]
    metres = compare_windows(reference, current)
    for frame in (reference, current):
        frame[lengths] *= 1000
    millimetres = compare_windows(reference, current)
    for first, second in zip(metres.columns, millimetres.columns, strict=True):
        assert second.distance == pytest.approx(first.distance, rel=1e-9)
        assert second.threshold == pytest.approx(first.threshold, rel=1e-9)


def test_distance_is_scipy_s_in_standard_deviations():
    rng = np.random.default_rng(0)
    reference, current = rng.normal(size=80) * 1e-5, rng.normal(size=30) * 2e-5
    expected = wasserstein_distance(reference, current) / reference.std()
    assert value_distance(reference, current) == pytest.approx(expected)
    assert value_distance(reference, reference + 3 * reference.std()) == pytest.approx(3)


def test_distance_of_embeddings_is_that_of_their_means():
    reference = np.random.default_rng(0).normal(size=(50, 4))
    shift = np.array([3.0, 4.0, 0.0, 0.0])
    assert embedding_distance(reference, reference + shift) == pytest.approx(5 / np.sqrt(reference.var(0).sum()))


def test_spread_of_a_constant_reference_is_that_of_both_windows():
    assert spread(np.zeros((3, 1)), np.ones((3, 1))) == 0.5
    assert spread(np.zeros((3, 1)), np.zeros((5, 1))) == 0


def test_thresholds_are_those_of_a_plain_calculation():
    """The oracle splits, measures with scipy and looks for the multiple by definition."""
    rng = np.random.default_rng(4)
    values, embeddings = rng.gamma(2, size=(30, 3)), rng.normal(size=(30, 5))
    thresholds, embedding_threshold = calibrate_thresholds(values, embeddings, window=10, seed=7)
    draws = np.random.default_rng(7)
    chance = []
    for _ in range(500):
        order = draws.permutation(30)
        part, rest = order[:10], order[10:]
        row = [wasserstein_distance(values[part, c], values[rest, c]) / values[:, c].std() for c in range(3)]
        difference = embeddings[part].mean(0) - embeddings[rest].mean(0)
        chance.append([*row, np.linalg.norm(difference) / np.sqrt(embeddings.var(0).sum())])
    found = np.array([*thresholds, embedding_threshold])
    multiples = (found - np.mean(chance, 0)) / np.std(chance, 0)
    assert np.ptp(multiples) < 1e-9
    assert (np.array(chance) > found).any(1).mean() == pytest.approx(0.05, abs=0.002)


def test_larger_windows_have_lower_thresholds_but_never_below_a_tenth():
    rng = np.random.default_rng(0)
    values, embeddings = rng.normal(size=(4000, 2)), rng.normal(size=(4000, 3))
    small, large = (calibrate_thresholds(values, embeddings, window=size)[0] for size in (10, 2000))
    assert (small > 2 * large).all()
    assert (large == 0.1).all()


def test_report_holds_everything_and_repeats_byte_for_byte(tmp_path):
    reference, current = window(60, seed=0), window(30, seed=1, spacing=2)
    result = drift_report(reference, current, tmp_path / "a")
    drift_report(reference, current, tmp_path / "b")
    written = json.loads((tmp_path / "a" / "drift.json").read_text())
    assert written["drifted"] is True
    assert written["verdict"] == result.verdict
    assert written["counts"] == {"reference": 60, "current": 30, "columns": 19, "drifted": 1}
    assert [row["column"] for row in written["columns"]] == [*VALUE_COLUMNS, "embedding"]
    spacing = written["columns"][VALUE_COLUMNS.index("spacing")]
    assert spacing["drifted"] is True
    assert spacing["distance"] > spacing["threshold"]
    assert spacing["current_mean"] == pytest.approx(current["spacing"].mean())
    assert written["notes"] == []
    for name in ("drift.json", "drift.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_page_shows_our_distances_and_loads_nothing(tmp_path):
    result = drift_report(window(60, seed=0), window(30, seed=1, spacing=2), tmp_path)
    page = (tmp_path / "drift.html").read_text()
    spacing = next(column for column in result.columns if column.column == "spacing")
    embedding = result.columns[-1]
    assert f"{spacing.distance:.6f}".rstrip("0") in page
    assert f"Drift score: {round(embedding.distance, 3)}" in page
    assert "Drift is detected for 5.556% of columns (1 out of 18)." in page
    for reference in ("<script src=", "<link ", 'src="http'):
        assert reference not in page


@pytest.mark.parametrize(
    ("reference_rows", "constant", "note"),
    [(15, False, "more than 30 distinct ones, there are 27"), (60, True, "more than 30 distinct ones, there are 1")],
)
def test_embeddings_that_evidently_cannot_map_leave_the_rest_of_the_page(tmp_path, reference_rows, constant, note):
    reference, current = window(reference_rows, seed=0), window(12, seed=1, spacing=9)
    if constant:
        for frame in (reference, current):
            frame[list(EMBEDDING_COLUMNS)] = 0.25
    result = drift_report(reference, current, tmp_path)
    assert result.drifted_columns == ("spacing",)
    assert note in result.notes[0]
    assert "Drift in embeddings" not in (tmp_path / "drift.html").read_text()


def test_map_needs_distinct_embeddings_in_each_window():
    reference, current = window(60, seed=0), window(12, seed=1)
    assert map_obstacle(reference, current) is None
    current[list(EMBEDDING_COLUMNS)] = current[list(EMBEDDING_COLUMNS)].iloc[0].to_numpy()
    assert "each window needs 10 distinct ones, one has 1" in str(map_obstacle(reference, current))


def test_numpy_s_global_generator_is_left_alone(tmp_path):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    drift_report(window(20, seed=0), window(15, seed=1), tmp_path)
    assert np.random.random() == expected  # noqa: NPY002


def test_files_are_compared_by_one_call(tmp_path):
    window(40, seed=0).to_csv(tmp_path / "reference.csv", index=False)
    window(20, seed=1, spacing=3).to_csv(tmp_path / "current.csv", index=False)
    verdict = compare_files(tmp_path / "reference.csv", tmp_path / "current.csv", tmp_path / "new" / "drift")
    assert verdict == "drift: 20 samples against 40 of the reference, 1 of 19 columns: spacing"
    assert sorted(path.name for path in (tmp_path / "new" / "drift").iterdir()) == ["drift.html", "drift.json"]


def test_too_few_samples_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^today\.csv: holds 9 samples, a comparison needs 10; collect more"):
        drift_report(window(40, 0), window(9, 1), tmp_path, names=("before.csv", "today.csv"))
    assert list(tmp_path.iterdir()) == []


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(InputError, match=r"^reference: lacks columns: map_max, spacing; give"):
        drift_report(window(40, 0).drop(columns=["spacing", "map_max"]), window(40, 1), tmp_path)
    with pytest.raises(InputError, match=r"lacks columns: .* and 16 more"):
        drift_report(window(40, 0)[["name", *VALUE_COLUMNS[5:]]], window(40, 1), tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, "high"])
def test_values_that_are_no_finite_numbers_are_named(tmp_path, value):
    current = window(40, 1).astype({"spacing": object})
    current.loc[7, "spacing"] = value
    with pytest.raises(InputError, match=r"^current: row 8 and perhaps more: no finite number in spacing; "):
        drift_report(window(40, 0), current, tmp_path)


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing\.csv: cannot be read as a table .*; give the samples\.csv"):
        read_samples(tmp_path / "missing.csv")
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(InputError, match=r"empty\.csv: cannot be read as a table"):
        read_samples(empty)
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(InputError, match=r"picture\.png: cannot be read as a table"):
        read_samples(picture)
