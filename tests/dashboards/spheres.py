"""A small run of dented spheres, as the pipeline leaves it on disk."""

from pathlib import Path

import numpy as np
import pandas as pd

from gsclip.data.sample import Sample
from gsclip.metrics.sample_scores import sample_scores
from gsclip.metrics.table import evaluate_samples
from gsclip.scores.prediction import Prediction
from gsclip.storage import write_json, write_pack
from gsclip.views.renderer import render_views

ROOT = Path(__file__).parents[2]
THRESHOLD = 0.5
FACTS = {
    "dataset": "spheres",
    "auxiliary_categories": ["pearl"],
    "test_categories": ["ball", "marble"],
    "backbone": "embedded",
    "backbone_note": "a small model",
    "protocol": "one-vs-rest",
    "seeds": {"prepare": 0},
    "training_samples": 2,
    "cameras": "front",
    "views": 9,
}


def sphere(seed, dented, points=900):
    """The half of a sphere that the sensor sees, with a mask around its pole."""
    direction = np.random.default_rng(seed).normal(size=(points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = -np.abs(direction[:, 2])
    mask = (direction[:, 2] < -0.9) & dented
    radius = np.where(mask, 0.9, 1.0)[:, None]
    return Sample(
        points=(0.02 * radius * direction + [0, 0, 0.6]).astype(np.float32),
        normals=direction.astype(np.float32),
        mask=mask,
    )


def prediction(sample, views, object_score):
    """Scores of 0.8 on the defect and 0.2 elsewhere."""
    maps = np.full((len(views.rendered), 6, 6), 0.2, dtype=np.float32)
    maps[:, 2:4, 2:4] += np.float32(0.6 * sample.mask.any())
    return Prediction(
        object_score=object_score,
        point_scores=np.where(sample.mask, 0.8, 0.2).astype(np.float32),
        view_probabilities=np.full(len(maps), object_score, dtype=np.float32),
        view_maps=maps,
    )


def write_workspace(root, categories, facts=FACTS):
    """Write what the dashboard reads.

    ``categories`` holds for each category its role and its samples as (defect, object score); the threshold is 0.5.
    """
    rows, scored = [], []
    for category, (role, members) in categories.items():
        with (
            write_pack(root / f"data/prepared/{category}.h5") as prepared,
            write_pack(root / f"data/views/{category}.h5") as viewed,
            write_pack(root / f"outputs/predictions/{category}.h5") as predicted,
        ):
            for number, (defect, score) in enumerate(members):
                name, label = f"{category}/test/{defect}/{number:03d}", int(defect != "good")
                sample = sphere(number, bool(label))
                views = render_views(sample, image_size=48)
                result = prediction(sample, views, score)
                prepared.add(name, sample)
                viewed.add(name, views)
                predicted.add(name, result)
                rows.append({
                    **{"name": name, "dataset": "spheres", "category": category, "split": "test", "defect": defect},
                    **{"label": label, "role": role, "object_score": score, "decision": int(score >= THRESHOLD)},
                    **{"threshold": THRESHOLD, "map_max": 0.8, "map_mean": 0.2, "points": len(sample.points)},
                    **{f"extent_{axis}": 0.04 for axis in "xyz"},
                })
                if role == "test":
                    scored.append(sample_scores(name, category, defect, label, result, sample))
    pd.DataFrame(rows).to_csv(root / "outputs/predictions/samples.csv", index=False)
    metrics = evaluate_samples(scored, threshold=THRESHOLD, data=facts, bootstrap_repeats=50)
    write_json(root / "outputs/metrics.json", metrics)
    return metrics


CATEGORIES = {
    "ball": ("test", [("good", 0.1), ("good", 0.7), ("dent", 0.9), ("dent", 0.45)]),
    "marble": ("test", [("good", 0.2), ("scratch", 0.8)]),
    "pearl": ("auxiliary", [("good", 0.05), ("dent", 0.95)]),
}
