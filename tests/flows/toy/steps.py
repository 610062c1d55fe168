"""Stages of a toy project: packs as the pipeline writes them, scores as good as ``quality.txt`` says. No torch."""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from gsclip.data.sample import Sample
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack, atomic_directory, write_csv, write_json, write_pack

CATEGORIES = ("elbow", "ring_cake")
SAMPLES, POINTS = 12, 60


def rng(*parts):
    return np.random.default_rng([zlib.crc32(str(part).encode()) for part in parts])


def rows():
    for category in CATEGORIES:
        for number in range(SAMPLES):
            yield f"{category}/test/x/{number}", category, number % 2


def prepare():
    noise = float(Path("data/raw/noise.txt").read_text())
    with atomic_directory("data/prepared") as folder:
        for category in CATEGORIES:
            with write_pack(folder / f"{category}.h5") as pack:
                for name, _, label in (row for row in rows() if row[1] == category):
                    points = (rng(name).normal(size=(POINTS, 3)) + noise).astype(np.float32)
                    mask = np.arange(POINTS) < (20 if label else 0)
                    pack.add(name, Sample(points, np.zeros_like(points), mask=mask))
        write_csv(folder / "index.csv", pd.DataFrame(rows(), columns=["name", "category", "label"]))
        columns = ["name", "path", "check", "problem", "remedy"]
        rejected = [("elbow/test/x/99", "99.ply", "measured", "is empty", "scan again")]
        write_csv(folder / "rejected.csv", pd.DataFrame(rejected, columns=columns))


def train():
    quality = float(Path("quality.txt").read_text())
    with atomic_directory("models/gsclip") as folder:
        write_json(folder / "config.json", {"quality": quality})
        (folder / "weights.bin").write_bytes(rng(quality).bytes(1000))


def predict():
    quality = json.loads(Path("models/gsclip/config.json").read_text())["quality"]
    table = []
    with atomic_directory("outputs/predictions") as folder:
        for category in CATEGORIES:
            with Pack(f"data/prepared/{category}.h5", Sample) as samples, write_pack(folder / f"{category}.h5") as pack:
                for name, _, label in (row for row in rows() if row[1] == category):
                    drawn = rng(name, "score").random(POINTS)
                    points = (quality * samples[name].mask + (1 - quality) * drawn).astype(np.float32)
                    score = float(quality * label + (1 - quality) * rng(name, "object").random())
                    pack.add(name, Prediction(score, points, np.zeros(1, np.float32), np.zeros((1, 1, 1), np.float32)))
                    defect = "hole" if label else "good"
                    table.append((name, category, defect, label, "test", score, "toy", "test"))
        names = ["name", "category", "defect", "label", "role", "object_score", "dataset", "split"]
        write_csv(folder / "samples.csv", pd.DataFrame(table, columns=names))


def evaluate():
    table = pd.read_csv("outputs/predictions/samples.csv")
    normal, abnormal = (table.loc[table["label"] == label, "object_score"].to_numpy() for label in (0, 1))
    figures = {"ours": float((abnormal[:, None] > normal).mean()), "random": 0.5, "oracle": 1.0}
    categories = {name: {"samples": SAMPLES, "o_auroc": figures} for name in CATEGORIES}
    mean = {"mean": {"o_auroc": figures}, "o_auroc_interval": [0.0, 1.0], "categories": categories}
    write_json("outputs/metrics.json", mean)


if __name__ == "__main__":
    {step.__name__: step for step in (prepare, train, predict, evaluate)}[sys.argv[1]]()
