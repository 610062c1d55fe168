"""Labelled data from good parts: reads meshes and scans, damages them, writes a data set that appears as a whole."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.data import checks
from gsclip.data.background import remove_background
from gsclip.data.companions import is_companion
from gsclip.data.datasets import CALIBRATION_SPLIT
from gsclip.data.own_parts import GOOD, LABELS_FILE, SPLITS
from gsclip.data.procedural.casting import single_thread
from gsclip.data.scan_files import MESH_POINTS, MIN_POINTS, is_scan_file, read_cloud_file, read_scan
from gsclip.data.synthesis import clouds, grids, views
from gsclip.data.synthesis.solids import (
    DIAGONAL,
    Frame,
    MeshSolid,
    area_per_point,
    as_part,
    cloud_field,
    facing_both_ways,
    frame_of,
    noise_of,
    outward_normals,
)
from gsclip.data.synthesis.strikes import KINDS, Ranges, changed_from, damaged
from gsclip.errors import GsclipError, InputError, unexpected
from gsclip.storage import atomic_directory, sha256, write_csv, write_json

RECORD_FILE = "synthesis.json"
VIEWS = ("full", "front")
SCENES = 6  # poses before the camera that are tried before a kind is given up
SHOWN_POINTS = 8  # measured points of the part that a scan's mask has at least
BOTH_WAYS = 0.1  # of the points of an open mesh: more neighbours with opposite normals leave it without an outside
MARKED_POINTS = 10  # that the smallest defect asked for would have at least
CLEAR = 1.5  # times what counts as changed: so deep the shallowest defect is at least
_MESH_FILES = (".ply", ".obj", ".stl", ".off")


@dataclass(frozen=True)
class Settings:
    """What is made of each part.

    Attributes:
        view: ``full``: clouds from all around; ``front``: scans of one side by the simulated sensor. Organised scans
            keep their own view.
        kinds: of :data:`~gsclip.data.synthesis.strikes.KINDS`.
        per_kind: damaged samples of each kind.
        good: good samples; of clouds and organised scans, which cannot be scanned anew, one at most.
        size: smallest and largest diameter of a disc with the area of the marked surface; of the diagonal of the box
            about the part.
        strength: smallest and largest displacement, where it is largest; of the same diagonal.
        points: of each cloud sampled on a mesh.
        side: pixels along the side of the simulated sensor's grid.
        split: of the data set that is made.
        validation: share of the parts that go to the split ``validation`` instead, with all of their samples.
        seed: decides everything that is drawn.
    """

    view: str = "full"
    kinds: tuple[str, ...] = tuple(KINDS)
    per_kind: int = 1
    good: int = 1
    size: tuple[float, float] = (0.05, 0.2)
    strength: tuple[float, float] = (0.01, 0.05)
    points: int = MESH_POINTS
    side: int = 240
    split: str = "test"
    validation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values; raises InputError."""
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            problem = f"not known: {', '.join(unknown)}" if unknown else "none named, or one named twice"
            raise InputError("--kinds", problem, f"choose among {', '.join(KINDS)}")
        for name, value, choices in (("--view", self.view, VIEWS), ("--split", self.split, SPLITS)):
            if value not in choices:
                raise InputError(name, f"{value} is not known", f"use {' or '.join(choices)}")
        for name, span, highest in (("--size", self.size, 0.5), ("--strength", self.strength, 0.2)):
            if not 0 < span[0] < span[1] <= highest:
                problem = f"{span[0]:g} to {span[1]:g} is no range"
                raise InputError(name, problem, f"give the smaller number first, between 0 and {highest:g}")
        for name, number, lowest in (
            ("--per-kind", self.per_kind, 0),
            ("--good", self.good, 0),
            ("--points", self.points, 1000),
            ("--side", self.side, 64),
            ("--seed", self.seed, 0),
        ):
            if number < lowest:
                raise InputError(name, f"{number} is too small", f"give at least {lowest}")
        if not 0 <= self.validation < 1:
            raise InputError("--validation", f"{self.validation:g} is no share", "give a number from 0 to below 1")
        if self.validation and self.split == CALIBRATION_SPLIT:
            raise InputError("--validation", f"all parts go to the split {self.split}", "choose another --split")
        if self.per_kind + self.good == 0:
            raise InputError("--per-kind", "no samples are asked for", "give a number above 0, or one of --good")

    def ranges(self) -> Ranges:
        """The ranges in millimetres of the scaled part."""
        return Ranges(
            size=(self.size[0] * DIAGONAL, self.size[1] * DIAGONAL),
            depth=(self.strength[0] * DIAGONAL, self.strength[1] * DIAGONAL),
        )


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes:
        points: (n, 3) or (h, w, 3) in the user's unit; float64 where the source is; NaN without a measurement.
        mask: (n,) or (h, w) bool, true where the part is changed.
        size: diameter of a disc with the marked area, of the part's diagonal; 0 of good samples.
        strength: largest displacement, of the part's diagonal; 0 of good samples.
    """

    points: np.ndarray
    mask: np.ndarray
    size: float = 0.0
    strength: float = 0.0


Maker = Callable[[str, int], Sample | None]
"""From a kind, or ``good``, and a number to the sample; ``None`` where the part does not take the kind."""


@dataclass
class _Made:
    """What has been made so far, and what was rejected: tables of the data set, and rows of its record."""

    labels: list[dict[str, str]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, str]] = field(default_factory=list)
    rejected: list[GsclipError] = field(default_factory=list)
    rejected_rows: list[dict[str, str]] = field(default_factory=list)
    counts: Counter[Path] = field(default_factory=Counter)

    def reject(self, path: Path, name: str, error: GsclipError) -> None:
        """Note why a source, or a kind of defect on it, is left out."""
        error = checks.named(error, checks.PREPARATION)
        self.rejected.append(error)
        self.rejected_rows.append({**checks.rejected_row(name, str(path), error), "path": str(path)})


def synthesize(folder: Path, output: Path, settings: Settings) -> list[GsclipError]:
    """Make a labelled data set from the good parts in a folder.

    A mesh in the folder itself is a category of its own; other files belong to the category that their first folder
    names, or to the folder's own name.

    Args:
        folder: holds good meshes and scans, in sub-folders or not.
        output: folder for the data set; it appears whole or not at all, and replaces an earlier one.
        settings: what is made.

    Returns:
        Why sources were rejected, or which kinds they do not take; listed in ``rejected.csv`` too.

    Raises:
        InputError: when there are no scans, when the output holds anything else than what an earlier call wrote, when
            there are too few parts for two splits, or when nothing could be made.
    """
    _check_output(output)
    sources = find_sources(folder, output)
    splits = _splits_of_usable(folder, sources, settings)
    each = (settings.per_kind * len(settings.kinds)) + settings.good
    made = _Made()
    with (
        single_thread(),
        atomic_directory(output) as temporary,
        tqdm(total=each * len(sources), desc="synthesize", unit="sample", mininterval=2) as progress,
    ):
        for number, (path, split) in enumerate(zip(sources, splits, strict=True), start=1):
            _make_samples(temporary, path, folder, replace(settings, split=split, validation=0.0), made, progress)
            progress.update(each * number - progress.n)
        if not made.labels:
            raise InputError(folder, f"nothing could be made of {len(sources)} files", str(made.rejected[0]))
        for split in sorted(set(splits) - {row["split"] for row in made.labels}):
            problem, remedy = f"no sample of the split {split} could be made", "give more parts, or another --seed"
            made.reject(folder, folder.name, InputError(folder, problem, remedy))
        write_csv(temporary / LABELS_FILE, pd.DataFrame(made.labels))
        write_csv(temporary / checks.REJECTED_FILE, checks.rejected_table(made.rejected_rows))
        write_json(
            temporary / RECORD_FILE,
            {"parameters": dataclasses.asdict(settings), "sources": made.sources, "samples": made.samples},
        )
        _check_output(output)  # again: making takes minutes, in which files may have come
    return made.rejected


def _make_samples(
    root: Path, path: Path, folder: Path, settings: Settings, made: _Made, progress: tqdm[Any]
) -> None:
    """Make and write all samples of one source, good ones first; rejections go to ``made``."""
    name = path.relative_to(folder).as_posix()
    try:
        kind_of_source, make = open_source(path, name, settings)
    except OSError:  # of the disk: the next one would fail, too
        raise
    except Exception as error:  # one broken file never stops the others
        made.reject(path, name, unexpected(path, error))
        return
    category = category_of(path, folder, kind_of_source)
    made.sources.append({"path": name, "sha256": sha256(path), "kind": kind_of_source, "category": category})
    good = settings.good if kind_of_source == "mesh" else min(settings.good, 1)
    for kind, wanted in [(GOOD, good), *((kind, settings.per_kind) for kind in settings.kinds)]:
        failed = 0
        for number in range(wanted):
            try:
                sample = make(kind, number)
            except OSError:
                raise
            except Exception as error:
                made.reject(path, name, unexpected(f"{path}, {kind}", error))
                break
            finally:
                progress.update()
            if sample is None:
                failed += 1
                continue
            place = Path(category, settings.split, kind)
            scan, mask = _write(root, place, made.counts[place], sample)
            made.counts[place] += 1
            made.labels.append(
                {"scan": scan, "category": category, "split": settings.split, "defect": kind, "mask": mask}
            )
            made.samples.append(
                {"scan": scan, "mask": mask, "source": name, "size": sample.size, "strength": sample.strength}
            )
        if failed:
            problem = f"takes no {kind} of that size and strength ({failed} of {wanted} samples not made)"
            made.reject(path, name, InputError(path, problem, "change --size or --strength, or leave the kind out"))


def _splits_of_usable(folder: Path, sources: Sequence[Path], settings: Settings) -> list[str]:
    """Split of each source: :func:`splits_of` those that can be used, so that broken ones take no place.

    Where there are not two of them, the split for validation gets broken ones alone.

    Raises:
        InputError: when there is one source alone, and a share of it is asked for.
    """
    if not settings.validation or len(sources) < 2:
        return splits_of(folder, sources, settings)
    usable = [path for path in sources if _is_usable(path, path.relative_to(folder).as_posix(), settings)]
    if len(usable) < 2:
        return [settings.split if path in usable else CALIBRATION_SPLIT for path in sources]
    drawn = dict(zip(usable, splits_of(folder, usable, settings), strict=True))
    return [drawn.get(path, settings.split) for path in sources]


def _is_usable(path: Path, name: str, settings: Settings) -> bool:
    try:
        open_source(path, name, settings)
    except OSError:  # of the disk: the next one would fail, too
        raise
    except Exception:  # told when its samples are made
        return False
    return True


def splits_of(folder: Path, sources: Sequence[Path], settings: Settings) -> list[str]:
    """Split of each source: the share for validation is spread evenly over the list, from a place that the seed draws.

    Both splits get one source at least.

    Raises:
        InputError: when there is one source alone, and a share of it is asked for.
    """
    if not settings.validation:
        return [settings.split] * len(sources)
    count = len(sources)
    if count < 2:
        raise InputError(folder, "one part alone cannot be in two splits", "give more parts, or leave --validation out")
    chosen = min(max(round(settings.validation * count), 1), count - 1)
    start = int(_stream(settings.seed, CALIBRATION_SPLIT).integers(count))
    steps = [(start + place * chosen) // count for place in range(count + 1)]  # goes up by one at each that is chosen
    return [CALIBRATION_SPLIT if step < following else settings.split for step, following in pairwise(steps)]


def find_sources(folder: Path, output: Path | None = None) -> list[Path]:
    """Files of a folder that are named as scans, sorted.

    Hidden ones, those in the output, if there is one, and masks and colour images of scans
    (:mod:`gsclip.data.companions`) are left out.

    Raises:
        InputError: when the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise InputError(folder, "folder of good parts not found", "name the folder that holds meshes or scans")
    inside = output.resolve() if output else None
    found = sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
        and is_scan_file(path)
        and not is_companion(path)
        and not (inside and path.resolve().is_relative_to(inside))
    )
    if not found:
        raise InputError(folder, "the folder holds no meshes or scans", "see docs/data.md for the kinds of files")
    return found


