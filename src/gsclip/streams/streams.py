"""Both modules of stage 2 together: built, saved and loaded."""

from __future__ import annotations

from pathlib import Path

from gsclip.errors import InputError, one_line
from gsclip.features.backbone import Backbone
from gsclip.features.types import VisualEncoder
from gsclip.params import Stage2Params
from gsclip.storage import TRAIN_AGAIN, load_module, save_module
from gsclip.streams.depth_lora import build_depth_stream, load_depth_stream
from gsclip.streams.refinement import SynergisticRefinement

REFINEMENT_FILE = "refinement.safetensors"
DEPTH_STREAM_FOLDER = "depth_stream"
ADAPTER_FILE = "adapter_model.safetensors"


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

    Raises:
        InputError: when the weights are missing or do not fit.
    """
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not stage2.depth_stream:
        return None, None
    refinement = SynergisticRefinement(backbone.dimension)
    load_module(refinement, folder / REFINEMENT_FILE)
    adapter = folder / DEPTH_STREAM_FOLDER
    if not (adapter / ADAPTER_FILE).is_file():  # PEFT would look for it on a hub, or for a pickle
        raise InputError(adapter, "adapter of the depth stream not found", TRAIN_AGAIN)
    try:
        depth_stream = load_depth_stream(backbone.clip.visual, str(adapter))
        # PEFT only warns of missing keys, and their LoRA would start afresh.
        expected = set(get_peft_model_state_dict(depth_stream))
        stored = set(load_file(adapter / ADAPTER_FILE))
        if stored != expected:
            raise ValueError(f"lacks or adds {', '.join(sorted(stored ^ expected)[:3])}")
        config = depth_stream.active_peft_config
        if (config.r, config.lora_alpha) != (stage2.lora_rank, stage2.lora_alpha):
            raise ValueError(f"rank {config.r} and alpha {config.lora_alpha} are not those of the parameters")
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
