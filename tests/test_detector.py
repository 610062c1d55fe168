"""The detector: what its parameters switch on and off, its folder, its view of a scan that was moved as a whole."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tests.detectors import as_if_trained, untrained_detector

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.detector import CONFIG_FILE, Detector, Licences, Origin, read_config
from gsclip.errors import InputError
from gsclip.features.backbone import load_backbone
from gsclip.features.encode import encode_views
from gsclip.features.images import depth_images, part_patches, rendered_images
from gsclip.prompts.grouping import stack_groupings
from gsclip.scores.prediction import scored_views
from gsclip.scores.scoring import score_views
from gsclip.scores.self_similarity import raised_scores, smooth_unlikeness
from gsclip.storage import sha256
from gsclip.views.cameras import fast_views

MODEL_PAGE = Path(__file__).parents[1] / "docs" / "model.md"
WEIGHTS = (
    "prompts.safetensors",
    "refinement.safetensors",
    "depth_stream/adapter_model.safetensors",
    "depth_stream/adapter_config.json",
)
ORIGIN = Origin(data_sha256="d" * 64, parameters_sha256="p" * 64, licences=Licences(code="a", backbone="b", data="c"))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def scan():
    return generate_scan("elbow", 0, None, 0, grid=(120, 120))


def build(backbone, **changes):
    """A detector of the rendered stream alone."""
    return untrained_detector(backbone, stage2={"depth_stream": False}, **changes)


def test_hand_written_prompts_are_saved_loaded_and_scored(backbone, scan, tmp_path):
    detector = build(backbone, stage1={"prompts": "hand_written"})
    first = detector.score(scan.points)
    detector.save(tmp_path / "model")
    again = Detector.from_pretrained(tmp_path / "model").score(scan.points)
    np.testing.assert_array_equal(again.point_scores, first.point_scores)
    learned = build(backbone).score(scan.points)
    assert np.abs(learned.point_scores - first.point_scores).max() > 0.01


def test_colours_count_only_where_they_are_asked_for(backbone, scan):
    random = np.random.default_rng(0)
    colors = random.integers(0, 256, scan.points.shape).astype(np.uint8)
    without, asked = build(backbone), build(backbone, predict={"rgb": True})
    plain = without.score(scan.points)
    np.testing.assert_array_equal(without.score(scan.points, colors).point_scores, plain.point_scores)
    np.testing.assert_array_equal(asked.score(scan.points).point_scores, plain.point_scores)
    assert np.abs(asked.score(scan.points, colors).point_scores - plain.point_scores).max() > 1e-3


def test_the_encoding_of_the_rendered_views_reaches_the_backbone(backbone, scan):
    sample = prepare_sample(scan)
    normals, grey = build(backbone), build(backbone, features={"rendered_encoding": "grey"})
    views = normals.render(sample)
    first, second = normals.encode(views).tokens, grey.encode(views).tokens
    assert first.shape == second.shape
    assert np.abs(first.astype(np.float32) - second.astype(np.float32)).max() > 0.05


def test_a_part_scored_alone_or_after_others_gets_the_same_bits(backbone, scan):
    detector = build(backbone)
    first = detector.score(scan.points)
    detector.score(generate_scan("jar_lid", 0, None, 0, grid=(120, 120)).points)
    again = detector.score(scan.points)
    assert again.object_score == first.object_score
    np.testing.assert_array_equal(again.point_scores, first.point_scores)


@pytest.fixture(scope="module")
def saved(backbone, tmp_path_factory):
    """Folder of an untrained detector of both streams."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    untrained_detector(backbone, threshold=0.4, point_threshold=0.6, origin=ORIGIN).save(folder)
    return folder


def copy_of(saved, folder):
    for path in saved.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(saved)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_the_configuration_holds_thresholds_origin_and_a_checksum_of_every_other_file(saved):
    written = contents(saved)
    assert set(written) == {*WEIGHTS, CONFIG_FILE}
    config = read_config(saved)
    assert config.files == {name: written[name] for name in WEIGHTS}
    assert (config.threshold, config.point_threshold, config.origin) == (0.4, 0.6, ORIGIN)


