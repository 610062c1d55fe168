"""Results as Markdown, and what has changed since an earlier file of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SAME = 0.1  # relative change of a time below which nothing is said: runs differ by as much


def page(results: Mapping[str, Any]) -> str:
    """Markdown of a file of results."""
    machine = results["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    lines = [
        "# Speed, side by side",
        "",
        f"`make bench` at commit {machine['commit']}, on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']:g} GiB, {machine['threads']} threads where a row does not say otherwise; "
        f"Python {machine['python']}, {libraries}. Load before: {machine['load_before']:g}.",
        "",
        "Medians of runs in turn, in one process a row. *Naive* is a plain re-implementation of what the references "
        "do, written for this benchmark (`benchmarks/naive/`); tests hold its results against ours.",
        "",
    ]
    if results["clock"] == "cpu":
        lines += ["Seconds are those of all threads of the process (but for start-up): others were running.", ""]
    if results["quick"]:
        lines += ["**Quick run: sizes are tiny, the figures mean nothing.**", ""]
    lines += [
        "| | naive, s | ours, s | naive / ours | figure | target | met |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *(line for row in results["rows"] for line in _lines(row)),
        "",
    ]
    if results["failed"]:
        lines += [*(f"Not measured: {name} ({reason})." for name, reason in results["failed"].items()), ""]
    lines += ["## How each row was measured", ""]
    lines += [f"- **{row['what']}**: {row['how']}. Runs: {_runs(row)}." for row in results["rows"]]
    figures = [f"- **{row['what']}**: {_figures(row['figures'])}" for row in results["rows"] if row["figures"]]
    if figures:
        lines += ["", "## Further figures", "", *figures]
    lines += ["", "Peak memory of each process, MiB: " + _figures(results["peak_mib"]) + ".", ""]
    if results.get("against"):
        lines += _comparison(results["against"])
    lines += ["## Where time goes", "", "Functions by their own time, under cProfile; imports of start-up by package."]
    for name, shares in results["profiles"].items():
        lines += ["", f"| {name} | calls | s | % |", "| --- | ---: | ---: | ---: |"]
        lines += [
            f"| `{entry['where']}` | {entry['calls']:,} | {entry['seconds']:.3f} | {100 * entry['share']:.0f} |"
            for entry in shares
        ]
    return "\n".join([*lines, ""])


def compare(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Times and figures of the rows that both files of results have.

    Returns:
        ``commit`` and ``same_machine`` (same processor and cores; times compare only then) of the earlier one, and
        ``rows``: name, what, seconds before and now, their quotient, ratio before and now.
    """
    before = {row["name"]: row for row in earlier["rows"]}
    old, new = earlier["machine"], results["machine"]
    rows = [
        {
            "name": row["name"],
            "what": row["what"],
            "seconds_before": before[row["name"]]["ours_seconds"],
            "seconds_now": row["ours_seconds"],
            "times_as_fast": before[row["name"]]["ours_seconds"] / row["ours_seconds"],
            "ratio_before": before[row["name"]]["ratio"],
            "ratio_now": row["ratio"],
        }
        for row in results["rows"]
        if row["name"] in before
    ]
    same = all(old[key] == new[key] for key in ("processor", "cores", "threads")) and (
        (earlier["quick"], earlier["clock"]) == (results["quick"], results["clock"])
    )
    return {"commit": old["commit"], "same_machine": same, "rows": rows}


def _comparison(against: Mapping[str, Any]) -> list[str]:
    lines = [f"## Against commit {against['commit']}", ""]
    if not against["same_machine"]:
        lines += ["Another machine or other sizes: compare the ratios to the naive variant, not the seconds.", ""]
    lines += [
        "| | ours before, s | ours now, s | times as fast | naive / ours before | now |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in against["rows"]:
        fast = row["times_as_fast"]
        said = "as before" if abs(fast - 1) < SAME else f"{fast:.2f}"
        ratios = " | ".join("" if row[key] is None else f"{row[key]:.1f}" for key in ("ratio_before", "ratio_now"))
        lines.append(f"| {row['what']} | {row['seconds_before']:.3f} | {row['seconds_now']:.3f} | {said} | {ratios} |")
    return [*lines, ""]


def _lines(row: Mapping[str, Any]) -> list[str]:
    """One line for each target of a row; times in the first."""
    naive = "" if row["naive_seconds"] is None else f"{row['naive_seconds']:.3f}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
    first = f"| {row['what']} | {naive} | {row['ours_seconds']:.3f} | {ratio} |"
    if not row["checks"]:
        return [f"{first} | | |"]
    lines = []
    for number, check in enumerate(row["checks"]):
        start = "| | | | |" if number else first
        sign = "≥" if check["relation"] == ">=" else "≤"
        figure = f"{check['what']}: {_number(check['value'])}"
        target = f"{sign} {_number(check['target'])} {check['unit']}".rstrip()
        lines.append(f"{start} {figure} | {target} | {'yes' if check['met'] else '**no**'} |")
    return lines


def _runs(row: Mapping[str, Any]) -> str:
    parts = []
    for name, values in row["runs"].items():
        if values:
            parts.append(f"{name} {len(values)}, {min(values):.3g} to {max(values):.3g} s")
    return "; ".join(parts)


def _figures(figures: Mapping[str, Any]) -> str:
    known = {name.replace("_", " "): value for name, value in figures.items() if value is not None}
    return "; ".join(f"{name} {_value(value)}" for name, value in known.items())


def _value(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name}: {_value(entry)}" for name, entry in value.items()) + ")"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(entry) for entry in value)
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
