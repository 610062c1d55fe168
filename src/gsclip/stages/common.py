"""What all stages share: where files lie, and how a stage starts and fails."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from gsclip.data.index import read_index
from gsclip.data.preparing import INDEX_FILE
from gsclip.determinism import make_deterministic
from gsclip.errors import GsclipError
from gsclip.monitoring.rows import SAMPLES_FILE
from gsclip.packs import PackFolders
from gsclip.params import Params, load_params
from gsclip.report.bundle import read_samples

PREPARED = Path("data/prepared")
VIEWS = Path("data/views")
FEATURES = Path("data/features")
STAGE1 = Path("models/stage1")
STAGE2 = Path("models/stage2")
MODEL = Path("models/gsclip")
CURVES = Path("outputs/curves")
LIVE = Path("outputs/live")
PREDICTIONS = Path("outputs/predictions")
REFERENCE = Path("outputs/reference")
METRICS = Path("outputs/metrics.json")
CROSS = Path("outputs/cross.json")
CATEGORIES = Path("outputs/categories.csv")
REPORT = Path("outputs/report")
OVERLAYS = Path("outputs/overlays")
CHECKPOINTS = Path(".gsclip/checkpoints")
PACKS = Path(".gsclip/packs")
EXPERIMENTS = Path("outputs/experiments")
EXPERIMENTS_WORK = Path(".gsclip/experiments")

FOLDERS = PackFolders(PREPARED, VIEWS, FEATURES)


def index() -> pd.DataFrame:
    """Accepted samples of the prepared data set."""
    return read_index(PREPARED / INDEX_FILE)


def samples() -> pd.DataFrame:
    """Scored samples, one row each: ``samples.csv``."""
    return read_samples(PREDICTIONS / SAMPLES_FILE)


def experiments_header(params: Params, backbone_note: str) -> str:
    """What holds for all runs of a table: backbone and lengths of training."""
    stage1, stage2 = params.stage1, params.stage2
    return (
        f"Backbone: {backbone_note}. {stage1.epochs} epochs of stage 1, {stage2.epochs} of stage 2 "
        f"(batch {stage1.batch_size}, {stage2.precision})."
    )


def run(stage: Callable[[Params], None]) -> None:
    """Run a stage on the parameters of the working directory; a foreseeable failure is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("gsclip").setLevel(logging.INFO)
    try:
        make_deterministic()
        stage(load_params())
    except GsclipError as error:
        print(f"gsclip: {error}", file=sys.stderr)
        sys.exit(2)
