"""Trains the embedded backbone: images and texts of procedural parts in one space, damage in every patch.

The class token is trained by contrast with captions, as in CLIP; patch tokens of the local path by telling damaged
from flawless patches with the same pairs of texts that the detector's prompts start from.

Only families with the role ``backbone`` are seen; auxiliary and test families are disjoint from them.

    python -m gsclip.pretraining.backbone          (`make backbone`)

writes the weights into the package and their checksum into its configuration.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_from_row, procedural_index
from gsclip.data.procedural.families import FAMILIES, categories
from gsclip.determinism import make_deterministic
from gsclip.errors import GsclipError, InputError
from gsclip.features.backbone import build_embedded, embedded_folder
from gsclip.features.encode import DEPTH_LEVELS
from gsclip.features.types import ClipModel, Tokenizer
from gsclip.features.value_attention import encode_images
from gsclip.parallel import ordered_map
from gsclip.prompts.text import encode_prompts
from gsclip.scores.similarity import TEMPERATURE
from gsclip.storage import Pack, atomic_path, sha256, write_csv, write_json, write_pack
from gsclip.training.checkpoints import Checkpoint, run_key
from gsclip.training.loop import train
from gsclip.views.renderer import render_with_rotations

GENERIC = "object"
TEMPLATES = (("{}.", "damaged {}."), ("flawless {}.", "{} with damage."))


@dataclass(frozen=True)
class BackboneTraining:
    """Settings of the training.

    Attributes:
        samples: scans per family.
        views: random cameras per scan.
        tilt: greatest rotation about x and y in degrees; about z a view is turned freely.
        epochs: passes over all views.
        batch_size: views a step; each gives a rendered and a depth image.
        learning_rate: peak, after the warm-up of one twentieth of the steps; falls to zero as a cosine.
        weight_decay: of AdamW.
        local_blocks: blocks with value-value attention in the dense loss.
        full_damage: share of a patch's foreground from which the patch counts as wholly damaged.
        damage_weight: weight of damaged patches in the cross-entropy.
        seed: of data, initial weights, order and augmentation.
    """

    samples: int = 100
    views: int = 4
    tilt: float = 40.0
    epochs: int = 4
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    local_blocks: int = 4
    full_damage: float = 0.25
    damage_weight: float = 4.0
    seed: int = 20


@dataclass(frozen=True)
class TrainingViews:
    """Views of one scan as the backbone's training reads them.

    Attributes:
        rendered: (v, h, w) uint8.
        depth: (v, h, w) uint16.
        damage: (v, rows, columns) float16 share of damaged pixels among the foreground of each patch.
        caption: what the scan shows.
        noun: the family's noun.
    """

    rendered: np.ndarray
    depth: np.ndarray
    damage: np.ndarray
    caption: str
    noun: str


def caption(noun: str, defect: str) -> str:
    """Describe a part: "flawless gear wheel." or "gear wheel with crack."."""
    return f"flawless {noun}." if defect == "good" else f"{noun} with {defect.replace('_', ' ')}."


def write_training_views(path: Path, settings: BackboneTraining, *, image_size: int, patch_size: int) -> None:
    """Generate, render and pack all scans of the training, on all cores.

    Scans that preparation rejects are left out with a warning.
    """
    index = procedural_index(categories("backbone"), settings.samples, settings.seed, "train")
    tasks = [(row, settings, image_size, patch_size) for _, row in index.iterrows()]
    with write_pack(path) as pack:
        results = tqdm(ordered_map(_training_views, tasks), total=len(tasks), desc="views", mininterval=5)
        for (row, *_), views in zip(tasks, results, strict=True):
            if isinstance(views, TrainingViews):
                pack.add(row["name"], views)
            else:
                logging.getLogger(__name__).warning("left out: %s", views)


def _training_views(task: tuple[pd.Series, BackboneTraining, int, int]) -> TrainingViews | GsclipError:
    row, settings, image_size, patch_size = task
    try:
        sample = prepare_sample(generate_from_row(row, settings.seed), row["name"])
    except GsclipError as error:
        return error
    random = np.random.default_rng([settings.seed, *row["name"].encode()])
    rotations = random_rotations(random, settings.views, settings.tilt)
    views = render_with_rotations(sample, rotations, image_size=image_size)
    if views.mask is None:
        raise InputError(row["name"], "has no ground truth", "generate it with its mask")
    blocks = (image_size // patch_size, patch_size, image_size // patch_size, patch_size)
    area = views.foreground.reshape(-1, *blocks).sum((2, 4))
    damage = views.mask.reshape(-1, *blocks).sum((2, 4)) / np.maximum(area, 1)
    noun = FAMILIES[row["category"]].noun
    return TrainingViews(
        views.rendered, views.depth, damage.astype(np.float16), caption(noun, row["defect"]), noun
    )


def random_rotations(random: np.random.Generator, count: int, tilt: float) -> np.ndarray:
    """(count, 3, 3) float32 rotations: freely about the line of sight, then tilted about x and y."""
    from scipy.spatial.transform import Rotation

    angles = np.stack(
        [random.uniform(0, 360, count), random.uniform(-tilt, tilt, count), random.uniform(-tilt, tilt, count)], 1
    )
    return Rotation.from_euler("zxy", angles, degrees=True).as_matrix().astype(np.float32)


class CaptionBank:
    """All texts of a training, encoded together in every step.

    Args:
        captions: of the scans.
        nouns: of the families.
        tokenizer: of the backbone.
    """

    def __init__(self, captions: Sequence[str], nouns: Sequence[str], tokenizer: Tokenizer) -> None:
        self.captions = sorted(set(captions))
        self.subjects = [GENERIC, *sorted(set(nouns))]
        pairs = [form.format(subject) for subject in self.subjects for pair in TEMPLATES for form in pair]
        ids = tokenizer([*self.captions, *pairs])
        self._ends = ids.argmax(-1)
        self._ids = ids[:, : int(self._ends.max()) + 1]

    def encode(self, clip: ClipModel) -> tuple[Tensor, Tensor]:
        """Unit features of the captions (i, d) and of the pairs (subject, template, 2, d)."""
        embedded = clip.token_embedding(self._ids)
        none = embedded.new_zeros((0, 1, embedded.shape[-1]))
        features = functional.normalize(encode_prompts(clip, embedded, self._ends, none), dim=-1)
        captions, pairs = features.split([len(self.captions), len(features) - len(self.captions)])
        return captions, pairs.unflatten(0, (len(self.subjects), len(TEMPLATES), 2))


class Objective:
    """Loss of a batch of views; names are ``<scan>#<view>``.

    Args:
        clip: the model in training.
        bank: its texts.
        pack: the views.
        settings: of the training.
        mean: channel means of the images.
        std: channel standard deviations.
    """

    def __init__(
        self,
        clip: ClipModel,
        bank: CaptionBank,
        pack: Pack[TrainingViews],
        settings: BackboneTraining,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        self._clip, self._bank, self._pack, self._settings = clip, bank, pack, settings
        self._mean, self._std = mean, std

    def __call__(self, names: list[str]) -> Mapping[str, Tensor]:
        """Loss terms: contrast (caption of the class token), state (damaged or not), dense (patches), and loss."""
        images, damage, captions, subjects = self._batch(names)
        visual = self._clip.visual
        layers = len(visual.transformer.resblocks)
        encoded = encode_images(
            visual,
            (images[:, None] - self._mean) / self._std,
            local_blocks=self._settings.local_blocks,
            layers=(layers,),
        )
        objects = functional.normalize(encoded.class_token, dim=-1)
        patches = functional.normalize(encoded.patch_tokens[:, 0], dim=-1)
        texts, pairs = self._bank.encode(self._clip)
        generic = torch.rand(len(subjects)) < 0.5
        subjects = torch.where(generic, 0, subjects)
        pair = pairs[subjects, torch.randint(len(TEMPLATES), subjects.shape)]  # (i, 2, d)

        contrast = functional.cross_entropy(objects @ texts.T / TEMPERATURE, captions)
        damaged = (damage > 0).flatten(1).any(1)
        state = functional.cross_entropy((pair @ objects[..., None])[..., 0] / TEMPERATURE, damaged.long())
        dense = self._dense((patches @ pair.transpose(1, 2)) / TEMPERATURE, damage.flatten(1))
        return {"loss": contrast + state + 4 * dense, "contrast": contrast, "state": state, "dense": dense}

    def _dense(self, logits: Tensor, damage: Tensor) -> Tensor:
        truth = (damage / self._settings.full_damage).clamp(max=1)
        log = logits.log_softmax(-1)
        weight = 1 + (self._settings.damage_weight - 1) * truth
        entropy = -(weight * (truth * log[..., 1] + (1 - truth) * log[..., 0])).sum() / weight.sum()
        probability = log[..., 1].exp()
        dice = 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
        return entropy + 0.25 * dice

    def _batch(self, names: list[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Augmented images (i, h, w), damage (i, rows, columns), caption and subject numbers (i); depth last."""
        rendered, depth, damage, captions, subjects = [], [], [], [], []
        for name in names:
            scan, view = name.rsplit("#", 1)
            views = self._pack[scan]
            turns, mirror = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)

            def turn(image: np.ndarray, turns: int = turns, mirror: bool = mirror) -> Tensor:
                image = np.rot90(image[:, ::-1] if mirror else image, turns)
                return torch.from_numpy(np.ascontiguousarray(image))

            rendered.append(turn(views.rendered[int(view)].astype(np.float32) / 255))
            depth.append(turn(views.depth[int(view)].astype(np.float32) / DEPTH_LEVELS))
            damage.append(turn(views.damage[int(view)].astype(np.float32)))
            captions.append(self._bank.captions.index(views.caption))
            subjects.append(self._bank.subjects.index(views.noun))
        grey = torch.stack(rendered)
        # Other light and other material: the background stays white.
        gain = 1 + 0.2 * (torch.rand(len(names), 1, 1) - 0.5)
        grey = torch.where(grey < 1, (grey * gain).clamp(0, 0.98), grey)
        return (
            torch.cat([grey, torch.stack(depth)]),
            torch.stack(damage).repeat(2, 1, 1),
            torch.tensor(captions).repeat(2),
            torch.tensor(subjects).repeat(2),
        )


