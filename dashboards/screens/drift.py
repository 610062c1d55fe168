"""Page "Drift": do the scans of late still look like those of the reference, and what was done about it?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st
from dashboards import data, drift, runs, shell
from dashboards.text import _

LARGEST_PAGE = 40 * 2**20  # bytes


@st.cache_data(max_entries=2, show_spinner=False)
def read(workspace: str, stamp: tuple[int, int]) -> tuple[list[drift.Verdict], list[drift.Event]]:
    """Verdicts and events of a workspace."""
    return drift.find_verdicts(Path(workspace)), drift.find_events(Path(workspace))


def main() -> None:
    """Draw the page."""
    lead = _("Do the scans of late still look like those of the reference, and what was done about it?")
    shell.heading(_("Drift"), lead)
    shell.write_url()
    workspace = data.workspace()
    verdicts, events = read(str(workspace), drift.stamp(workspace))
    if not verdicts:
        st.info(_("No batch of scans has been compared with a reference yet."), icon=":material/info:")
        st.markdown(_("This compares one; give every batch a folder of its own:"))
        st.code(
            "gsclip score good/ --model models/gsclip --output good\n"
            "gsclip score today/ --model models/gsclip --output scores\n"
            "gsclip drift --reference good/samples.csv --current scores/samples.csv "
            "--output outputs/drift/2026-01-31",
            language="bash",
        )
        st.caption(_("Looked in {folders}.").format(folders=", ".join(drift.FOLDERS)))
    else:
        show_timeline(verdicts, events)
        show_verdict(verdicts)
    show_events(events)


def show_timeline(verdicts: list[drift.Verdict], events: list[drift.Event]) -> None:
    """All windows by time."""
    last = verdicts[-1]
    word = _("drift") if last.drifted else _("no drift")
    counts = _("{drifted} of {total} windows drifted; the last one: {word}, {time} UTC.").format(
        drifted=sum(verdict.drifted for verdict in verdicts),
        total=len(verdicts),
        word=word,
        time=f"{last.time:%Y-%m-%d %H:%M}",
    )
    st.markdown(counts)
    shell.section(
        _("Timeline"),
        _(
            "Each mark is a window of scans: the distance of its farthest column from the reference, in units of that "
            "column's threshold. Above 1 (dashed) it has drifted; dotted lines are retrainings and runs of the "
            "monitoring."
        ),
    )
    figure = drift.timeline(
        verdicts,
        [event for event in events if event.kind != drift.SCORING],
        title=_("distance / threshold"),
        limit=_("drift from here on"),
    )
    st.plotly_chart(figure, key="timeline", config={"displayModeBar": False}, alt=_("Drift by time"))


def show_verdict(verdicts: list[drift.Verdict]) -> None:
    """One window: its columns, and Evidently's page."""
    newest = list(reversed(verdicts))
    place = st.selectbox(
        _("Window"),
        range(len(newest)),
        format_func=lambda place: f"{newest[place].time:%Y-%m-%d %H:%M} · {newest[place].text[:90]}",
        key="window",
        width=760,
    )
    verdict = newest[place or 0]
    if verdict.drifted:
        st.warning(shell.plain(verdict.text or _("drift")), icon=":material/warning:")
    else:
        st.success(shell.plain(verdict.text or _("no drift")), icon=":material/check:")
    if verdict.columns:
        shell.section(
            _("Columns"),
            _("Distance in standard deviations of the reference; a column has drifted where it exceeds its threshold."),
        )
        table = pd.DataFrame(list(verdict.columns))
        table["ratio"] = table["distance"] / table["threshold"].where(table["threshold"] > 0)
        names = ["column", "distance", "threshold", "ratio", "reference_mean", "current_mean"]
        wanted = [name for name in names if name in table]
        table = table.sort_values("ratio", ascending=False)[wanted]
        for mean in {"reference_mean", "current_mean"} & set(wanted):  # an embedding has none
            table[mean] = [mean_text(value) for value in table[mean]]
        st.dataframe(
            table,
            hide_index=True,
            key="columns",
            height=300,
            column_config={
                "column": st.column_config.TextColumn(_("Column")),
                "distance": st.column_config.NumberColumn(_("Distance"), format="%.3f"),
                "threshold": st.column_config.NumberColumn(_("Threshold"), format="%.3f"),
                "ratio": st.column_config.ProgressColumn(
                    _("Of its threshold"), format="%.2f", min_value=0.0, max_value=max(2.0, float(table["ratio"].max()))
                ),
                "reference_mean": st.column_config.TextColumn(_("Mean, reference"), alignment="right"),
                "current_mean": st.column_config.TextColumn(_("Mean, now"), alignment="right"),
            },
        )
    st.caption(
        _(
            "Without labels nothing is said about accuracy: drift tells that scans look different, not that decisions "
            "are wrong."
        )
    )
    show_page(verdict)


def show_page(verdict: drift.Verdict) -> None:
    """Evidently's page inside of this one."""
    if verdict.page is None:
        st.caption(_("This window has no page by Evidently."))
        return
    if verdict.page.stat().st_size > LARGEST_PAGE:
        text = _("Its page by Evidently is too large to be shown here: {file}")
        st.caption(text.format(file=shell.plain(verdict.page)))
        return
    page = verdict.page
    with st.container(horizontal=True, vertical_alignment="center"):
        shown = st.toggle(_("Show Evidently's report"), key="evidently")
        st.download_button(
            _("Download it (HTML)"), page.read_bytes, "drift.html", "text/html", on_click="ignore", key="evidently_file"
        )
    if shown:
        st.iframe(page, height=900)


def mean_text(value: float | None) -> str:
    """A mean of a column, of whatever size."""
    if value is None or pd.isna(value):
        return shell.number(None)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def show_events(events: list[drift.Event]) -> None:
    """Events of monitoring, and versions of the model in git."""
    rows = [{"time": event.time, "what": event.kind, "details": event.text} for event in events]
    for revision in runs.revisions(data.workspace()):
        if revision.champion or revision.version:
            what = _("champion") if revision.champion else _("version")
            details = f"{revision.version or revision.commit[:8]} · {revision.subject}"
            rows.append({"time": pd.Timestamp(revision.date, tz="UTC"), "what": what, "details": details})
    shell.section(_("Events and retraining"), _("Times are UTC, the newest first."))
    if not rows:
        st.caption(_("None yet. `make retrain` runs the pipeline with a report; a schedule is in docs/operations.md."))
        return
    table = pd.DataFrame(rows).sort_values("time", ascending=False)
    table["time"] = pd.to_datetime(table["time"], utc=True).dt.strftime("%Y-%m-%d %H:%M")
    st.dataframe(
        table,
        hide_index=True,
        key="events",
        column_config={
            "time": st.column_config.TextColumn(_("Time"), width=130),
            "what": st.column_config.TextColumn(_("What"), width=110),
            "details": st.column_config.TextColumn(_("Details"), width=900),
        },
    )


main()
