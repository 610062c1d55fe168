"""The depth stream: the same pretrained transformer, adapted by LoRA on its MLP linears (method, section 5).

PEFT trains and saves it. What is saved is read here without PEFT, whose import takes seconds: nothing of it is needed
to add a product of two matrices.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gsclip.features.types import VisualEncoder

if TYPE_CHECKING:
    from peft import PeftModel

LORA_TARGETS = r".*\.mlp\.(c_fc|c_proj)"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"  # it scales the adapter
_PREFIX = "base_model.model."  # of PEFT's names of weights
# Of PEFT's configuration: what would add something else than alpha / r B A.
_VARIANTS = (
    "alpha_pattern", "fan_in_fan_out", "lora_bias", "modules_to_save", "rank_pattern", "use_dora", "use_rslora",
)  # fmt: skip


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


class LoraLinear(nn.Module):
    """A linear W with its adapter, frozen: W x + alpha / r B A x.

    Args:
        base: W and its bias.
        rank: r.
        alpha: of the scale.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: int) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        self.lora_A.requires_grad_(False)
        self.lora_B.requires_grad_(False)
        self.scale = alpha / rank

    def delta(self) -> Tensor:
        """(out, in) what the adapter adds to W."""
        return self.lora_B.weight @ self.lora_A.weight * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Apply both."""
        return self.base_layer(x) + self.lora_B(self.lora_A(x)) * self.scale


class SavedDepthStream(nn.Module):
    """A depth stream that was trained and saved: for inference, with the weights of the visual encoder it adapts.

    Attributes of the visual encoder are its own, as with PEFT's models.

    Args:
        visual: the loaded visual encoder; it stays as it is, and shares its weights.
        config: content of PEFT's :data:`ADAPTER_CONFIG_FILE`.

    Raises:
        KeyError: when the configuration lacks rank or alpha.
        ValueError: when it is of an adapter that is not built as :func:`build_depth_stream` does it.
    """

    def __init__(self, visual: VisualEncoder, config: dict[str, Any]) -> None:
        super().__init__()
        self.rank, self.alpha, self._config = config["r"], config["lora_alpha"], config
        other = [name for name in _VARIANTS if config.get(name)]
        if config.get("peft_type") != "LORA" or config.get("target_modules") != LORA_TARGETS or other:
            raise ValueError(f"is no plain LoRA of the MLPs' linears{': ' if other else ''}{', '.join(other)}")
        self.visual = copy.deepcopy(visual, _tensors(visual))
        for block in self.visual.transformer.resblocks:
            for name in ("c_fc", "c_proj"):
                setattr(block.mlp, name, LoraLinear(getattr(block.mlp, name), self.rank, self.alpha))
        self.eval()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Attributes of the visual encoder."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "visual":
                raise
            return getattr(self.visual, name)

    def forward(self, images: Tensor) -> Tensor:
        """What the visual encoder gives, adapted."""
        return self.visual(images)

    def get_base_model(self) -> VisualEncoder:
        """The visual encoder with :class:`LoraLinear` in it."""
        return self.visual

    def adapter(self) -> dict[str, Tensor]:
        """Weights of the adapter, by PEFT's names."""
        return {_PREFIX + name: value for name, value in self.visual.state_dict().items() if ".lora_" in name}

    def load_adapter(self, weights: dict[str, Tensor]) -> None:
        """Take over all weights of the adapter.

        Raises:
            ValueError: when some are missing, there are others, or one has another shape.
        """
        own = self.adapter()
        if set(weights) != set(own):
            raise ValueError(f"lacks or adds {', '.join(sorted(set(weights) ^ set(own))[:3])}")
        for name, value in weights.items():
            if value.shape != own[name].shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {tuple(own[name].shape)}")
        state = {name.removeprefix(_PREFIX): value for name, value in weights.items()}
        self.visual.load_state_dict(state, strict=False)

    def save_pretrained(self, folder: Path) -> None:
        """Write what was read, in PEFT's format, byte for byte as PEFT does."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.adapter(), folder / ADAPTER_FILE, {"format": "pt"})
        text = json.dumps(self._config, indent=2, sort_keys=True)
        (folder / ADAPTER_CONFIG_FILE).write_text(text, encoding="utf-8")


def load_depth_stream(visual: VisualEncoder, folder: str | Path) -> SavedDepthStream:
    """Attach a trained adapter saved in PEFT's own format to a loaded visual encoder, whose weights it shares.

    Raises:
        OSError: when a file is missing.
        ValueError: when the configuration is no JSON, or the adapter is another one.
        KeyError: when the configuration lacks rank or alpha.
        safetensors.SafetensorError: when the weights' file is broken.
    """
    from safetensors.torch import load_file

    stream = SavedDepthStream(visual, json.loads((Path(folder) / ADAPTER_CONFIG_FILE).read_text(encoding="utf-8")))
    stream.load_adapter(load_file(Path(folder) / ADAPTER_FILE))
    return stream


@torch.no_grad()
def merge_depth_stream(stream: PeftModel | SavedDepthStream) -> VisualEncoder:
    """A plain visual encoder that computes what a depth stream does in evaluation, with LoRA added to the weights.

    The stream stays as it is. The linears that LoRA adapts get weights of their own, W + alpha / r B A; all other
    weights are shared with the stream.
    """
    plain = copy.deepcopy(stream.get_base_model(), _tensors(stream)).eval()
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoraLinear) or hasattr(child, "get_delta_weight"):  # the latter: PEFT's
                base = child.base_layer
                weight = nn.Parameter(_merged_weight(child), requires_grad=False)
                setattr(module, name, copy.deepcopy(base, {id(base.weight): weight, id(base.bias): base.bias}))
    return plain


def _merged_weight(child: Any) -> Tensor:  # noqa: ANN401 - LoraLinear, or PEFT's
    weight: Tensor = child.base_layer.weight
    if isinstance(child, LoraLinear):
        return weight + child.delta()
    return weight if child.merged else weight + sum(child.get_delta_weight(name) for name in child.active_adapters)


def _tensors(module: nn.Module) -> dict[int, Any]:
    """What a copy of a module is to share with it, for :func:`copy.deepcopy`."""
    return {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