def train_backbone(folder: Path, settings: BackboneTraining) -> Path:
    """Train from scratch, or go on from the checkpoint in ``folder``; return the weights' file there (float16)."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(settings.seed)
    clip = build_embedded().train()
    preprocess = open_clip.get_model_preprocess_cfg(clip)
    visual = clip.visual
    image_size, patch_size = int(visual.image_size[0]), int(visual.patch_size[0])
    parameters = {**dataclasses.asdict(settings), "image_size": image_size, "patch_size": patch_size}
    key = run_key(parameters)
    views = folder / f"views-{key}.h5"
    if not views.is_file():
        write_training_views(views, settings, image_size=image_size, patch_size=patch_size)
    with Pack(views, TrainingViews) as pack:
        texts = [pack.read(name, ("caption", "noun")) for name in pack.names]
        names = [f"{name}#{view}" for name in pack.names for view in range(settings.views)]
        bank = CaptionBank(
            [text.caption for text in texts],
            [text.noun for text in texts],
            open_clip.get_tokenizer("gsclip-embedded"),
        )
        clip.logit_scale.requires_grad_(False).fill_(-math.log(TEMPERATURE))
        trained = [parameter for parameter in clip.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        steps = settings.epochs * -(-len(names) // settings.batch_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, steps))
        mean, std = (torch.tensor(preprocess[name]).view(3, 1, 1) for name in ("mean", "std"))
        curve = train(
            {"clip": clip},
            optimizer,
            names,
            Objective(clip, bank, pack, settings, mean, std),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=settings.seed,
            checkpoint=Checkpoint(folder, "backbone", key),
            scheduler=scheduler,
            clip_norm=1.0,
        )
    weights = folder / "weights.safetensors"
    with atomic_path(weights) as temporary:
        save_file({name: value.half().contiguous() for name, value in clip.state_dict().items()}, temporary)
    write_csv(folder / "curve.csv", curve)
    return weights


def _warm_cosine(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def install_weights(weights: Path, target: Path | None = None) -> None:
    """Put trained weights into the package's folder, with their checksum in the configuration."""
    target = target or embedded_folder()
    with atomic_path(target / "weights.safetensors") as temporary:
        shutil.copyfile(weights, temporary)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config["weights_sha256"] = sha256(target / "weights.safetensors")
    write_json(target / "config.json", config)


def main() -> None:
    """Train with the default settings and install the result."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_deterministic()
    folder = Path(".gsclip/backbone")
    install_weights(train_backbone(folder, BackboneTraining()))


if __name__ == "__main__":
    main()
