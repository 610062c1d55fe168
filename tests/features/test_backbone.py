import json
import pickle
import warnings

import pytest
import torch
from safetensors.torch import save_file
from tests.explosive import Explosive

from gsclip.errors import GsclipError, InputError
from gsclip.features import backbone
from gsclip.features.backbone import build_embedded, load_backbone
from gsclip.storage import sha256


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_embedded()


@pytest.fixture
def folder(tmp_path, monkeypatch, clip):
    """A folder as in the package: the shipped configuration, and freshly initialised weights in float16."""
    config = json.loads((backbone.embedded_folder() / "config.json").read_text())
    weights = tmp_path / "weights.safetensors"
    save_file({key: value.half().contiguous() for key, value in clip.state_dict().items()}, weights)
    config["weights_sha256"] = sha256(weights)
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(backbone, "embedded_folder", lambda: tmp_path)
    return tmp_path


def test_the_embedded_backbone_is_loaded_frozen_and_whole(folder, clip):
    loaded = load_backbone()
    assert loaded.name == "embedded"
    assert not loaded.clip.training
    assert not any(parameter.requires_grad for parameter in loaded.clip.parameters())
    for key, value in clip.state_dict().items():
        torch.testing.assert_close(loaded.clip.state_dict()[key], value.half().float(), rtol=0, atol=0)
    assert loaded.image_size % loaded.patch_size == 0
    with torch.no_grad():
        image = loaded.clip.encode_image(torch.zeros(1, 3, loaded.image_size, loaded.image_size))
        text = loaded.clip.encode_text(loaded.tokenizer(["object."]))
    assert image.shape == text.shape == (1, loaded.dimension)
    assert "it is not CLIP" in loaded.note


def test_images_are_normalised_per_channel(folder):
    loaded = load_backbone()
    images = loaded.normalise(torch.full((2, 5, 3, 4, 6), 0.25))
    assert images.shape == (2, 5, 3, 4, 6)
    for channel in range(3):
        expected = (0.25 - loaded.mean[channel, 0, 0]) / loaded.std[channel, 0, 0]
        torch.testing.assert_close(images[:, :, channel], expected.expand(2, 5, 4, 6), rtol=0, atol=1e-6)