def test_a_model_loaded_and_saved_again_has_the_same_bytes(saved, tmp_path):
    Detector.from_pretrained(saved).save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(saved)


def test_the_configuration_is_written_last(backbone, tmp_path, monkeypatch):
    from gsclip import detector as module

    there = []
    monkeypatch.setattr(module, "write_json", lambda path, _value: there.extend(contents(path.parent)))
    untrained_detector(backbone).save(tmp_path / "model")
    assert sorted(there) == sorted(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_file_that_is_not_the_one_saved_is_refused_by_name(saved, tmp_path, name):
    folder = copy_of(saved, tmp_path / "model")
    file = folder / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1  # one bit of the last weight: safetensors itself has no checksum
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"{re.escape(name)}: SHA-256 differs .*; copy the model again, or train it"):
        Detector.from_pretrained(folder)
    file.unlink()
    with pytest.raises(InputError, match=f"{re.escape(name)}: file of the model not found; copy the model again"):
        Detector.from_pretrained(folder)


def test_weights_of_another_model_are_refused(backbone, saved, tmp_path):
    folder = copy_of(saved, tmp_path / "model")
    other = untrained_detector(backbone)
    next(other.prompts.parameters()).data += 1
    other.save(tmp_path / "other")
    (folder / WEIGHTS[0]).write_bytes((tmp_path / "other" / WEIGHTS[0]).read_bytes())
    with pytest.raises(InputError, match=r"prompts\.safetensors: SHA-256 differs"):
        Detector.from_pretrained(folder)


def changed_config(saved, folder, change):
    path = copy_of(saved, folder) / CONFIG_FILE
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config: [config.pop(key) for key in ("files", "origin", "point_threshold")], "holds no checksums"),
        (lambda config: config["files"].pop("refinement.safetensors"), "refinement.safetensors: SHA-256 differs"),
        (lambda config: config["stage2"].pop("lora_rank"), r"of this version \(stage2.lora_rank: Field required\)"),
        (lambda config: config.update(unknown=1), r"of this version \(unknown: Extra inputs"),
    ],
)
def test_a_model_of_another_version_is_refused(saved, tmp_path, change, problem):
    folder = changed_config(saved, tmp_path / "model", change)
    with pytest.raises(InputError, match=problem + r".*; copy the model again, or train it with `dvc repro`$"):
        Detector.from_pretrained(folder)


def test_a_folder_without_a_model_is_refused(saved, tmp_path):
    with pytest.raises(InputError, match=r"holds no model .*; name the folder of a trained model"):
        Detector.from_pretrained(tmp_path)
    broken = copy_of(saved, tmp_path / "model")
    (broken / CONFIG_FILE).write_bytes((broken / CONFIG_FILE).read_bytes()[:-40])
    with pytest.raises(InputError, match=r"config\.json: is no JSON"):
        Detector.from_pretrained(broken)


TURNS = {
    "about z": Rotation.from_euler("z", 90, degrees=True),
    "about x, then y": Rotation.from_euler("xy", [90, -90], degrees=True),
}
PLACE = np.array([0.5, -0.25, 0.125])


@pytest.fixture(scope="module")
def moving(backbone, scan):
    """A detector of both streams; the scan and its part alone, coordinates to 2 to the power of -16 metres."""
    points = (np.round(scan.points * 2.0**16) / 2.0**16).astype(np.float32)
    cloud = prepare_sample(scan).points
    cloud = (np.round(cloud * 2.0**16) / 2.0**16).astype(np.float32)
    return untrained_detector(backbone), {"organised": points, "cloud": cloud}


def differences(first, second):
    """Greatest difference of the object scores and of the point scores."""
    assert len(first.point_scores) == len(second.point_scores)
    return abs(first.object_score - second.object_score), np.abs(first.point_scores - second.point_scores).max()


