"""A small run: square plates with a dent at known pixels, in two categories, with scores made up to known quality."""

import numpy as np
import pandas as pd
import torch

from gsclip.data.sample import Sample
from gsclip.metrics.sample_scores import sample_scores
from gsclip.metrics.table import evaluate_samples
from gsclip.report.content import Run
from gsclip.report.gallery import GalleryItem, add_localisation
from gsclip.scores.prediction import Prediction
from gsclip.scores.scoring import score_points
from gsclip.views.renderer import render_views

GRID = 40
IMAGE_SIZE = 64
DENT = (slice(22, 28), slice(8, 14))


def make_sample(defect="good"):
    """A plate of 30 x 30 points, 1 mm apart, tilted a little; a defect is a dent of 6 x 6 points."""
    rows, columns = np.mgrid[5:35, 5:35]
    grid_mask = np.zeros((GRID, GRID), dtype=bool)
    if defect != "good":
        grid_mask[DENT] = True
    mask = grid_mask[rows, columns].ravel()
    depth = 0.6 + 2e-4 * rows + 1e-4 * columns + 3e-3 * grid_mask[rows, columns]
    points = np.stack([columns * 1e-3, rows * 1e-3, depth], axis=-1).reshape(-1, 3).astype(np.float32)
    return Sample(
        points=points,
        normals=np.tile(np.float32([0, 0, -1]), (len(points), 1)),
        pixels=np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.int32),
        grid=(GRID, GRID),
        mask=mask,
        grid_mask=grid_mask,
    )


def make_item(name, defect, quality, object_score, seed):
    """Score a plate: ``quality`` 1 marks the dent, -1 all but the dent, 0 is noise."""
    sample = make_sample(defect)
    views = render_views(sample, image_size=IMAGE_SIZE, views=4)
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, (4, 8, 8))
    dent = views.mask.reshape(4, 8, 8, 8, 8).mean((2, 4))
    view_maps = np.clip(0.4 + noise + 0.4 * quality * dent, 0, 1).astype(np.float32)
    point_scores = score_points(sample, views, torch.from_numpy(view_maps), smoothing=0.0)
    prediction = Prediction(object_score, point_scores, np.full(4, object_score, np.float32), view_maps)
    category, split, kind, _ = name.split("/")
    row = {
        "name": name,
        "dataset": "procedural",
        "category": category,
        "split": split,
        "defect": kind,
        "label": int(kind != "good"),
        "role": "test",
        "object_score": object_score,
        "map_max": float(point_scores.max()),
        "map_mean": float(point_scores.mean()),
    }
    return GalleryItem(sample, views, prediction, row)


def make_items(categories=("bolt", "ring"), kinds=("dent", "cut")):
    """Two good and four defective plates a category; the first kind is localised well, the second badly."""
    items = []
    for place, category in enumerate(categories):
        for number, (kind, quality, score) in enumerate(
            [
                ("good", 0, 0.30),
                ("good", 0, 0.62),
                (kinds[0], 1, 0.81),
                (kinds[0], 0.8, 0.55),
                (kinds[1], -0.3, 0.42),
                (kinds[1], -0.8, 0.71),
            ]
        ):
            name = f"{category}/test/{kind}/{number:03d}"
            items.append(make_item(name, kind, quality, score + 0.01 * place, seed=10 * place + number))
    return items


def make_run(items, threshold=0.5, data=None, **parts):
    """The run of these items, evaluated for real."""
    scored = [
        sample_scores(i.row["name"], i.row["category"], i.row["defect"], i.row["label"], i.prediction, i.sample)
        for i in items
    ]
    facts = {
        "dataset": "procedural",
        "auxiliary_categories": ["vase", "nut"],
        "test_categories": sorted({i.row["category"] for i in items}),
        "backbone": "embedded",
        "backbone_note": "a small network; it is not CLIP",
        "protocol": "zero-shot: categories tested are never trained on",
        "seeds": {"stage1": 0, "stage2": 3},
        "training_samples": 41,
        "cameras": "front",
        "views": 4,
        **(data or {}),
    }
    samples = pd.DataFrame([i.row for i in items])
    samples["threshold"] = threshold
    samples = add_localisation(
        samples, ((i.row["name"], i.sample.mask, i.prediction.point_scores) for i in items if i.row["label"])
    )
    return Run(
        metrics=evaluate_samples(scored, threshold=threshold, data=facts, bootstrap_repeats=50),
        samples=samples,
        **parts,
    )


def reader(items):
    by_name = {item.row["name"]: item for item in items}
    return lambda row: by_name[row["name"]]
