"""Made-up windows of scans."""

import numpy as np
import pandas as pd

from gsclip.monitoring.columns import EMBEDDING_COLUMNS, VALUE_COLUMNS


def window(rows, seed, **shifts):
    """Samples in order: all columns normal, in the sizes that scans in metres have; shifts are in their spreads."""
    rng = np.random.default_rng(seed)
    table = {"name": [f"part/test/good/{row:03d}" for row in range(rows)], "label": np.nan}
    for column in VALUE_COLUMNS:
        mean, deviation = (5e-4, 1e-5) if column == "spacing" else (0.1, 0.002)
        table[column] = mean + deviation * (rng.normal(size=rows) + shifts.get(column, 0))
    table["visible_share"] = np.ones(rows)
    for column in EMBEDDING_COLUMNS:
        table[column] = 0.05 * (rng.normal(size=rows) + shifts.get("embedding", 0))
    return pd.DataFrame(table)


def fill_log(log, frame, folder):
    """Log the rows of a window as a batch of scans, each a file of its own in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(frame.to_dict("records")):
        scan = folder / f"{log.batch}-{number}.xyz"
        scan.write_text(f"{log.batch} {number}")
        log.scored(scan, row)
