import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from dashboards import data
from dashboards.views_panel import view_names
from PIL import Image
from tests.dashboards.spheres import prediction, sphere

from gsclip.errors import InputError
from gsclip.storage import write_pack
from gsclip.views.cameras import camera_angles, fast_views
from gsclip.views.renderer import render_views

NAME = "ball/test/dent/002"
PLACES = (0, 5, 8)  # of the views that are scored


def changed(workspace, **columns):
    path = workspace / "outputs/predictions/samples.csv"
    table = pd.read_csv(path, keep_default_na=False).assign(**columns)
    table.to_csv(path, index=False)
    return table


def test_an_inspection_joins_points_views_and_scores(workspace):
    shown = data.load_inspection(workspace, "ball", NAME)
    assert shown.points.shape == (900, 3)
    np.testing.assert_allclose(shown.scores, np.where(shown.mask, 0.8, 0.2))
    assert shown.maps.shape == shown.rendered.shape == shown.depth.shape == shown.view_masks.shape == (9, 48, 48)
    assert shown.maps.max() == pytest.approx(0.8)


def test_another_threshold_changes_the_decisions_and_the_order(workspace):
    table = data.load_samples(workspace, 0.8)
    assert set(table["threshold"]) == {0.8}
    assert data.own_threshold(data.load_samples(workspace)) == 0.5
    by_name = table.set_index("name")["outcome"]
    assert by_name["ball/test/good/001"] == "passed"
    assert by_name["marble/test/scratch/001"] == "found"
    assert by_name["ball/test/dent/003"] == "missed"
    assert table["name"].iloc[0] == "ball/test/dent/003"


def test_the_threshold_is_suggested_from_auxiliary_samples_alone(workspace, tmp_path):
    rows = data.calibration_rows(workspace, workspace)
    assert set(rows["category"]) == {"pearl"}
    other = tmp_path / "other"
    shutil.copytree(workspace, other)
    table = pd.read_csv(other / "outputs/predictions/samples.csv")
    table[table["role"] == "test"].to_csv(other / "outputs/predictions/samples.csv", index=False)
    assert set(data.calibration_rows(other, workspace)["category"]) == {"pearl"}
    table[table["role"] == "test"].assign(threshold=0.6).to_csv(other / "outputs/predictions/samples.csv", index=False)
    assert data.calibration_rows(other, workspace).empty  # another threshold is another model
    table[table["role"] == "test"].to_csv(other / "outputs/predictions/samples.csv", index=False)
    metrics = json.loads((other / "outputs/metrics.json").read_text())
    metrics["data"]["profile"] = "fast"
    (other / "outputs/metrics.json").write_text(json.dumps(metrics))
    assert data.calibration_rows(other, workspace).empty  # and scores of another profile are others


def test_localisation_is_the_auroc_of_the_points_of_defective_test_samples(workspace):
    found = data.load_localisation(workspace)
    assert set(found.index) == {"ball/test/dent/002", "ball/test/dent/003", "marble/test/scratch/001"}
    assert (found == 1).all()


def test_a_thumbnail_reads_the_front_view_alone(workspace):
    content = data.load_thumbnail(workspace, "ball", NAME, (0.0, 1.0))
    picture = np.array(Image.open(io.BytesIO(content)))
    assert picture.shape == (48, 48, 4)
    assert 0 < (picture[..., 3] > 0).mean() < 1
    with pytest.raises(InputError, match="holds no record"):
        data.load_thumbnail(workspace, "ball", "absent", (0.0, 1.0))


def test_large_clouds_are_thinned_evenly(workspace, monkeypatch):
    monkeypatch.setattr(data, "MAX_POINTS", 300)
    with write_pack(workspace / "data/prepared/ball.h5") as pack:
        sample = sphere(2, True)
        pack.add(NAME, sample)
    shown = data.load_inspection(workspace, "ball", NAME)
    assert len(shown.points) == len(shown.scores) == len(shown.mask) == len(shown.normals) == 300
    np.testing.assert_array_equal(shown.points[[0, -1]], sample.points[[0, -1]])
    np.testing.assert_allclose(shown.scores, np.where(shown.mask, 0.8, 0.2))


def test_a_file_that_changes_is_read_again(workspace):
    assert data.load_samples(workspace)["object_score"].max() == 0.95
    changed(workspace, object_score=0.33)
    assert data.load_samples(workspace)["object_score"].max() == 0.33


