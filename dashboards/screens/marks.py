"""Page "Marks": what people said about decisions, as a table and a file, and the way into the next training."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dashboards import judging, shell
from dashboards.text import _

from gsclip.marks import Mark, latest, marks_csv, marks_table


def main() -> None:
    """Draw the page."""
    shell.heading(_("Marks"), _("What people said about decisions, and the way of their word into the next training."))
    shell.write_url("run")
    store = judging.marks()
    marks = store.all()
    if not marks:
        st.info(_("Nobody has marked a part yet: the pages Sample and Score a scan have a form for it."))
    else:
        show_counts(marks)
        show_table(marks)
    shell.section(_("Into the next training"), _("Marks become labels of your own parts (data/raw), versioned by DVC:"))
    st.code(
        "gsclip marks labels data/raw/my_parts      # writes labels.csv; uploaded scans are copied to marked/\n"
        "dvc add data/raw/my_parts && git add marks data/raw/my_parts.dvc && git commit -m 'Labels from marks'\n"
        "dvc repro                                  # works on what has changed",
        language="bash",
    )
    st.caption(
        _(
            "A mark counts until a later one of the same part. A false alarm makes a part good, a missed defect or "
            "wrong label gives it the label that was named. Marks lie in {folder}, one file each: they belong into git."
        ).format(folder=shell.plain(store.folder))
    )


def show_counts(marks: list[Mark]) -> None:
    """How many marks of each kind count."""
    counting = list(latest(marks).values())
    columns = st.columns([1, 1, 1, 1, 3])
    for column, verdict in zip(columns, judging.VERDICTS, strict=False):
        column.metric(judging.verdict_name(verdict), sum(mark.verdict == verdict for mark in counting))


def show_table(marks: list[Mark]) -> None:
    """All marks, the newest first; a chosen row opens its part."""
    shell.section(
        _("All marks, the newest first"), _("Times are UTC; scores and thresholds, 0 to 1, are those at that time.")
    )
    table = marks_table(marks)
    counting = {mark.id for mark in latest(marks).values()}
    table["counts"] = table["id"].isin(counting)
    table["verdict"] = [judging.verdict_name(verdict) for verdict in table["verdict"]]
    table["time"] = pd.to_datetime(table["time"], utc=True).dt.strftime("%Y-%m-%d %H:%M")
    event = st.dataframe(
        table[["time", "author", "sample", "run", "verdict", "defect", "note", "object_score", "threshold", "counts"]],
        hide_index=True,
        key="marks_table",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "time": st.column_config.TextColumn(_("Time"), width=125),
            "author": st.column_config.TextColumn(_("Who")),
            "sample": st.column_config.TextColumn(_("Part")),
            "run": st.column_config.TextColumn(_("Run")),
            "verdict": st.column_config.TextColumn(_("Mark")),
            "defect": st.column_config.TextColumn(_("Label")),
            "note": st.column_config.TextColumn(_("Note"), width="large"),
            "object_score": st.column_config.NumberColumn(_("Score"), format="%.3f", width=70),
            "threshold": st.column_config.NumberColumn(_("Threshold"), format="%.3f", width=100),
            "counts": st.column_config.CheckboxColumn(
                _("Counts"), help=_("Whether no later mark replaces it."), width=70
            ),
        },
    )
    with st.container(horizontal=True):
        st.download_button(
            _("Export (CSV)"), marks_csv(marks).encode(), "marks.csv", "text/csv", on_click="ignore", key="export_marks"
        )
        rows = event["selection"]["rows"]
        if rows and (run := str(table["run"].iloc[rows[0]])):
            if st.button(_("Open the part"), key="open_marked"):
                shell.remember("run", run)
                shell.open_sample(str(table["sample"].iloc[rows[0]]))
        else:
            st.caption(_("Choose a row to open its part."))


main()
