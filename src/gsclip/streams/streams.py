"""Both modules of stage 2 together: built, saved and loaded."""

from __future__ import annotations

from pathlib import Path

from gsclip.errors import InputError, one_line
from gsclip.features.backbone import Backbone
from gsclip.features.types import VisualEncoder
from gsclip.params import Stage2Params
from gsclip.storage import TRAIN_AGAIN, load_module, save_module
from gsclip.streams.depth_lora import ADAPTER_CONFIG_FILE, ADAPTER_FILE, build_depth_stream, load_depth_stream
from gsclip.streams.refinement import SynergisticRefinement

REFINEMENT_FILE = "refinement.safetensors"
DEPTH_STREAM_FOLDER = "depth_stream"
STREAM_FILES = (REFINEMENT_FILE, *(f"{DEPTH_STREAM_FOLDER}/{name}" for name in (ADAPTER_FILE, ADAPTER_CONFIG_FILE)))


def build_streams(backbone: Backbone, stage2: Stage2Params) -> tuple[VisualEncoder, SynergisticRefinement]:
    """Build depth stream and SRM with fresh weights (seed them before)."""
    depth_stream = build_depth_stream(
        backbone.clip.visual,
        rank=stage2.lora_rank,
        alpha=stage2.lora_alpha,
        dropout=stage2.lora_dropout,
    )
    return depth_stream, SynergisticRefinement(backbone.dimension)


def load_streams(
    folder: Path, backbone: Backbone, stage2: Stage2Params
) -> tuple[VisualEncoder, SynergisticRefinement] | tuple[None, None]:
    """Build depth stream and SRM with the weights in a folder; nothing when the depth stream is switched off.

    The depth stream is for inference: it shares the backbone's weights.

    Raises:
        InputError: when the weights are missing or do not fit.
    """
    from safetensors import SafetensorError

    if not stage2.depth_stream:
        return None, None
    refinement = SynergisticRefinement(backbone.dimension)
    load_module(refinement, folder / REFINEMENT_FILE)
    adapter = folder / DEPTH_STREAM_FOLDER
    if not (adapter / ADAPTER_FILE).is_file():
        raise InputError(adapter, "adapter of the depth stream not found", TRAIN_AGAIN)
    try:
        depth_stream = load_depth_stream(backbone.clip.visual, adapter)
        if (depth_stream.rank, depth_stream.alpha) != (stage2.lora_rank, stage2.lora_alpha):
            raise ValueError(
                f"rank {depth_stream.rank} and alpha {depth_stream.alpha} are not those of the parameters"
            )
        return depth_stream, refinement
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(adapter / ADAPTER_FILE, f"cannot be loaded ({one_line(error)})", TRAIN_AGAIN) from error


def save_streams(folder: Path, depth_stream: VisualEncoder, refinement: SynergisticRefinement) -> None:
    """Write depth stream and SRM into a folder that :func:`load_streams` reads."""
    save_module(refinement, folder / REFINEMENT_FILE)
    depth_stream.save_pretrained(folder / DEPTH_STREAM_FOLDER)
    (folder / DEPTH_STREAM_FOLDER / ADAPTER_FILE).chmod(0o644)  # as every other file of the model
    # PEFT's model card, which says nothing about this model.
    (folder / DEPTH_STREAM_FOLDER / "README.md").unlink(missing_ok=True)