def test_names_that_look_like_numbers_or_gaps_stay_text(workspace):
    changed(workspace, category="NA", defect="007")
    table = data.load_samples(workspace)
    assert set(table["category"]) == {"NA"}
    assert set(table["defect"]) == {"007"}


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"object_score": "high"}, "has text in the column object_score"),
        ({"object_score": ""}, "the column object_score holds what is no number"),
        ({"map_max": "inf"}, "the column map_max holds what is no number"),
        ({"threshold": "low"}, "the column threshold holds what is no number"),
        ({"decision": "2"}, "the column decision holds other values than 0 and 1"),
        ({"label": "0.5"}, "the column label holds other values than 0 and 1"),
        ({"name": "twice"}, "lists a sample twice"),
    ],
)
def test_a_table_of_samples_with_wrong_values_is_refused(workspace, columns, problem):
    changed(workspace, **columns)
    with pytest.raises(InputError, match="make demo") as error:
        data.load_samples(workspace)
    assert error.value.problem == problem


@pytest.mark.parametrize("content", [b"", b"name,role\n", b"name\nx\n", b"\xff\xfe\x00binary\x00", b'a,b\n"open'])
def test_a_file_that_is_no_table_is_refused(workspace, content):
    (workspace / "outputs/predictions/samples.csv").write_bytes(content)
    with pytest.raises(InputError, match="run `make demo`"):
        data.load_samples(workspace)


@pytest.mark.parametrize("change", [{"mean": {}}, {"categories": {}}, {"data": None}, {"threshold": "x"}])
def test_metrics_in_another_form_are_refused(workspace, change):
    path = workspace / "outputs/metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=f"metrics.json: {next(iter(change))}"):
        data.load_metrics(workspace)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_metrics_that_are_no_json_are_refused(workspace, content):
    (workspace / "outputs/metrics.json").write_bytes(content)
    with pytest.raises(InputError, match="run `make demo`"):
        data.load_metrics(workspace)


def test_packs_of_different_runs_are_refused(workspace):
    sample = sphere(2, True, points=700)
    with write_pack(workspace / "data/prepared/ball.h5") as pack:
        pack.add(NAME, sample)
    with pytest.raises(InputError, match="does not fit"):
        data.load_inspection(workspace, "ball", NAME)


@pytest.mark.parametrize("packed", [range(9), PLACES, range(2)])
def test_views_are_those_that_were_scored(workspace, packed):
    """A pack holds all views of the model or those that were scored; with fewer it does not fit."""
    sample = sphere(2, True)
    views = render_views(sample, image_size=48)
    scored = views.select(PLACES)
    with write_pack(workspace / "outputs/predictions/ball.h5") as pack:
        pack.add(NAME, replace(prediction(sample, scored, 0.5), places=np.array(PLACES)))
    with write_pack(workspace / "data/views/ball.h5") as pack:
        pack.add(NAME, views.select(packed))
    if len(packed) == 2:
        with pytest.raises(InputError, match="run `make demo`"):
            data.load_inspection(workspace, "ball", NAME)
    else:
        inspection = data.load_inspection(workspace, "ball", NAME)
        assert inspection.places == list(PLACES)
        np.testing.assert_array_equal(inspection.rendered, scored.rendered)


def test_scores_that_are_not_finite_are_refused(workspace):
    sample = sphere(2, True)
    result = prediction(sample, render_views(sample, image_size=48), 0.5)
    result.point_scores[3] = np.nan
    with write_pack(workspace / "outputs/predictions/ball.h5") as pack:
        pack.add(NAME, result)
    with pytest.raises(InputError, match="not finite"):
        data.load_inspection(workspace, "ball", NAME)


@pytest.mark.parametrize("name", ["absent", "", "/", "..", "ball", "nul\0byte"])
def test_a_sample_that_no_pack_holds_is_refused(workspace, name):
    with pytest.raises(InputError, match="run `make demo`"):
        data.load_inspection(workspace, "ball", name)


@pytest.mark.parametrize("category", ["../../secret", "/etc", "..", ".", "", "nul\0byte"])
def test_a_category_cannot_lead_out_of_the_workspace(workspace, category):
    with pytest.raises(InputError, match="is no name of a category"):
        data.load_inspection(workspace, category, NAME)


@pytest.mark.parametrize("path", ["data/prepared/ball.h5", "data/views/ball.h5", "outputs/predictions/ball.h5"])
def test_a_missing_pack_is_named(workspace, path):
    (workspace / path).unlink()
    with pytest.raises(InputError, match=f"{path}: not found; run `make demo`"):
        data.load_inspection(workspace, "ball", NAME)


def test_a_pack_cut_short_is_refused(workspace):
    path = workspace / "data/views/ball.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"data/views/ball.h5: .*; run `make demo`"):
        data.load_inspection(workspace, "ball", NAME)


def test_views_of_the_fast_profile_are_named_by_their_cameras():
    angles = camera_angles("front")
    names = view_names("front", fast_views("front"))
    for name, place in zip(names, fast_views("front"), strict=True):
        x, y = angles[place]
        assert name == f"View {place + 1}: {x:.0f}° about x, {y:.0f}° about y"
    assert view_names("", [0, 5]) == ["View 1", "View 6"]
