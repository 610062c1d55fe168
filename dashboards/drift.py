"""What monitoring has left behind: verdicts on windows of scans, Evidently's pages beside them, events.

Files are looked for in :data:`FOLDERS`, at any depth. A verdict is a JSON object that says ``drifted`` (as
:mod:`gsclip.monitoring.drift` writes it); Evidently's page has its name, or is ``drift.html`` beside it. Events are
lines of JSON in ``*.jsonl`` with a time and an ``event``, as the log of runs has them (the log of scans does not);
every log of a retraining below :data:`RETRAININGS` is one more. What cannot be read is left out: other tools write
here, too.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from gsclip.monitoring.log import LOG_FOLDER
from gsclip.report.figures import BLUE, NEUTRAL, VERMILION

FOLDERS = ("outputs/drift", "outputs/monitoring", "monitoring", "drift")
MOST_FILES = 2000
LARGEST = 2**22  # bytes of a verdict, and of a file of events that are read from its end
TIME_KEYS = ("time", "timestamp", "created", "at", "finished", "started", "date")
RETRAININGS = ".gsclip/retrain/logs"
RETRAINING, SCORING = "retraining", "score"  # kinds of events
FIRST_FACTS = ("outcome", "version", "reason", "scans", "scored", "rejected", "columns", "action")
LAST_FACTS = ("seconds", "model", "run")
_DATE = re.compile(r"(20\d\d)-?(\d\d)-?(\d\d)(?:[T_ -]?(\d\d)[:-]?(\d\d)(?:[:-]?(\d\d))?)?")


@dataclass(frozen=True)
class Verdict:
    """One comparison of a window with the reference.

    Attributes:
        path: of the JSON file.
        time: when, UTC.
        drifted: the verdict.
        text: the verdict in words.
        columns: rows with ``column``, ``distance`` and ``threshold``.
        page: Evidently's page; ``None`` where there is none.
        content: the whole file.
    """

    path: Path
    time: datetime
    drifted: bool
    text: str
    columns: tuple[Mapping[str, Any], ...]
    page: Path | None
    content: Mapping[str, Any]

    @property
    def worst(self) -> float | None:
        """Largest distance of a column in units of its threshold: above 1 it has drifted."""
        ratios = [row["distance"] / row["threshold"] for row in self.columns if row["threshold"]]
        return max(ratios, default=None)


@dataclass(frozen=True)
class Event:
    """Something that happened: a drift event, a retraining run, a promotion."""

    time: datetime
    kind: str
    text: str


def find_verdicts(workspace: Path) -> list[Verdict]:
    """All verdicts below the workspace, by time."""
    found = (_verdict(path) for path in _files(workspace, ".json"))
    return sorted((verdict for verdict in found if verdict is not None), key=lambda verdict: verdict.time)


def find_events(workspace: Path) -> list[Event]:
    """All events below the workspace, by time."""
    logs = sorted((workspace / RETRAININGS).glob("*.jsonl"))[-MOST_FILES:]
    events = [event for event in map(_retraining, logs) if event is not None]
    for path in _files(workspace, ".jsonl"):
        events += [event for event in map(_event, _last_lines(path)) if event is not None]
    return sorted(events, key=lambda event: event.time)


def stamp(workspace: Path) -> tuple[int, int]:
    """Changes whenever a file of monitoring is added or changed: number of files, and time of the last change."""
    times = [path.stat().st_mtime_ns for suffix in (".json", ".jsonl") for path in _files(workspace, suffix)]
    return len(times), max(times, default=0)


def timeline(verdicts: Sequence[Verdict], events: Sequence[Event], *, title: str, limit: str) -> go.Figure:
    """Worst distance of every window by time, its limit, and the events.

    Args:
        verdicts: by time.
        events: by time; those of one day share a line.
        title: of the vertical axis.
        limit: name of the line from which on a window has drifted.
    """
    shown = [verdict for verdict in verdicts if verdict.worst is not None]
    times = [verdict.time for verdict in shown]
    heights = [verdict.worst for verdict in shown]
    marker = {
        "size": 9,
        "color": [VERMILION if verdict.drifted else BLUE for verdict in shown],
        "symbol": ["diamond" if verdict.drifted else "circle" for verdict in shown],
    }
    line = {"color": NEUTRAL, "width": 1.2}
    figure = go.Figure(
        go.Scatter(
            x=times, y=heights, mode="lines+markers", marker=marker, line=line, showlegend=False,
            hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_hline(y=1, line={"color": VERMILION, "width": 1.5, "dash": "dash"}, annotation_text=limit)
    for event in events:
        figure.add_shape(
            type="line", x0=event.time, x1=event.time, y0=0, y1=1, yref="paper",
            line={"color": "#009E73", "width": 1.5, "dash": "dot"},
        )  # fmt: skip
        figure.add_annotation(
            x=event.time, y=1, yref="paper", text=_escaped(event.kind), showarrow=False, textangle=-90, xanchor="right",
            yanchor="top", font={"size": 11},
        )  # fmt: skip
    figure.update_layout(
        height=320,
        margin={"l": 50, "r": 10, "t": 20, "b": 30},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_yaxes(title={"text": title, "standoff": 6}, rangemode="tozero", zeroline=False)
    return figure


def _files(workspace: Path, suffix: str) -> list[Path]:
    """Files of one kind below the folders, the last changed ones, sorted; neither links nor the log of scans."""
    found: dict[Path, int] = {}
    for name in FOLDERS:
        folder = workspace / name
        if folder.is_dir():
            for path in folder.rglob(f"*{suffix}"):
                if path.parent.name != LOG_FOLDER and path.is_file() and not path.is_symlink():
                    found[path] = path.stat().st_mtime_ns
    return sorted(sorted(found, key=lambda path: (found[path], path))[-MOST_FILES:])


def _last_lines(path: Path) -> list[str]:
    """Lines of a file, of a large one the last :data:`LARGEST` bytes; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LARGEST))
            return file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _verdict(path: Path) -> Verdict | None:
    try:
        status = path.stat()
        content = json.loads(path.read_bytes()) if status.st_size <= LARGEST else None
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("drifted"), bool):
        return None
    pages = (path.with_suffix(".html"), path.with_name("drift.html"))
    return Verdict(
        path=path,
        time=_time(content) or _dated(path) or datetime.fromtimestamp(status.st_mtime, UTC),
        drifted=content["drifted"],
        text=str(content.get("verdict", "")),
        columns=tuple(_columns(content.get("columns"))),
        page=next((page for page in pages if page.is_file()), None),
        content=content,
    )


