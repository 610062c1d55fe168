"""The depth stream: the same pretrained transformer, adapted by LoRA on its MLP linears (method, section 5)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from gsclip.features.types import VisualEncoder

if TYPE_CHECKING:
    from peft import PeftModel

LORA_TARGETS = r".*\.mlp\.(c_fc|c_proj)"


def build_depth_stream(visual: VisualEncoder, *, rank: int, alpha: int, dropout: float) -> PeftModel:
    """Copy a loaded visual encoder and inject LoRA into the MLP linears of every block.

    The copy is made after the weights were loaded, so both streams start from the same pretrained weights; LoRA
    starts as the identity. Only LoRA's parameters require a gradient.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=LORA_TARGETS, bias="none", init_lora_weights=True
    )
    return get_peft_model(copy.deepcopy(visual), config)


def load_depth_stream(visual: VisualEncoder, folder: str) -> PeftModel:
    """Copy a loaded visual encoder and attach a trained adapter saved in PEFT's own format."""
    from peft import PeftModel

    return PeftModel.from_pretrained(copy.deepcopy(visual), folder)
