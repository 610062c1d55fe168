"""Trains the embedded backbone: images and texts of procedural parts in one space, damage in every patch.

Class token and mean patch learn which part they see, by contrast with the names of all families, as in CLIP; the
class token also learns the state of the part, and every patch token of the local path the state of its place, by
the pairs of texts ("object." and "damaged object.") that the detector's prompts start from. Most steps see crops
around damaged and flawless places: with whole images alone, one patch in two hundred is damaged and nothing is
learned for a long time.

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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_pair_from_row, procedural_index
from gsclip.data.procedural.families import FAMILIES, categories
from gsclip.data.sample import Scan
from gsclip.determinism import make_deterministic
from gsclip.errors import GsclipError
from gsclip.features.backbone import build_embedded, embedded_folder, embedded_tokenizer
from gsclip.features.embedded_clip import MEAN, STD
from gsclip.features.images import depth_images, rendered_images
from gsclip.features.types import ClipModel, DepthEncoding, RenderedEncoding, Tokenizer, VisualEncoder
from gsclip.features.value_attention import EncodedImages, encode_embedded
from gsclip.parallel import ordered_map
from gsclip.prompts.hand_written import STATES
from gsclip.prompts.text import encode_prompts
from gsclip.scores.similarity import TEMPERATURE
from gsclip.storage import Pack, atomic_path, sha256, write_csv, write_json, write_pack
from gsclip.training.checkpoints import Checkpoint, run_key
from gsclip.training.loop import train
from gsclip.views.renderer import render_with_rotations

GENERIC = "object"
EMBEDDING_SCALE = 5.0  # with open_clip's own 0.02 all texts start out nearly equal, and stay so for long
RENDERED: RenderedEncoding = "normals"  # what the embedded backbone sees, in training as in use
DEPTH: DepthEncoding = "contrast"
# Weights of the terms of the loss: damage comes first, names of parts keep the space one of images and texts.
PART, MEAN_PATCH, STATE, DENSE = 0.25, 0.1, 0.5, 4.0
RIDGED_STATE = 2.0
# In the last part of the training: whether the highest patches of an image say that it is damaged, and whether those of
# a damaged one lie above those of its twin.
HIGHEST, RANK = 0.5, 1.0
HIGHEST_PATCHES = 4
RIDGED = ("flange_bolt", "stepped_shaft", "collet", "bottle", "turned_mix", "tapered_rod")
RIDGED_SPLIT = "validation"  # parts of their own
PAIR_SPLIT = "test"  # likewise
AVERAGED = 2  # last parts of the training, whose weights are averaged in the end
WIDE_SPLIT = "validation"  # of the pairs that the last part adds, under another seed
LATE = ("printed_part", "vessel")  # families that were made last: only the last part of the training sees them
FLAWLESS = "-flawless"  # ends the name of a damaged view's twin
DAMAGED = 0.1  # share of damaged pixels from which a patch is a place to crop at, and a view damaged


@dataclass(frozen=True)
class BackboneTraining:
    """Settings of the training.

    Attributes:
        samples: scans per family, times its weight.
        ridged_samples: scans of each family of :data:`RIDGED`, for the last epochs.
        ridged_epochs: last epochs, which see those too, and learn the state of the part with more weight.
        grids: sides of the sensor's grid in pixels, drawn from for each scan: parts of few and of many points.
        views: random cameras per scan.
        tilt: greatest rotation about x and y in degrees; about z a view is turned freely.
        epochs: passes over all views; a pass shows each view as a rendered or as a depth image.
        batch_size: views a step.
        crop: side of a crop in patches.
        whole_share: share of steps that see whole images, a quarter of the views of the batch.
        damaged_share: share of the crops of damaged views that are taken around damage.
        learning_rate: peak; see :func:`learning_rate_factor`.
        cosine_epochs: half a period of the cosine by which it falls until the last epochs.
        weight_decay: of AdamW.
        local_blocks: blocks with value-value attention in the dense loss.
        full_damage: share of a patch's foreground from which the patch counts as wholly damaged.
        damage_weight: weight of damaged patches in the cross-entropy.
        pairs: damaged scans per family, times its weight, that are learned beside their flawless twins.
        ridged_pairs: crushed scans of each family of :data:`RIDGED` among them.
        pair_epochs: passes over the pairs, after all others.
        pair_views: random cameras per pair.
        pair_learning_rate: peak for the pairs; it falls by a cosine to zero.
        ranked_epochs: further passes over the pairs, in which the highest patches of both are compared, too.
        ranked_learning_rate: peak for them.
        wide_pairs: as ``pairs``, of other parts and of the families :data:`LATE` as well, for the last part.
        wide_ridged_pairs: as ``ridged_pairs``, for the last part.
        wide_epochs: last passes, over all pairs.
        wide_learning_rate: peak for them.
        mixed_precision: bfloat16 in the network, float32 in the losses; several times faster where the processor
            has instructions for it, and slower where it does not.
        seed: of data, initial weights, order and augmentation.
    """

    samples: int = 100
    ridged_samples: int = 50
    ridged_epochs: int = 4
    grids: tuple[int, ...] = (240, 240, 320, 400)
    views: int = 5
    tilt: float = 40.0
    epochs: int = 12
    batch_size: int = 40
    crop: int = 15
    whole_share: float = 0.3
    damaged_share: float = 0.9
    learning_rate: float = 1e-3
    cosine_epochs: int = 16
    weight_decay: float = 0.05
    local_blocks: int = 1
    full_damage: float = 0.25
    damage_weight: float = 4.0
    pairs: int = 60
    ridged_pairs: int = 50
    pair_epochs: int = 8
    pair_views: int = 4
    pair_learning_rate: float = 5e-4
    ranked_epochs: int = 12
    ranked_learning_rate: float = 4e-4
    wide_pairs: int = 50
    wide_ridged_pairs: int = 30
    wide_epochs: int = 4
    wide_learning_rate: float = 4e-4
    mixed_precision: bool = True
    seed: int = 20


@dataclass(frozen=True)
class TrainingView:
    """One view of one scan as the backbone's training reads it.

    Attributes:
        rendered: (3, h, w) uint8, encoded as ``normals``; see :mod:`gsclip.features.images`.
        depth: (3, h, w) uint8, encoded as ``contrast``.
        foreground: (h, w) bool.
        mask: (h, w) bool rendered ground truth.
        noun: the family's noun.
    """

    rendered: np.ndarray
    depth: np.ndarray
    foreground: np.ndarray
    mask: np.ndarray
    noun: str


def training_index(settings: BackboneTraining) -> pd.DataFrame:
    """Scans of all epochs."""
    parts = [
        procedural_index([name], settings.samples * FAMILIES[name].weight, settings.seed, "train")
        for name in _early_families()
    ]
    return pd.concat(parts, ignore_index=True)


def ridged_index(settings: BackboneTraining) -> pd.DataFrame:
    """Scans of the last epochs: threads and other ridges with places where they are crushed.

    Such a place is smoother than what surrounds it, and a network that has seldom seen one takes it for the most
    normal of the part.
    """
    return procedural_index(RIDGED, settings.ridged_samples, settings.seed, RIDGED_SPLIT, only="crushing")


def pair_index(settings: BackboneTraining) -> pd.DataFrame:
    """Damaged scans of the pairs."""
    return _pair_index(_early_families(), settings.pairs, settings.ridged_pairs, settings.seed, PAIR_SPLIT)


def wide_pair_index(settings: BackboneTraining) -> pd.DataFrame:
    """Damaged scans of the pairs that the last part adds."""
    families = categories("backbone")
    return _pair_index(
        families, settings.wide_pairs, settings.wide_ridged_pairs, wide_settings(settings).seed, WIDE_SPLIT
    )


def wide_settings(settings: BackboneTraining) -> BackboneTraining:
    """What the pairs that the last part adds are generated with: another seed, hence other parts, poses and cameras."""
    return dataclasses.replace(settings, seed=settings.seed + 1)


def _early_families() -> list[str]:
    return [name for name in categories("backbone") if name not in LATE]


def _pair_index(families: Sequence[str], pairs: int, ridged_pairs: int, seed: int, split: str) -> pd.DataFrame:
    parts = [
        procedural_index([name], pairs * FAMILIES[name].weight, seed, split, good_share=0.0) for name in families
    ]
    parts.append(procedural_index(RIDGED, ridged_pairs, seed, split, only="crushing", good_share=0.0))
    return pd.concat(parts, ignore_index=True)


def write_training_views(
    path: Path, index: pd.DataFrame, settings: BackboneTraining, image_size: int, *, pairs: bool = False
) -> None:
    """Generate, render and pack all views, on all cores; scans that cannot be prepared are left out with a warning.

    Args:
        path: of the pack.
        index: the scans.
        settings: of the training.
        image_size: side of the views in pixels.
        pairs: of each damaged scan, keep the views in which the damage shows, each with that of its flawless twin,
            whose name ends in :data:`FLAWLESS`.
    """
    tasks = [(row, settings, image_size, pairs) for _, row in index.iterrows()]
    with write_pack(path, compress=False) as pack:
        results = tqdm(ordered_map(_training_views, tasks), total=len(tasks), desc="views", mininterval=5)
        for (row, *_), views in zip(tasks, results, strict=True):
            if isinstance(views, GsclipError):
                logging.getLogger(__name__).warning("left out: %s", views)
                continue
            for name, view in views.items():
                pack.add(f"{row['name']}/{name}", view)


def _training_views(task: tuple[pd.Series, BackboneTraining, int, bool]) -> dict[str, TrainingView] | GsclipError:
    row, settings, image_size, pairs = task
    random = np.random.default_rng([settings.seed, *row["name"].encode()])
    side = int(random.choice(settings.grids))
    rotations = random_rotations(random, settings.pair_views if pairs else settings.views, settings.tilt)
    noun = FAMILIES[row["category"]].noun
    try:
        flawless, scan = generate_pair_from_row(row, settings.seed, grid=(side, side))
        views = _views_of(scan, row["name"], rotations, image_size, noun)
        if not pairs:
            return {str(number): view for number, view in enumerate(views)}
        twins = _views_of(flawless, row["name"], rotations, image_size, noun)
    except GsclipError as error:
        return error
    shown = {number: view for number, view in enumerate(views) if view.mask.any()}
    return {str(number): view for number, view in shown.items()} | {
        f"{number}{FLAWLESS}": twins[number] for number in shown
    }


def _views_of(scan: Scan, name: str, rotations: np.ndarray, image_size: int, noun: str) -> list[TrainingView]:
    views = render_with_rotations(prepare_sample(scan, name), rotations, image_size=image_size)
    if views.mask is None:
        raise GsclipError(f"{name} has no ground truth")
    rendered, depth = rendered_images(views, RENDERED), depth_images(views, DEPTH)
    return [
        TrainingView(
            rendered=(rendered[number] * 255).round().to(torch.uint8).numpy(),
            depth=(depth[number] * 255).round().to(torch.uint8).numpy(),
            foreground=views.foreground[number],
            mask=views.mask[number],
            noun=noun,
        )
        for number in range(len(rotations))
    ]


def random_rotations(random: np.random.Generator, count: int, tilt: float) -> np.ndarray:
    """(count, 3, 3) float32 rotations: freely about the line of sight, then tilted about x and y."""
    from scipy.spatial.transform import Rotation

    angles = np.stack(
        [random.uniform(0, 360, count), random.uniform(-tilt, tilt, count), random.uniform(-tilt, tilt, count)], 1
    )
    return Rotation.from_euler("zxy", angles, degrees=True).as_matrix().astype(np.float32)


class Texts:
    """All texts of the training, encoded together in every step.

    Args:
        nouns: of the families; the generic noun is added as subject 0.
        tokenizer: of the backbone.
    """

    def __init__(self, nouns: Sequence[str], tokenizer: Tokenizer) -> None:
        self.subjects = [GENERIC, *sorted(set(nouns))]
        texts = [form.format(subject) for subject in self.subjects for pair in STATES for form in pair]
        ids = tokenizer(texts)
        self._ends = ids.argmax(-1)
        self._ids = ids[:, : int(self._ends.max()) + 1]

    def encode(self, clip: ClipModel) -> Tensor:
        """Unit features (subject, template, 2, d); normal and abnormal along the third axis."""
        embedded = clip.token_embedding(self._ids)
        no_deep_tokens = embedded.new_zeros((0, 1, embedded.shape[-1]))
        features = functional.normalize(encode_prompts(clip, embedded, self._ends, no_deep_tokens), dim=-1)
        return features.unflatten(0, (len(self.subjects), len(STATES), 2))


@dataclass(frozen=True)
class _Images:
    """A batch: images (i, 3, h, w), damage (i, p), subjects (i), and the first patch (i, 2) of each in the whole."""

    images: Tensor
    damage: Tensor
    subjects: Tensor
    corners: Tensor


class Objective:
    """Loss of a batch of views.

    Args:
        clip: the model in training.
        texts: its texts.
        packs: the views.
        settings: of the training.
        mean: channel means of the images.
        std: channel standard deviations.
        state_weight: weight of the term about the state of the whole part.
        pairs: names are those of damaged views, and each comes with its twin.
        ranked: with the terms about the highest patches, which need pairs.
    """

    def __init__(
        self,
        clip: ClipModel,
        texts: Texts,
        packs: Sequence[Pack[TrainingView]],
        settings: BackboneTraining,
        mean: Tensor,
        std: Tensor,
        *,
        state_weight: float,
        pairs: bool = False,
        ranked: bool = False,
    ) -> None:
        self._pairs, self._ranked = pairs, ranked
        self._clip, self._texts, self._settings = clip, texts, settings
        self._pack_of = {name: pack for pack in packs for name in pack.names}
        self._mean, self._std, self._state_weight = mean, std, state_weight

    def __call__(self, names: list[str]) -> Mapping[str, Tensor]:
        """Loss terms.

        part and mean_patch (which family), state (damaged or not), dense (patches), dice; highest and rank where the
        pairs are ranked; and loss.
        """
        whole = bool(torch.rand(()) < self._settings.whole_share)
        batch = self._batch(names[: max(1, len(names) // 4)] if whole else names, whole=whole)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._settings.mixed_precision):
            encoded = self._encode(batch)
            pairs = self._texts.encode(self._clip).float()
        class_token = functional.normalize(encoded.class_token.float(), dim=-1)
        local = encoded.patch_tokens[:, 0].float()
        patches = functional.normalize(local, dim=-1)
        mean_patch = functional.normalize(local.mean(1), dim=-1)

        nouns = functional.normalize(pairs[1:, 0].mean(1), dim=-1)
        subjects = torch.where(torch.rand(len(batch.subjects)) < 0.5, 0, batch.subjects)
        templates = torch.randint(len(STATES), subjects.shape)
        if self._ranked:  # twins face the same texts
            subjects, templates = (drawn[::2].repeat_interleave(2) for drawn in (subjects, templates))
        pair = pairs[subjects, templates]  # (i, 2, d)

        part = functional.cross_entropy(class_token @ nouns.T / TEMPERATURE, batch.subjects - 1)
        mean_part = functional.cross_entropy(mean_patch @ nouns.T / TEMPERATURE, batch.subjects - 1)
        damaged = (batch.damage > DAMAGED).any(1).long()
        state = functional.cross_entropy((pair @ class_token[..., None])[..., 0] / TEMPERATURE, damaged)
        logits = patches @ pair.transpose(1, 2) / TEMPERATURE
        dense, dice = self._dense(logits, batch.damage)
        loss = PART * part + MEAN_PATCH * mean_part + self._state_weight * state + DENSE * dense + dice
        terms = {"part": part, "mean_patch": mean_part, "state": state, "dense": dense, "dice": dice}
        if self._ranked:
            terms |= _highest(logits[..., 1] - logits[..., 0], damaged)
            loss = loss + HIGHEST * terms["highest"] + RANK * terms["rank"]
        return {"loss": loss, **terms}

    def _encode(self, batch: _Images) -> EncodedImages:
        visual = self._clip.visual
        images = (batch.images - self._mean) / self._std
        tokens = embed_crops(visual, images, batch.corners)
        layers = (len(visual.transformer.resblocks),)
        return encode_embedded(visual, tokens, local_blocks=self._settings.local_blocks, layers=layers)

    def _dense(self, logits: Tensor, damage: Tensor) -> tuple[Tensor, Tensor]:
        truth = (damage / self._settings.full_damage).clamp(max=1)
        log = logits.log_softmax(-1)
        weight = 1 + (self._settings.damage_weight - 1) * truth
        entropy = -(weight * (truth * log[..., 1] + (1 - truth) * log[..., 0])).sum() / weight.sum()
        probability = log[..., 1].exp()
        return entropy, 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)

    def _batch(self, names: list[str], *, whole: bool) -> _Images:
        images, damages, subjects, corners = [], [], [], []
        for name in names:
            turns, mirror = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)
            rendered = bool(torch.rand(()) < 0.5)
            corner = None
            for twin in (name, f"{name}{FLAWLESS}") if self._pairs else (name,):
                view = self._pack_of[twin][twin]
                image, foreground, mask = _planes(view, turns, mirror=mirror, rendered=rendered)
                area, damage = self._patches(foreground), self._patches(mask)
                damage = damage / area.clamp_min(1)
                side, patch = len(damage), image.shape[-1] // len(damage)
                crop = side if whole else self._settings.crop
                if corner is None:
                    corner = (0, 0) if whole else self._corner(damage, area / patch**2)
                row, column = corner
                images.append(image[:, row * patch : (row + crop) * patch, column * patch : (column + crop) * patch])
                damages.append(damage[row : row + crop, column : column + crop].flatten())
                subjects.append(self._texts.subjects.index(view.noun))
                corners.append(corner)
        stacked = torch.stack(images).float() / 255
        return _Images(stacked, torch.stack(damages), torch.tensor(subjects), torch.tensor(corners))

    def _patches(self, plane: Tensor) -> Tensor:
        """Sum of the pixels of each patch."""
        rows, columns = self._clip.visual.grid_size
        return plane.view(rows, plane.shape[0] // rows, columns, -1).sum((1, 3)).float()

    def _corner(self, damage: Tensor, foreground: Tensor) -> tuple[int, int]:
        """Choose a crop that holds a damaged patch, or any patch of the part, at a random place in it."""
        places = (damage > DAMAGED).nonzero()
        if not len(places) or torch.rand(()) >= self._settings.damaged_share:
            places = (foreground > 0.5).nonzero()
        if not len(places):
            places = torch.zeros((1, 2), dtype=torch.long)
        place = places[torch.randint(len(places), ())]
        corner = (place - torch.randint(self._settings.crop, (2,))).clamp(0, damage.shape[0] - self._settings.crop)
        return int(corner[0]), int(corner[1])


def _highest(logits: Tensor, damaged: Tensor) -> dict[str, Tensor]:
    """Terms about the mean of the highest patches of each image.

    Args:
        logits: (i, p) of damage; a damaged image and its twin lie next to each other.
        damaged: (i,) 0 or 1; of the first of a pair 0 where its damage lies outside of the crop.
    """
    highest = logits.topk(HIGHEST_PATCHES, dim=1).values.mean(1)
    first, second = highest.view(-1, 2).T
    shown = damaged.view(-1, 2)[:, 0].float()
    rank = (functional.softplus(second - first) * shown).sum() / shown.sum().clamp_min(1)
    return {"highest": functional.binary_cross_entropy_with_logits(highest, damaged.float()), "rank": rank}


def _planes(view: TrainingView, turns: int, *, mirror: bool, rendered: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rendered or depth image (3, h, w) uint8, with its foreground and mask, all turned alike."""
    image = turn_image(torch.from_numpy(view.rendered if rendered else view.depth), turns, mirror=mirror)
    foreground, mask = (
        turn_image(torch.from_numpy(plane)[None], turns, mirror=mirror)[0] for plane in (view.foreground, view.mask)
    )
    return (turn_normals(image, foreground, turns, mirror=mirror) if rendered else image), foreground, mask