def category_of(path: Path, folder: Path, kind_of_source: str) -> str:
    """Category of a source: its first folder, a loose mesh's own name, or the name of the folder of all."""
    parts = path.relative_to(folder).parts
    if len(parts) > 1:
        return parts[0]
    return path.stem if kind_of_source == "mesh" else folder.resolve().name


def open_source(path: Path, name: str, settings: Settings) -> tuple[str, Maker]:
    """Read a good part.

    Args:
        path: its file.
        name: what the random numbers depend on, beside seed, kind and number.
        settings: what is made.

    Returns:
        ``mesh``, ``cloud`` or ``organised``, and what makes the samples.

    Raises:
        InputError: when the file is broken, or does not suit the settings.
    """
    scan = read_scan(path)  # checks meshes, too
    if scan.organised:
        return "organised", _of_grid(path, name, scan.points, settings)
    if path.suffix.lower() in _MESH_FILES:
        content = read_cloud_file(path)
        if content.triangles is not None:
            triangles = content.triangles[np.isfinite(content.points[content.triangles]).all(axis=(1, 2))]
            return "mesh", _of_mesh(path, name, MeshSolid(content.points, triangles), settings)
    points = scan.points[np.isfinite(scan.points).all(axis=1)]
    return "cloud", _of_cloud(path, name, points, settings)


