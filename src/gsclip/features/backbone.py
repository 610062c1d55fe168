"""The vision-language backbone: CLIP by open_clip, or the small embedded one that ships with the package."""

from __future__ import annotations

import json
import logging
import pickle  # its error alone: nothing is unpickled
import string
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsclip.errors import GsclipError, InputError, one_line
from gsclip.features.embedded_clip import MEAN, STD, EmbeddedClip, EmbeddedTokenizer
from gsclip.features.types import ClipModel, Tokenizer
from gsclip.storage import sha256

_log = logging.getLogger(__name__)

EMBEDDED = "embedded"
RANDOM_WEIGHTS = "random"
CLIP_CAPTIONS = ("{}", "a photo of one {}", "a grey rendering of one {}", "a depth image of one {}")
SHA256_DIGITS = 64


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone in evaluation mode, frozen.

    Attributes:
        name: ``embedded`` or open_clip's name of the model.
        clip: open_clip ``CLIP`` with a vision transformer, or :class:`~gsclip.features.embedded_clip.EmbeddedClip`.
        tokenizer: maps strings to (i, context) token ids.
        image_size: side of the images it takes, in pixels.
        patch_size: side of a patch in pixels.
        dimension: d, of the joint embedding.
        mean: (3, 1, 1) channel means, and
        std: (3, 1, 1) standard deviations that images are normalised with.
        note: one sentence that says what it is and what it was trained on.
        captions: forms that put a noun phrase as the texts of its training did.
    """

    name: str
    clip: ClipModel
    tokenizer: Any
    image_size: int
    patch_size: int
    dimension: int
    mean: Tensor
    std: Tensor
    note: str
    captions: tuple[str, ...] = CLIP_CAPTIONS

    def normalise(self, images: Tensor) -> Tensor:
        """Turn images (..., 3, h, w) in [0, 1] into what the encoder takes."""
        return (images - self.mean.to(images)) / self.std.to(images)


def load_backbone(name: str = EMBEDDED, weights: str = "", weights_sha256: str = "") -> Backbone:
    """Load a backbone strictly.

    Args:
        name: ``embedded``, or the name of an open_clip vision transformer such as ``ViT-L-14-336``.
        weights: for open_clip: a pretrained tag (``openai``: downloaded to open_clip's cache), a local file, or
            ``random`` for untrained weights (measurements only).
        weights_sha256: expected SHA-256 of the file, local or downloaded; empty: a downloaded file is held against
            the checksum that the hub names it by, a local one is not checked.

    Raises:
        InputError: when the weights are missing, not the expected ones, or cannot be downloaded.
        GsclipError: when the model is unknown or no vision transformer.
    """
    if name == EMBEDDED:
        return _load_embedded()
    import open_clip

    if name not in open_clip.list_models():
        raise GsclipError(f"features.backbone: open_clip knows no model {name!r}; see open_clip.list_models()")
    if weights == RANDOM_WEIGHTS:
        torch.manual_seed(0)
        clip = open_clip.create_model(name)
        return _of_open_clip(name, clip, f"{name} with random weights: for measurements only")
    if not weights:
        raise GsclipError(f"features.weights: empty; name a pretrained tag (openai) or a file for {name}")
    published = open_clip.get_pretrained_cfg(name, weights) or {}
    # OpenAI trained with QuickGELU: with the usual GELU the same weights give other features, without a complaint.
    quick_gelu = bool(published.get("quick_gelu", False))
    try:
        file = Path(open_clip.download_pretrained(published)) if published else Path(weights)
        if file.is_file():
            _check_sha256(file, weights_sha256)
        if not published and (open_clip.get_pretrained_cfg(name, "openai") or {}).get("quick_gelu"):
            _log.warning(
                "%s: %s runs with GELU; if these are OpenAI's weights, name %s-quickgelu in features.backbone",
                weights,
                name,
                name,
            )
        clip = open_clip.create_model(
            name, pretrained=weights, require_pretrained=True, weights_only=True, force_quick_gelu=quick_gelu
        )
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        if "TorchScript" in str(error):  # the form in which OpenAI first published them; it holds code
            remedy = f"use the weights as safetensors: features.weights: openai fetches them for {name}"
            raise InputError(weights, "is a TorchScript archive, which is not loaded", remedy) from error
        problem = f"weights of {name} cannot be loaded ({one_line(error)})"
        raise InputError(weights, problem, "download them once while on-line, or name a local file") from error
    return _of_open_clip(name, clip, f"{name} with weights {weights} through open_clip")


def _check_sha256(file: Path, expected: str) -> None:
    blob = file.resolve().name  # in the cache of the hub, large files are named by their SHA-256
    downloaded = len(blob) == SHA256_DIGITS and set(blob) <= set(string.hexdigits)
    if not expected and not downloaded:
        return
    if sha256(file) != (expected or blob):
        where = "features.weights_sha256" if expected else "the one that it was published with"
        raise InputError(file, f"SHA-256 differs from {where}", "remove the file and download it again")


def check_fit(backbone: Backbone, image_size: int, local_layers: tuple[int, ...]) -> None:
    """Check parameters against a backbone.

    Raises:
        GsclipError: naming the parameter that does not fit.
    """
    if image_size != backbone.image_size:
        raise GsclipError(f"render.image_size: {image_size}, but {backbone.name} takes {backbone.image_size}")
    blocks = len(backbone.clip.visual.transformer.resblocks)
    if not all(1 <= layer <= blocks for layer in local_layers):
        raise GsclipError(f"features.local_layers: {list(local_layers)}, but {backbone.name} has layers 1 to {blocks}")


def embedded_folder() -> Path:
    """Folder in the package that holds the embedded backbone's configuration and weights."""
    return Path(str(files("gsclip.features") / "embedded"))


def build_embedded(*, normalised: bool = False) -> EmbeddedClip:
    """Build the embedded backbone with freshly initialised weights (seed it before).

    Args:
        normalised: with batch norms in its stem, for training; the shipped weights are those of the folded stem.
    """
    config = _embedded_config()
    parts = config["vision_cfg"], config["text_cfg"], config["stem"]
    return EmbeddedClip(config["embed_dim"], *parts, normalised=normalised)


def embedded_tokenizer() -> EmbeddedTokenizer:
    """Tokenizer of the embedded backbone."""
    return EmbeddedTokenizer(_embedded_config()["text_cfg"]["context_length"])


def _embedded_config() -> dict[str, Any]:
    return json.loads((embedded_folder() / "config.json").read_text(encoding="utf-8"))


def _load_embedded() -> Backbone:
    from safetensors.torch import load_file

    config = _embedded_config()
    weights = embedded_folder() / "weights.safetensors"
    if not weights.is_file():
        raise InputError(weights, "missing", "install the package again, or run `make backbone`")
    if sha256(weights) != config["weights_sha256"]:
        raise InputError(weights, "SHA-256 differs from config.json", "install the package again")
    clip = build_embedded()
    clip.load_state_dict({key: value.float() for key, value in load_file(weights).items()}, strict=True)
    tokenizer = embedded_tokenizer()
    return _describe(EMBEDDED, clip, tokenizer, MEAN, STD, config["note"], captions=("{}",))


def _of_open_clip(name: str, clip: ClipModel, note: str) -> Backbone:
    import open_clip

    if not hasattr(clip.visual, "_embeds") or not hasattr(clip.visual, "conv1"):
        raise GsclipError(f"features.backbone: {name} is no vision transformer of open_clip; choose a ViT")
    preprocess = open_clip.get_model_preprocess_cfg(clip)
    return _describe(name, clip, open_clip.get_tokenizer(name), preprocess["mean"], preprocess["std"], note)


def _describe(
    name: str,
    clip: ClipModel,
    tokenizer: Tokenizer,
    mean: Sequence[float],
    std: Sequence[float],
    note: str,
    captions: tuple[str, ...] = CLIP_CAPTIONS,
) -> Backbone:
    clip.eval().requires_grad_(False)
    visual: Any = clip.visual
    return Backbone(
        name=name,
        clip=clip,
        tokenizer=tokenizer,
        image_size=int(visual.image_size[0]),
        patch_size=int(visual.patch_size[0]),
        dimension=int(visual.proj.shape[1]),
        mean=torch.tensor(mean).view(3, 1, 1),
        std=torch.tensor(std).view(3, 1, 1),
        note=note,
        captions=captions,
    )
