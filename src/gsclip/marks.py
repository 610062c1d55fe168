"""Marks: what a person says about a decision on a part. A folder of small JSON files, one a mark.

A file is written whole under a name that nobody else writes, and never changed: two people at once lose nothing, a
crash leaves at most a hidden temporary file, and git merges two folders without conflicts. Of several marks of one part
the latest counts; the earlier ones stay, so that it can be seen who said what.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gsclip.errors import InputError, one_line, printable
from gsclip.storage import atomic_path, write_json, write_text

FOLDER = "marks"
SCANS_FOLDER = "scans"
LONGEST_NOTE = 2000
GOOD, SOME_DEFECT = "good", "defect"
Verdict = Literal["ok", "false_alarm", "missed", "relabel", "withdrawn"]
COLUMNS = (
    "time", "author", "sample", "run", "category", "verdict", "defect", "note", "object_score", "threshold", "decision",
    "scan", "id",
)  # fmt: skip
LABEL_COLUMNS = ("scan", "mask", "category", "split", "defect")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_log = logging.getLogger(__name__)


class Mark(BaseModel):
    """One mark.

    Attributes:
        id: 32 hexadecimal digits.
        time: when, UTC.
        author: who, as the person wrote it; may be empty.
        sample: name of the sample, or of the scan's file.
        run: of which run; empty for a scan that was uploaded.
        category: class of the part; may be empty for a scan that was uploaded.
        verdict: the decision was right (``ok``), a good part was stopped (``false_alarm``), a defective one was passed
            (``missed``), the label is another one (``relabel``); ``withdrawn`` takes the earlier marks back.
        defect: the right label: ``good``, a kind of defect, or ``defect`` where no kind was given.
        note: free text.
        object_score: score at that time.
        threshold: threshold in effect at that time; ``None`` for none.
        decision: 1 abnormal, 0 normal, ``None`` without a threshold.
        scan: file of an uploaded scan, relative to the marks' folder; empty otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid.uuid4().hex, pattern="^[0-9a-f]{32}$")
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    author: str = Field(default="", max_length=200)
    sample: str = Field(min_length=1, max_length=1000)
    run: str = Field(default="", max_length=1000)
    category: str = Field(default="", max_length=200)
    verdict: Verdict
    defect: str = Field(default="", max_length=200, pattern=r"^[^/\\\x00-\x1f]*$")
    note: str = Field(default="", max_length=LONGEST_NOTE)
    object_score: float | None = None
    threshold: float | None = None
    decision: Literal[0, 1] | None = None
    scan: str = Field(default="", max_length=200)


def right_label(verdict: str, decision: int | None, defect: str, label: str = "") -> str:
    """Label that a mark gives its part.

    Args:
        verdict: of the mark.
        decision: 1 abnormal, 0 normal, ``None`` for none.
        defect: kind that the person named; may be empty.
        label: label that the part had; empty where it had none.

    Returns:
        ``good``, a kind of defect, ``defect`` for one of unknown kind; empty where the mark says nothing.
    """
    if verdict == "false_alarm":
        return GOOD
    if verdict == "missed":
        return defect or (label if label not in ("", GOOD) else SOME_DEFECT)
    if verdict == "relabel":
        return defect
    if verdict == "ok" and decision is not None:
        return GOOD if decision == 0 else defect or (label if label not in ("", GOOD) else SOME_DEFECT)
    return ""


class Marks:
    """The marks of a folder.

    Args:
        folder: made with the first mark.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def add(self, mark: Mark) -> Path:
        """Write a mark; once this returns it is on the disk."""
        path = self.folder / f"{mark.time:%Y%m%dT%H%M%S}-{mark.id}.json"
        write_json(path, mark.model_dump(mode="json"))
        return path

    def keep_scan(self, name: str, content: bytes) -> str:
        """Keep the file of an uploaded scan beside the marks, under its digest; its path relative to the folder."""
        suffix = re.sub(r"[^a-z0-9.]", "", Path(name).suffix.lower())[:8]
        relative = f"{SCANS_FOLDER}/{hashlib.sha256(content).hexdigest()[:32]}{suffix}"
        target = self.folder / relative
        if not target.is_file():
            with atomic_path(target) as temporary:
                temporary.write_bytes(content)
        return relative

    def all(self) -> list[Mark]:
        """All marks, by time. Files that are no marks are warned of and left out."""
        marks = []
        for path in sorted(self.folder.glob("[!.]*.json")) if self.folder.is_dir() else ():
            try:
                marks.append(Mark.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                _log.warning("%s: is no mark (%s); left out", printable(path), one_line(error))
        return sorted(marks, key=lambda mark: (mark.time, mark.id))

    def stamp(self) -> tuple[int, int]:
        """Changes whenever a mark is added: number of files and time of the folder's last change."""
        try:
            return len(os.listdir(self.folder)), self.folder.stat().st_mtime_ns
        except OSError:
            return 0, 0

    def latest(self) -> dict[tuple[str, str], Mark]:
        """The mark that counts of each part, by run and sample; withdrawn ones are left out."""
        return latest(self.all())


