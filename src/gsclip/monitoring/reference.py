"""The reference of the monitoring: rows of scans in order, and the thresholds that they give, in one folder.

==================  ====================================================================================
``reference.csv``   monitored columns of every scan
``reference.json``  model that scored them, false alarm rate, thresholds by size of the window, SHA-256
==================  ====================================================================================

Thresholds are calibrated once, when the reference is made, and fixed from then on.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from gsclip.errors import InputError, one_line
from gsclip.monitoring.columns import EMBEDDING, EMBEDDING_COLUMNS, VALUE_COLUMNS
from gsclip.monitoring.drift import SMALLEST_WINDOW, checked, window_thresholds
from gsclip.storage import atomic_directory, sha256, write_csv, write_json

ROWS_FILE = "reference.csv"
SETTINGS_FILE = "reference.json"
FALSE_ALARM_RATE = 0.01  # of one window, over all columns
SPLITS = 2000
SIZES = (10, 15, 20, 30, 40, 50, 75, 100, 150, 200)
SMALLEST_REFERENCE = 2 * SMALLEST_WINDOW  # a split needs both parts
_MAKE = "make it again with `gsclip reference`, or `dvc repro predict`"


class Settings(BaseModel):
    """What stands in ``reference.json``.

    Attributes:
        model: version of the model that scored the rows, see :func:`gsclip.detector.model_version`.
        scans: number of rows.
        false_alarm_rate: of one window, over all columns together.
        splits: random splits of the rows that the thresholds come from.
        sha256: of ``reference.csv``.
        thresholds: by number of scans in a window, then by column; empty where there are too few rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    scans: int
    false_alarm_rate: float
    splits: int
    sha256: str
    thresholds: dict[int, dict[str, float]]


@dataclass(frozen=True)
class Reference:
    """A reference that was read from its folder.

    Attributes:
        rows: monitored columns.
        settings: everything else.
    """

    rows: pd.DataFrame
    settings: Settings

    def thresholds(self, window: int) -> Mapping[str, float] | None:
        """Thresholds of the largest calibrated size that a window reaches, or ``None`` where it reaches none.

        They are those of a smaller window, hence a little too high, for sizes in between.
        """
        sizes = sorted(self.settings.thresholds)
        place = bisect.bisect_right(sizes, window)
        return self.settings.thresholds[sizes[place - 1]] if place else None


def make_reference(
    samples: pd.DataFrame,
    folder: str | Path,
    *,
    model: str,
    name: str = "samples",
    smallest: int = SMALLEST_REFERENCE,
    rate: float = FALSE_ALARM_RATE,
    splits: int = SPLITS,
) -> int:
    """Write a reference; the folder appears whole or not at all, with the same bytes for the same rows.

    Args:
        samples: rows in the form of ``samples.csv``; those with label 1 are left out.
        folder: where it goes; an earlier reference is replaced.
        model: version of the model that scored them.
        name: what errors call the samples.
        smallest: number of rows that is asked for. With fewer than 20 no threshold can be calibrated, and every window
            is judged to have too few scans.
        rate: share of windows without drift that raise an alarm.
        splits: random splits for the calibration.

    Returns:
        Number of rows.

    Raises:
        InputError: rows or columns are missing, or values are no finite numbers.
    """
    good = samples[samples["label"].ne(1).fillna(True).astype(bool)] if "label" in samples else samples
    rows = checked(good, name, smallest)
    sizes = [size for size in SIZES if size <= len(rows) // 2]
    with atomic_directory(folder) as temporary:
        write_csv(temporary / ROWS_FILE, rows)
        settings = Settings(
            model=model,
            scans=len(rows),
            false_alarm_rate=rate,
            splits=splits,
            sha256=sha256(temporary / ROWS_FILE),
            thresholds={size: window_thresholds(rows, size, rate=rate, splits=splits) for size in sizes},
        )
        write_json(temporary / SETTINGS_FILE, settings.model_dump())
    return len(rows)


def read_reference(folder: str | Path) -> Reference:
    """Read a reference.

    Raises:
        InputError: it is missing, was changed by hand, or is of another version.
    """
    folder = Path(folder)
    settings = _settings(folder / SETTINGS_FILE)
    path = folder / ROWS_FILE
    try:
        digest = sha256(path)
        rows = pd.read_csv(path, float_precision="round_trip")
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as a table ({one_line(error, None)})", _MAKE) from error
    if digest != settings.sha256:
        raise InputError(path, f"SHA-256 differs from {SETTINGS_FILE}: thresholds are of other rows", _MAKE)
    complete = list(rows) == [*VALUE_COLUMNS, *EMBEDDING_COLUMNS]
    if not complete or any(set(names) != {*VALUE_COLUMNS, EMBEDDING} for names in settings.thresholds.values()):
        raise InputError(folder, "has the columns of another version", _MAKE)
    return Reference(checked(rows, str(path), 0), settings)


def _settings(path: Path) -> Settings:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return Settings.model_validate(content)
    except OSError as error:
        raise InputError(path.parent, f"holds no reference ({SETTINGS_FILE} not found)", _MAKE) from error
    except ValidationError as error:
        raise InputError(path, f"is no reference of this version ({one_line(error)})", _MAKE) from error
    except ValueError as error:
        raise InputError(path, f"is no JSON ({one_line(error)})", _MAKE) from error
