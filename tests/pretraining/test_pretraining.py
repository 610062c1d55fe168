import json
import shutil

import numpy as np
import pytest
import torch

from gsclip.data.procedural.families import FAMILIES, categories
from gsclip.features import backbone as features
from gsclip.features.backbone import build_embedded, embedded_folder
from gsclip.pretraining.backbone import (
    BackboneTraining,
    TrainingView,
    embed_crops,
    install_weights,
    random_rotations,
    train_backbone,
    write_training_views,
)
from gsclip.storage import Pack, sha256

TINY = BackboneTraining(samples=1, views=1, epochs=1, batch_size=4, crop=4)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_embedded().eval()


def test_whole_images_are_embedded_as_by_open_clip(clip):
    images = torch.randn(2, 3, 240, 240)
    ours = embed_crops(clip.visual, images, torch.zeros((2, 2), dtype=torch.long))
    torch.testing.assert_close(ours, clip.visual._embeds(images))


def test_crops_keep_their_place_in_the_image(clip):
    image = torch.randn(1, 3, 240, 240)
    whole = clip.visual._embeds(image)[0, 1:].view(20, 20, -1)
    crop = embed_crops(clip.visual, image[..., 36:84, 60:108], torch.tensor([[3, 5]]))[0, 1:].view(4, 4, -1)
    torch.testing.assert_close(crop, whole[3:7, 5:9])


def test_rotations_are_proper_and_tilted_within_the_limit():
    rotations = random_rotations(np.random.default_rng(0), 200, 30.0)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    # The line of sight stays within both tilts together.
    assert rotations[:, 2, 2].min() > np.cos(np.deg2rad(30)) ** 2 - 1e-6


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "views.h5"
    write_training_views(path, TINY, image_size=240, patch_size=12)
    return path


def test_training_sees_backbone_families_only(views):
    with Pack(views, TrainingView) as pack:
        seen = {name.split("/")[0] for name in pack.names}
        nouns = {pack[name].noun for name in pack.names}
    assert seen <= set(categories("backbone"))
    assert nouns.isdisjoint(FAMILIES[name].noun for role in ("auxiliary", "test") for name in categories(role))


def test_damage_of_patches_is_the_share_of_their_foreground(views):
    with Pack(views, TrainingView) as pack:
        damaged = 0
        for name, view in pack:
            assert view.rendered.shape == (240, 240)
            assert view.damage.shape == view.foreground.shape == (20, 20)
            assert not view.damage[view.foreground == 0].any()
            assert (view.damage > 0).any() <= ("/good/" not in name)
            damaged += bool((view.damage > 0).any())
    assert damaged


def test_weights_are_installed_with_their_checksum_and_load(tmp_path, monkeypatch):
    weights = train_backbone(tmp_path / "work", TINY)
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
