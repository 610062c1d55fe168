"""The depth stream: the same pretrained transformer, adapted by LoRA on its MLP linears (method, section 5)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

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


@torch.no_grad()
def merge_depth_stream(stream: PeftModel) -> VisualEncoder:
    """A plain visual encoder that computes what a depth stream does in evaluation, with LoRA added to the weights.

    The stream stays as it is. The linears that LoRA adapts get weights of their own, W + alpha / r B A; all other
    weights are shared with the stream.
    """
    from peft.tuners.lora import Linear

    shared = {id(tensor): tensor for tensor in (*stream.parameters(), *stream.buffers())}
    plain = copy.deepcopy(stream.get_base_model(), shared).eval()
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear):
                base = child.get_base_layer()
                delta = sum(child.get_delta_weight(adapter) for adapter in child.active_adapters)
                merged = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
                weight = base.weight if child.merged else base.weight + delta
                merged.weight = nn.Parameter(weight, requires_grad=False)
                merged.bias = base.bias
                setattr(module, name, merged)
    return plain
