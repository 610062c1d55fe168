"""A cloud of millions of points, scored from its file in a process of its own: time, memory, one score for each point.

Points are spread over a mesh (``--mesh``) or over a generated part, evenly by area and with a little noise. Without
``--model`` the detector is the embedded one, untrained: time and memory do not depend on the values of weights; scores
do, and are not reported.

    python -m benchmarks.big_cloud --output benchmarks/results/big_cloud
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.full_size import machine
from benchmarks.shared import save_untrained, write_results
from gsclip.commands.score import score_files
from gsclip.data.procedural.families import FAMILIES
from gsclip.data.scan_files import read_cloud_file

FAMILY = "castle_nut"
CELLS = 128  # along each side of the box about a generated part, to find those with a piece of its surface
CLOSE = 1e-3  # millimetres from a generated part's surface
NOISE = 1e-4  # of the extent, standard deviation
SPARE = 1.3  # times as many points are spread over a generated part as are asked for
CHUNK = 1 << 18
FORMATS = ("ply", "pcd")


def spread_over_mesh(path: Path, count: int, random: np.random.Generator) -> np.ndarray:
    """(count, 3) float64 points on a mesh, evenly by area.

    Raises:
        ValueError: when the file holds no faces.
    """
    mesh = read_cloud_file(path)
    if mesh.triangles is None:
        raise ValueError(f"{path} holds no faces")
    corners = mesh.points[mesh.triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = random.choice(len(areas), count, p=areas / areas.sum())
    root, along = np.sqrt(random.random(count)), random.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    return np.asarray(np.einsum("nk,nkd->nd", weights, corners[chosen]))


def spread_over_part(family: str, count: int, random: np.random.Generator) -> np.ndarray:
    """(count, 3) float64 points on a generated part, millimetres: from even places near it, down its field's slope."""
    part = FAMILIES[family].build(random)
    field, cell = part.field(), 2 * part.bound / CELLS

    def value(points: np.ndarray) -> np.ndarray:
        chunks = [points[start : start + CHUNK] for start in range(0, len(points), CHUNK)]
        with torch.no_grad():
            return np.concatenate([field(torch.from_numpy(chunk.T.astype(np.float32))).numpy() for chunk in chunks])

    axis = (np.arange(CELLS) + 0.5) * cell - part.bound
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    centres = centres[np.abs(value(centres)) < cell]
    points = centres[random.integers(len(centres), size=round(SPARE * count))]
    points = points + cell * (random.random(points.shape) - 0.5)
    for _ in range(3):
        here, step = value(points), cell / 100
        slopes = np.stack([(value(points + step * row) - here) / step for row in np.eye(3)], axis=1)
        points -= (here / np.maximum((slopes**2).sum(axis=1), 0.1))[:, None] * slopes
    points = points[np.abs(value(points)) < CLOSE]
    if len(points) < count:
        raise RuntimeError(f"only {len(points)} of {count} points reached the surface of {family}")
    return points[:count]


def write_cloud(path: Path, points: np.ndarray) -> None:
    """Write points (n, 3) as binary PLY or PCD, float32."""
    count, content = len(points), np.ascontiguousarray(points, dtype="<f4").tobytes()
    if path.suffix == ".ply":
        columns = "".join(f"property float {axis}\n" for axis in "xyz")
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{columns}end_header\n"
    else:
        header = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
        header += f"WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA binary\n"
    path.write_bytes(header.encode("ascii") + content)


def score(cloud: Path, model: Path, work: Path) -> dict[str, Any]:
    """Score a cloud file in this process, and count what was written.

    Returns:
        ``seconds`` of each step and of the whole call, ``peak_gib`` of this process, ``points`` that the command
        counted, ``thinned_to``, and the numbers of points and scores in its ``.npz`` and ``.ply``.
    """
    start = time.perf_counter()
    rejected = score_files([cloud], model, work)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if rejected:
        raise rejected[0]
    found = json.loads((work / f"{cloud.stem}.json").read_text(encoding="utf-8"))
    with np.load(work / f"{cloud.stem}.npz", allow_pickle=False) as arrays:
        scores = arrays["point_scores"]
        numbers = {"npz_points": len(arrays["points"]), "npz_scores": len(scores)}
    return {
        "seconds": {**found["seconds"], "whole_command": round(whole, 3)},
        "peak_gib": round(peak, 3),
        "points": found["points"],
        "thinned_to": found["thinned_to"],
        **numbers,
        "ply_points": len(read_cloud_file(work / f"{cloud.stem}.ply").points),
        "scores_finite": bool(np.isfinite(scores).all()),
    }


def page(results: dict[str, Any]) -> str:
    """Markdown of what :func:`main` writes as JSON."""
    steps = [f"{step.replace('_', ' ')}, s" for step in results["runs"][0]["seconds"]]
    lines = [
        "# A big cloud",
        "",
        f"{results['points']:,} points over {results['part']}, from the file to the written scores, each format in a "
        f"process of its own, on {results['machine']}. `python -m benchmarks.big_cloud`.",
        "",
        f"| file | MiB | {' | '.join(steps)} | peak memory, GiB | thinned to | scores in .npz, .ply |",
        "| --- | ---: |" + " ---: |" * (len(steps) + 3),
    ]
    for run in results["runs"]:
        seconds = " | ".join(f"{value:.1f}" for value in run["seconds"].values())
        lines.append(
            f"| {run['format']} | {run['file_mib']:.1f} | {seconds} | {run['peak_gib']:.2f} | {run['thinned_to']:,} | "
            f"{run['npz_scores']:,}, {run['ply_points']:,} |"
        )
    lines += [
        "",
        "`total` is the sum of the steps before it; the whole command also loads the model and writes the results.",
        f"One finite score for every point: {'yes' if results['complete'] else 'NO'}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Make the cloud, score it in a process for each format, print and write; exit code 1 where a score is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=Path, help="spread points over it; a generated part without")
    parser.add_argument("--points", type=int, default=3_000_000)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--model", type=Path, help="folder of a detector; an untrained one without")
    parser.add_argument("--output", type=Path, help="without suffix: .json and .md are written")
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score is not None:
        print(json.dumps(score(arguments.score, arguments.model, arguments.work)))
        return
    random = np.random.default_rng(0)
    if arguments.mesh is None:
        points = spread_over_part(FAMILY, arguments.points, random)
    else:
        points = spread_over_mesh(arguments.mesh, arguments.points, random)
    points += NOISE * float(np.ptp(points, axis=0).max()) * random.standard_normal(points.shape)
    part = f"a generated part ({FAMILY})" if arguments.mesh is None else f"the mesh {arguments.mesh.name}"
    results: dict[str, Any] = {"machine": machine(), "part": part, "points": arguments.points, "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = arguments.model
        if model is None:
            model = work / "model"
            save_untrained(model)
        for kind in arguments.formats:
            cloud = work / f"cloud.{kind}"
            write_cloud(cloud, points)
            command = [sys.executable, "-m", "benchmarks.big_cloud", "--score", str(cloud), "--model", str(model)]
            command += ["--work", str(work / kind)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            run = json.loads(output.splitlines()[-1])
            results["runs"].append({"format": kind, "file_mib": cloud.stat().st_size / 2**20, **run})
            cloud.unlink()
    results["complete"] = all(
        run["scores_finite"]
        and {run["points"], run["npz_points"], run["npz_scores"], run["ply_points"]} == {arguments.points}
        for run in results["runs"]
    )
    print(page(results))
    if arguments.output is not None:
        write_results(arguments.output, results, page(results))
    sys.exit(int(not results["complete"]))


if __name__ == "__main__":
    main()