def _of_mesh(path: Path, name: str, solid: MeshSolid, settings: Settings) -> Maker:
    if settings.view == "front":
        if not solid.closed:
            raise InputError(path, "the mesh is not closed, so that its far side would show", "use --view full")
        return _of_view(name, solid, settings)
    if not solid.closed and facing_both_ways(*solid.sample(settings.points, np.random.default_rng(0))) > BOTH_WAYS:
        problem = "the mesh is not closed and its faces point both ways, so that it has no inside"
        raise InputError(path, problem, "repair it, or give a scan of the part")
    ranges = settings.ranges()

    def make(kind: str, number: int) -> Sample | None:
        points, normals = solid.sample(settings.points, _stream(settings.seed, name, kind, number, "points"))
        base = solid.frame.leave(points).astype(np.float32)
        if kind == GOOD:
            return Sample(base, np.zeros(len(base), dtype=bool))
        points = solid.frame.enter(base)
        areas = area_per_point(points)
        field = solid.field if solid.closed else cloud_field(points, normals, math.sqrt(float(np.median(areas))))
        cloud = clouds.Cloud(points, normals, field, areas, noise=0.0, even=False, closed=solid.closed)
        _check_density(path, cloud.spacing**2, ranges)
        return _struck_cloud(base, solid.frame, cloud, kind, ranges, _stream(settings.seed, name, kind, number))

    return make


