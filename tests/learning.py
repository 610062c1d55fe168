"""Auxiliary samples as a training reads them, and what its losses teach: gradients, numbers and bits of parameters."""

import hashlib
from collections.abc import Mapping

import torch
from torch import nn

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.features.encode import encode_views, rendered_tokens
from gsclip.features.inference import InferenceEncoder
from gsclip.packs import PackFolders
from gsclip.prompts.grouping import group_points
from gsclip.prompts.pointnet2 import SharedMLP
from gsclip.storage import write_pack
from gsclip.training.batches import TrainingData
from gsclip.views.renderer import render_views

TERMS = ("classification", "segmentation")
GOOD, DAMAGED = "castle_nut/train/good/000", "vase/train/bulge/000"
VIEWS = 2


def training_data(folder, backbone, params, names=(GOOD, DAMAGED)):
    """Scans of one family each in packs, as the stages write them: small scans, few views, else as ``params`` say."""
    folders = PackFolders(folder / "prepared", folder / "views", folder / "features")
    features = params.features
    for name in names:
        family, _, defect, _ = name.split("/")
        sample = prepare_sample(generate_scan(family, 0, None if defect == "good" else defect, 0, grid=(120, 120)))
        views = render_views(sample, image_size=params.render.image_size, cameras=params.render.cameras, views=VIEWS)
        encoder = InferenceEncoder(
            backbone, backbone.clip.visual, local_blocks=features.local_blocks, layers=features.local_layers
        )
        tokens = rendered_tokens(encoder, views, features.rendered_encoding)
        records = (sample, views, tokens, group_points(sample.points, features.cloud_points))
        for path, record in zip(folders.paths(family), records, strict=True):
            with write_pack(path) as pack:
                pack.add(name, record)
    return TrainingData(folders, list(names), features.depth_encoding)


def encode_depth(backbone, depth_stream, depth, features):
    """Tokens (b, v, t, d) of depth images (b, v, 3, h, w), as training makes them."""
    tokens = encode_views(
        backbone,
        depth_stream,
        depth.flatten(0, 1),
        local_blocks=features.local_blocks,
        local_layers=features.local_layers,
    )
    return tokens.unflatten(0, depth.shape[:2])


def trainable(*modules: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name."""
    return {
        name: parameter
        for module in modules
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def gradients_of_each(losses, parameters: Mapping[str, nn.Parameter]) -> dict[str, dict[str, torch.Tensor]]:
    """Gradient of every parameter from each term alone; what the parameters hold afterwards is that of the sum."""
    found = {}
    for term in TERMS:
        for parameter in parameters.values():
            parameter.grad = None
        getattr(losses, term).backward(retain_graph=term != TERMS[-1])
        found[term] = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name, parameter in parameters.items()
        }
    for name, parameter in parameters.items():
        parameter.grad = sum(found[term][name] for term in TERMS)
    return found


def within(gradients: Mapping[str, torch.Tensor], bound: float) -> set[str]:
    """Names of the parameters whose gradient is no longer than ``bound``."""
    return {name for name, gradient in gradients.items() if not gradient.norm() > bound}


def absorbed_biases(prompts: nn.Module) -> dict[str, str]:
    """Biases of PointNet++ right before a batch norm, and that batch norm's own bias.

    A batch norm takes the mean of its batch off, and with it what such a bias adds: the gradient is zero by algebra.
    """
    return {
        f"{name}.linears.{place}.bias": f"{name}.norms.{place}.bias"
        for name, module in prompts.named_modules()
        if isinstance(module, SharedMLP)
        for place in range(len(module.norms))
    }


def expected_trainable(stage1, stage2, *, vision_width, vision_blocks, text_width, text_blocks, dimension):
    """Numbers of trainable parameters of each part, counted from the architecture's widths alone."""

    def linear(inputs, outputs, bias=True):
        return inputs * outputs + bias * outputs

    def norm(width):
        return 2 * width  # scale and shift

    # Inputs and widths of the shared layers: four abstractions (offsets beside the features), four propagations from
    # the finest on (the skipped features beside the carried ones, none at the finest), the head.
    pointnet = (
        (3 + 9, (32, 32, 64)),
        (3 + 64, (64, 64, 128)),
        (3 + 128, (128, 128, 256)),
        (3 + 256, (256, 256, 512)),
        (128, (128, 128, 128)),
        (64 + 256, (256, 128)),
        (128 + 256, (256, 256)),
        (256 + 512, (256, 256)),
        (128, (128,)),
    )
    deep_layers = min(9, text_blocks) - 2 + 1  # from the second to the ninth
    attention = linear(text_width, 3 * text_width) + linear(text_width, text_width)
    return {
        "prompts": 2 * stage1.context_tokens * text_width + deep_layers * stage1.deep_tokens * text_width,
        "encoder": sum(
            linear(before, after) + norm(after)
            for inputs, widths in pointnet
            for before, after in zip((inputs, *widths), widths, strict=False)
        ),
        "shape": linear(512, text_width) + norm(text_width),
        "defect": stage1.prototypes * 128
        + linear(128, text_width)
        + attention
        + norm(text_width)
        + linear(text_width, text_width),
        "lora": vision_blocks * 2 * stage2.lora_rank * (vision_width + 4 * vision_width),
        "refinement": 2 * linear(dimension, dimension, bias=False)
        + linear(2 * dimension, dimension)
        + linear(dimension, dimension, bias=False),
    }


def counted(prompts, depth_stream, refinement):
    """Numbers of parameters that require a gradient, part by part."""

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)

    parts = {name: count(part) for name, part in prompts.named_children()}
    return {**parts, "lora": count(depth_stream), "refinement": count(refinement)}


def digests(module: nn.Module) -> dict[str, str]:
    """SHA-256 of the bytes of every frozen parameter."""
    return {
        name: hashlib.sha256(parameter.detach().contiguous().numpy().data).hexdigest()
        for name, parameter in module.named_parameters()
        if not parameter.requires_grad
    }
