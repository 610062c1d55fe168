import dataclasses

import numpy as np
import open3d
import pandas as pd
import pytest
from tests.detectors import PARAMS
from tests.experiments.test_tables import DATA, OTHER, metrics

from gsclip.data import own_parts
from gsclip.data.geometry import estimate_normals
from gsclip.data.sample import Sample
from gsclip.data.synthesis.files import Settings
from gsclip.data.synthesis.strikes import KINDS
from gsclip.errors import InputError
from gsclip.experiments.baselines import self_similarity
from gsclip.experiments.meshes import choose, damage, mesh_data_sets
from gsclip.experiments.protocols import COMPARED, SELF_SIMILARITY, comparison_runs, self_similarity_runs
from gsclip.experiments.runs import perform_baseline
from gsclip.experiments.tables import comparison_page, kinds_table, long_table
from gsclip.experiments.variants import ABLATION, SHIPPED
from gsclip.features.backbone import load_backbone
from gsclip.params import load_params
from gsclip.scores.self_similarity import fpfh, outwards
from gsclip.storage import write_pack


def bumpy_sphere(bump):
    """Evenly spread points of a sphere; those of a steep bump are marked."""
    number = np.arange(12_000) + 0.5
    polar, around = np.arccos(1 - 2 * number / len(number)), np.pi * (1 + 5**0.5) * number
    normals = np.stack([np.cos(around) * np.sin(polar), np.sin(around) * np.sin(polar), np.cos(polar)], 1)
    away = np.arccos(np.clip(normals @ [0.0, 0.6, 0.8], -1, 1))
    mask = away < 0.15
    points = normals * (1 + bump * np.where(mask, np.cos(away / 0.15 * np.pi / 2), 0))[:, None]
    return points.astype(np.float32), normals.astype(np.float32), mask


def sphere_sample(bump):
    points, _, mask = bumpy_sphere(bump)
    return Sample(points=points, normals=estimate_normals(points), mask=mask)


def test_a_bump_is_unlike_the_rest_of_a_sphere():
    sample = sphere_sample(0.1)
    prediction = self_similarity(sample, smoothing=1.0)
    marked, others = prediction.point_scores[sample.mask], prediction.point_scores[~sample.mask]
    assert marked.mean() > 3 * others.mean()
    assert 0 <= others.min() <= prediction.point_scores.max() <= 1
    assert prediction.object_score > 3 * self_similarity(sphere_sample(0.0), smoothing=1.0).object_score


def test_histograms_do_not_depend_on_the_sign_of_normals():
    sample = sphere_sample(0.1)
    flipped = dataclasses.replace(sample, normals=-sample.normals)
    histograms, others = (fpfh(one.points, outwards(one), 0.3, 100) for one in (sample, flipped))
    np.testing.assert_array_equal(histograms, others)
    np.testing.assert_allclose(histograms.sum(1), 1, atol=1e-5)


def test_a_part_without_distant_places_has_no_anomaly():
    sample = sphere_sample(0.1)
    few = slice(None, 60)
    small = Sample(points=sample.points[few], normals=sample.normals[few])
    assert not self_similarity(small, smoothing=0.0).point_scores.any()


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    for number in range(8):
        mesh = open3d.geometry.TriangleMesh.create_torus(1.0, 0.3 + 0.02 * number, 60, 40)
        place = folder / ("rings" if number % 2 else "loops") / f"{number}.ply"
        place.parent.mkdir(exist_ok=True)
        open3d.io.write_triangle_mesh(str(place), mesh)
    return folder


def test_meshes_are_chosen_evenly(meshes):
    assert [path.stem for path in choose(meshes, 3)] == ["0", "1", "7"]
    assert len(choose(meshes, 99)) == 8


def test_every_mesh_is_a_category_good_and_damaged_once_for_each_kind(meshes, tmp_path):
    damage(meshes, choose(meshes, 2), tmp_path, Settings(view="full", points=20_000))
    index = own_parts.own_parts_index(tmp_path)
    assert set(index["category"]) == {"loops-0", "rings-7"}
    for _, members in index.groupby("category"):
        kinds = members.loc[members["label"] == 1, "defect"]
        assert kinds.is_unique
        assert len(KINDS) - 1 <= len(kinds) <= len(KINDS)  # a kind that a part does not take is left out
        assert (members["label"] == 0).sum() == len(kinds)
    clouds = [own_parts.read_row(tmp_path, row) for _, row in index.iterrows()]
    assert [scan.mask.any() for scan in clouds] == list(index["label"] == 1)
    assert len({scan.points.tobytes() for scan in clouds}) == len(clouds)
    with pytest.raises(InputError, match="holds no meshes"):
        damage(meshes, [], tmp_path / "none", Settings())