def _columns(rows: Any) -> Iterable[Mapping[str, Any]]:  # noqa: ANN401 - any JSON value
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and all(isinstance(row.get(key), (int, float)) for key in ("distance", "threshold")):
            yield row


def _event(line: str) -> Event | None:
    content = _object(line)
    time, kind = _time(content), content.get("event")
    if time is None or not isinstance(kind, str):
        return None
    return Event(time, kind, _facts({key: value for key, value in content.items() if key not in (*TIME_KEYS, "event")}))


def _retraining(path: Path) -> Event | None:
    """One event of the log of a retraining: when it began, why, and what came of it."""
    try:
        lines = [_object(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return None
    begun = next((line for line in lines if line.get("event") == "begun"), {})
    ended = next((line for line in lines if line.get("event") == "ended"), {"outcome": "not ended"})
    time = _time(begun)
    if time is None:
        return None
    names = ("outcome", "version", "reason", "seconds", "run")
    facts = {**begun, **{key: value for key, value in ended.items() if key not in TIME_KEYS}}
    return Event(time, RETRAINING, _facts({key: facts[key] for key in names if facts.get(key)}))


def _object(line: str) -> dict[str, Any]:
    """A line of JSON; empty where it is no object."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _facts(facts: Mapping[str, Any]) -> str:
    """Facts in words: what matters first, ids last."""
    others = [key for key in facts if key not in (*FIRST_FACTS, *LAST_FACTS)]
    keys = [key for key in (*FIRST_FACTS, *others, *LAST_FACTS) if facts.get(key) is not None]
    words = {key: ", ".join(map(str, facts[key])) if isinstance(facts[key], list) else str(facts[key]) for key in keys}
    return " · ".join(text if key in ("outcome", "action") else f"{key} {text}" for key, text in words.items())


def _time(content: Mapping[str, Any]) -> datetime | None:
    for key in TIME_KEYS:
        value = content.get(key)
        try:
            if isinstance(value, str):
                found = datetime.fromisoformat(value)
            elif isinstance(value, (int, float)) and value > 1e9:
                found = datetime.fromtimestamp(value, UTC)
            else:
                continue
        except (ValueError, OverflowError, OSError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _dated(path: Path) -> datetime | None:
    """Time in the name of the file or of its folders, the innermost that has one."""
    for part in reversed(path.parts[-4:]):
        if match := _DATE.search(part):
            year, month, day, hour, minute, second = (int(value or 0) for value in match.groups())
            try:
                return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            except ValueError:
                continue
    return None


def _escaped(text: str) -> str:
    return html.escape(text[:40])
