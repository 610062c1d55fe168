"""Tables of many runs: every figure in one long table, and pages that give means, spread over seeds and what was run.

Figures in CSV files are fractions, on pages per cent. The spread is the standard deviation over the seeds of the
training (n - 1 in the denominator); the test samples are the same under every seed, so it says nothing of them: pages
give the interval over test samples beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from gsclip.experiments.runs import Run
from gsclip.experiments.variants import ABLATION
from gsclip.report.published import CROSS_DATA_SET, ONE_VS_REST, PUBLISHED, PUBLISHED_ABLATION

MEAN = "mean"
FIGURES = {
    "o_auroc": "O-AUROC",
    "o_ap": "O-AP",
    "point_auroc": "point AUROC",
    "point_pro": "point PRO",
    "pixel_auroc": "pixel AUROC",
    "pixel_pro": "pixel PRO",
    "pixel_pro_paper_protocol": "pixel PRO, 200 thresholds",
}
SOURCE_ROWS = {"random": "random scores", "oracle": "oracle (ground truth)"}

INTERVALS = ("o_auroc", "point_auroc")
SEEDS_TO_TELL = 3

PARTS = (
    ("SRM", "learned prompts (PointAD-like)", "+ SRM"),
    ("shape prompt", "+ SRM", "+ SRM + shape"),
    ("defect prompt", "+ SRM", "+ SRM + defect"),
    ("shape and defect prompt", "+ SRM", "+ SRM + shape + defect"),
    ("L_con", "+ SRM + shape + defect", "+ SRM + shape + defect + L_con (GS-CLIP)"),
    ("all of GS-CLIP", "learned prompts (PointAD-like)", "+ SRM + shape + defect + L_con (GS-CLIP)"),
)
"""What each part adds: name, row without it, row with it."""


def long_table(protocol: str, finished: Iterable[tuple[Run, dict[str, Any]]]) -> pd.DataFrame:
    """One row per run and category, and one for the mean over categories.

    Returns:
        Columns ``protocol, row, seed, trained_on, training_split, training_samples, tested_on, test_splits, category,
        samples``; for each metric its figure and ``<metric>_random``, ``<metric>_oracle``; ``o_auroc_low`` and
        ``o_auroc_high``, ``point_auroc_low`` and ``point_auroc_high``, 95 % intervals over test samples.
    """
    rows = []
    for run, metrics in finished:
        data = metrics["data"]
        said = {
            "protocol": protocol,
            "row": run.row,
            "seed": run.seed,
            "trained_on": ", ".join(data["auxiliary_categories"]),
            "training_split": ", ".join(data["training_splits"]),
            "training_samples": data["training_samples"],
            "tested_on": run.test.dataset,
            "test_splits": ", ".join(data["test_splits"]),
        }
        for category, figures in {MEAN: metrics[MEAN], **metrics["categories"]}.items():
            samples = data["samples"] if category == MEAN else figures["samples"]
            values = {
                metric if source == "ours" else f"{metric}_{source}": figures[metric][source]
                for metric in metrics[MEAN]
                for source in figures[metric]
            }
            for metric in INTERVALS:
                low, high = (metrics if category == MEAN else figures)[f"{metric}_interval"]
                values |= {f"{metric}_low": low, f"{metric}_high": high}
            rows.append({**said, "category": category, "samples": samples, **values})
    return pd.DataFrame(rows)


def ablation_page(table: pd.DataFrame, header: str) -> str:
    """The ablation as Markdown: a table for each data set tested on, and what each part adds."""
    lines = ["# Ablation", "", header, ""]
    for dataset, figures in table.groupby("tested_on", sort=False):
        lines += [f"## Tested on {dataset}", "", *_said(figures), ""]
        means = figures[figures["category"] == MEAN]
        lines += _head(["row", "seeds", *FIGURES.values(), "O-AUROC/O-AP¹", "P-AUROC¹", "P-PRO¹"])
        for variant in ABLATION:
            own = means[means["row"] == variant.name]
            published = next((row for row in PUBLISHED_ABLATION if row.row == variant.published), None)
            quoted = ["–"] * 3
            if published is not None:
                objects = f"{published.o_auroc}/{published.o_ap}"
                quoted = [objects, f"{published.pixel_auroc}", f"{published.pixel_pro}"]
            lines.append(_line([variant.name, str(len(own)), *(_spread(own[metric]) for metric in FIGURES), *quoted]))
        lines += _sources(means, extra=["", ""], after=["", "", ""])
        lines += ["", "What each part adds, same seed against same seed, in points:", ""]
        lines += _head(["part", *FIGURES.values(), "O-AUROC and point AUROC²"])
        for part, without, with_part in PARTS:
            differences = _differences(means, without, with_part)
            shown = [_signed(differences[metric]) for metric in FIGURES]
            lines.append(_line([part, *shown, _verdict(differences)]))
        lines.append("")
    lines += [
        "¹ Published, not ours: the paper's Table 4 (CLIP ViT-L/14 at 336 pixels, MVTec 3D-AD, one-vs-rest; other data "
        "and another backbone than ours). Its PRO uses 200 thresholds: compare it with our column of that name.",
        "",
        "² better: both are higher with the part under each of at least three seeds, by more than twice the standard "
        "error of the mean difference; worse: likewise lower; otherwise not shown. This tells a part from the luck of "
        "the training. It does not say that other test samples would give the same: see the interval above.",
        "",
    ]
    return "\n".join(lines)


def protocols_page(table: pd.DataFrame, header: str) -> str:
    """The evaluation protocols as Markdown: mean over auxiliary categories, by category, and by auxiliary category."""
    lines = ["# Evaluation protocols", "", header, ""]
    for (protocol, dataset), figures in table.groupby(["protocol", "tested_on"], sort=False):
        lines += [f"## {protocol}, tested on {dataset}", "", *_said(figures), ""]
        lines += _head(["", *FIGURES.values()])
        auxiliaries = list(dict.fromkeys(figures["row"]))
        categories = [name for name in dict.fromkeys(figures["category"]) if name != MEAN]
        means = figures[figures["category"] == MEAN]
        for category in sorted(categories):
            own = figures[figures["category"] == category]
            lines.append(_line([category, *(_spread(_by_seed(own, metric)) for metric in FIGURES)]))
        lines.append(_line(["**mean**", *(f"**{_spread(_by_seed(means, metric))}**" for metric in FIGURES)]))
        lines += _sources(means)
        for auxiliary in auxiliaries:
            own = means[means["row"] == auxiliary]
            lines.append(_line([f"trained on {auxiliary} alone", *(_spread(own[metric]) for metric in FIGURES)]))
        for row in PUBLISHED:
            if row.protocol == (ONE_VS_REST if protocol == "one-vs-rest" else CROSS_DATA_SET):
                values = (row.o_auroc, row.o_ap, None, None, row.pixel_auroc, None, row.pixel_pro)
                shown = ["–" if value is None else f"{value:.1f}" for value in values]
                lines.append(_line([f"published: {row.method} on {row.dataset}, {row.protocol}¹", *shown]))
        lines.append("")
    lines += [
        "Categories and mean: average over the auxiliary categories that the category was tested under, ± standard "
        "deviation over the seeds.",
        "",
        "¹ Published by other authors, with CLIP ViT-L/14 at 336 pixels and on all of the data set named; not ours. "
        "Their PRO uses 200 thresholds.",
        "",
    ]
    return "\n".join(lines)


def kinds_table(finished: Iterable[tuple[Run, dict[str, Any]]]) -> pd.DataFrame:
    """One row per run and kind of defect: columns ``row, seed, tested_on, defect, samples, o_auroc, point_auroc``."""
    rows = [
        {"row": run.row, "seed": run.seed, "tested_on": run.test.dataset, "defect": kind, **figures}
        for run, metrics in finished
        for kind, figures in metrics["defects"].items()
    ]
    return pd.DataFrame(rows)[["row", "seed", "tested_on", "defect", "samples", "o_auroc", "point_auroc"]]


def comparison_page(table: pd.DataFrame, kinds: pd.DataFrame, header: str) -> str:
    """The comparison as Markdown: for each data set all rows with intervals, and the last row by kind of defect.

    Args:
        table: of :func:`long_table`.
        kinds: of :func:`kinds_table`.
        header: what holds for all runs.
    """
    lines = ["# Comparison", "", header, ""]
    for dataset, figures in table.groupby("tested_on", sort=False):
        trained = figures[figures["training_samples"] > 0]
        lines += [f"## Tested on {dataset}", "", *_said(trained if len(trained) else figures), ""]
        means = figures[figures["category"] == MEAN]
        lines += _head(["row", "seeds", *FIGURES.values()])
        for row in dict.fromkeys(means["row"]):
            own = means[means["row"] == row]
            shown = (_with_interval(own, metric) if metric in INTERVALS else _spread(own[metric]) for metric in FIGURES)
            lines.append(_line([row, str(len(own)), *shown]))
        lines += _sources(means, extra=["", ""])
        last = means["row"].iloc[-1]
        lines += ["", f"{last}, by kind of defect, each against all good samples of its category:", ""]
        lines += _head(["defect", "samples", "O-AUROC", "point AUROC"])
        own = kinds[(kinds["tested_on"] == dataset) & (kinds["row"] == last)]
        for kind, members in own.groupby("defect", sort=True):
            samples = str(members["samples"].iloc[0])
            lines.append(_line([str(kind), samples, *(_spread(members[name]) for name in ("o_auroc", "point_auroc"))]))
        lines.append("")
    lines += ["In brackets: 95 % interval over test samples (bootstrap), averaged over seeds.", ""]
    return "\n".join(lines)


def _with_interval(own: pd.DataFrame, metric: str) -> str:
    low, high = (100 * pd.to_numeric(own[f"{metric}_{end}"]).mean() for end in ("low", "high"))
    interval = "" if pd.isna(low) or pd.isna(high) else f" [{low:.0f}, {high:.0f}]"
    return _spread(own[metric]) + interval


def _said(figures: pd.DataFrame) -> list[str]:
    """What was trained on and tested on, in sentences."""
    first = figures.iloc[0]
    settings = figures[["trained_on", "training_samples", "training_split"]].drop_duplicates()
    training = "; or ".join(
        f"{row.trained_on} ({row.training_samples} samples of the split {row.training_split})"
        for row in settings.itertuples()
    )
    means = figures[figures["category"] == MEAN]
    counts = sorted(set(means["samples"]))
    samples = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = ", ".join(str(seed) for seed in sorted(set(figures["seed"])))
    splits = "; ".join(sorted(set(figures["test_splits"])))
    runs = "Each run is trained" if len(settings) > 1 else "Trained"
    widths = (means["o_auroc_high"] - means["o_auroc_low"]) / 2
    interval = "" if widths.isna().all() else (
        f" The 95 % interval of O-AUROC over test samples reaches {100 * widths.mean():.0f} points to either side: "
        "smaller differences may be those of the samples."
    )
    return [
        f"{runs} on {training}, and tested on {samples} samples of other categories of {first['tested_on']} (splits "
        f"{splits}). Seeds of the training: {seeds}. Per cent, mean over categories ± standard deviation over seeds."
        f"{interval}"
    ]


def _by_seed(figures: pd.DataFrame, metric: str) -> pd.Series:
    """Averages over auxiliary categories, one for each seed."""
    return figures.groupby("seed")[metric].mean()


def _differences(means: pd.DataFrame, without: str, with_part: str) -> pd.DataFrame:
    columns = list(FIGURES)
    before, after = (means[means["row"] == row].set_index("seed")[columns] for row in (without, with_part))
    return (after - before).dropna(how="all")


def _verdict(differences: pd.DataFrame) -> str:
    deciding = differences[["o_auroc", "point_auroc"]].dropna()
    if deciding.empty:
        return "not run"
    if len(deciding) < SEEDS_TO_TELL:
        return "not shown"
    margin = 2 * deciding.std() / len(deciding) ** 0.5
    for name, gain in (("better", deciding), ("worse", -deciding)):
        if (gain > 0).all(axis=None) and (gain.mean() > margin).all():
            return name
    return "not shown"


def _sources(means: pd.DataFrame, extra: Sequence[str] = ("",), after: Sequence[str] = ()) -> list[str]:
    once = means[means["seed"] == means["seed"].iloc[0]]  # the same under every seed of the training
    lines = []
    for source, name in SOURCE_ROWS.items():
        values = [pd.to_numeric(once[f"{metric}_{source}"]).mean() for metric in FIGURES]
        lines.append(_line([name, *extra[1:], *(_spread(pd.Series([value])) for value in values), *after]))
    return lines


def _format(values: pd.Series, one: Callable[[float], str]) -> str:
    values = pd.to_numeric(values).dropna()
    if values.empty:
        return "–"
    return one(100 * values.mean()) + (f" ± {100 * values.std():.1f}" if len(values) > 1 else "")


def _spread(values: pd.Series) -> str:
    return _format(values, lambda mean: f"{mean:.1f}")


def _signed(values: pd.Series) -> str:
    return _format(values, lambda mean: f"{mean:+.1f}")


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), _line(["---", *["---:"] * (len(names) - 1)])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
