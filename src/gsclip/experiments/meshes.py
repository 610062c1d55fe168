"""Good meshes and defects on them: parts that the package's generator of training data knows nothing of.

Every mesh is a category, as in Anomaly-ShapeNet: scores of one object are compared with each other. For every kind
of defect it is there twice, as it is and damaged; scanned from one side both in one pose of the kind's own, if the
first pose tried takes it. The defects are made on the mesh (:mod:`gsclip.data.synthesis`), by other code and of other
shapes and sizes than those of the procedural families.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from gsclip.data import own_parts
from gsclip.data.synthesis.files import VIEWS, Settings, find_sources, synthesize
from gsclip.data.synthesis.strikes import KINDS
from gsclip.errors import InputError
from gsclip.experiments.data_sets import EncodedData, encoded
from gsclip.features.backbone import Backbone
from gsclip.params import Params
from gsclip.storage import atomic_directory, write_csv
from gsclip.training.checkpoints import run_key

TITLES = {"front": "meshes, scanned from one side", "full": "meshes, from all sides"}


def mesh_data_sets(params: Params, backbone: Backbone, work: Path) -> list[EncodedData]:
    """Meshes of ``experiments.meshes`` as single-view scans with the sensor's effects, and as clouds from all sides.

    Returns:
        Nothing where no folder is named.
    """
    if not params.experiments.meshes:
        return []
    return [_data_set(view, params, backbone, work) for view in reversed(VIEWS)]


def _data_set(view: str, params: Params, backbone: Backbone, work: Path) -> EncodedData:
    config = params.experiments
    chosen = choose(Path(config.meshes), config.mesh_parts)
    key = run_key({"view": view, "seed": params.prepare.seed}, chosen)
    root = work / "meshes" / key
    if not root.is_dir():
        with atomic_directory(root) as temporary:
            damage(Path(config.meshes), chosen, temporary, Settings(view=view, seed=params.prepare.seed))
    rendered = params.model_copy(update={"render": params.render.model_copy(update={"cameras": view})})
    index = own_parts.own_parts_index(root)
    return encoded(own_parts.DATASET, str(root), index, rendered, backbone, work, TITLES[view])


def choose(folder: Path, count: int) -> list[Path]:
    """At most ``count`` meshes of a folder, spread evenly over all in the order of their paths."""
    found = find_sources(folder)
    places = np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))
    return [found[place] for place in places]


def damage(folder: Path, meshes: list[Path], target: Path, settings: Settings) -> None:
    """Write own parts with ``labels.csv``: each mesh a category, good and damaged once for each kind that it takes.

    Args:
        folder: that the meshes lie in.
        meshes: files.
        target: existing folder for the data set.
        settings: of the samples; ``kinds``, ``per_kind`` and ``good`` are set here; each kind has a seed of its own.

    Raises:
        InputError: when nothing could be made of any mesh.
    """
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        for mesh in meshes:
            category = Path(scratch, "-".join(mesh.relative_to(folder).with_suffix("").parts))
            category.mkdir(exist_ok=True)  # of files that differ in their ending alone
            shutil.copyfile(mesh, category / mesh.name)
        for number, kind in enumerate(KINDS if meshes else ()):
            seed = settings.seed + number
            once = dataclasses.replace(settings, kinds=(kind,), per_kind=1, good=1, seed=seed)
            synthesize(Path(scratch), target / kind, once)
            labels = pd.read_csv(target / kind / own_parts.LABELS_FILE, keep_default_na=False)
            for column in ("scan", "mask"):
                labels[column] = [f"{kind}/{path}" if path else "" for path in labels[column]]
            damaged = labels.loc[labels["defect"] == kind, "category"]
            tables.append(labels[labels["category"].isin(damaged)])
    if not tables or all(table.empty for table in tables):
        raise InputError(folder, "holds no meshes", "name a folder of good meshes in experiments.meshes")
    write_csv(target / own_parts.LABELS_FILE, pd.concat(tables, ignore_index=True))
