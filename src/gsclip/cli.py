"""The command ``gsclip``: thin wiring of arguments and library functions. Heavy imports happen inside commands."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from gsclip.errors import GsclipError


class _Group(TyperGroup):
    """Prints foreseeable errors on one line, exit code 2."""

    def invoke(self, context: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(context)
        except GsclipError as error:
            print(f"gsclip: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except OSError as error:
            place, problem = error.filename or "output", error.strerror or error
            print(f"gsclip: {place}: {problem}; choose another folder", file=sys.stderr)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Group,
    help="Zero-shot 3D anomaly detection: scores and heat maps for scans of parts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Scans = Annotated[
    list[Path], typer.Argument(metavar="SCAN...", help="Scan files (.ply, .pcd, .xyz, .npy, .tiff, ...) or folders.")
]
Output = Annotated[Path, typer.Option(help="Folder for the results; made if it is missing.")]
Model = Annotated[Path, typer.Option(help="Folder of a trained model, such as models/gsclip.")]


@app.callback()
def main(verbose: Annotated[bool, typer.Option("--verbose", help="Tell what happens to each scan.")] = False) -> None:
    """Set logging up."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("gsclip").setLevel(logging.DEBUG if verbose else logging.INFO)


@app.command()
def render(
    scans: Scans,
    output: Output,
    views: Annotated[int, typer.Option(min=1, max=9, help="Number of views, most frontal first.")] = 9,
    size: Annotated[int, typer.Option(min=32, max=2048, help="Side of the images in pixels.")] = 336,
    cameras: Annotated[str, typer.Option(help="front (scans of one side) or full (all around).")] = "front",
) -> None:
    """Render scans: rendered image and depth image of every view, as PNG files."""
    from gsclip.commands import render_files

    _finish(render_files(scans, output, views=views, image_size=size, cameras=cameras))


@app.command()
def score(scans: Scans, model: Model, output: Output) -> None:
    """Score scans: <name>.json, <name>.ply coloured by score, <name>.npz with point scores; and samples.csv."""
    from gsclip.commands import score_files

    _finish(score_files(scans, model, output))


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Option(help="Name of the data set: mvtec_3d_ad.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the categories, in the official layout.")],
    model: Model,
    output: Annotated[Path, typer.Option(help="JSON file for the metrics.")],
    categories: Annotated[str, typer.Option(help="Categories, separated by commas; all that are there if empty.")] = "",
    report: Annotated[Path | None, typer.Option(help="Folder for a report with heat maps of all samples.")] = None,
) -> None:
    """Evaluate a model on the test split of a data set, beside random scores and the ground truth itself."""
    from rich.console import Console

    from gsclip.commands import evaluate_dataset
    from gsclip.report.terminal import results_table

    names = [name.strip() for name in categories.split(",") if name.strip()] or None
    metrics, rejected = evaluate_dataset(dataset, root, names, model, output, report)
    Console().print(results_table(metrics))
    _finish(rejected)


@app.command()
def drift(
    reference: Annotated[Path, typer.Option(help="samples.csv of the reference set.")],
    current: Annotated[Path, typer.Option(help="samples.csv of a new batch, as `gsclip score` writes it.")],
    output: Annotated[Path, typer.Option(help="Folder for drift.html and drift.json.")],
) -> None:
    """Compare a batch of scans with a reference set: has the input drifted?"""
    from gsclip.monitoring.drift import compare_files

    print(compare_files(reference, current, output))


def _finish(rejected: Sequence[GsclipError]) -> None:
    """List rejected scans; exit with code 2 when there are any."""
    for error in rejected:
        print(f"gsclip: {error}", file=sys.stderr)
    if rejected:
        raise typer.Exit(2)
