"""Which samples are listed, and in which order: pure functions of the table of samples."""

from __future__ import annotations

import pandas as pd

WORST, MISSED, FALSE_ALARMS = "worst", "missed", "false-alarms"
WORST_LOCALISED, BEST_LOCALISED, AUXILIARY = "worst-localised", "best-localised", "auxiliary"
GROUPS = (WORST, MISSED, FALSE_ALARMS, WORST_LOCALISED, BEST_LOCALISED, AUXILIARY)
NEEDS_LOCALISATION = (WORST_LOCALISED, BEST_LOCALISED)


def listed(
    samples: pd.DataFrame,
    group: str,
    *,
    category: str | None = None,
    defect: str | None = None,
    localisation: pd.Series | None = None,
) -> pd.DataFrame:
    """Samples of a group, the most telling first.

    Args:
        samples: as :func:`dashboards.data.load_samples` gives it, worst first.
        group: one of :data:`GROUPS`; all but the last are about samples that training never saw.
        category: of these alone.
        defect: of this kind alone.
        localisation: point AUROC by name, for the groups of :data:`NEEDS_LOCALISATION`.

    Returns:
        Rows of ``samples``, with ``point_auroc`` where ``localisation`` is given.
    """
    is_auxiliary = samples["role"] == "auxiliary"
    rows = samples[is_auxiliary if group == AUXILIARY else ~is_auxiliary]
    if category is not None:
        rows = rows[rows["category"] == category]
    if defect is not None:
        rows = rows[rows["defect"] == defect]
    if localisation is not None:
        rows = rows.assign(point_auroc=rows["name"].map(localisation).astype(float))
    if group == MISSED:
        rows = rows[rows["outcome"] == "missed"]
    elif group == FALSE_ALARMS:
        rows = rows[rows["outcome"] == "false alarm"]
    elif group in NEEDS_LOCALISATION:
        rows = rows[rows["point_auroc"].notna()] if "point_auroc" in rows else rows.iloc[:0]
        if "point_auroc" in rows:
            ascending = group == WORST_LOCALISED
            rows = rows.sort_values(["point_auroc", "name"], ascending=[ascending, True], kind="stable")
    return rows.reset_index(drop=True)


def neighbours(names: list[str], current: str) -> tuple[str | None, str | None]:
    """The names before and after one in a list; the first one follows a name that is not in it."""
    if current not in names:
        return None, names[0] if names else None
    place = names.index(current)
    return names[place - 1] if place else None, names[place + 1] if place + 1 < len(names) else None
