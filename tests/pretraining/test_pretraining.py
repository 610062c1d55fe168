import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from gsclip.data.procedural.families import FAMILIES, categories
from gsclip.features import backbone as features
from gsclip.features.backbone import build_embedded, embedded_folder, embedded_tokenizer
from gsclip.pretraining.backbone import (
    FLAWLESS,
    LATE,
    BackboneTraining,
    Objective,
    Texts,
    TrainingView,
    embed_crops,
    install_weights,
    learning_rate_factor,
    mean_weights,
    pair_index,
    random_rotations,
    ridged_index,
    train_backbone,
    training_index,
    turn_image,
    turn_normals,
    wide_pair_index,
    wide_settings,
    write_training_views,
)
from gsclip.storage import Pack, sha256

TINY = BackboneTraining(
    samples=1,
    ridged_samples=1,
    grids=(160,),
    views=1,
    epochs=2,
    ridged_epochs=1,
    pairs=1,
    ridged_pairs=1,
    pair_epochs=1,
    ranked_epochs=1,
    wide_pairs=1,
    wide_ridged_pairs=1,
    wide_epochs=1,
    pair_views=2,
    batch_size=4,
    crop=4,
    mixed_precision=False,
)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_embedded().eval()


def test_whole_images_are_embedded_as_by_the_transformer(clip):
    images = torch.randn(2, 3, 240, 240)
    ours = embed_crops(clip.visual, images, torch.zeros((2, 2), dtype=torch.long))
    torch.testing.assert_close(ours, clip.visual._embeds(images))


def test_crops_keep_their_place_in_the_image(clip):
    image = torch.randn(1, 3, 240, 240)
    whole = clip.visual._embeds(image)[0, 1:].view(30, 30, -1)
    crop = embed_crops(clip.visual, image[..., 24:200, 40:216], torch.tensor([[3, 5]]))[0, 1:].view(22, 22, -1)
    # In the middle, where the stem, whose convolutions reach over 75 pixels, sees the same surroundings.
    torch.testing.assert_close(crop[10:12, 10:12], whole[13:15, 15:17], rtol=1e-4, atol=1e-4)
    assert (crop[0, 0] - whole[3, 5]).abs().max() > 1e-3


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_normals_turn_with_their_image(turns, mirror):
    row, column = (np.mgrid[:65, :65] - 32) / 30.0
    inside = row**2 + column**2 < 1
    towards = np.sqrt(np.maximum(1 - row**2 - column**2, 0))
    ball = np.stack([0.5 + 0.5 * column, 0.5 + 0.5 * row, towards]) * 255
    image = torch.from_numpy(np.where(inside, ball, 255).round().astype(np.uint8))
    foreground = torch.from_numpy(inside)
    turned = turn_image(image, turns, mirror=mirror)
    # A ball looks the same from all sides only when its normals are turned too.
    again = turn_normals(turned, foreground, turns, mirror=mirror)
    assert (again.int() - image.int()).abs().max() <= 1
    if turns or mirror:
        assert (turned.int() - image.int()).abs().max() > 100


def test_rotations_are_proper_and_tilted_within_the_limit():
    rotations = random_rotations(np.random.default_rng(0), 200, 30.0)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    # The line of sight stays within both tilts together.
    assert rotations[:, 2, 2].min() > np.cos(np.deg2rad(30)) ** 2 - 1e-6


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "views.h5"
    write_training_views(path, pd.concat([training_index(TINY), ridged_index(TINY)]), TINY, 240)
    return path


def test_ridged_scans_are_crushed_or_good_and_others_than_those_before():
    first, last = training_index(BackboneTraining(samples=3)), ridged_index(BackboneTraining(ridged_samples=5))
    assert set(last["defect"]) == {"crushing", "good"}
    assert "crushing" not in set(first["defect"])
    assert not set(first["name"]) & set(last["name"])


