"""Prints the table of results and where the report lies (end of ``make demo``)."""

from __future__ import annotations

import json

from rich.console import Console

from gsclip.params import Params
from gsclip.report.terminal import results_table
from gsclip.stages import common


def summary(_: Params) -> None:
    """Print ``outputs/metrics.json``."""
    metrics = json.loads(common.METRICS.read_text(encoding="utf-8"))
    console = Console()
    console.print(results_table(metrics))
    data = metrics["data"]
    console.print(
        f"Trained on {', '.join(data['auxiliary_categories'])} ({data['training_samples']} samples); "
        f"tested on {data['samples']} samples of other families.\nBackbone: {data['backbone_note']}."
    )
    cross = json.loads(common.CROSS.read_text(encoding="utf-8")) if common.CROSS.is_file() else {"skipped": ""}
    if "skipped" not in cross:
        console.print("On another data set, with the same model:")
        console.print(results_table(cross))
    console.print(f"Report: {(common.REPORT / 'index.html').resolve().as_uri()}", soft_wrap=True)


if __name__ == "__main__":
    common.run(summary)