@pytest.mark.parametrize("kind", ["organised", "cloud"])
@pytest.mark.parametrize("turn", TURNS)
def test_quarter_turns_of_scan_and_cameras_together_change_no_bit(moving, kind, turn):
    detector, scans = moving
    points, rotation = scans[kind], TURNS[turn].as_matrix().round()
    exact = points.astype(np.float64) @ rotation.T + PLACE
    moved = exact.astype(np.float32)
    np.testing.assert_array_equal(moved, exact)  # nothing is rounded on the way in
    still = detector.score(points, pose=np.eye(3))
    together = detector.score(moved, pose=rotation.T)
    assert together.object_score == still.object_score
    np.testing.assert_array_equal(together.point_scores, still.point_scores)
    assert max(differences(together, detector.score(points))) < 1e-3


@pytest.mark.parametrize("kind", ["organised", "cloud"])
@pytest.mark.parametrize("seed", range(3))
def test_any_turn_of_scan_and_cameras_together_changes_scores_by_rounding_alone(moving, kind, seed):
    detector, scans = moving
    rotation = Rotation.random(random_state=seed).as_matrix()
    moved = scans[kind].astype(np.float64) @ rotation.T + PLACE
    assert max(differences(detector.score(moved, pose=rotation.T), detector.score(scans[kind]))) < 1e-3


@pytest.mark.parametrize("kind", ["organised", "cloud"])
def test_a_turn_without_the_pose_changes_scores(moving, kind):
    detector, scans = moving
    rotation = TURNS["about z"].as_matrix()
    of_object, of_points = differences(detector.score(scans[kind] @ rotation.T), detector.score(scans[kind]))
    assert of_points > 0.05
    assert of_object > 1e-3


@pytest.mark.parametrize("kind", ["organised", "cloud"])
def test_the_place_of_a_scan_does_not_matter(moving, kind):
    detector, scans = moving
    here = detector.score(scans[kind])
    far, farther = (detector.score(scans[kind].astype(np.float64) + place) for place in (1e3, 1e6))
    assert far.object_score == farther.object_score
    np.testing.assert_array_equal(far.point_scores, farther.point_scores)
    assert max(differences(far, here)) < 1e-3


def test_a_pose_that_is_no_rotation_is_refused(moving):
    detector, scans = moving
    with pytest.raises(InputError, match=r"scan: the pose mirrors: its determinant is -1; give a \(3, 3\) matrix"):
        detector.score(scans["cloud"], pose=np.diag([1, 1, -1]))


