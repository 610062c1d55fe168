"""The command line on files: results per scan, broken scans, evaluation in the official layout of MVTec 3D-AD."""

import inspect
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import open3d
import pandas as pd
import pytest
import tifffile
from PIL import Image
from tests.detectors import PARAMS, untrained_detector
from tests.monitoring.windows import fill_log, window
from typer.testing import CliRunner

from gsclip.cli import app, check, render
from gsclip.data.preparation import DEFAULT_SCAN_PARAMS
from gsclip.data.procedural.dataset import generate_scan
from gsclip.data.sample import Sample
from gsclip.decision import DecisionThreshold, model_digest, write_threshold
from gsclip.detector import Detector, model_version, read_config
from gsclip.errors import InputError
from gsclip.features.backbone import load_backbone
from gsclip.monitoring.log import BatchLog, read_window
from gsclip.monitoring.rows import SAMPLE_COLUMNS
from gsclip.scans import find_scans
from gsclip.scores.prediction import Prediction, scored_views
from gsclip.stages.cross import cross
from gsclip.storage import Pack, sha256
from gsclip.views.views import Views

ROOT = Path(__file__).parents[1]
GRID = (120, 120)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of an untrained detector."""
    folder = tmp_path_factory.mktemp("model") / "gsclip"
    trained_on = {"dataset": "procedural", "auxiliary_categories": ["vase"], "backbone": "embedded"}
    untrained_detector(load_backbone(), threshold=0.5, trained_on=trained_on).save(folder)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    scan = generate_scan("elbow", 0, None, 0, grid=GRID)
    tifffile.imwrite(folder / "elbow.tiff", np.nan_to_num(scan.points), photometric="rgb")
    points = scan.points.reshape(-1, 3)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points[np.isfinite(points).all(1)][:4000]))
    open3d.io.write_point_cloud(str(folder / "cloud.ply"), cloud)
    (folder / "text.ply").write_text("this is not a cloud\n")
    empty = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.zeros((1, 3))))
    open3d.io.write_point_cloud(str(folder / "empty.ply"), empty)
    return folder


def load(path):
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_profile_of_scores_can_be_chosen(model, scans, tmp_path):
    for profile in ("full", "fast"):
        output = tmp_path / profile
        result = run("score", scans / "elbow.tiff", "--model", model, "--output", output, "--profile", profile)
        assert result.exit_code == 0, result.output
        assert json.loads((output / "elbow.json").read_text())["profile"] == profile
    assert run("score", scans, "--model", model, "--output", tmp_path, "--profile", "slow").exit_code == 2


def test_score_writes_all_results_of_every_scan(model, scans, tmp_path):
    result = run("score", scans / "elbow.tiff", scans / "cloud.ply", "--model", model, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    for name in ("elbow", "cloud"):
        scored = json.loads((tmp_path / f"{name}.json").read_text())
        arrays = load(tmp_path / f"{name}.npz")
        cloud = open3d.t.io.read_point_cloud(str(tmp_path / f"{name}.ply"))
        assert scored["points"] == len(arrays["point_scores"]) == len(cloud.point.positions)
        assert scored["decision"] == ("abnormal" if scored["object_score"] >= scored["threshold"] else "normal")
        assert scored["seconds"]["total"] > 0
        assert np.allclose(cloud.point.positions.numpy(), arrays["points"])
        assert np.allclose(cloud.point["score"].numpy()[:, 0], arrays["point_scores"])
        assert len(np.unique(cloud.point.colors.numpy(), axis=0)) > 3
    arrays = load(tmp_path / "elbow.npz")
    assert arrays["pixels"].max() < GRID[0]
    np.testing.assert_array_equal(arrays["rows"], arrays["pixels"] @ [GRID[1], 1])
    measured = tifffile.imread(scans / "elbow.tiff").reshape(-1, 3)
    np.testing.assert_array_equal(arrays["points"], measured[arrays["rows"]])
    samples = pd.read_csv(tmp_path / "samples.csv")
    assert tuple(samples.columns) == SAMPLE_COLUMNS
    assert samples["name"].tolist() == ["elbow", "cloud"]


def test_scoring_loads_no_library_that_it_does_not_need(model, scans, tmp_path):
    """Each of these would keep every call waiting for half a second or more; and no step loads Open3D."""
    heavy = ("IPython", "dash", "evidently", "open_clip", "pandas", "pandera", "peft", "torchvision", "torch._dynamo")
    arguments = ["score", str(next(scans.glob("cloud.ply"))), "--model", str(model), "--output", str(tmp_path / "out")]
    code = (
        "import sys; from gsclip.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_scored_and_rejected_scans_are_logged_and_change_no_result(model, scans, tmp_path, monkeypatch):
    monitoring = tmp_path / "monitoring"
    assert run("score", scans, "--model", model, "--output", tmp_path / "a", "--monitoring", monitoring).exit_code == 2
    found = read_window(monitoring / "log", 10)
    rows = found.rows.set_index("name")
    assert (sorted(rows.index), found.rejected) == (["cloud", "elbow"], 2)
    samples = pd.read_csv(tmp_path / "a" / "samples.csv", float_precision="round_trip").set_index("name")
    for column in ("object_score", "roughness", "gap_ratio", "embedding_15"):
        assert rows[column].to_dict() == samples[column].to_dict()
    assert rows.loc["elbow", "scan_sha256"] == sha256(scans / "elbow.tiff")
    assert set(rows["model"]) == {model_version(read_config(model))}
    event = json.loads((monitoring / "runs.jsonl").read_text())
    assert (event["event"], event["scored"], event["rejected"]) == ("score", 2, 2)
    assert event["run"] == rows["batch"].iloc[0]

    monkeypatch.setenv("GSCLIP_MONITORING", str(monitoring))
    assert run("score", scans / "elbow.tiff", "--model", model, "--output", tmp_path / "b").exit_code == 0
    assert len(list((monitoring / "log").iterdir())) == 2
    assert (tmp_path / "a" / "elbow.npz").read_bytes() == (tmp_path / "b" / "elbow.npz").read_bytes()


def test_a_reference_is_made_from_samples_or_from_a_log(model, tmp_path):
    window(30, seed=0).to_csv(tmp_path / "samples.csv", index=False)
    result = run("reference", "--samples", tmp_path / "samples.csv", "--model", model, "--output", tmp_path / "r")
    version = model_version(read_config(model))
    assert result.output == f"reference of 30 scans, model {version}, false alarms in 1 % of windows\n"
    for number, name in enumerate(("m1", "m2")):
        fill_log(BatchLog(tmp_path / "line" / "log", name, datetime(2026, 3, 1 + number, tzinfo=UTC)),
                 window(25, seed=number), tmp_path / "scans")
    from_log = ["reference", "--monitoring", tmp_path / "line", "--output", tmp_path / "r"]
    assert run(*from_log, "--scans", 25).output.startswith("reference of 25 scans, model m2")
    assert "several models among the newest 50: m1, m2" in run(*from_log).output
    assert "needs one source" in run("reference", "--output", tmp_path / "r").output
    assert "is no reference of an earlier call" in run(*from_log[:-1], tmp_path / "line", "--scans", 25).output


def test_same_scan_twice_gives_the_same_bytes(model, scans, tmp_path):
    for folder in ("first", "second"):
        assert run("score", scans / "elbow.tiff", "--model", model, "--output", tmp_path / folder).exit_code == 0
    for name in ("elbow.npz", "elbow.ply", "samples.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "problem"),
    [("missing.ply", "not found"), ("text.ply", "text.ply"), ("empty.ply", "points"), ("folder/none.xyz", "not found")],
)
@pytest.mark.parametrize("command", ["score", "render"])
def test_bad_scan_is_one_line(command, name, problem, model, scans, tmp_path):
    arguments = ["--model", model] if command == "score" else []
    result = run(command, scans / name, "--output", tmp_path, *arguments)
    assert result.exit_code == 2
    lines = result.output.strip().splitlines()
    assert len(lines) == 1, result.output
    assert problem in lines[0]
    assert "Traceback" not in result.output


def test_one_broken_scan_never_stops_a_batch(model, scans, tmp_path):
    result = run("score", scans, "--model", model, "--output", tmp_path)
    assert result.exit_code == 2
    assert (tmp_path / "elbow.json").is_file()
    assert (tmp_path / "cloud.json").is_file()
    rejected = pd.read_csv(tmp_path / "rejected.csv")
    assert [Path(name).name for name in rejected["name"]] == ["empty.ply", "text.ply"]


def test_errors_of_other_libraries_reject_one_scan_only(scans, tmp_path):
    damaged = tmp_path / "damaged.npz"
    np.savez_compressed(damaged, np.random.default_rng(0).normal(size=(500, 3)))
    content = bytearray(damaged.read_bytes())
    content[2000:2100] = bytes(100)
    damaged.write_bytes(content)
    faces = tmp_path / "faces.off"
    faces.write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n")
    result = run("render", damaged, faces, scans / "elbow.tiff", "--output", tmp_path / "out", "--views", 1)
    assert result.exit_code == 2
    assert (tmp_path / "out" / "elbow" / "rendered_0.png").is_file()
    assert len(pd.read_csv(tmp_path / "out" / "rejected.csv")) == 2


def test_output_that_is_a_file_is_one_line(scans, tmp_path):
    (tmp_path / "file").touch()
    result = run("render", scans / "elbow.tiff", "--output", tmp_path / "file")
    assert result.exit_code == 2
    assert "choose another folder" in result.output


def test_results_are_no_scans(model, scans, tmp_path):
    shutil.copy(scans / "elbow.tiff", tmp_path)
    for _ in range(2):
        assert run("score", tmp_path, "--model", model, "--output", tmp_path / "out").exit_code == 0
    assert pd.read_csv(tmp_path / "out" / "samples.csv")["name"].tolist() == ["elbow"]


def test_missing_model_and_unknown_data_set_are_one_line(scans, tmp_path, model):
    for result in (
        run("score", scans / "elbow.tiff", "--model", tmp_path / "nothing", "--output", tmp_path),
        run("evaluate", "--dataset", "nix", "--root", scans, "--model", model, "--output", tmp_path / "m.json"),
        run("evaluate", "--dataset", "mvtec_3d_ad", "--root", scans, "--model", model, "--output", tmp_path / "m.json"),
    ):
        assert result.exit_code == 2
        assert len(result.output.strip().splitlines()) == 1, result.output


def test_truncated_weights_name_the_file(model, tmp_path):
    broken = shutil.copytree(model, tmp_path / "broken")
    weights = broken / "prompts.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = run("score", ROOT / "README.md", "--model", broken, "--output", tmp_path)
    assert result.exit_code == 2
    assert "prompts.safetensors" in result.output


def test_render_writes_both_images_of_every_view(scans, tmp_path):
    result = run("render", scans / "elbow.tiff", "--output", tmp_path, "--views", 3, "--size", 96)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "elbow"
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{kind}_{number}.png" for kind in ("depth", "rendered") for number in range(3)),
        "views.npz",
    ]
    depth, rendered = (np.asarray(Image.open(folder / f"{kind}_0.png")) for kind in ("depth", "rendered"))
    assert depth.shape == rendered.shape == (96, 96)
    assert depth.max() > 60_000  # 16 bit
    assert ((depth == 0) == (rendered == 255)).all()  # the same background


def test_render_takes_the_parameters_of_scans(scans, tmp_path):
    arguments = [scans / "elbow.tiff", scans / "cloud.ply", "--views", 1, "--size", 64]
    options = {"default": [], "other": ["--background", "none", "--max-points", 1000]}
    points = {}
    for name, further in options.items():
        result = run("render", *arguments, *further, "--output", tmp_path / name)
        assert result.exit_code == 0, result.output
        points[name] = [len(load(tmp_path / name / part / "views.npz")["points"]) for part in ("elbow", "cloud")]
    measured = np.any(tifffile.imread(scans / "elbow.tiff") != 0, axis=2).sum()
    assert points["other"][0] == measured > 1.5 * points["default"][0]
    assert points["default"][1] == 4000
    assert 900 < points["other"][1] <= 1000
    assert run("render", *arguments, "--output", tmp_path, "--background", "grey").exit_code == 2
    assert run("render", *arguments, "--output", tmp_path, "--max-points", 10).exit_code == 2


def test_defaults_of_the_command_line_are_those_of_the_library():
    for command in (render, check):
        defaults = {name: value.default for name, value in inspect.signature(command).parameters.items()}
        assert {name: defaults[name] for name in ("background", "max_points")} == DEFAULT_SCAN_PARAMS.model_dump()


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory):
    root = tmp_path_factory.mktemp("mvtec")
    for category, family in (("bagel", "ring_cake"), ("dowel", "elbow")):
        for number, defect in enumerate([None, None, "bulge", "hole"]):
            scan = generate_scan(family, number, defect, 1, grid=GRID)
            folder = root / category / "test" / (defect or "good")
            for kind in ("xyz", "rgb", "gt"):
                (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "xyz" / f"{number:03d}.tiff", np.nan_to_num(scan.points), photometric="rgb")
            Image.fromarray(scan.mask.astype(np.uint8) * 255).save(folder / "gt" / f"{number:03d}.png")
            Image.fromarray(np.zeros((*GRID, 3), np.uint8)).save(folder / "rgb" / f"{number:03d}.png")
    broken = root / "bagel" / "test" / "good" / "xyz" / "099.tiff"
    broken.write_bytes(b"II*\0 no image")
    return root


def test_evaluate_reports_ours_random_and_oracle(model, mvtec, tmp_path):
    result = run(
        "evaluate", "--dataset", "mvtec_3d_ad", "--root", mvtec, "--model", model,
        "--output", tmp_path / "metrics.json", "--report", tmp_path / "report",
    )  # fmt: skip
    assert result.exit_code == 2  # a scan was rejected
    assert "099.tiff" in result.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["categories"]) == {"bagel", "dowel"}
    assert metrics["data"]["samples"] == 8
    assert metrics["data"]["rejected"] == 1
    for metric in ("o_auroc", "o_ap", "point_auroc", "point_pro", "pixel_auroc", "pixel_pro"):
        assert set(metrics["mean"][metric]) == {"ours", "random", "oracle"}
    assert metrics["mean"]["point_auroc"]["oracle"] == 1
    assert len(list((tmp_path / "report" / "maps").rglob("*.png"))) == 8
    assert "099.tiff" in (tmp_path / "report" / "index.html").read_text()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def thinning(model, folder, max_points=1000):
    """A copy of the model that thins clouds of more points."""
    copy = shutil.copytree(model, folder)
    config = json.loads((copy / "config.json").read_text())
    config["scan"]["max_points"] = max_points
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_every_finite_point_of_a_big_cloud_is_written_with_its_score(model, tmp_path):
    directions = np.random.default_rng(0).normal(size=(5000, 3))
    points = (directions / np.linalg.norm(directions, axis=1, keepdims=True) * [3, 2, 1]).astype(np.float32)
    points[[0, 17, 4999]] = np.nan
    np.save(tmp_path / "big.npy", points)
    thin, output = thinning(model, tmp_path / "thin"), tmp_path / "out"
    result = run("score", tmp_path / "big.npy", "--model", thin, "--output", output)
    assert result.exit_code == 0, result.output
    scored, arrays = json.loads((output / "big.json").read_text()), load(output / "big.npz")
    cloud = open3d.t.io.read_point_cloud(str(output / "big.ply"))
    finite = points[np.isfinite(points).all(axis=1)]
    assert scored["points"] == len(finite) == 4997
    assert 900 < scored["thinned_to"] <= 1000
    np.testing.assert_array_equal(arrays["points"], finite)
    np.testing.assert_array_equal(cloud.point.positions.numpy(), finite)
    np.testing.assert_array_equal(cloud.point["score"].numpy()[:, 0], arrays["point_scores"])
    expected = Detector.from_pretrained(thin).score(points)
    np.testing.assert_array_equal(arrays["point_scores"], expected.point_scores)
    assert scored["object_score"] == expected.object_score
    assert pd.read_csv(output / "samples.csv")["points"].tolist() == [scored["thinned_to"]]


@pytest.mark.parametrize("away", [0.0, 1e6])
@pytest.mark.parametrize("thinned", [False, True])
def test_each_score_names_its_row_of_the_file_and_what_was_taken_from_its_coordinates(model, tmp_path, away, thinned):
    directions = np.random.default_rng(0).normal(size=(3000, 3))
    points = directions / np.linalg.norm(directions, axis=1, keepdims=True) * [3, 2, 1] + [away, -away, 2 * away]
    points[[0, 17, 1200, 2999]] = np.nan
    np.save(tmp_path / "part.npy", points)
    model = thinning(model, tmp_path / "thin") if thinned else model
    assert run("score", tmp_path / "part.npy", "--model", model, "--output", tmp_path / "out").exit_code == 0
    arrays = load(tmp_path / "out" / "part.npz")
    np.testing.assert_array_equal(arrays["rows"], np.flatnonzero(np.isfinite(points).all(axis=1)))
    assert len(arrays["rows"]) == len(arrays["point_scores"]) == 2996
    np.testing.assert_allclose(arrays["points"] + arrays["offset"], points[arrays["rows"]], rtol=0, atol=1e-6)
    assert arrays["offset"].any() == (away > 0)
    assert json.loads((tmp_path / "out" / "part.json").read_text())["offset"] == arrays["offset"].tolist()


def test_a_cloud_that_is_not_thinned_says_so(model, scans, tmp_path):
    assert run("score", scans / "cloud.ply", "--model", model, "--output", tmp_path).exit_code == 0
    assert json.loads((tmp_path / "cloud.json").read_text())["thinned_to"] is None


@pytest.mark.parametrize("thinned", [False, True])
def test_clouds_with_a_label_a_point_are_evaluated(model, tmp_path, caplog, thinned):
    if thinned:
        model = thinning(model, tmp_path / "thin")
    root = tmp_path / "real3d" / "duck"
    (root / "test").mkdir(parents=True)
    (root / "gt").mkdir()
    for number, kind in enumerate(["good", "good", "bulge", "sink"]):
        directions = np.random.default_rng(number).normal(size=(3000, 3))
        points = 10 * directions / np.linalg.norm(directions, axis=1, keepdims=True) * [1.0, 0.8, 0.6]
        defect = (points[:, 0] > 9) & (kind != "good")
        points[defect] *= 1.1 if kind == "bulge" else 0.9
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
        open3d.io.write_point_cloud(str(root / "test" / f"{number}_{kind}.pcd"), cloud)
        if kind != "good":
            np.savetxt(root / "gt" / f"{number}_{kind}.txt", np.column_stack([points, defect]))
    arguments = ("--model", model, "--output", tmp_path / "m.json", "--report", tmp_path / "report")
    result = run("evaluate", "--dataset", "real3d_ad", "--root", tmp_path / "real3d", *arguments)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["data"]["dataset"] == "real3d_ad"
    assert metrics["data"]["samples"] == 4
    assert metrics["mean"]["point_auroc"]["oracle"] == 1
    assert metrics["mean"]["point_pro"]["oracle"] == pytest.approx(1)
    assert (pd.read_csv(tmp_path / "report" / "samples.csv")["points"] <= 1000).all() == thinned
    assert len(list((tmp_path / "report" / "maps").rglob("*.png"))) == 4
    assert "real3d_ad is not complete here: duck/test 4 of 100, airplane/test missing, " in caplog.text
    assert "real3d_ad has points on all sides of its parts and render.cameras is front" in caplog.text


def test_categories_that_were_trained_on_are_left_out(model, mvtec, tmp_path):
    seen = shutil.copytree(model, tmp_path / "seen")
    config = json.loads((seen / "config.json").read_text())
    config["trained_on"] = {"dataset": "mvtec_3d_ad", "auxiliary_categories": ["bagel"]}
    (seen / "config.json").write_text(json.dumps(config))
    arguments = ("--dataset", "mvtec_3d_ad", "--root", mvtec, "--model", seen, "--output", tmp_path / "m.json")
    assert run("evaluate", *arguments).exit_code == 0
    assert set(json.loads((tmp_path / "m.json").read_text())["categories"]) == {"dowel"}
    assert "trained on all" in run("evaluate", *arguments, "--categories", "bagel").output


@pytest.fixture
def workspace(model, mvtec, tmp_path, monkeypatch):
    """The working directory of a pipeline whose model is there."""
    shutil.copytree(model, tmp_path / "models" / "gsclip")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cross_params(**changes):
    evaluate = PARAMS.evaluate.model_copy(update={"pro_limit": 0.2, "bootstrap_repeats": 20})
    return PARAMS.model_copy(update={"cross": PARAMS.cross.model_copy(update=changes), "evaluate": evaluate})


def test_another_data_set_is_evaluated_by_the_pipelines_own_protocol(workspace, mvtec):
    cross(cross_params(root=str(mvtec)))
    metrics = json.loads((workspace / "outputs/cross.json").read_text())
    assert metrics["data"]["dataset"] == "mvtec_3d_ad"
    assert (metrics["data"]["pro_limit"], metrics["data"]["bootstrap_repeats"]) == (0.2, 20)
    assert metrics["mean"]["o_auroc"]["oracle"] == 1


def test_without_a_folder_there_is_no_cross_evaluation(workspace):
    cross(cross_params())
    assert "cross.root is empty" in json.loads((workspace / "outputs/cross.json").read_text())["skipped"]


def test_names_are_unique(tmp_path):
    files = [tmp_path / kind / "xyz" / "000.tiff" for kind in ("good", "hole")] + [tmp_path / "part.ply"]
    assert list(find_scans(files)) == ["good-xyz-000", "hole-xyz-000", "part"]
    assert list(find_scans(files[1:])) == ["000", "part"]
    assert list(find_scans([tmp_path / "part.ply", tmp_path / "part.xyz"])) == ["part.ply", "part.xyz"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert len(find_scans([tmp_path])) == 3
    (tmp_path / "part.LAZ").touch()  # cannot be read: told, not passed over
    assert len(find_scans([tmp_path])) == 4


@pytest.fixture
def with_companions(tmp_path):
    """A folder of scans with their masks and colours, in all forms; and the scans' names."""
    folder = tmp_path / "parts"
    names = ["part.ply", "part_mask.ply", "part_rgb.png", "other.npy", "masks/other.npy", "gt/part.npz", "camera.json",
             "depth.png", "depth_mask.png", "depth_rgb.png", "grids/xyz/000.tiff", "grids/gt/000.png",
             "grids/rgb/000.png"]  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder, ["depth", "000", "other", "part"]


