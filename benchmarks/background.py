"""How much of the defects the removal of the background takes away, on scans with ground truth.

Only defect points can be lost: pixels of the mask where the sensor measured a point. Folders are in the layout of MVTec
3D-AD or of Eyecandies; splits other than ``test`` are left out.

    python -m benchmarks.background data/mvtec_3d_ad data/eyecandies --output benchmarks/results/background
    git show REVISION:src/gsclip/data/background.py > /tmp/other.py   # and --against /tmp/other.py
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.shared import write_results
from gsclip.data.background import Background, remove_background
from gsclip.data.datasets import DATASETS, listing
from gsclip.data.sample import Scan
from gsclip.errors import InputError

LAYOUTS = ("mvtec_3d_ad", "eyecandies")
LIMIT = 0.005  # of all defect points: the share that may be lost

Remove = Callable[[np.ndarray], Background]


def list_scans(root: Path) -> pd.DataFrame:
    """Index of the test split of a folder in the first of :data:`LAYOUTS` that fits.

    Raises:
        InputError: when none does.
    """
    for layout in LAYOUTS:
        try:
            return listing(layout)(root, None)
        except InputError as error:
            reason = error
    raise reason


def measure(scan: Scan, remove: Remove) -> dict[str, int]:
    """Count points of an organised scan with ground truth.

    Returns:
        ``points`` of the scan, ``kept`` of them, ``defect`` points (of the mask, measured) and how many are ``lost``.
    """
    if scan.mask is None:
        raise ValueError("only scans with ground truth can be measured")
    finite = np.isfinite(scan.points).all(axis=2)
    part = remove(scan.points).part
    defect = scan.mask & finite
    return {
        "points": int(finite.sum()),
        "kept": int(part.sum()),
        "defect": int(defect.sum()),
        "lost": int((defect & ~part).sum()),
    }


def measure_folder(root: Path, remove: Remove) -> list[dict[str, Any]]:
    """Measure all scans of a folder; one row each: ``dataset``, ``scan`` and what :func:`measure` gives."""
    rows = []
    for _, identity in list_scans(root).iterrows():
        scan = DATASETS[identity["dataset"]].read(str(root), identity, 0)
        rows.append({"dataset": identity["dataset"], "scan": identity["name"], **measure(scan, remove)})
    return rows


def load_removal(path: Path) -> Remove:
    """``remove_background`` of another version of :mod:`gsclip.data.background`.

    Raises:
        ImportError: when the file is no such module.
    """
    spec = importlib.util.spec_from_file_location("other_background", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    remove: Remove = module.remove_background
    return remove


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums and extremes over scans.

    Returns:
        ``scans``; ``defective`` ones with a defect point; ``defect`` points, ``lost`` ones, ``lost_share`` of all;
        ``worst_share`` and ``worst_scan``; ``scans_with_loss``; least, median and greatest ``kept`` part in points.
    """
    defective = [row for row in rows if row["defect"]]
    worst = max(defective, key=lambda row: row["lost"] / row["defect"], default=None)
    defect, lost = (sum(row[name] for row in rows) for name in ("defect", "lost"))
    kept = [row["kept"] for row in rows]
    return {
        "scans": len(rows),
        "defective": len(defective),
        "defect": defect,
        "lost": lost,
        "lost_share": lost / max(defect, 1),
        "worst_share": worst["lost"] / worst["defect"] if worst else 0.0,
        "worst_scan": worst["scan"] if worst and worst["lost"] else None,
        "scans_with_loss": sum(row["lost"] > 0 for row in rows),
        "kept_least": min(kept),
        "kept_median": float(np.median(kept)),
        "kept_most": max(kept),
    }


def page(results: dict[str, Any]) -> str:
    """Markdown of what :func:`main` writes as JSON."""
    lines = [
        "# What the removal of the background takes from defects",
        "",
        "Defect points: pixels of the mask with a measured point. `python -m benchmarks.background`.",
        "",
        "| | scans | defect points | lost | % | worst scan, % | kept points: least, median, most |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results["summary"].items():
        kept = f"{found['kept_least']:,}, {found['kept_median']:,.0f}, {found['kept_most']:,}"
        lines.append(
            f"| {name} | {found['scans']} | {found['defect']:,} | {found['lost']:,} | "
            f"{100 * found['lost_share']:.2f} | {100 * found['worst_share']:.1f} | {kept} |"
        )
    lines += ["", f"At most {100 * LIMIT:g} % may be lost.", ""]
    losing = [row for row in results["scans"] if row["lost"] or row.get("lost_before")]
    if losing:
        before = any("lost_before" in row for row in losing)
        lines += [
            f"| scans that lose points | defect points | lost |{' lost before |' if before else ''} kept |",
            f"| --- | ---: | ---: |{' ---: |' if before else ''} ---: |",
        ]
        for row in sorted(losing, key=lambda row: (-row["lost"] / row["defect"], row["scan"])):
            other = f" {row['lost_before']} |" if before else ""
            lines.append(f"| {row['scan']} | {row['defect']} | {row['lost']} |{other} {row['kept']:,} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write; exit code 1 when more than :data:`LIMIT` is lost in all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="+", metavar="FOLDER", help="data sets")
    parser.add_argument("--against", type=Path, help="another version of background.py, shown as `before`")
    parser.add_argument("--output", type=Path, help="without suffix: .json and .md are written")
    arguments = parser.parse_args()
    rows = [row for root in arguments.roots for row in measure_folder(root, remove_background)]
    groups = {name: [row for row in rows if row["dataset"] == name] for name in {row["dataset"]: 0 for row in rows}}
    groups["all"] = rows
    if arguments.against is not None:
        remove = load_removal(arguments.against)
        earlier = [row for root in arguments.roots for row in measure_folder(root, remove)]
        groups["all, before"] = earlier
        for row, other in zip(rows, earlier, strict=True):
            row |= {"lost_before": other["lost"], "kept_before": other["kept"]}
    results = {"summary": {name: summary(members) for name, members in groups.items()}, "scans": rows}
    print(page(results))
    if arguments.output is not None:
        write_results(arguments.output, results, page(results))
    sys.exit(int(results["summary"]["all"]["lost_share"] > LIMIT))


if __name__ == "__main__":
    main()