def _of_view(name: str, solid: MeshSolid, settings: Settings) -> Maker:
    ranges, part, grid = settings.ranges(), as_part(solid.field), (settings.side, settings.side)

    def make(kind: str, number: int) -> Sample | None:
        for attempt in range(SCENES):
            view = views.make_view(part, _stream(settings.seed, name, number, attempt, "pose"), grid)
            sensor = _stream(settings.seed, name, kind, number, attempt, "sensor")
            if kind == GOOD:
                return Sample(_in_users_unit(view.scan(view.hits, sensor), solid.frame), np.zeros(grid, dtype=bool))
            rng = _stream(settings.seed, name, kind, number, attempt)
            found = damaged(part, kind, view.draw_surface, views.show(view, ranges.depth), ranges, rng)
            if found is None:
                continue
            points = view.scan(found.hits, sensor)
            if (found.mask & found.hits.part & np.isfinite(points).all(axis=2)).sum() >= SHOWN_POINTS:
                return _sample(_in_users_unit(points, solid.frame), found.mask, found.area, found.depth)
        return None

    return make


def _of_cloud(path: Path, name: str, base: np.ndarray, settings: Settings) -> Maker:
    if settings.view == "front":
        raise InputError(path, "a cloud has no faces that hide what lies behind them", "use --view full, or a mesh")
    ranges, frame = settings.ranges(), frame_of(base)
    points = frame.enter(base)
    normals, areas = outward_normals(points), area_per_point(points)
    share = float(np.median(areas))
    if not share > 0:
        raise InputError(path, "most points coincide", "export the cloud without duplicates")
    noise = noise_of(points)
    _check_density(path, share, ranges)
    _check_noise(path, noise, ranges)
    field = cloud_field(points, normals, math.sqrt(share))
    cloud = clouds.Cloud(points, normals, field, areas, noise, even=True, closed=False)

    def make(kind: str, number: int) -> Sample | None:
        if kind == GOOD:
            return Sample(base, np.zeros(len(base), dtype=bool))
        return _struck_cloud(base, frame, cloud, kind, ranges, _stream(settings.seed, name, kind, number))

    return make


def _of_grid(path: Path, name: str, scan: np.ndarray, settings: Settings) -> Maker:
    part = remove_background(scan).part
    if part.sum() < MIN_POINTS:
        raise InputError(path, f"only {int(part.sum())} points on the part", "give a scan with the part whole in view")
    ranges, grid = settings.ranges(), grids.make_grid(scan, part)
    _check_density(path, grid.share, ranges)
    _check_noise(path, grid.noise, ranges)
    solid, show = as_part(grid.field), grids.show(grid, ranges.depth)

    def make(kind: str, number: int) -> Sample | None:
        if kind == GOOD:
            return Sample(scan, np.zeros(part.shape, dtype=bool))
        rng = _stream(settings.seed, name, kind, number)
        found = damaged(solid, kind, lambda _: grid.surface, show, ranges, rng)
        if found is None or (found.mask & np.isfinite(found.scan).all(axis=2)).sum() < SHOWN_POINTS:
            return None
        return _sample(found.scan, found.mask, found.area, found.depth)

    return make


