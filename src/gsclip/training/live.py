"""The learning curve while it grows, by dvclive: for `dvc plots`, the DVC extension of editors, or a look at the files.

It is for watching only. The curve that counts is the CSV file that a stage writes at its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def live_curve(folder: Path | None) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Give a function that adds one row of a learning curve (column ``epoch``, and values).

    Args:
        folder: emptied first, then ``metrics.json`` holds the last row and ``plots/metrics/<name>.tsv`` each column;
            ``None`` writes nothing.
    """
    if folder is None:
        yield lambda _row: None
        return
    from dvclive import Live

    with Live(str(folder), report=None, save_dvc_exp=False, dvcyaml=None, monitor_system=False) as live:

        def show(row: Mapping[str, float]) -> None:
            live.step = int(row["epoch"])
            for name, value in row.items():
                if name != "epoch":
                    live.log_metric(name, value)
            live.sync()

        yield show