def test_meshes_are_encoded_under_the_cameras_of_their_kind(meshes, tmp_path):
    update = {"meshes": str(meshes), "mesh_parts": 1}
    params = PARAMS.model_copy(
        update={
            "experiments": PARAMS.experiments.model_copy(update=update),
            "features": PARAMS.features.model_copy(update={"cloud_points": 512}),
        }
    )
    found = mesh_data_sets(params, load_backbone(), tmp_path)
    assert [data.cameras for data in found] == ["front", "full"]
    assert [data.dataset for data in found] == ["meshes, scanned from one side", "meshes, from all sides"]
    for data in found:
        assert set(data.index["category"]) == {"loops-0"}
        assert {"good", next(iter(KINDS))} < set(data.index["defect"])
    runs = comparison_runs(params, DATA, found)
    assert {(run.test.dataset, run.params.render.cameras) for run in runs} == {
        (data.dataset, data.cameras) for data in found
    }
    without = params.model_copy(update={"experiments": PARAMS.experiments.model_copy(update={"meshes": ""})})
    assert mesh_data_sets(without, load_backbone(), tmp_path) == []


def test_self_similarity_is_evaluated_like_a_model(tmp_path):
    samples = {"ball/test/good/0": sphere_sample(0.0), "ball/test/bulge/0": sphere_sample(0.1)}
    index = pd.DataFrame(
        {"name": list(samples), "category": "ball", "split": "test", "defect": ["good", "bulge"], "label": [0, 1]}
    )
    folders = dataclasses.replace(DATA.folders, prepared=tmp_path)
    with write_pack(folders.paths("ball")[0]) as pack:
        for name, sample in samples.items():
            pack.add(name, sample)
    test = dataclasses.replace(OTHER, folders=folders, index=index)
    (run,) = self_similarity_runs(load_params(), DATA, [test])
    found = perform_baseline(run, _score, tmp_path)
    assert found["mean"]["o_auroc"]["ours"] == 1
    assert found["mean"]["point_auroc"]["ours"] > 0.75
    assert found["data"]["training_samples"] == 0
    assert perform_baseline(run, _fail, tmp_path) == found  # not scored again


def _score(sample):
    return self_similarity(sample, smoothing=1.0)


def _fail(sample):
    raise AssertionError


def test_the_page_has_all_rows_of_all_data_sets():
    params = load_params()
    runs = self_similarity_runs(params, DATA, [DATA, OTHER]) + comparison_runs(params, DATA, [DATA, OTHER])
    finished = []
    for run in runs:
        value = 0.6 + 0.1 * (run.row == SHIPPED.name) + 0.01 * run.seed
        kinds = {"hole": {"o_auroc": value, "point_auroc": value + 0.1, "samples": 5}}
        interval = [value - 0.1, value + 0.1]
        finished.append((run, {**metrics(run, value), "defects": kinds, "point_auroc_interval": interval}))
        finished[-1][1]["categories"]["elbow"]["point_auroc_interval"] = interval
    page = comparison_page(long_table("comparison", finished), kinds_table(finished), "Backbone.")
    for dataset in ("procedural", "mvtec_3d_ad"):
        part = page.split(f"## Tested on {dataset}")[1].split("##")[0]
        for row in (SELF_SIMILARITY, *COMPARED, SHIPPED.name, "random scores", "oracle (ground truth)"):
            assert f"| {row} | " in part
        assert f"| {SHIPPED.name} | 3 | 71.0 ± 1.0 [61, 81] |" in part
        assert "| hole | 5 | 71.0 ± 1.0 | 81.0 ± 1.0 |" in part
    assert {variant.name for variant in ABLATION} >= set(COMPARED)
    scoring = {run.row: run.params.predict for run in runs if run.row != SELF_SIMILARITY}
    paper = params.predict.model_copy(update={"self_similarity": 0.0, "map_weight": 0.5})
    assert scoring == {**dict.fromkeys(COMPARED, paper), SHIPPED.name: params.predict}