def turn_image(image: Tensor, turns: int, *, mirror: bool) -> Tensor:
    """Mirror (c, h, w) left to right, if asked, then turn it counter-clockwise by quarter turns."""
    return torch.rot90(image.flip(2) if mirror else image, turns, (1, 2)).contiguous()


def turn_normals(image: Tensor, foreground: Tensor, turns: int, *, mirror: bool) -> Tensor:
    """Turn the normals that a turned image (3, h, w) uint8 in the encoding ``normals`` shows, as the image was."""
    x, y, towards = image
    x = 255 - x if mirror else x
    for _ in range(turns):
        x, y = y, 255 - x
    return torch.where(foreground, torch.stack([x, y, towards]), 255)


def embed_crops(visual: VisualEncoder, images: Tensor, corners: Tensor) -> Tensor:
    """Embed square crops (i, 3, h, w) with the positions that they have in the whole image.

    Args:
        visual: the vision transformer.
        images: normalised.
        corners: (i, 2) row and column of the first patch of each crop.

    Returns:
        (i, t, width), class token first; for whole images what the transformer's own embedding gives.
    """
    patches = visual.conv1(images)
    side = patches.shape[-1]
    rows, columns = visual.grid_size
    grid = visual.positional_embedding[1:].view(rows, columns, -1)
    steps = torch.arange(side)
    positions = grid[(corners[:, 0, None] + steps)[:, :, None], (corners[:, 1, None] + steps)[:, None, :]]
    class_token = (visual.class_embedding + visual.positional_embedding[0]).expand(len(images), 1, -1)
    tokens = patches.flatten(2).transpose(1, 2) + positions.flatten(1, 2)
    return visual.ln_pre(torch.cat([class_token, tokens], 1))