def test_weights_are_averaged_one_by_one():
    first, second = ({"a": torch.tensor([1.0, value]), "b": torch.full((2, 2), value)} for value in (0.0, 4.0))
    mean = mean_weights([first, second])
    torch.testing.assert_close(mean["a"], torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(mean["b"], torch.full((2, 2), 2.0))


def test_the_last_part_adds_other_pairs_and_the_late_families():
    before, added = pair_index(TINY), wide_pair_index(TINY)
    assert (added["label"] == 1).all()
    assert not set(before["name"]) & set(added["name"])
    assert set(added["category"]) == set(categories("backbone"))
    assert set(added["category"]) - set(before["category"]) == set(LATE)
    assert not set(training_index(TINY)["category"]) & set(LATE)
    assert wide_settings(TINY).seed != TINY.seed


def test_training_sees_backbone_families_only(views):
    with Pack(views, TrainingView) as pack:
        seen = {name.split("/")[0] for name in pack.names}
        nouns = {pack[name].noun for name in pack.names}
    assert seen <= set(categories("backbone"))
    assert nouns.isdisjoint(FAMILIES[name].noun for role in ("auxiliary", "test") for name in categories(role))


def test_pairs_differ_in_the_damage_alone(tmp_path):
    path = tmp_path / "pairs.h5"
    index = pair_index(TINY)
    assert (index["label"] == 1).all()
    write_training_views(path, index, TINY, 240, pairs=True)
    with Pack(path, TrainingView) as pack:
        damaged = [name for name in pack.names if not name.endswith(FLAWLESS)]
        assert len(pack.names) == 2 * len(damaged)
        assert {name.rsplit("/", 1)[0] for name in damaged} <= set(index["name"])
        apart, elsewhere = [], []
        for name in damaged:
            view, twin = pack[name], pack[f"{name}{FLAWLESS}"]
            assert view.mask.any()
            assert not twin.mask.any()
            assert view.noun == twin.noun
            both = view.foreground & twin.foreground
            difference = np.abs(view.rendered.astype(int) - twin.rendered.astype(int)).mean(0)
            apart.append(difference[both & view.mask].mean())
            elsewhere.append(difference[both & ~view.mask].mean())
    assert np.nanmedian(apart) > 2 * np.nanmedian(elsewhere)


def test_pairs_are_cropped_and_turned_alike(views, clip):
    pack = Pack(views, TrainingView)
    name = next(name for name in pack.names if pack[name].mask.any())
    texts = Texts([FAMILIES[family].noun for family in categories("backbone")], embedded_tokenizer())
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    objective = Objective(clip, texts, (TwinPack(pack, name),), TINY, mean, std, state_weight=1.0, pairs=True)
    batch = objective._batch([name], whole=False)
    assert len(batch.images) == 2
    assert torch.equal(batch.images[0], batch.images[1])
    assert torch.equal(batch.corners[0], batch.corners[1])
    pack.close()


class TwinPack:
    """A view as its own twin."""

    def __init__(self, pack, name):
        self._view, self.names = pack[name], [name, f"{name}{FLAWLESS}"]

    def __getitem__(self, name):
        return self._view


def test_ground_truth_lies_on_damaged_parts_alone(views):
    with Pack(views, TrainingView) as pack:
        damaged = 0
        for name, view in pack:
            assert view.rendered.shape == view.depth.shape == (3, 240, 240)
            assert view.mask.shape == view.foreground.shape == (240, 240)
            assert not view.mask[~view.foreground].any()
            assert view.mask.any() <= ("/good/" not in name)
            damaged += bool(view.mask.any())
    assert damaged


def test_weights_are_installed_with_their_checksum_and_load(tmp_path, monkeypatch):
    weights = train_backbone(tmp_path / "work", TINY)
    curve = pd.read_csv(tmp_path / "work" / "curve.csv")
    assert list(curve["part_of_training"]) == ["single", "single", "pairs", "ranked", "wide"]
    assert list(curve["epoch"]) == [1, 2, 1, 1, 1]
    target = tmp_path / "embedded"
    target.mkdir()
    shutil.copy(embedded_folder() / "config.json", target)
    install_weights(weights, target)
    assert json.loads((target / "config.json").read_text())["weights_sha256"] == sha256(weights)
    monkeypatch.setattr(features, "embedded_folder", lambda: target)
    loaded = features.load_backbone()
    assert not loaded.clip.training
    (target / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(features.InputError, match="SHA-256 differs"):
        features.load_backbone()


def test_shipped_weights_are_small_and_match_their_checksum():
    weights = embedded_folder() / "weights.safetensors"
    assert weights.stat().st_size <= 25_000_000
    config = json.loads((embedded_folder() / "config.json").read_text())
    assert config["weights_sha256"] == sha256(weights)
    assert "not CLIP" in config["note"]


def test_the_learning_rate_rises_falls_and_ends_at_zero():
    settings = BackboneTraining(epochs=12, ridged_epochs=4, cosine_epochs=16)
    steps = 100
    factors = np.array([learning_rate_factor(step, steps, settings) for step in range(12 * steps + 1)])
    assert 0 < factors[0] < 0.05
    assert factors[-1] == 0
    assert factors.max() == 1
    peak = int(factors.argmax())
    assert peak < steps
    assert (np.diff(factors[:peak]) > 0).all()
    assert (np.diff(factors[peak + 1 :]) < 0).all()
    assert np.abs(np.diff(factors[peak + 1 :])).max() < 0.01  # no jump where the line begins