def test_the_example_of_the_model_page_runs(backbone, tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", MODEL_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    folder = tmp_path / "model"
    untrained_detector(backbone, threshold=0.0, point_threshold=0.0).save(folder)
    assert example.count('"models/gsclip"') == 1
    names = {}
    exec(compile(example.replace("models/gsclip", str(folder)), str(MODEL_PAGE), "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert printed[0] == f"object score {names['prediction'].object_score:.3f}: abnormal"
    count = len(names["prediction"].point_scores)
    assert printed[1].startswith(f"{count} of {count} points are a defect's")
    assert max(differences(names["prediction"], names["turned"])) < 1e-3


def test_the_model_page_names_every_key_and_file():
    from gsclip.detector import DetectorConfig

    page = MODEL_PAGE.read_text(encoding="utf-8")
    keys = [name for name in DetectorConfig.model_fields if name != "origin"]
    keys += [f"origin.{name}" for name in Origin.model_fields] + list(Licences.model_fields)
    assert [name for name in (*keys, *WEIGHTS) if f"`{name}`" not in page] == []


def both_profiles(backbone, **changes):
    """The same weights under both profiles."""
    full = untrained_detector(backbone, render={"views": 9}, **changes)
    full = full.with_predict(patches="all")
    return full, full.with_predict(profile="fast")


def test_the_fast_profile_scores_few_views_with_nearly_the_same_result(backbone, scan):
    full, fast = both_profiles(backbone)
    sample = full.prepare(scan)
    as_if_trained(full, stack_groupings([full.group(sample)] * 2))
    assert full.views == tuple(range(9))
    assert fast.views == fast_views("front")
    first, second = (detector.predict(sample, detector.render(sample)) for detector in (full, fast))
    assert first.view_maps.shape[0] == 9
    assert first.places is None
    assert second.view_maps.shape[0] == len(fast.views)
    np.testing.assert_array_equal(second.places, fast.views)
    assert 0 < abs(first.object_score - second.object_score) < 0.1
    assert np.corrcoef(first.point_scores, second.point_scores)[0, 1] > 0.7
    assert first.point_scores.std() > 0.01


def test_the_fast_profile_is_of_the_precision_that_the_processor_is_fast_with(backbone, scan, monkeypatch):
    full, fast = both_profiles(backbone)
    views = fast.render(full.prepare(scan))
    kept = part_patches(views, full.encode(views).tokens.shape[1] - 1)
    exact = full._rendered_encoder()(rendered_images(views, full.config.features.rendered_encoding), kept)
    for fast_bfloat16 in (True, False):
        monkeypatch.setattr("gsclip.detector.bfloat16_is_fast", lambda: fast_bfloat16)  # noqa: B023
        _, fast = both_profiles(backbone)
        difference = np.abs(exact.half().float().numpy() - fast.encode(views).tokens).max()
        assert 1e-4 < difference < 0.05 if fast_bfloat16 else difference == 0


def test_the_fast_profile_does_not_look_at_the_background(backbone, scan):
    full, fast = both_profiles(backbone)
    sample = full.prepare(scan)
    views = fast.render(sample)
    kept = part_patches(views, full.encode(views).tokens.shape[1] - 1)
    assert 0.1 < kept.float().mean() < 0.9
    assert torch.equal(torch.from_numpy(fast.encode(views).tokens == 0).all(-1)[:, 1:], ~kept)
    assert torch.equal((fast.refine(views, fast.encode(views)) == 0).all(-1)[:, 1:], ~kept)
    prediction = fast.predict(sample, views)
    for values, chosen in zip(prediction.view_maps.reshape(kept.shape), kept.numpy(), strict=True):
        assert (values[~chosen] == values[chosen].min()).all()


def test_of_all_views_a_prediction_takes_those_of_its_profile(backbone, scan):
    full, fast = both_profiles(backbone)
    sample = full.prepare(scan)
    every = full.render(sample)
    own = fast.predict(sample, fast.render(sample))
    packed = fast.predict(sample, every)
    np.testing.assert_array_equal(packed.point_scores, own.point_scores)
    tokens = fast.encode(every)
    np.testing.assert_allclose(fast.predict(sample, every, tokens).point_scores, own.point_scores, atol=1e-6)
    scored = scored_views(every, packed)
    np.testing.assert_array_equal(scored.rendered, every.rendered[list(fast.views)])
    assert scored_views(scored, packed) is scored  # as `gsclip evaluate --run` keeps them


@pytest.mark.parametrize("patches", ["all", "part"])
def test_scores_do_not_depend_on_where_tokens_come_from(backbone, scan, patches):
    """Tokens of the packs are of all patches; a detector of the part alone encodes its own, and logs those."""
    detector = untrained_detector(backbone, predict={"patches": patches})
    sample = detector.prepare(scan)
    views = detector.render(sample)
    packed = detector.with_predict(patches="all").encode(views)
    own = detector.encode(views)
    assert (own.kept is None) == (patches == "all")
    first, second = (detector.predict(sample, views, tokens) for tokens in (packed, own))
    np.testing.assert_array_equal(first.point_scores, second.point_scores)
    assert first.object_score == second.object_score
    _, taken = detector.own(views, packed)
    np.testing.assert_array_equal(taken.tokens, own.tokens)


def test_self_similarity_raises_the_point_scores_and_with_them_the_highest(backbone, scan):
    detector = untrained_detector(backbone, predict={"self_similarity": 0.0, "map_weight": 0.25})
    sample = detector.prepare(scan)
    views = detector.render(sample)
    plain, raised = (detector.with_predict(self_similarity=value).predict(sample, views) for value in (0.0, 1.0))
    unlike = smooth_unlikeness(sample, detector.config.predict.smoothing)
    expected = raised_scores(plain.point_scores, unlike, exponent=1.0)
    np.testing.assert_array_equal(raised.point_scores, expected)
    assert np.abs(raised.point_scores - plain.point_scores).max() > 1e-3
    mean = raised.view_probabilities.mean()
    assert raised.object_score == pytest.approx(0.25 * raised.point_scores.max() + 0.75 * mean, abs=1e-6)
    np.testing.assert_array_equal(raised.view_maps, plain.view_maps)
    np.testing.assert_array_equal(raised.view_probabilities, plain.view_probabilities)


@pytest.mark.parametrize("predict", [{}, {"profile": "fast"}, {"patches": "all", "rgb": True}])
def test_scores_do_not_depend_on_the_number_of_threads(backbone, scan, predict):
    detector = untrained_detector(backbone, predict=predict)
    colors = np.random.default_rng(0).integers(256, size=scan.points.shape, dtype=np.uint8)
    sample = detector.prepare(dataclasses.replace(scan, colors=colors))
    views = detector.render(sample)
    before = torch.get_num_threads()
    predictions = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            predictions.append(detector.predict(sample, views))
    finally:
        torch.set_num_threads(before)
    one, three = predictions
    assert one.object_score == three.object_score
    for name in ("point_scores", "view_probabilities", "view_maps"):
        assert getattr(one, name).tobytes() == getattr(three, name).tobytes(), name


def test_encoders_follow_weights_that_change(backbone, scan):
    detector = untrained_detector(backbone)
    views = detector.render(detector.prepare(scan))
    tokens = detector.encode(views)
    before = detector.refine(views, tokens)
    assert torch.equal(detector.refine(views, tokens), before)
    with torch.no_grad():
        for name, parameter in detector.depth_stream.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    assert not torch.allclose(detector.refine(views, tokens), before)


def test_scores_are_those_of_the_modules_that_were_trained(backbone, scan):
    detector = untrained_detector(backbone, predict={"patches": "all", "self_similarity": 0.0})
    sample = detector.prepare(scan)
    as_if_trained(detector, stack_groupings([detector.group(sample)] * 2))
    views, config = detector.render(sample), detector.config.features
    options = {"local_blocks": config.local_blocks, "local_layers": config.local_layers}
    tokens = detector.encode(views)
    with torch.no_grad():
        depth = encode_views(backbone, detector.depth_stream, depth_images(views, config.depth_encoding), **options)
        images = rendered_images(views, config.rendered_encoding)
        rendered = encode_views(backbone, backbone.clip.visual, images, **options)
        refined = detector.refinement(torch.from_numpy(tokens.tokens).float()[None], depth[None])[0]
    torch.testing.assert_close(torch.from_numpy(tokens.tokens).float(), rendered, atol=5e-4, rtol=0)  # float16
    torch.testing.assert_close(detector.refine(views, tokens), refined, atol=1e-5, rtol=0)
    text = detector.text_features(detector.group(sample))
    expected = score_views(sample, views, refined, text, smoothing=4.0, map_weight=detector.config.predict.map_weight)
    own = detector.predict(sample, views)
    assert own.object_score == pytest.approx(expected.object_score, abs=1e-4)
    np.testing.assert_allclose(own.point_scores, expected.point_scores, atol=1e-4)


def test_a_model_of_before_the_profiles_is_loaded_with_the_full_one(backbone, tmp_path):
    build(backbone).save(tmp_path / "model")
    path = tmp_path / "model" / CONFIG_FILE
    content = json.loads(path.read_text())
    del content["predict"]["profile"]
    path.write_text(json.dumps(content))
    assert Detector.from_pretrained(tmp_path / "model").config.predict.profile == "full"
    fast = Detector.from_pretrained(tmp_path / "model", "fast")
    assert fast.config.predict.profile == fast.config.facts()["profile"] == "fast"