def train_backbone(folder: Path, settings: BackboneTraining) -> Path:
    """Train from scratch, or go on from the checkpoints in ``folder``; return the weights' file there (float16)."""
    torch.manual_seed(settings.seed)
    clip = build_embedded(normalised=True).train()
    image_size = int(clip.visual.image_size[0])
    key = run_key({**dataclasses.asdict(settings), "image_size": image_size})
    first = folder / f"first-{key}.safetensors"
    if not first.is_file():
        _train_first(clip, folder, settings, key, first)
    clip = build_embedded().train()
    clip.load_state_dict({name: value.float() for name, value in load_file(first).items()})
    curves = {"single": pd.read_csv(first.with_suffix(".csv"))}
    states = []
    for part in _pair_parts(settings):
        curves[part.name] = _train_pairs(clip, folder, settings, key, part)
        states.append({name: value.detach().clone() for name, value in clip.state_dict().items()})
    clip.load_state_dict(mean_weights(states[-AVERAGED:]))
    curve = pd.concat(curves, names=["part_of_training", "row"]).reset_index("part_of_training")
    write_csv(folder / "curve.csv", curve)
    weights = folder / "weights.safetensors"
    _save(clip, weights)
    return weights


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the weights that one training has passed through: one model, better on other data than each of them.

    Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018.
    """
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def _train_first(clip: ClipModel, folder: Path, settings: BackboneTraining, key: str, target: Path) -> None:
    """Everything before the pairs."""
    clip.logit_scale.requires_grad_(False).fill_(-math.log(TEMPERATURE))
    clip.token_embedding.weight.detach().mul_(EMBEDDING_SCALE)
    image_size = int(clip.visual.image_size[0])
    files = {kind: folder / f"{kind}-{key}.h5" for kind in ("views", "ridged")}
    for kind, index in (("views", training_index), ("ridged", ridged_index)):
        if not files[kind].is_file():
            write_training_views(files[kind], index(settings), settings, image_size)
    with Pack(files["views"], TrainingView) as pack, Pack(files["ridged"], TrainingView) as ridged:
        optimizer = _optimizer(clip, settings.learning_rate, settings)
        steps = math.ceil(len(pack) / settings.batch_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, steps, settings)
        )
        for names, epochs, state in (
            (list(pack.names), settings.epochs - settings.ridged_epochs, STATE),
            (_with_ridged(pack.names, ridged.names, settings.seed), settings.epochs, RIDGED_STATE),
        ):
            curve = train(
                {"clip": clip},
                optimizer,
                names,
                _objective(clip, (pack, ridged), settings, state_weight=state),
                epochs=epochs,
                batch_size=settings.batch_size,
                seed=settings.seed,
                checkpoint=Checkpoint(folder, "backbone", key),
                scheduler=scheduler,
                clip_norm=1.0,
            )
    clip.visual.conv1 = clip.visual.conv1.folded()
    write_csv(target.with_suffix(".csv"), curve)  # before the weights, which stand for a finished training
    _save(clip, target)


@dataclass(frozen=True)
class _PairPart:
    """A part of the training on pairs.

    Attributes:
        name: of its checkpoint and of its rows in the learning curve.
        epochs: passes over its pairs.
        learning_rate: peak; it falls by a cosine to zero.
        seed: of order and augmentation.
        ranked: with the terms about the highest patches.
        wide: with the pairs that the last part adds.
    """

    name: str
    epochs: int
    learning_rate: float
    seed: int
    ranked: bool = False
    wide: bool = False


def _pair_parts(settings: BackboneTraining) -> tuple[_PairPart, ...]:
    return (
        _PairPart("pairs", settings.pair_epochs, settings.pair_learning_rate, settings.seed + 1),
        _PairPart("ranked", settings.ranked_epochs, settings.ranked_learning_rate, settings.seed + 2, ranked=True),
        _PairPart("wide", settings.wide_epochs, settings.wide_learning_rate, settings.seed + 3, ranked=True, wide=True),
    )


def _train_pairs(
    clip: ClipModel, folder: Path, settings: BackboneTraining, key: str, part: _PairPart
) -> pd.DataFrame:
    """Go on with the pairs, without batch norms; return the learning curve."""
    clip.logit_scale.requires_grad_(False)
    image_size = int(clip.visual.image_size[0])
    sources = [("pairs", pair_index, settings)]
    if part.wide:
        sources.append(("wide", wide_pair_index, wide_settings(settings)))
    files = [folder / f"{name}-{key}.h5" for name, *_ in sources]
    for file, (_, index, generating) in zip(files, sources, strict=True):
        if not file.is_file():
            write_training_views(file, index(settings), generating, image_size, pairs=True)
    with ExitStack() as stack:
        packs = [stack.enter_context(Pack(file, TrainingView)) for file in files]
        names = [name for pack in packs for name in pack.names if not name.endswith(FLAWLESS)]
        batch_size = max(1, settings.batch_size // 2)
        optimizer = _optimizer(clip, part.learning_rate, settings)
        steps = part.epochs * math.ceil(len(names) / batch_size)
        warm = max(1, steps // 40)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)))
        )
        return train(
            {"clip": clip},
            optimizer,
            names,
            _objective(clip, packs, settings, state_weight=RIDGED_STATE, pairs=True, ranked=part.ranked),
            epochs=part.epochs,
            batch_size=batch_size,
            seed=part.seed,
            checkpoint=Checkpoint(folder, part.name, key),
            scheduler=scheduler,
            clip_norm=1.0,
        )


def _optimizer(clip: ClipModel, rate: float, settings: BackboneTraining) -> torch.optim.Optimizer:
    trained = [parameter for parameter in clip.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98))


def _objective(
    clip: ClipModel,
    packs: Sequence[Pack[TrainingView]],
    settings: BackboneTraining,
    *,
    state_weight: float,
    pairs: bool = False,
    ranked: bool = False,
) -> Objective:
    texts = Texts([FAMILIES[name].noun for name in categories("backbone")], embedded_tokenizer())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return Objective(
        clip, texts, packs, settings, mean, std, state_weight=state_weight, pairs=pairs, ranked=ranked
    )


def _save(clip: ClipModel, path: Path) -> None:
    with atomic_path(path) as temporary:
        save_file({name: value.half().contiguous() for name, value in clip.state_dict().items()}, temporary)


def _with_ridged(names: Sequence[str], ridged: Sequence[str], seed: int) -> list[str]:
    """The ridged views in the place of as many others, so that an epoch stays as long."""
    random = np.random.default_rng(seed)
    kept = random.choice(len(names), max(0, len(names) - len(ridged)), replace=False)
    return [*(names[place] for place in sorted(kept)), *ridged]


def learning_rate_factor(step: int, steps: int, settings: BackboneTraining) -> float:
    """Share of the peak rate at a step: a short linear rise, a cosine, and a line to zero in the last epochs.

    Args:
        step: from 0 on.
        steps: of one epoch.
        settings: of the training.
    """
    warm, half = max(1, settings.cosine_epochs * steps // 30), settings.cosine_epochs * steps
    if step < warm:
        return (step + 1) / warm
    last, end = (settings.epochs - settings.ridged_epochs) * steps, settings.epochs * steps
    fall = 0.5 * (1 + math.cos(math.pi * (min(step, last) - warm) / max(1, half - warm)))
    return fall * (1 if step <= last else max(0.0, (end - step) / (end - last)))


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
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    make_deterministic()
    install_weights(train_backbone(Path(".gsclip/backbone"), BackboneTraining()))


if __name__ == "__main__":
    main()
