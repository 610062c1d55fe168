"""Page "Worst first": pictures of the parts that tell most, of a group that the reader chooses."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import streamlit as st
from dashboards import data, selection, shell
from dashboards.text import _

from gsclip.errors import InputError

IN_ROW, ROWS = 5, 3


def main() -> None:
    """Draw the page."""
    shell.heading(_("Worst first"), _("The parts that tell most about the model: choose one to look at it."))
    samples = shell.samples_or_guidance()
    root = shell.run_root()
    group = choose_group(samples)
    left, middle, right = st.columns([1, 1, 2], vertical_alignment="bottom")
    shell.filter_box(left, samples, "category", _("Category"))
    shell.filter_box(middle, samples, "defect", _("Kind of defect"))
    shell.write_url("run", "category", "defect", "group", "threshold")
    localisation = None
    if group in selection.NEEDS_LOCALISATION:
        with st.spinner(_("Comparing the point scores of every part with its ground truth …")):
            localisation = shell.loaded(data.load_localisation, root)
    rows = selection.listed(
        samples,
        group,
        category=shell.recall("category"),
        defect=shell.recall("defect"),
        localisation=localisation,
    )
    st.caption(reading(group))
    if rows.empty:
        st.info(_("No part is in this list under these filters."), icon=":material/info:")
        return
    page = choose_page(right, len(rows))
    show_cards(rows.iloc[page * IN_ROW * ROWS : (page + 1) * IN_ROW * ROWS], root, data.colour_range(samples))


def choose_group(samples: pd.DataFrame) -> str:
    """The lists as a row of choices, with how many parts each has."""
    groups = [group for group in selection.GROUPS if group != selection.AUXILIARY]
    if (samples["role"] == data.AUXILIARY).any():
        groups.append(selection.AUXILIARY)
    counts = {
        group: len(selection.listed(samples, group)) for group in groups if group not in selection.NEEDS_LOCALISATION
    }
    st.session_state["group_choice"] = shell.recall("group") or selection.WORST
    st.segmented_control(
        _("List"),
        groups,
        required=True,
        key="group_choice",
        format_func=lambda group: shell.group_name(group) + (f" ({counts[group]})" if group in counts else ""),
        on_change=lambda: shell.remember("group", st.session_state["group_choice"]),
        label_visibility="collapsed",
    )
    return shell.recall("group") or selection.WORST


def reading(group: str) -> str:
    """How to read the pictures of a group."""
    picture = _(
        " Pictures: front view under its own anomaly map (bright is anomalous), true defects outlined in green."
    )
    order = {
        selection.WORST: _("Farthest on the wrong side of the threshold first."),
        selection.MISSED: _("Defective parts scored below the threshold, the lowest first."),
        selection.FALSE_ALARMS: _("Good parts scored at or above the threshold, the highest first."),
        selection.WORST_LOCALISED: _(
            "Defects that the point scores find worst first: AUROC of the part's points, 0.5 is chance, 1 is perfect."
        ),
        selection.BEST_LOCALISED: _(
            "Defects that the point scores find best first: AUROC of the part's points, 0.5 is chance, 1 is perfect."
        ),
    }.get(group, _("Parts that were not trained on but set the threshold."))
    return order + picture


def choose_page(place: st.delta_generator.DeltaGenerator, count: int) -> int:
    """Which page of the pictures, from 0."""
    pages = math.ceil(count / (IN_ROW * ROWS))
    if pages == 1:
        return 0
    if not 1 <= st.session_state.get("page", 1) <= pages:
        st.session_state["page"] = 1
    with place.container(horizontal=True, horizontal_alignment="right", vertical_alignment="bottom"):
        at = st.session_state.get("page", 1)
        st.button(_("Previous"), shortcut="P", disabled=at == 1, on_click=_turn, args=(at - 1,), key="before")
        st.text(_("{first} to {last} of {count}").format(
            first=(at - 1) * IN_ROW * ROWS + 1, last=min(at * IN_ROW * ROWS, count), count=count
        ))  # fmt: skip
        st.button(_("Next"), shortcut="N", disabled=at == pages, on_click=_turn, args=(at + 1,), key="after")
    return int(at) - 1


def _turn(page: int) -> None:
    st.session_state["page"] = page


def show_cards(rows: pd.DataFrame, root: Path, limits: tuple[float, float]) -> None:
    """One card a part: picture, what was decided, what it is; its button opens the part."""
    records = rows.to_dict("records")
    for first in range(0, len(records), IN_ROW):
        for column, row in zip(st.columns(IN_ROW, gap="small"), records[first : first + IN_ROW], strict=False):
            with column.container(border=True, height="stretch"):
                try:
                    picture = data.load_thumbnail(root, row["category"], row["name"], limits)
                except InputError as error:
                    st.caption(shell.plain(error))
                else:
                    alt = _("Front view of {name} under its anomaly map").format(name=row["name"])
                    st.image(picture, width="stretch", alt=alt)
                score = shell.number(row["object_score"])
                wrong = row["outcome"] in ("missed", "false alarm")
                outcome = shell.outcome_name(row["outcome"]).capitalize()
                st.markdown(f":{'orange' if wrong else 'blue'}-badge[{outcome}] **{score}**")
                facts = [row["category"], row["defect"] or _("not labelled")]
                if "point_auroc" in row and pd.notna(row["point_auroc"]):
                    facts.append(_("AUROC {value}").format(value=shell.number(row["point_auroc"])))
                st.caption(shell.plain(" · ".join(facts)))
                label = _("Open {name}").format(name=str(row["name"]).rpartition("/")[2])
                named = shell.plain(row["name"])
                if st.button(shell.plain(label), key=f"open.{row['name']}", width="stretch", help=named):
                    shell.open_sample(row["name"])


main()