def latest(marks: Iterable[Mark]) -> dict[tuple[str, str], Mark]:
    """The last mark of each part, by run and sample, without those that were withdrawn."""
    last = {(mark.run, mark.sample): mark for mark in marks}
    return {key: mark for key, mark in last.items() if mark.verdict != "withdrawn"}


def marks_table(marks: Sequence[Mark]) -> pd.DataFrame:
    """Marks as a table, columns :data:`COLUMNS`, the newest first."""
    rows = [mark.model_dump(mode="json") for mark in reversed(marks)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def marks_csv(marks: Sequence[Mark]) -> str:
    """Marks as CSV. Texts that a spreadsheet would take for a formula get an apostrophe before them."""
    table = marks_table(marks)
    for column in ("author", "sample", "run", "category", "defect", "note"):
        table[column] = [f"'{text}" if str(text).startswith(_FORMULA) else text for text in table[column]]
    return table.to_csv(index=False, lineterminator="\n")


def export_labels(
    marks: Marks, root: Path, *, index: pd.DataFrame | None = None, split: str = "train"
) -> tuple[int, list[str]]:
    """Bring marks into the labels of a data set of own parts, for the next training.

    ``labels.csv`` is written with every scan of the data set: those marked get the label and the split of their mark,
    all others stay as they are. The mask of a part that is good now is taken away. Scans that were uploaded are copied
    to ``<root>/marked``. Calling it again changes nothing.

    Args:
        marks: where they lie.
        root: folder of the data set, see :mod:`gsclip.data.own_parts`.
        index: of the run that the marks are about: which scan a sample's name means; ``None`` where all marks are
            about uploaded scans.
        split: of the marked parts: ``train``, ``validation`` or ``test``; empty: as it was, ``test`` for new ones.

    Returns:
        How many parts have a label by a mark, and why others have none, a sentence each.

    Raises:
        InputError: when the data set cannot be listed or the split is none.
    """
    from gsclip.data.own_parts import LABELS_FILE, SPLITS, own_parts_index

    if split and split not in SPLITS:
        raise InputError(root, f"no such split: {split}", f"use {', '.join(SPLITS)}")
    rows: dict[str, dict[str, str]] = {}
    try:
        listed = own_parts_index(root, None, SPLITS)
    except InputError:
        if any(path.is_file() for path in Path(root).rglob("*")):  # an empty or new folder is no error here
            raise
    else:
        for row in listed.to_dict("records"):
            path, mask = str(row["scan_path"]), str(row["mask_path"]).partition("#")[0]
            rows[path] = {"scan": path, "mask": mask, **{key: str(row[key]) for key in ("category", "split", "defect")}}
    known = {} if index is None else dict(zip(index["name"], index["scan_path"], strict=True))
    left_out: list[str] = []
    labelled = 0
    for mark in marks.latest().values():
        problem = _apply(mark, marks.folder, Path(root), rows, known, split)
        if problem:
            left_out.append(f"{printable(mark.sample)}: {problem}")
        else:
            labelled += 1
    if labelled:
        text = io.StringIO()
        writer = csv.DictWriter(text, LABEL_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: (row["category"], row["split"], row["scan"])))
        write_text(Path(root) / LABELS_FILE, text.getvalue())
    return labelled, left_out


def _apply(
    mark: Mark,
    folder: Path,
    root: Path,
    rows: dict[str, dict[str, str]],
    known: Mapping[str, Any],
    split: str,
) -> str:
    """Put one mark into the rows; why it cannot be, or nothing."""
    if mark.scan:
        if not mark.category:
            return "has no category: mark it again with one"
        source = folder / mark.scan
        if Path(mark.scan).parts[:1] != (SCANS_FOLDER,) or ".." in Path(mark.scan).parts or not source.is_file():
            return f"its scan {printable(mark.scan)} is not among the marks"
        place = f"marked/{source.name}"
        if not (root / place).is_file():
            with atomic_path(root / place) as temporary:
                temporary.write_bytes(source.read_bytes())
        new = {"scan": place, "mask": "", "category": mark.category, "split": "test", "defect": ""}
        row = rows.setdefault(place, new)
    else:
        place = str(known.get(mark.sample, ""))
        if not place:
            return "is not in the index of this run, or has no file (generated parts have none)"
        row = rows.get(place, {})
        if not row:
            return f"its scan {printable(place)} is not in {printable(root)}"
    label = right_label(mark.verdict, mark.decision, mark.defect, row["defect"])
    if not label:
        return "the mark says no label"
    row["defect"], row["split"] = label, split or row["split"]
    if label == GOOD:
        row["mask"] = ""
    return ""