def test_masks_and_colours_in_a_folder_are_no_scans(with_companions):
    folder, names = with_companions
    assert sorted(find_scans([folder])) == sorted(names)
    named = [folder / "part_mask.ply", folder / "masks" / "other.npy"]
    assert list(find_scans(named).values()) == named  # who names them wants them
    (folder / "alone").mkdir()
    (folder / "alone" / "part_mask.ply").touch()
    with pytest.raises(InputError, match="holds no scans"):
        find_scans([folder / "gt"])
    assert list(find_scans([folder / "alone"])) == ["part_mask"]  # no scan beside it: a scan itself


def test_rendering_a_folder_leaves_masks_out(scans, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    shutil.copy(scans / "cloud.ply", folder / "a.ply")
    shutil.copy(scans / "cloud.ply", folder / "a_mask.ply")
    result = run("render", folder, "--output", tmp_path / "out", "--views", 1, "--size", 64)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "rejected.csv"]


def test_help_explains_every_command():
    for command in ("render", "score", "evaluate", "check", "drift", "reference", "synthesize"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 8


def test_a_threshold_of_a_file_decides(model, scans, tmp_path):
    files = read_config(model).files
    write_threshold(tmp_path / "high.json", DecisionThreshold(threshold=1.0, model=model_digest(files)))
    write_threshold(tmp_path / "other.json", DecisionThreshold(threshold=1.0, model="0" * 64))
    call = ("score", scans / "elbow.tiff", "--model", model, "--output", tmp_path, "--threshold")
    assert run(*call, tmp_path / "high.json").exit_code == 0
    content = json.loads((tmp_path / "elbow.json").read_text())
    assert (content["threshold"], content["decision"]) == (1.0, "normal")
    assert run(*call, tmp_path / "other.json").exit_code == 2
    write_threshold(tmp_path / "fast.json", DecisionThreshold(threshold=1.0, profile="fast"))
    refused = run(*call, tmp_path / "fast.json")
    assert refused.exit_code == 2
    assert "was chosen on scores of the profile fast, these are of full" in refused.output
    assert run(*call, tmp_path / "fast.json", "--profile", "fast").exit_code == 0


def test_a_threshold_makes_no_other_model(model, scans, tmp_path):
    write_threshold(tmp_path / "high.json", DecisionThreshold(threshold=1.0))
    monitoring = tmp_path / "monitoring"
    call = ("score", scans / "elbow.tiff", "--model", model, "--output", tmp_path, "--monitoring", monitoring)
    assert run(*call, "--threshold", tmp_path / "high.json").exit_code == 0
    assert set(read_window(monitoring / "log", 10).rows["model"]) == {model_version(read_config(model))}


@pytest.mark.parametrize("profile", ["full", "fast"])
def test_an_evaluation_can_be_kept_as_a_run(model, mvtec, tmp_path, profile):
    done = run(
        "evaluate", "--dataset", "mvtec_3d_ad", "--root", mvtec, "--model", model, "--output", tmp_path / "m.json",
        "--run", tmp_path / "run", "--profile", profile,
    )  # fmt: skip
    assert done.exit_code == 2  # one scan of the set is broken
    assert (tmp_path / "run/outputs/metrics.json").read_bytes() == (tmp_path / "m.json").read_bytes()
    samples = pd.read_csv(tmp_path / "run/outputs/predictions/samples.csv")
    for row in samples.to_dict("records"):
        file = f"{row['category']}.h5"
        with (
            Pack(tmp_path / "run/data/prepared" / file, Sample) as prepared,
            Pack(tmp_path / "run/data/views" / file, Views) as views,
            Pack(tmp_path / "run/outputs/predictions" / file, Prediction) as predictions,
        ):
            prediction = predictions[row["name"]]
            assert len(scored_views(views[row["name"]], prediction).rendered) == len(prediction.view_maps)
            assert prediction.object_score == pytest.approx(row["object_score"])
            assert prediction.point_scores.shape == (len(prepared[row["name"]].points),)
    assert (tmp_path / "run/outputs/curves/roc.csv").is_file()