def _struck_cloud(
    base: np.ndarray, frame: Frame, cloud: clouds.Cloud, kind: str, ranges: Ranges, rng: np.random.Generator
) -> Sample | None:
    show = clouds.show(cloud, ranges.depth)
    found = damaged(as_part(cloud.field), kind, clouds.seen_from(cloud), show, ranges, rng)
    if found is None:
        return None
    points = np.concatenate([base[found.kept], frame.leave(found.added).astype(base.dtype)])
    return _sample(points, found.mask, found.area, found.depth)


def _sample(points: np.ndarray, mask: np.ndarray, area: float, depth: float) -> Sample:
    return Sample(points, mask, size=math.sqrt(4 / math.pi * area) / DIAGONAL, strength=depth / DIAGONAL)


def _in_users_unit(points: np.ndarray, frame: Frame) -> np.ndarray:
    return np.asarray(points * np.float32(frame.scale))


def _check_density(path: Path, share: float, ranges: Ranges) -> None:
    if ranges.areas()[0] < MARKED_POINTS * share:
        needed = 2 * math.sqrt(MARKED_POINTS * share / math.pi) / DIAGONAL
        problem = "has too few points for defects that small"
        raise InputError(path, problem, f"give a --size from {needed:.2g} on, or more points")


def _check_noise(path: Path, noise: float, ranges: Ranges) -> None:
    if ranges.depth[0] < CLEAR * changed_from(noise):
        needed = CLEAR * changed_from(noise) / DIAGONAL
        problem = f"its noise, or its thin walls, of {noise / DIAGONAL:.2g} of its size would hide defects that shallow"
        raise InputError(path, problem, f"give a --strength from {needed:.2g} on, or a mesh")


def _check_output(output: Path) -> None:
    """Refuse an output that holds a file that no earlier call wrote: it would be deleted."""
    if output.exists() and not output.is_dir():
        raise InputError(output, "is a file", "name a folder that is to be made")
    files = (path for path in output.rglob("*") if path.is_symlink() or not path.is_dir())
    found = {path.relative_to(output).as_posix() for path in files}
    if found and RECORD_FILE not in found:
        raise InputError(output, "holds something else than synthesised data", "name a new folder")
    foreign = found - _written(output / RECORD_FILE) if found else set()
    if foreign:
        problem = "lies in the folder for the labelled data and was not written by synthesize"
        raise InputError(output / min(foreign), problem, "move it away, or name a new folder")


def _written(record: Path) -> set[str]:
    """Files that a data set consists of, relative to its folder, from its record."""
    try:
        samples = json.loads(record.read_text(encoding="utf-8"))["samples"]
        files = {str(sample[key]) for sample in samples for key in ("scan", "mask")}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(record, "is no record of synthesised data", "name a new folder") from error
    return {RECORD_FILE, LABELS_FILE, checks.REJECTED_FILE, *files}


def _write(root: Path, place: Path, number: int, sample: Sample) -> tuple[str, str]:
    """Write scan and mask; their paths relative to ``root``. Good samples have no mask file."""
    import tifffile
    from PIL import Image

    organised = sample.points.ndim == 3
    scan = place / "xyz" / f"{number:03d}.tiff" if organised else place / f"{number:03d}.ply"
    mask = place / "gt" / f"{number:03d}.png" if organised else place / "masks" / f"{number:03d}.npy"
    (root / scan).parent.mkdir(parents=True, exist_ok=True)
    if organised:  # (0, 0, 0) marks missing measurements, as in MVTec 3D-AD
        tifffile.imwrite(root / scan, np.nan_to_num(sample.points, nan=0.0), photometric="rgb", metadata=None)
    else:
        (root / scan).write_bytes(_ply(sample.points))
    if not sample.mask.any():
        return scan.as_posix(), ""
    (root / mask).parent.mkdir(parents=True, exist_ok=True)
    if organised:
        Image.fromarray(sample.mask.astype(np.uint8) * 255).save(root / mask)
    else:
        np.save(root / mask, sample.mask.astype(np.uint8))
    return scan.as_posix(), mask.as_posix()


def _ply(points: np.ndarray) -> bytes:
    kind = "double" if points.dtype == np.float64 else "float"
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header = "\n".join([*lines, *(f"property {kind} {axis}" for axis in "xyz"), "end_header", ""])
    return header.encode() + np.ascontiguousarray(points, dtype="<f8" if kind == "double" else "<f4").tobytes()


def _stream(seed: int, *keys: str | int) -> np.random.Generator:
    """Random numbers of their own for each key, the same on every machine."""
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
