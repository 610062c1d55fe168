"""Scoring and a step of each stage at full size on a GPU, random weights: objects a second, memory, share of peak.

The pipeline itself runs on the CPU. Here its modules are moved to the device (both encoders, PointNet++, prompts, SRM),
and batches with them; losses and scores are the library's own functions. Rendering, images and groupings are made
before, on the CPU, and not measured. Without a GPU a tiny size runs on the CPU, to see that everything works.

    python -m benchmarks.gpu --output benchmarks/results/gpu
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.shared import write_results
from benchmarks.speed import machine
from benchmarks.speed.common import ROOT
from gsclip.axes import ABNORMAL
from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.features.backbone import Backbone, load_backbone
from gsclip.features.encode import encode_views
from gsclip.features.images import depth_images, rendered_images
from gsclip.params import Params, load_params
from gsclip.prompts.geometry_prompts import GeometryAwarePrompts, build_prompts
from gsclip.prompts.grouping import Grouping, group_points, stack_groupings
from gsclip.scores.back_projection import back_project
from gsclip.scores.similarity import class_logits, enlarge_maps, patch_maps
from gsclip.streams.refinement import SynergisticRefinement
from gsclip.streams.streams import build_streams
from gsclip.training.batches import Batch
from gsclip.training.losses import consistency_loss, detection_losses
from gsclip.training.stage1 import BETAS
from gsclip.views.renderer import render_views

NO_GPU = "no GPU: a tiny size on the CPU, to see that everything works; the figures mean nothing"
# Dense peaks in TFLOP/s by the makers' data sheets, by a part of the device's name.
PEAKS = {
    "H100": {"float32": 67.0, "tf32": 494.7, "bfloat16": 989.4},
    "H200": {"float32": 67.0, "tf32": 494.7, "bfloat16": 989.4},
    "A100": {"float32": 19.5, "tf32": 156.0, "bfloat16": 312.0},
}
PRECISIONS = ("float32", "tf32", "bfloat16")
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
FAMILIES = (("castle_nut", None), ("vase", "bulge"))  # whose parts take turns, and their defects


@dataclass(frozen=True)
class Variant:
    """One choice of how to compute.

    Attributes:
        precision: of :data:`PRECISIONS`.
        compiled: encode views by ``torch.compile``.
        attention: of :data:`BACKENDS`; ``None``: torch chooses.
        checkpointing: compute activations twice in stage 2.
    """

    precision: str
    compiled: bool = False
    attention: str | None = None
    checkpointing: bool = False


class Workload:
    """Modules and a batch on a device.

    Args:
        params: sizes.
        objects: of the batch.
        device: where everything lies.
    """

    def __init__(self, params: Params, objects: int, device: torch.device) -> None:
        self.params, self.device = params, device
        torch.manual_seed(0)
        self.backbone: Backbone = load_backbone(*params.features.backbone_arguments)
        prompts = build_prompts(self.backbone, params.stage1)
        if not isinstance(prompts, GeometryAwarePrompts):
            raise TypeError("the parameters have no learned prompts")
        self.depth_stream, refinement = build_streams(self.backbone, params.stage2)
        self.refinement: SynergisticRefinement = refinement.to(device)
        self.prompts = prompts.to(device)
        self.depth_stream.to(device)
        self.backbone.clip.to(device)
        self.rendered, self.batch = _batch(params, objects, self.backbone, device)
        self._compiled: Callable[..., Tensor] = torch.compile(encode_views)

    def encode(self, images: Tensor, visual: Any, variant: Variant) -> Tensor:  # noqa: ANN401 - an open_clip module
        """Tokens (b, v, t, d) of images (b, v, 3, h, w)."""
        features = self.params.features
        function = self._compiled if variant.compiled else encode_views
        with self._autocast(variant):
            tokens = function(
                self.backbone,
                visual,
                images.flatten(0, 1),
                local_blocks=features.local_blocks,
                local_layers=features.local_layers,
            )
        return tokens.unflatten(0, images.shape[:2])

    def refine(self, rendered: Tensor, depth: Tensor, variant: Variant) -> Tensor:
        """Tokens G (b, v, t, d), float32: what follows stays in float32, as in training."""
        with self._autocast(variant):
            refined: Tensor = self.refinement(rendered, depth)
        return refined.float()

    def text(self, variant: Variant) -> Tensor:
        """Text features (b, 2, d), float32."""
        with self._autocast(variant):
            text: Tensor = self.prompts(self.backbone.clip, self.batch.grouping)
        return text.float()

    def _autocast(self, variant: Variant) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=variant.precision == "bfloat16")

    def frozen(self, variant: Variant) -> Tensor:
        """Tokens of the frozen stream: what stage 1 and 2 compute once."""
        with torch.no_grad():
            return self.encode(self.rendered, self.backbone.clip.visual, variant)

    def score(self, variant: Variant) -> Tensor:
        """Object scores (b,) on the host: both streams, prompts, SRM, maps, back to the points; without smoothing."""
        self.prompts.eval()
        self.depth_stream.eval()
        batch, depth = self.batch, self.batch.depth
        if depth is None:
            raise ValueError("the batch has no depth images")
        with torch.no_grad():
            tokens = self.encode(self.rendered, self.backbone.clip.visual, variant)
            refined = self.refine(tokens, self.encode(depth, self.depth_stream, variant), variant)
            probabilities = class_logits(refined, self.text(variant)).softmax(-1)
            maps = enlarge_maps(patch_maps(probabilities[:, :, 1:]), depth.shape[-1])[:, :, ABNORMAL]
            points = [
                back_project(maps[place], batch.pixels[place], batch.visible[place])[0].amax()
                for place in range(len(maps))
            ]
            return (torch.stack(points) / 2 + probabilities[:, :, 0, ABNORMAL].mean(1) / 2).cpu()

    def stage1(self, variant: Variant) -> Callable[[], Tensor]:
        """A step of the optimizer; the encoders of images take no part."""
        optimizer = torch.optim.Adam(
            self.prompts.train().parameters(), lr=self.params.stage1.learning_rate, betas=BETAS
        )

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            losses = detection_losses(self.batch.tokens, self.text(variant), self.batch)
            loss = losses.classification + losses.segmentation
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    def stage2(self, variant: Variant) -> Callable[[], Tensor]:
        """A step of the optimizer."""
        stage2 = self.params.stage2
        self.prompts.eval()
        self.depth_stream.train()
        self.depth_stream.transformer.grad_checkpointing = variant.checkpointing
        lora = [parameter for parameter in self.depth_stream.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(
            [
                {"params": list(self.refinement.train().parameters()), "lr": stage2.learning_rate},
                {"params": lora, "lr": stage2.learning_rate * stage2.lora_learning_rate_factor},
            ]
        )
        with torch.no_grad():
            text = self.text(variant)

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            if self.batch.depth is None:
                raise ValueError("the batch has no depth images")
            depth = self.encode(self.batch.depth, self.depth_stream, variant)
            refined = self.refine(self.batch.tokens, depth, variant)
            losses = detection_losses(refined, text, self.batch)
            consistency = consistency_loss(refined[:, :, 0])
            loss = losses.classification + losses.segmentation + stage2.consistency_weight * consistency
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    def task(self, name: str, variant: Variant) -> Callable[[], Tensor]:
        """One of :data:`TASKS`, modules set for it."""
        if name == "stage 1, a step":
            return self.stage1(variant)
        if name == "stage 2, a step":
            return self.stage2(variant)
        return (lambda: self.score(variant)) if name == "scoring" else (lambda: self.frozen(variant))


TASKS = ("frozen tokens", "scoring", "stage 1, a step", "stage 2, a step")


def parameters(*, tiny: bool) -> Params:
    """The paper's preset with random weights, or the repository's parameters with two views and small clouds."""
    if not tiny:
        values = load_params(ROOT / "presets" / "paper.yaml").model_dump()
        values["features"]["weights"] = "random"
        return Params.model_validate(values)
    values = load_params(ROOT / "params.yaml").model_dump()
    values["render"]["views"] = 2
    values["features"]["cloud_points"] = 512
    return Params.model_validate(values)


def variants(device: torch.device) -> list[Variant]:
    """What is tried on a device."""
    if device.type == "cpu":
        return [Variant("float32"), Variant("bfloat16"), Variant("float32", attention="math", checkpointing=True)]
    return [
        Variant("float32"),
        Variant("tf32"),
        Variant("bfloat16"),
        *(Variant("bfloat16", attention=attention) for attention in BACKENDS),
        Variant("bfloat16", compiled=True),
        Variant("bfloat16", checkpointing=True),
    ]


def measure(work: Workload, name: str, variant: Variant, repeats: int) -> dict[str, Any]:
    """Median time of a task, and the device's peak memory.

    Returns:
        ``task``, the variant's fields, ``seconds``, ``objects_per_second``, ``peak_gib`` (of a GPU's allocations) and
        ``tflops`` reached; or ``failed`` with the reason, such as too little memory.
    """
    found: dict[str, Any] = {"task": name, **vars(variant)}
    gpu = work.device.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant.precision == "tf32"
    try:
        with contextlib.nullcontext() if variant.attention is None else sdpa_kernel([BACKENDS[variant.attention]]):
            task = work.task(name, variant)
            for _ in range(2):  # compiles, and chooses kernels
                task()
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            seconds = []
            for _ in range(repeats):
                _wait(work.device)
                start = time.perf_counter()
                result = task()
                _wait(work.device)
                seconds.append(time.perf_counter() - start)
        if not torch.isfinite(result).all():
            return {**found, "failed": "not finite"}
        found["seconds"] = statistics.median(seconds)
        found["objects_per_second"] = len(work.batch.names) / found["seconds"]
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if gpu:
            torch.cuda.empty_cache()
        return {**found, "failed": str(error).splitlines()[0][:120]}
    return found


def operations(work: Workload, name: str) -> int:
    """Floating point operations of a task: of matrix products and convolutions, counted with attention written out."""
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        work.task(name, Variant("float32"))()
    return int(counter.get_total_flops())


def page(results: dict[str, Any]) -> str:
    """Markdown of what :func:`main` writes as JSON."""
    described = results["machine"]
    lines = [
        "# Full size on a GPU" if results["gpu"] else "# Tiny size on a CPU",
        "",
        *([] if results["gpu"] else [f"**{NO_GPU[0].upper()}{NO_GPU[1:]}.**", ""]),
        f"{results['backbone']} with {results['weights']} weights, {results['objects']} objects of {results['views']} "
        f"views at once, on {results['device']} ({described['processor']}, torch {described['libraries']['torch']}), "
        f"commit {described['commit']}. `python -m benchmarks.gpu`. Views, images and groupings are made before.",
        "",
        "| | precision | compiled | attention | checkpointing | ms | objects/s | peak, GiB | TFLOP/s | % of peak |",
        "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run in results["runs"]:
        choices = [run["precision"], "yes" if run["compiled"] else "", run["attention"] or "torch's choice"]
        choices.append("yes" if run["checkpointing"] else "")
        if "failed" in run:
            figures = [f"failed: {run['failed']}", "", "", "", ""]
        else:
            figures = [f"{1000 * run['seconds']:.1f}", f"{run['objects_per_second']:.2f}"]
            figures += ["" if run[key] is None else f"{run[key]:.2f}" for key in ("peak_gib", "tflops")]
            figures.append("" if run["share_of_peak"] is None else f"{100 * run['share_of_peak']:.1f}")
        lines.append(f"| {' | '.join([run['task'], *choices, *figures])} |")
    return "\n".join([*lines, "", "Peaks are the makers' figures for dense matrix products.", ""])


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cuda where there is one")
    parser.add_argument("--objects", type=int, help="of a batch; 4, of which the paper's steps are, or 2 on a CPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--peak", type=json.loads, help='TFLOP/s by precision, as {"bfloat16": 989}')
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/gpu"), help="without suffix")
    given = parser.parse_args(arguments)
    gpu = torch.cuda.is_available() if given.device is None else given.device == "cuda"
    if gpu and not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: torch finds no GPU")
    if not gpu:
        print(NO_GPU, file=sys.stderr)
    device = torch.device("cuda" if gpu else "cpu")
    device_name = torch.cuda.get_device_name() if gpu else "a CPU"
    peaks = given.peak or next((peak for part, peak in PEAKS.items() if part in device_name), {})
    params = parameters(tiny=not gpu)
    objects = given.objects or (4 if gpu else 2)
    work = Workload(params, objects, device)
    counted = {name: operations(work, name) for name in given.tasks}
    runs = []
    for variant in variants(device):
        for name in given.tasks:
            run = measure(work, name, variant, given.repeats)
            if "seconds" in run:
                run["tflops"] = counted[name] / run["seconds"] / 1e12
                peak = peaks.get(variant.precision)
                run["share_of_peak"] = None if peak is None else run["tflops"] / peak
            runs.append(run)
            print(f"{name}, {variant}: {run.get('objects_per_second') or run.get('failed')}", file=sys.stderr)
    results = {
        "machine": machine.describe(torch.get_num_threads()),
        "device": device_name,
        "gpu": gpu,
        "backbone": params.features.backbone,
        "weights": params.features.weights or "its own",
        "views": params.render.views,
        "objects": objects,
        "operations": counted,
        "runs": runs,
    }
    print(page(results))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_results(given.output, results, page(results))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _batch(params: Params, objects: int, backbone: Backbone, device: torch.device) -> tuple[Tensor, Batch]:
    """Rendered images (b, v, 3, h, w) and a batch of generated parts; tokens are random unit vectors."""
    render, features = params.render, params.features
    samples = [
        prepare_sample(generate_scan(*FAMILIES[number % 2][:1], number // 2, FAMILIES[number % 2][1], 0))
        for number in range(objects)
    ]
    views = [
        render_views(sample, image_size=render.image_size, cameras=render.cameras, views=render.views)
        for sample in samples
    ]
    patches = (backbone.image_size // backbone.patch_size) ** 2
    random = torch.randn(objects, render.views, 1 + patches, backbone.dimension)
    masks = torch.from_numpy(np.stack([view.mask for view in views]))
    grouping: Grouping = stack_groupings([group_points(sample.points, features.cloud_points) for sample in samples])
    batch = Batch(
        names=[f"{number}" for number in range(objects)],
        labels=masks.flatten(1).any(1).long().to(device),
        view_labels=masks.flatten(2).any(-1).long().to(device),
        masks=masks.to(device),
        depth=torch.stack([depth_images(view, features.depth_encoding) for view in views]).to(device),
        pixels=[torch.from_numpy(view.pixels).to(device) for view in views],
        visible=[torch.from_numpy(view.visible).to(device) for view in views],
        point_masks=[torch.from_numpy(np.asarray(sample.mask)).to(device) for sample in samples],
        tokens=torch.nn.functional.normalize(random, dim=-1).to(device),
        grouping=grouping,
    )
    return torch.stack([rendered_images(view, features.rendered_encoding) for view in views]).to(device), batch


if __name__ == "__main__":
    main()
