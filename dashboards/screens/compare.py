"""Page "Compare": the chosen run against another one."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st
from dashboards import compare, data, runs, shell
from dashboards.baseline import comparable
from dashboards.text import _

from gsclip.errors import InputError
from gsclip.report.content import METRIC_NAMES


def main() -> None:
    """Draw the page."""
    shell.heading(_("Compare"), _("What would change for whom, if this run replaced another one?"))
    samples = shell.samples_or_guidance()
    other = choose_other()
    shell.write_url("run", "other", "threshold")
    if other is None:
        st.info(_("There is no other run yet: commit this one and change something, or put a run into runs/."))
        st.code(
            "dvc exp run -S stage2.depth_stream=false\n"
            "gsclip evaluate --dataset mvtec_3d_ad --root DIR --model MODEL --output mvtec.json --run runs/another",
            language="bash",
        )
        return
    names = (other_name(other), shell.recall("run").removeprefix("runs/"))
    show_samples(samples, other, names)
    left, right = st.columns(2, gap="large")
    with left:
        show_metrics(other)
    with right:
        show_parameters(other)


def others() -> dict[str, runs.Run | runs.Revision]:
    """What the run can be held against: revisions in git and other runs, those of the same parts first."""
    workspace, key = data.workspace(), shell.recall("run")
    found: dict[str, runs.Run | runs.Revision] = {}
    if key == runs.CURRENT:
        found |= {revision.commit[:12]: revision for revision in runs.revisions(workspace)}
    found |= {run.key: run for run in runs.find_runs(workspace) if run.key != key}
    if not (workspace / data.SAMPLES_FILE).is_file():
        found.pop(runs.CURRENT, None)
    own = metrics_of(runs.Run(key, shell.run_root()))
    return dict(sorted(found.items(), key=lambda item: not comparable(own, metrics_of(item[1]))))


def choose_other() -> runs.Run | runs.Revision | None:
    """The run to compare with."""
    found = others()
    if not found:
        return None
    if shell.recall("other") not in found:
        shell.remember("other", next(iter(found)))
    st.session_state["other_choice"] = shell.recall("other")
    st.selectbox(
        _("Compare with"),
        list(found),
        key="other_choice",
        format_func=lambda key: other_name(found[key]),
        width=520,
        on_change=lambda: shell.remember("other", st.session_state["other_choice"]),
    )
    return found[shell.recall("other")]


def other_name(other: runs.Run | runs.Revision) -> str:
    """What a reader calls it."""
    if isinstance(other, runs.Run):
        return _("Pipeline's run") if other.key == runs.CURRENT else other.name
    mark = _("champion") + " · " if other.champion else ""
    return f"{mark}{other.version or other.commit[:8]} · {other.date} · {other.subject[:60]}"


def show_samples(samples: pd.DataFrame, other: runs.Run | runs.Revision, names: tuple[str, str]) -> None:
    """Scores against each other, and the parts whose decision changed."""
    try:
        with st.spinner(_("Reading the scores of the other run …")):
            if isinstance(other, runs.Run):
                theirs = data.load_samples(other.root)
            else:
                theirs = runs.samples_at(str(data.workspace()), other.commit)
    except InputError as error:
        st.warning(shell.plain(error), icon=":material/info:")
        return
    table = compare.joined(samples[samples["role"] != data.AUXILIARY], theirs)
    if table.empty:
        st.info(_("The two runs have no part in common: only metrics and parameters can be compared."))
        return
    left, right = st.columns([1, 1.15], gap="large")
    with left:
        shell.section(
            _("Scores of the same parts"),
            _(
                "One mark a part: its object score (0 to 1) in the other run, to the right, and in this one, upwards. "
                "On the dotted line nothing changed; filled marks crossed a threshold (violet lines)."
            ),
        )
        figure = compare.scatter(
            table,
            names=(html.escape(names[0][:60]), html.escape(names[1])),
            thresholds=(data.own_threshold(theirs), data.own_threshold(samples)),
            labels=(_("good"), _("defective"), _("not labelled")),
        )
        st.plotly_chart(figure, key="scatter", config={"displayModeBar": False}, alt=_("Scores of both runs"))
    with right:
        show_changes(table)


def show_changes(table: pd.DataFrame) -> None:
    """Parts whose decision changed, the worst news first; a chosen row opens its part."""
    words = {
        compare.BROKEN: _("wrong now"),
        compare.FIXED: _("right now"),
        compare.CHANGED: _("changed"),
        compare.SAME: _("same"),
    }
    counts = table["change"].value_counts()
    shell.section(
        _("Parts whose decision changed"),
        _("{count} of {total} parts: {broken} were right and are wrong now, {fixed} the other way round.").format(
            count=int((table["change"] != compare.SAME).sum()),
            total=len(table),
            broken=int(counts.get(compare.BROKEN, 0)),
            fixed=int(counts.get(compare.FIXED, 0)),
        ),
    )
    changed = table[table["change"] != compare.SAME]
    shown = changed if len(changed) else table.head(10)
    if changed.empty:
        st.caption(_("None changed; these scores moved most."))
    event = st.dataframe(
        shown.assign(change=shown["change"].map(words))[
            ["change", "name", "defect", "other_score", "score", "difference"]
        ],
        hide_index=True,
        key="changes",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "change": st.column_config.TextColumn(_("Decision"), width=85),
            "name": st.column_config.TextColumn(_("Part"), width=185),
            "defect": st.column_config.TextColumn(_("Label"), width=75),
            "other_score": st.column_config.NumberColumn(_("Other"), format="%.3f", width=60),
            "score": st.column_config.NumberColumn(_("This"), format="%.3f", width=60),
            "difference": st.column_config.NumberColumn(_("Difference"), format="%+.3f", width=80),
        },
    )
    rows = event["selection"]["rows"]
    if rows and st.button(_("Open the part"), key="open_changed"):
        shell.open_sample(str(shown["name"].iloc[rows[0]]))


def show_metrics(other: runs.Run | runs.Revision) -> None:
    """Mean metrics of both runs."""
    shell.section(
        _("Metrics"),
        _("Means over the categories, fractions from 0 to 1; FPR the lower the better, others the higher."),
    )
    ours = metrics_of(runs.Run(shell.recall("run"), shell.run_root()))
    theirs = metrics_of(other)
    table = compare.metric_differences(ours, theirs)
    table["metric"] = [METRIC_NAMES.get(name, (name,))[0] for name in table["metric"]]
    if table.empty:
        st.info(_("One of the two has no metrics."))
        return
    facts = [values.get("data", {}) for values in (ours, theirs)]
    if facts[0].get("test_categories") != facts[1].get("test_categories"):
        st.caption(_("The two were tested on different categories: the differences are not those of the models."))
    st.dataframe(
        table,
        hide_index=True,
        key="metrics_table",
        column_config={
            "metric": st.column_config.TextColumn(_("Metric")),
            "ours": st.column_config.NumberColumn(_("This"), format="%.3f"),
            "other": st.column_config.NumberColumn(_("Other"), format="%.3f"),
            "difference": st.column_config.NumberColumn(_("Difference"), format="%+.3f"),
        },
    )


def metrics_of(run: runs.Run | runs.Revision) -> Mapping[str, Any]:
    """Metrics of either; empty where there are none."""
    if isinstance(run, runs.Revision):
        return runs.metrics_at(data.workspace(), run.commit)
    try:
        return data.load_metrics(run.root).model_dump()
    except InputError:
        return {}


def show_parameters(other: runs.Run | runs.Revision) -> None:
    """Parameters that differ; where a run has no file of parameters, the facts that its metrics state."""
    shell.section(_("Parameters that differ"), _("As in params.yaml, or as the metrics state them."))
    root = shell.run_root()
    pair: list[Mapping[str, Any]] = [
        runs.params_at(root, None),
        runs.params_at(data.workspace(), other.commit)
        if isinstance(other, runs.Revision)
        else runs.params_at(other.root, None),
    ]
    if not all(pair):
        pair = [
            metrics_of(runs.Run(shell.recall("run"), root)).get("data", {}),
            metrics_of(other).get("data", {}),
        ]
    table = compare.parameter_differences(*pair)
    if table.empty:
        st.info(_("None."))
        return
    st.dataframe(
        table,
        hide_index=True,
        key="parameters_table",
        column_config={
            "parameter": st.column_config.TextColumn(_("Parameter")),
            "ours": st.column_config.TextColumn(_("This")),
            "other": st.column_config.TextColumn(_("Other")),
        },
    )


main()
