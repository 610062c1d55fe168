"""Page "Overview": what was run on what, how well it did, and against what that counts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st
from dashboards import data, shell
from dashboards.baseline import Baseline, baselines, difference
from dashboards.text import _

from gsclip.errors import InputError
from gsclip.report.published import MVTEC_3D_AD, published_for

REPORT_FILE = "outputs/report/index.html"
STAGE_NAMES = {"stage1": "stage 1", "stage2": "stage 2"}


def metric_names() -> dict[str, tuple[str, str]]:
    """The headline metrics: name and meaning."""
    return {
        "o_auroc": (_("Object AUROC"), _("Probability that a defective part scores higher than a good one.")),
        "o_ap": (_("Object AP"), _("Average precision of the object score; chance is the share of defective parts.")),
        "point_auroc": (_("Point AUROC"), _("The same over the points of the parts, background excluded.")),
        "point_pro": (_("Point PRO"), _("Share of each defect that is covered, at false alarms up to 30 %.")),
        "pixel_auroc": (_("Pixel AUROC"), _("Over the whole grid of the scan, background included: chance is high.")),
        "pixel_pro": (_("Pixel PRO"), _("Over the whole grid of the scan, background included: chance is high.")),
    }


def main() -> None:
    """Draw the page."""
    root = shell.run_root()
    shell.heading(_("Overview"), _("How well does the model find defects on kinds of parts that it has never seen?"))
    shell.write_url("run")
    try:
        metrics = data.load_metrics(root)
    except InputError as error:
        shell.guidance(error)
        return
    show_identity(metrics, root)
    others = baselines(data.workspace(), metrics.model_dump()) if root == data.workspace() else []
    chosen = choose_baseline(others)
    show_headline(metrics, chosen)
    left, right = st.columns([1, 1.35], gap="large")
    with left:
        show_facts(metrics)
    with right:
        show_training(root)
    show_published(metrics)


def show_identity(metrics: data.Metrics, root: Path) -> None:
    """Data set, size, date and model on one line."""
    facts = metrics.data
    changed = datetime.fromtimestamp((root / data.METRICS_FILE).stat().st_mtime, UTC)
    parts = [
        _("**{dataset}**, {samples} parts, {defective} of them defective; kinds of parts: {categories}").format(
            dataset=shell.plain(facts.get("dataset", "?")),
            samples=facts.get("samples", "?"),
            categories=len(metrics.categories),
            defective=facts.get("defective", "?"),
        ),
        _("evaluated {date} UTC").format(date=f"{changed:%Y-%m-%d %H:%M}"),
    ]
    if files := data.model_files(root):
        from gsclip.decision import model_digest

        parts.append(_("model `{digest}`").format(digest=model_digest(files)[:12]))
    if facts.get("backbone") == "embedded":
        parts.append(":orange-badge[" + _("embedded backbone: not CLIP") + "]")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(" · ".join(parts))
        if (root / REPORT_FILE).is_file():
            st.download_button(
                _("Report (HTML)"), lambda: (root / REPORT_FILE).read_bytes(), "report.html", "text/html",
                on_click="ignore", key="report",
            )  # fmt: skip


def choose_baseline(others: list[Baseline]) -> Baseline | None:
    """The run that the differences are taken to."""
    if not others:
        return None
    by_key = {other.key: other for other in others}
    key = st.selectbox(
        _("Differences to"),
        list(by_key),
        format_func=lambda key: by_key[key].name,
        key="baseline",
        width=420,
        persist_state="session",
    )
    return by_key.get(key)


def show_headline(metrics: data.Metrics, baseline: Baseline | None) -> None:
    """Each metric with its interval, beside chance, the best possible and the baseline."""
    tiles = st.container(horizontal=True, gap="small", key="tiles")
    for name, (label, meaning) in metric_names().items():
        figure: data.Triple = getattr(metrics.mean, name)
        change = difference(metrics.model_dump(), baseline, name)
        low, high = getattr(metrics, f"{name}_interval", None) or (None, None)
        # Grey: within what other samples of the same kind would do to the figure.
        noise = 0.0005 if low is None or high is None else (high - low) / 2
        small = change is None or abs(change) < noise
        with tiles.container(border=True, height="stretch"):
            st.metric(
                label,
                shell.number(figure.ours),
                delta=None if change is None else shell.change(change),
                delta_color="off" if small else "normal",
                delta_arrow="off" if small else "auto",
                help=meaning,
            )
            interval = _("95 %: {low} to {high}").format(low=shell.number(low), high=shell.number(high))
            scale = _("chance {random} · best {oracle}").format(
                random=shell.number(figure.random), oracle=shell.number(figure.oracle)
            )
            st.caption(scale + ("" if low is None else f"  \n{interval}"))
    text = _(
        "Fractions from 0 to 1, means over the kinds of parts. A figure counts only between chance (random scores) and "
        "best (the ground truth itself as score)."
    )
    if baseline is not None:
        text += " " + _("Differences smaller than half the 95 % interval are grey: they mean little.")
    st.caption(text)


def show_facts(metrics: data.Metrics) -> None:
    """What was trained and tested."""
    facts = metrics.data
    shell.section(_("What was run"))
    rows = (
        (_("Protocol"), listed(facts, "protocol")),
        (_("Trained on"), f"{listed(facts, 'auxiliary_categories')} ({listed(facts, 'training_samples')})"),
        (_("Tested on"), listed(facts, "test_categories")),
        (_("Backbone"), listed(facts, "backbone_note" if "backbone_note" in facts else "backbone")),
        (_("Views"), f"{listed(facts, 'views')}, {listed(facts, 'cameras')}"),
        *([(_("Profile"), _("{name}: fewer views").format(name=facts["profile"]))] if facts.get("profile") else []),
        (_("Epochs"), listed(facts, "epochs")),
        (_("Seeds"), listed(facts, "seeds")),
        (
            _("Threshold"),
            _("{threshold} (object score); F1 of its decisions {f1}").format(
                threshold=shell.number(metrics.threshold), f1=shell.number(metrics.f1_at_threshold)
            ),
        ),
    )
    for name, value in rows:
        label, text = st.columns([1, 3.2])
        label.caption(name)
        text.markdown(shell.plain(value))


def listed(facts: dict[str, Any], key: str) -> str:
    """One fact in words."""
    value = facts.get(key)
    if value is None:
        return _("(not stated)")
    if isinstance(value, dict):
        return " · ".join(f"{STAGE_NAMES.get(name, name)}: {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def show_training(root: Path) -> None:
    """Learning curves of both stages."""
    from gsclip.report.figures import learning_figure, resized

    shell.section(_("Training"), _("Loss by epoch (no unit): it should fall and level off; its terms add up to it."))
    names = {"stage1": _("Stage 1: prompts"), "stage2": _("Stage 2: views")}
    curves = {stage: shell.loaded(data.load_curves, root, stage) for stage in names}
    drawn = {stage: curve for stage, curve in curves.items() if curve is not None and {"epoch", "loss"} <= set(curve)}
    if not drawn:
        st.info(_("This run trained nothing: its model was trained elsewhere."))
        return
    for column, (stage, curve) in zip(st.columns(2), drawn.items(), strict=False):
        column.markdown(names[stage])
        figure = resized(learning_figure(curve), 300)
        figure.update_xaxes(dtick=max(1, int(curve["epoch"].max()) // 8))
        column.plotly_chart(figure, key=stage, config={"displayModeBar": False}, alt=names[stage])


def show_published(metrics: data.Metrics) -> None:
    """Figures of others, marked as such."""
    dataset = str(metrics.data.get("dataset", ""))
    with st.container(border=True):
        shell.section(
            _("Published figures: not from this run"),
            _(
                "Per cent, whole data sets, CLIP ViT-L/14@336; their P-AUROC and P-PRO count the whole grid. For "
                "orientation only."
            ),
        )
        rows = [
            {
                _("Method"): row.method,
                _("Data set"): "MVTec 3D-AD" if row.dataset == MVTEC_3D_AD else row.dataset.capitalize(),
                _("Protocol"): row.protocol,
                "O-AUROC, %": percent(row.o_auroc),
                "O-AP, %": percent(row.o_ap),
                "P-AUROC, %": percent(row.pixel_auroc),
                "P-PRO, %": percent(row.pixel_pro),
                _("Source"): row.source,
            }
            for row in published_for(dataset)
        ]
        # Text is there sooner than Streamlit's tables, which load a library into the browser.
        lines = [list(rows[0]), ["---"] * 3 + ["--:"] * 4 + ["---"], *(list(row.values()) for row in rows)]
        st.markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def percent(value: float | None) -> str:
    """A published figure; a dash where there is none."""
    return "–" if value is None else f"{value:.1f}"


main()