def test_building_is_seeded():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_embedded().state_dict()["visual.proj"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_missing_weights_are_named(folder):
    (folder / "weights.safetensors").unlink()
    with pytest.raises(InputError) as caught:
        load_backbone()
    assert str(caught.value).startswith(f"{folder / 'weights.safetensors'}: missing; install the package again")


def test_changed_weights_are_refused(folder):
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.safetensors: SHA-256 differs from config\.json; install"):
        load_backbone()


def test_weights_that_do_not_fit_are_not_loaded_in_part(folder, clip):
    state = {key: value for key, value in clip.state_dict().items() if key != "visual.proj"}
    save_file(state, folder / "weights.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["weights_sha256"] = sha256(folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"visual.proj\""):
        load_backbone()


def test_an_unknown_model_is_named():
    with pytest.raises(GsclipError, match="open_clip knows no model 'ViT-XXL'"):
        load_backbone("ViT-XXL", "openai")


def test_a_model_without_transformer_is_refused():
    with pytest.raises(GsclipError, match="RN50 is no vision transformer of open_clip; choose a ViT"):
        load_backbone("RN50", "random")


def test_empty_weights_are_refused():
    with pytest.raises(GsclipError, match=r"features\.weights: empty; name a pretrained tag \(openai\) or a file"):
        load_backbone("ViT-S-32-alt")


def test_random_weights_are_the_same_each_time_and_say_what_they_are():
    first, second = (load_backbone("ViT-S-32-alt", "random") for _ in range(2))
    assert first.note == "ViT-S-32-alt with random weights: for measurements only"
    assert (first.image_size, first.patch_size, first.dimension) == (224, 32, 256)
    for one, other in zip(first.clip.parameters(), second.clip.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.fixture(scope="module")
def local_file(tmp_path_factory):
    import open_clip

    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    model = open_clip.create_model("ViT-S-32-alt")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path, model.state_dict()["visual.proj"]


def test_a_local_file_is_loaded_when_its_checksum_fits(local_file):
    path, projection = local_file
    loaded = load_backbone("ViT-S-32-alt", str(path), sha256(path))
    assert torch.equal(loaded.clip.visual.proj, projection)


def test_a_local_file_with_another_checksum_is_refused(local_file):
    path, _ = local_file
    with pytest.raises(InputError) as caught:
        load_backbone("ViT-S-32-alt", str(path), "0" * 64)
    problem = "SHA-256 differs from features.weights_sha256; remove the file and download it again"
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_a_local_file_that_holds_no_weights_is_refused(tmp_path, content):
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_backbone("ViT-S-32-alt", str(path))
    assert str(caught.value).startswith(f"{path}: weights of ViT-S-32-alt cannot be loaded")


def test_a_pickled_file_is_never_unpickled(tmp_path):
    torch.save({"state_dict": Explosive(tmp_path / "exploded")}, tmp_path / "bad.pt")
    with pytest.raises((InputError, pickle.UnpicklingError)):
        load_backbone("ViT-S-32-alt", str(tmp_path / "bad.pt"))
    assert not (tmp_path / "exploded").exists()


def test_weights_of_openai_run_with_quick_gelu(tmp_path, monkeypatch):
    import open_clip
    from open_clip import factory
    from open_clip.transformer import QuickGELU

    # The activation follows from the tag alone: nothing is downloaded or loaded here.
    for module in (open_clip, factory):
        monkeypatch.setattr(module, "download_pretrained", lambda *_, **__: str(tmp_path / "weights"))
    monkeypatch.setattr(factory, "load_checkpoint", lambda *_, **__: None)
    clip = load_backbone("ViT-B-32", "openai").clip
    for tower in (clip.visual.transformer, clip.transformer):
        assert all(isinstance(block.mlp.gelu, QuickGELU) for block in tower.resblocks)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_downloaded_file_is_held_against_the_checksum_that_the_hub_names_it_by(
    tmp_path, monkeypatch, local_file, damaged
):
    """The hub's cache: a link to a blob whose name is its checksum."""
    import open_clip
    from open_clip import factory

    path, projection = local_file
    content = path.read_bytes()
    blob = tmp_path / sha256(path)
    blob.write_bytes(content[:-1] + b"x" if damaged else content)
    link = tmp_path / "open_clip_model.safetensors"
    link.symlink_to(blob)
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: {"hf_hub": "somebody/model/"})
    for module in (open_clip, factory):
        monkeypatch.setattr(module, "download_pretrained", lambda *_, **__: str(link))
    monkeypatch.setattr(factory, "get_pretrained_cfg", lambda *_: {"hf_hub": "somebody/model/"})
    if damaged:
        with pytest.raises(InputError, match=r"open_clip_model\.safetensors: SHA-256 differs from the one that it was"):
            load_backbone("ViT-S-32-alt", "published")
    else:
        assert torch.equal(load_backbone("ViT-S-32-alt", "published").clip.visual.proj, projection)


def test_weights_of_another_model_are_refused(local_file):
    path, _ = local_file
    with pytest.raises(InputError, match="weights of ViT-S-16-alt cannot be loaded"):
        load_backbone("ViT-S-16-alt", str(path))


def test_a_missing_file_or_unknown_tag_is_refused():
    with pytest.raises(InputError, match=r"nowhere\.pt: weights of ViT-S-32-alt cannot be loaded"):
        load_backbone("ViT-S-32-alt", "nowhere.pt")


def test_without_a_network_the_download_fails_with_a_remedy(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # what HF_HUB_OFFLINE=1 sets at the start
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_backbone("ViT-B-32", "openai")
    message = str(caught.value)
    assert message.startswith("openai: weights of ViT-B-32 cannot be loaded (")
    assert message.endswith("; download them once while on-line, or name a local file")
    assert "\n" not in message


def test_a_torchscript_archive_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have other forms than this one
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
        with pytest.raises(InputError, match=r"ViT-B-32\.pt: is a TorchScript archive, which is not loaded; use the"):
            load_backbone("ViT-B-32", str(path))


def test_a_local_file_for_a_model_of_openai_warns_of_its_activation(tmp_path, caplog):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    with pytest.raises(InputError):
        load_backbone("ViT-B-32", str(path))
    assert "name ViT-B-32-quickgelu" in caplog.text
