"""The procedural data set: scans of parts, flawless and damaged, from numbers alone.

A scan depends on (seed, family, index, defect) and nothing else. Part and pose depend on (seed, family, index), so
that scans of one index differ in the defect and in the noise alone; where no view of that part shows the defect, the
next part drawn from the same numbers takes its place.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import distance_transform_cdt, uniform_filter

from gsclip.data.index import INDEX_COLUMNS, validate_index
from gsclip.data.procedural.camera import Scene, compose
from gsclip.data.procedural.casting import single_thread
from gsclip.data.procedural.defects import (
    KINDS,
    TRAINING_KINDS,
    Site,
    Surface,
    applicable_kinds,
    choose_site,
    make_defect,
)
from gsclip.data.procedural.families import FAMILIES
from gsclip.data.procedural.fitting import fit_size
from gsclip.data.procedural.part import Part
from gsclip.data.procedural.sensor import Hits, changed, measure, retrace, trace
from gsclip.data.sample import Scan
from gsclip.errors import GsclipError, InputError

DATASET = "procedural"
GRID = (240, 240)
GOOD_SHARE = 0.4
MASK_SHARE = (0.004, 0.04)  # of the part's pixels
AIM_SHARE = (0.006, 0.026)  # drawn from, evenly in the logarithm
MIN_POINTS_SHARE = 0.002  # of the part's points: defects that a damaged scan shows at least
DRAWS = 8  # parts that tell which kinds of defect a family can have
SCENES = 12  # parts and poses that are tried before a defect is given up
SITES = 5  # places in each


def generate_scan(family: str, index: int, defect: str | None, seed: int, *, grid: tuple[int, int] = GRID) -> Scan:
    """One scan of the data set.

    Args:
        family: of :data:`gsclip.data.procedural.families.FAMILIES`.
        index: number of the part within the family.
        defect: of :func:`kinds` or :data:`~gsclip.data.procedural.defects.TRAINING_KINDS`, or ``None`` for a flawless
            part.
        seed: of the data set.
        grid: (h, w) in pixels.

    Returns:
        Points in metres, sensor frame, and the exact ground truth: the pixels whose ray meets something else than
        on the flawless part, by more than 0.15 mm along it, with or without a measurement there.

    Raises:
        InputError: for an unknown family, for a kind of defect that the family cannot have, for negative numbers.
        GsclipError: when no view shows a defect of the right size, or none of the parts drawn can have it: families
            without a fixed design, which train the backbone alone, hold parts that cannot have every kind.
    """
    return _generate(family, index, defect, seed, grid)[1]


def generate_pair(
    family: str, index: int, defect: str, seed: int, *, grid: tuple[int, int] = GRID
) -> tuple[Scan, Scan]:
    """The same part in the same pose, flawless and damaged, each with its own noise.

    The second is :func:`generate_scan` of the same arguments; see there.
    """
    return _generate(family, index, defect, seed, grid)


@cache
def kinds(family: str) -> tuple[str, ...]:
    """Kinds of defect that parts of a family can have, not each of them every kind.

    Raises:
        InputError: for an unknown family.
    """
    if family not in FAMILIES:
        raise InputError(f"family {family!r}", "is not known", f"choose one of {', '.join(FAMILIES)}")
    parts = [FAMILIES[family].build(np.random.default_rng(number)) for number in range(DRAWS)]
    possible = {kind for part in parts for kind in applicable_kinds(part)}
    return tuple(kind for kind in KINDS if kind in possible)


def procedural_index(
    categories: Sequence[str],
    samples_per_category: int,
    seed: int,
    split: str,
    only: str | None = None,
    good_share: float = GOOD_SHARE,
) -> pd.DataFrame:
    """List the samples of a data set: a share of them good, the others of each kind in turn.

    Args:
        categories: families, each once.
        samples_per_category: at least 1.
        seed: decides which kind comes first in each category; to be given to :func:`generate_from_row` too.
        split: ``train``, ``validation`` or ``test``.
        only: the one kind of defect of all damaged samples; by default all kinds of each family.
        good_share: share of good samples.

    Returns:
        Rows as in :mod:`gsclip.data.index`.

    Raises:
        InputError: for an unknown family, no families, a repeated one, or a number below 1.
    """
    where = "procedural data set"
    if samples_per_category < 1:
        raise InputError(where, f"{samples_per_category} samples per category", "ask for at least 1")
    if not categories or len(set(categories)) != len(categories):
        raise InputError(where, "no categories, or one named twice", "name each family once")
    rows = []
    for category in categories:
        own = kinds(category)
        possible = own if only is None else (only,)
        start = int(_stream(seed, category).integers(len(possible)))
        damaged = 0
        for number in range(samples_per_category):
            # Spread evenly, so that any number of samples holds both.
            good = int((number + 1) * good_share + 0.5) > int(number * good_share + 0.5)
            defect = "good" if good else possible[(start + damaged) % len(possible)]
            damaged += not good
            rows.append(
                {
                    "name": f"{category}/{split}/{defect}/{number:03d}",
                    "dataset": DATASET,
                    "category": category,
                    "split": split,
                    "defect": defect,
                    "label": int(not good),
                    "scan_path": "",
                    "mask_path": "",
                    "color_path": "",
                }
            )
    return validate_index(pd.DataFrame(rows, columns=list(INDEX_COLUMNS)), where)


def generate_from_row(row: pd.Series, seed: int, *, grid: tuple[int, int] = GRID) -> Scan:
    """Generate the scan of one row of :func:`procedural_index`.

    Args:
        row: one row of the index; splits differ in their parts, even at one number.
        seed: of the data set.
        grid: (h, w) in pixels.

    Raises:
        InputError: when the row is not one of this data set.
    """
    return generate_pair_from_row(row, seed, grid=grid)[1]


def generate_pair_from_row(row: pd.Series, seed: int, *, grid: tuple[int, int] = GRID) -> tuple[Scan, Scan]:
    """The flawless twin and the scan of one row of :func:`procedural_index`: the same twice where it is good.

    Args, Raises: those of :func:`generate_from_row`.
    """
    number = str(row["name"]).rsplit("/", 1)[-1]
    if row["dataset"] != DATASET or not number.isdigit():
        raise InputError(str(row["name"]), "is no sample of the procedural data set", "read it with its own reader")
    split_seed = int(_stream(seed, str(row["split"])).integers(2**31))
    defect = None if row["label"] == 0 else row["defect"]
    return _generate(row["category"], int(number), defect, split_seed, grid)


def _generate(family: str, index: int, defect: str | None, seed: int, grid: tuple[int, int]) -> tuple[Scan, Scan]:
    """The flawless and the damaged scan; the same twice where there is no defect."""
    possible = kinds(family)
    if defect is not None and defect not in (*possible, *TRAINING_KINDS):
        problem = "cannot be had by this family" if defect in KINDS else "is not known"
        raise InputError(f"{family}, defect {defect!r}", problem, f"choose one of {', '.join(possible)}")
    with single_thread():
        for attempt in range(SCENES):
            part = FAMILIES[family].build(_stream(seed, family, index, attempt, "part"))
            if defect in KINDS and defect not in applicable_kinds(part):
                continue
            scene = compose(part, _stream(seed, family, index, attempt, "pose"), grid)
            before = trace(part.field(), scene)
            rng = _stream(seed, family, index, "good", "sensor")
            good = Scan(measure(scene, before, rng), np.zeros(grid, dtype=bool))
            if defect is None:
                return good, good
            damaged = _damaged(part, scene, before, defect, (seed, family, index, attempt))
            if damaged is not None:
                return good, damaged
    raise GsclipError(f"{family} {index}, seed {seed}: no view of {SCENES} shows a defect of the kind {defect}")


def _damaged(part: Part, scene: Scene, before: Hits, defect: str, key: tuple[int, str, int, int]) -> Scan | None:
    """A scan with a defect of the right size, or ``None`` where a few tries give none."""
    rng = _stream(*key, defect)
    surface = visible_surface(part, scene, before)
    for _ in range(SITES):
        aim = float(np.exp(rng.uniform(*np.log(AIM_SHARE))))
        after = _strike(part, scene, before, surface, defect, aim, int(rng.integers(2**31)))
        if after is not None:
            points, mask = measure(scene, after, _stream(*key, defect, "sensor")), changed(before, after)
            shown = mask & after.part & np.isfinite(points[..., 2])
            if shown.sum() >= MIN_POINTS_SHARE * before.part.sum():
                return Scan(points, mask)
    return None


def _strike(
    part: Part, scene: Scene, before: Hits, surface: Surface, defect: str, aim: float, seed: int
) -> Hits | None:
    """What is met with a defect at one place, its size changed until it shows on about the share ``aim``.

    Returns:
        The best try, or ``None`` where the mask of none is of a size allowed.
    """
    pixels = before.part.sum()
    size = 2 * scene.pitch * float(np.sqrt(aim * pixels / np.pi))
    site = choose_site(part, defect, surface, size, np.random.default_rng(seed))
    if site is None:
        return None

    def strike(site: Site) -> tuple[Hits, float]:
        damage = make_defect(part, defect, site, surface, np.random.default_rng(seed + 1))
        after = retrace(damage.field, scene, before, part.field(), damage.centre, damage.reach)
        return after, float(changed(before, after).sum() / pixels)

    return fit_size(site, strike, aim, MASK_SHARE)


def visible_surface(part: Part, scene: Scene, hits: Hits) -> Surface:
    """What a flawless part shows, in the part's frame."""
    origins, directions = scene.part_rays()
    seen = (hits.part & np.isfinite(hits.range)).ravel()
    points = (origins + directions * torch.from_numpy(hits.range.ravel()))[:, seen]
    step = 3 * scene.pitch
    jump = np.zeros(scene.grid, dtype=bool)
    filled = np.where(hits.part, hits.range, scene.table)
    for axis in (0, 1):
        jump |= np.abs(np.roll(filled, 1, axis) - filled) > step
    interior = distance_transform_cdt(hits.part & ~jump).astype(np.float64)
    mean = np.stack([uniform_filter(n.reshape(scene.grid), 9, mode="constant") for n in hits.normals])
    covered = uniform_filter(hits.part.astype(np.float64), 9, mode="constant")
    rough = 1.0 - np.linalg.norm(mean, axis=0) / np.maximum(covered, 1e-6)
    return Surface(
        points=points.numpy().T.astype(np.float64),
        normals=hits.normals[:, seen].T.astype(np.float64),
        interior=interior.ravel()[seen],
        rough=np.clip(rough, 0.0, None).ravel()[seen],
        elements=part.element_numbers(points, max(0.15, 0.3 * part.blend)).numpy(),
        pitch=scene.pitch,
        view=-scene.rotation.T @ (scene.position / np.linalg.norm(scene.position)),
    )


def _stream(seed: int, *keys: str | int) -> np.random.Generator:
    """Random numbers of their own for each key, the same on every machine."""
    if seed < 0 or any(isinstance(key, int) and key < 0 for key in keys):
        raise InputError("procedural data set", "a seed or an index is negative", "count from 0")
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
