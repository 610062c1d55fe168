"""The embedded backbone's own architecture against open_clip's: the same numbers under the same names."""

import json
import subprocess
import sys

import open_clip
import pytest
import torch

from gsclip.features.backbone import build_embedded, embedded_folder, embedded_tokenizer
from gsclip.features.embedded_clip import KNOWN_TEXTS, MEAN, STD, EmbeddedTokenizer
from gsclip.features.stem import ConvolutionalStem
from gsclip.features.value_attention import encode_images
from gsclip.prompts.text import ABNORMAL_WORDS, NORMAL_WORDS, encode_prompts
from gsclip.streams.depth_lora import build_depth_stream


def build_by_open_clip(normalised):
    config = json.loads((embedded_folder() / "config.json").read_text())
    names = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    clip = open_clip.CLIP(**{name: config[name] for name in names})
    clip.visual.conv1 = ConvolutionalStem(**config["stem"], width=config["vision_cfg"]["width"], normalised=normalised)
    return clip


@pytest.fixture(scope="module", params=[False, True], ids=["folded", "normalised"])
def both(request):
    clips = []
    for build in (build_embedded, lambda normalised: build_by_open_clip(normalised)):
        torch.manual_seed(3)
        clips.append(build(normalised=request.param).eval())
    return clips


def images(count=2):
    return torch.randn(count, 3, 240, 240, generator=torch.Generator().manual_seed(1))


def test_weights_have_the_same_names_order_and_start(both):
    ours, theirs = (clip.state_dict() for clip in both)
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert torch.equal(both[0].attn_mask, both[1].attn_mask)
    assert [name for name, _ in both[0].named_parameters()] == [name for name, _ in both[1].named_parameters()]


@torch.no_grad()
def test_features_of_images_and_texts_are_the_same_bits(both):
    ours, theirs = both
    ids = embedded_tokenizer()(["object.", "damaged object.", "a cable gland with a scratch"])
    assert torch.equal(ours.encode_image(images()), theirs.encode_image(images()))
    assert torch.equal(ours.encode_text(ids), theirs.encode_text(ids))
    for tokens in zip(*(_visual_tokens(clip) for clip in both), strict=True):
        assert torch.equal(*tokens)
    prompts = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(2))
    deep = torch.randn(3, 4, 64, generator=torch.Generator().manual_seed(4))
    ends = torch.tensor([19, 12])
    assert torch.equal(encode_prompts(ours, prompts, ends, deep), encode_prompts(theirs, prompts, ends, deep))


def _visual_tokens(clip):
    encoded = encode_images(clip.visual, images(), local_blocks=2, layers=(2, 4))
    return encoded.class_token, encoded.patch_tokens


def test_gradients_are_the_same_bits(both):
    gradients = []
    for clip in both:
        clip.zero_grad()
        ids = embedded_tokenizer()(["object.", "damaged object."])
        (clip.encode_image(images()) @ clip.encode_text(ids).T * clip.logit_scale.exp()).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in clip.named_parameters()})
    assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())


def test_lora_is_injected_into_the_same_layers(both):
    names = []
    for clip in both:
        stream = build_depth_stream(clip.visual, rank=2, alpha=4, dropout=0.0)
        names.append([name for name, parameter in stream.named_parameters() if parameter.requires_grad])
    assert names[0] == names[1]
    assert len(names[0]) == 4 * 2 * 2


def test_known_texts_have_the_tokens_of_open_clip():
    assert set(KNOWN_TEXTS) == {NORMAL_WORDS, ABNORMAL_WORDS}
    theirs = open_clip.tokenizer.SimpleTokenizer(context_length=77)
    for texts in ([NORMAL_WORDS, ABNORMAL_WORDS], [ABNORMAL_WORDS], NORMAL_WORDS, [NORMAL_WORDS, "a dented cup"]):
        ids = EmbeddedTokenizer(77)(texts)
        assert ids.dtype == torch.long
        assert torch.equal(ids, theirs(texts))


def test_normalisation_is_that_of_clip():
    assert (MEAN, STD) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def test_the_embedded_backbone_is_loaded_without_open_clip():
    code = (
        "import sys; from gsclip.features.backbone import load_backbone; "
        "load_backbone().tokenizer(['object.']); "
        "print([name for name in ('open_clip', 'torchvision', 'transformers', 'timm', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
