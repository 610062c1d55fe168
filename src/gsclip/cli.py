"""The command ``gsclip``: thin wiring of arguments and library functions. Heavy imports happen inside commands."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.core import TyperGroup

from gsclip.errors import GsclipError


@atexit.register
def _end_at_once() -> None:
    """Spare Python's last search for cycles among all objects of the libraries: half a second for nothing."""
    if "onnx" not in sys.modules:  # it would complain of its own objects that are left
        gc.freeze()


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Spare Python its searches for cycles while libraries are loaded: they make a million objects and drop none."""
    searches = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searches:
            gc.enable()


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
Background = Annotated[
    Literal["auto", "none"],
    typer.Option(help="auto: organised scans lose their background; none: every measured point is kept."),
]
MaxPoints = Annotated[
    int, typer.Option(min=1000, max=10_000_000, help="Clouds of more points are thinned to at most so many.")
]
ProfileOption = Annotated[
    Literal["full", "fast"] | None,
    typer.Option("--profile", help="full: all views; fast: the part alone in few views; the model's own by default."),
]
Monitoring = Annotated[
    Path | None,
    typer.Option(
        envvar="GSCLIP_MONITORING", help="Folder of the monitoring: every scan is logged there; see docs/operations.md."
    ),
]
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
    background: Background = "auto",
    max_points: MaxPoints = 200_000,
) -> None:
    """Render scans: rendered image and depth image of every view, as PNG files."""
    from gsclip.commands.render import render_files
    from gsclip.params import ScanParams

    params = ScanParams(background=background, max_points=max_points)
    _finish(render_files(scans, output, views=views, image_size=size, cameras=cameras, params=params))


@app.command()
def score(
    scans: Scans,
    output: Output,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained model, such as models/gsclip; by default the champion of the registry "
                          "that the environment variable GSCLIP_REGISTRY names."),
    ] = None,
    profile: ProfileOption = None,
    monitoring: Monitoring = None,
    threshold: Annotated[
        Path | None, typer.Option(help="File of a threshold from the dashboard; that of the model if it is not given.")
    ] = None,
) -> None:
    """Score scans: <name>.json, <name>.ply coloured by score, <name>.npz with point scores; and samples.csv."""
    from gsclip.promotion.champion import champion_model

    folder = model or champion_model()
    if folder is None:
        raise typer.BadParameter("name a model's folder, or a registry by GSCLIP_REGISTRY", param_hint="--model")
    with _loading():
        from gsclip.commands.score import score_files

    _finish(score_files(scans, folder, output, profile, monitoring, threshold))


@app.command()
def export(
    model: Model,
    output: Annotated[Path, typer.Option(help="ONNX file to write; <file>.json beside it has checksum and shapes.")],
    scan: Annotated[Path | None, typer.Option(help="Scan to check the file on; a generated one if none.")] = None,
) -> None:
    """Write view encoders and refinement as an ONNX file for other programs, checked against the model."""
    from gsclip.data.scan_files import read_scan
    from gsclip.detector import Detector
    from gsclip.export import export_onnx

    given = None if scan is None else read_scan(scan)
    difference = export_onnx(Detector.from_pretrained(model, "full"), output, given)
    print(f"{output}: largest difference from the model {difference:.1e}")


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Option(help="mvtec_3d_ad, eyecandies, real3d_ad, anomaly_shapenet or own_parts.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the categories, in the official layout.")],
    model: Model,
    output: Annotated[Path, typer.Option(help="JSON file for the metrics.")],
    categories: Annotated[str, typer.Option(help="Categories, separated by commas; all that are there if empty.")] = "",
    report: Annotated[Path | None, typer.Option(help="Folder for a report with heat maps of all samples.")] = None,
    profile: ProfileOption = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder for the dashboard, which lists those in runs/, such as runs/mvtec.")
    ] = None,
) -> None:
    """Evaluate a model on the test split of a data set, beside random scores and the ground truth itself."""
    from rich.console import Console

    from gsclip.commands.evaluate import evaluate_dataset
    from gsclip.report.terminal import results_table

    names = [name.strip() for name in categories.split(",") if name.strip()] or None
    metrics, rejected = evaluate_dataset(dataset, root, names, model, output, report, profile=profile, run=run)
    Console().print(results_table(metrics))
    _finish(rejected)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")],
    dataset: Annotated[
        str, typer.Option(help="own_parts, mvtec_3d_ad, eyecandies, real3d_ad or anomaly_shapenet.")
    ] = "own_parts",
    output: Annotated[Path | None, typer.Option(help="CSV file for the problems.")] = None,
    background: Background = "auto",
    max_points: MaxPoints = 200_000,
) -> None:
    """Check all scans of a data set: what cannot be used, and why. Exit code 0: nothing found, 1: problems."""
    from gsclip.commands.check import check_dataset
    from gsclip.params import ScanParams
    from gsclip.report.terminal import checked_text

    checked = check_dataset(folder, dataset, output, ScanParams(background=background, max_points=max_points))
    print(checked_text(checked, shutil.get_terminal_size().columns))
    if not checked.clean:
        raise typer.Exit(1)


@app.command()
def drift(
    reference: Annotated[Path, typer.Option(help="samples.csv of the reference set.")],
    current: Annotated[Path, typer.Option(help="samples.csv of a new batch, as `gsclip score` writes it.")],
    output: Annotated[Path, typer.Option(help="Folder for drift.html and drift.json.")],
) -> None:
    """Compare a batch of scans with a reference set: has the input drifted?"""
    from gsclip.monitoring.drift import compare_files

    print(compare_files(reference, current, output))


@app.command()
def reference(
    output: Annotated[Path, typer.Option(help="Folder of the reference, such as monitoring/reference.")],
    samples: Annotated[Path | None, typer.Option(help="samples.csv of scans known to be in order.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of the model that scored them.")] = None,
    monitoring: Annotated[Path | None, typer.Option(help="Folder of a monitoring; its newest scans are taken.")] = None,
    scans: Annotated[int, typer.Option(min=20, help="So many of them at most.")] = 1000,
    false_alarms: Annotated[
        float, typer.Option(min=0.001, max=0.2, help="Share of windows without drift that raise an alarm.")
    ] = 0.01,
) -> None:
    """Make the reference of the monitoring from scans in order: --samples with --model, or --monitoring."""
    from gsclip.commands.reference import reference_files

    print(reference_files(output, samples=samples, model=model, monitoring=monitoring, scans=scans, rate=false_alarms))


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of good parts: meshes, clouds, scans.")],
    output: Annotated[Path, typer.Option(help="Folder for the labelled data; appears whole or not at all.")],
    view: Annotated[
        str, typer.Option(help="full: clouds from all around; front: simulated scans of one side (closed meshes).")
    ] = "full",
    kinds: Annotated[
        str, typer.Option(help="Kinds of defects, separated by commas.")
    ] = "bulge,dent,hole,crack,break,bend,scratch",
    per_kind: Annotated[int, typer.Option(help="Samples of each part with each kind of defect.")] = 1,
    good: Annotated[int, typer.Option(help="Good samples of each mesh; of a cloud or scan, 1 at most.")] = 1,
    size: Annotated[
        tuple[float, float],
        typer.Option(help="Smallest and largest diameter of a disc with a defect's area, in parts of the diagonal of "
                          "the box about the part."),
    ] = (0.05, 0.2),
    strength: Annotated[
        tuple[float, float],
        typer.Option(help="Smallest and largest depth or height of a defect, in parts of the same diagonal."),
    ] = (0.01, 0.05),
    points: Annotated[int, typer.Option(help="Points of each cloud that is sampled on a mesh.")] = 50_000,
    side: Annotated[int, typer.Option(help="Pixels along a side of the simulated scans.")] = 240,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    validation: Annotated[
        float, typer.Option(help="Share of the parts that go to the split validation instead, drawn by the seed.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed and files give the same bytes.")] = 0,
) -> None:
    """Make labelled data from good parts: bulges, dents, holes, cracks, breaks, bends, scratches, with their masks."""
    from gsclip.data.synthesis.files import Settings, synthesize

    names = tuple(name.strip() for name in kinds.split(",") if name.strip())
    settings = Settings(view, names, per_kind, good, size, strength, points, side, split, validation, seed)
    _finish(synthesize(folder, output, settings))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Experiment, branch, tag or commit.")],
    second: Annotated[str, typer.Argument(help="Likewise; is it better than the first one?")],
    project: Annotated[Path, typer.Option(help="Folder of the project, in git and DVC.")] = Path(),
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of each bound of a difference.")] = 0.9,
) -> None:
    """Compare two runs of the pipeline on the same test samples. Exit code 0: the second is better, 1: not shown."""
    from gsclip.promotion.revisions import changes_text, compare_revisions

    means, categories = compare_revisions(project, first, second, confidence=confidence)
    print(changes_text((*means, *categories)))
    if not any(change.low is not None and change.low > 0 for change in means):
        raise typer.Exit(1)


registry = typer.Typer(
    cls=_Group, help="Versions of the model: which one is in use, and going back.", no_args_is_help=True
)
app.add_typer(registry, name="registry")
Repository = Annotated[
    str,
    typer.Option(envvar="GSCLIP_REGISTRY", help="Git repository of the registry: a folder or an address."),
]


@registry.command("list")
def list_versions(repository: Repository = ".") -> None:
    """List all versions, newest first, with the champion and what a rollback leads to."""
    from gsclip.promotion.registry import read_registry, table

    print(table(read_registry(repository)))


@registry.command()
def show(version: Annotated[str, typer.Argument(help="Such as v0.3.0.")], repository: Repository = ".") -> None:
    """Show commit, date and decisions of one version."""
    from gsclip.promotion.registry import describe

    print(describe(repository, version), end="")


@registry.command()
def promote(version: Annotated[str, typer.Argument(help="Such as v0.3.0.")], repository: Repository = ".") -> None:
    """Make a version the champion, whatever the gate said."""
    from gsclip.promotion.registry import promote as promote_version

    print(f"champion: {promote_version(repository, version).version}")


@registry.command()
def rollback(repository: Repository = ".") -> None:
    """Make the champion before this one the champion again."""
    from gsclip.promotion.registry import rollback as back

    left, target = back(repository)
    print(f"champion: {target.version} (was {left.version})")


marks_app = typer.Typer(cls=_Group, help="What people said about decisions, in the dashboard.", no_args_is_help=True)
app.add_typer(marks_app, name="marks")
MarksFolder = Annotated[Path, typer.Option(help="Folder of the marks.")]


@marks_app.command("export")
def export_marks(
    output: Annotated[Path, typer.Option(help="CSV file.")], marks: MarksFolder = Path("marks")
) -> None:
    """Write all marks as one table, the newest first."""
    from gsclip.marks import Marks, marks_csv
    from gsclip.storage import write_text

    found = Marks(marks).all()
    write_text(output, marks_csv(found))
    print(f"{len(found)} marks in {output}")


@marks_app.command("labels")
def labels_of_marks(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of own parts, such as data/raw/my_parts.")],
    marks: MarksFolder = Path("marks"),
    index: Annotated[
        Path, typer.Option(help="Index of the run that was marked: which scan a sample is.")
    ] = Path("data/prepared/index.csv"),
    split: Annotated[
        str, typer.Option(help="Split of the marked parts: train, validation, test; empty: as it was.")
    ] = "train",
) -> None:
    """Bring the marks into labels.csv of own parts, for the next training."""
    from gsclip.data.index import read_index
    from gsclip.marks import Marks, export_labels

    listed = read_index(index) if index.is_file() else None
    labelled, left_out = export_labels(Marks(marks), root, index=listed, split=split)
    print(f"{labelled} parts labelled by their marks in {root}")
    for sentence in left_out:
        print(f"gsclip: {sentence}", file=sys.stderr)


def _finish(rejected: Sequence[GsclipError]) -> None:
    """List rejected scans; exit with code 2 when there are any."""
    for error in rejected:
        print(f"gsclip: {error}", file=sys.stderr)
    if rejected:
        raise typer.Exit(2)
