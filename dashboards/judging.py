"""What was decided about a part, and the form in which a person says whether that was right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from dashboards import data, shell
from dashboards.text import _
from gsclip.errors import InputError
from gsclip.marks import FOLDER, LONGEST_NOTE, Mark, Marks

VERDICTS = ("ok", "false_alarm", "missed", "relabel")
WRONG = ("missed", "false alarm")


@dataclass(frozen=True)
class Part:
    """The part that is judged.

    Attributes:
        sample: name of the sample, or of the uploaded file.
        run: of which run; empty for an uploaded scan.
        category: may be empty for an uploaded scan.
        object_score: its score.
        threshold: in effect; ``None`` for none.
        label: its label; empty where it has none.
        content: gives the file of an uploaded scan, which is kept with the mark; ``None`` for a sample of a run.
        file_name: of the uploaded scan.
    """

    sample: str
    run: str
    category: str
    object_score: float
    threshold: float | None
    label: str = ""
    content: Callable[[], bytes] | None = None
    file_name: str = ""

    @property
    def decision(self) -> int | None:
        """1 abnormal, 0 normal, ``None`` without a threshold."""
        return None if self.threshold is None else int(self.object_score >= self.threshold)


def marks() -> Marks:
    """The marks of the workspace: those of all its runs."""
    return Marks(data.workspace() / FOLDER)


def verdict_name(verdict: str) -> str:
    """A verdict as readers see it."""
    return {
        "ok": _("Right"),
        "false_alarm": _("A false alarm"),
        "missed": _("A missed defect"),
        "relabel": _("Of the wrong label"),
    }.get(verdict, _("Withdrawn"))


def decision(row: pd.Series) -> None:
    """Score against threshold, and the decision in one word."""
    decided_as(float(row["object_score"]), None if pd.isna(row["threshold"]) else float(row["threshold"]))
    outcome = str(row["outcome"])
    if outcome in WRONG:
        st.badge(shell.outcome_name(outcome).capitalize(), color="orange", icon=":material/close:")
    elif outcome in ("found", "passed"):
        right = _("Right: {outcome}").format(outcome=shell.outcome_name(outcome))
        st.badge(right, color="blue", icon=":material/check:")


def decided_as(score: float, threshold: float | None) -> None:
    """The score, and how far it is from the threshold."""
    word = _("No threshold") if threshold is None else _("Abnormal") if score >= threshold else _("Normal")
    with st.container(border=True):
        st.metric(
            _("Decision"),
            word,
            delta=None if threshold is None else f"{score - threshold:+.3f}",
            delta_color="off",
            delta_arrow="off",
            delta_description=_("from threshold"),
            help=_("Abnormal where the object score, 0 to 1, is at or above the threshold."),
        )
        text = _("Object score **{score}**, threshold {threshold}")
        st.markdown(text.format(score=shell.number(score), threshold=shell.number(threshold)))


def mark_form(part: Part, kinds: list[str]) -> None:
    """The mark that counts, and a form for another one."""
    st.subheader(_("Your mark"), anchor=False)
    store = marks()
    if st.session_state.pop("mark_saved", None) == part.sample:
        st.toast(_("Saved."))
    current = _latest(store).get((part.run, part.sample))
    if current is not None:
        said = _("{verdict} {label} – {author}, {time}").format(
            verdict=f"**{verdict_name(current.verdict)}**",
            label=f"({shell.plain(current.defect)})" if current.defect else "",
            author=shell.plain(current.author) or _("unnamed"),
            time=f"{current.time:%Y-%m-%d %H:%M} UTC",
        )
        st.markdown(said)
        if current.note:
            st.text(current.note)
        st.button(_("Withdraw"), on_click=_save, args=(store, part, "withdrawn", "", "", ""), key="withdraw")
    with st.form("mark", border=True, enter_to_submit=False):
        verdict = st.radio(
            _("The decision is"), VERDICTS, index=None, format_func=verdict_name, key=f"verdict.{part.sample}"
        )
        kind = st.selectbox(
            _("Right label, where it is known"),
            [data.GOOD, *kinds],
            index=None,
            placeholder=_("choose, or type another"),
            accept_new_options=True,
            key=f"kind.{part.sample}",
        )
        category = part.category
        if not part.run:
            category = st.text_input(_("Category of the part"), part.category, max_chars=200, key="mark_category")
        note = st.text_area(_("Note"), max_chars=LONGEST_NOTE, height=68, key=f"note.{part.sample}")
        author = st.text_input(_("Your name"), shell.recall("author", ""), max_chars=200)
        if st.form_submit_button(_("Save mark"), type="primary", width="stretch"):
            problem = _problem(verdict, kind)
            if problem:
                st.error(problem)
            else:
                shell.remember("author", author)
                _save(store, part, str(verdict), kind or "", note, author, category)
                st.rerun()


def _problem(verdict: str | None, kind: str | None) -> str:
    if verdict is None:
        return _("Choose what the decision is.")
    if verdict == "relabel" and not kind:
        return _("Choose or type the right label.")
    if verdict == "missed" and kind == data.GOOD:
        return _("A missed defect cannot be labelled good.")
    return ""


def _save(
    store: Marks, part: Part, verdict: str, kind: str, note: str, author: str, category: str | None = None
) -> None:
    try:
        scan = "" if part.content is None else store.keep_scan(part.file_name, part.content())
        store.add(
            Mark.model_validate(
                {
                    "author": author.strip() or shell.recall("author", ""),
                    "sample": part.sample,
                    "run": part.run,
                    "category": (part.category if category is None else category).strip(),
                    "verdict": verdict,
                    "defect": "" if verdict in ("ok", "false_alarm") else kind.strip(),
                    "note": note.strip(),
                    "object_score": part.object_score,
                    "threshold": part.threshold,
                    "decision": part.decision,
                    "scan": scan,
                }
            )
        )
    except (OSError, ValueError) as error:
        problem = InputError(store.folder, _("the mark could not be saved"), str(error))
        st.error(shell.plain(problem))
        return
    st.session_state["mark_saved"] = part.sample


def _latest(store: Marks) -> dict[tuple[str, str], Mark]:
    return _read_latest(str(store.folder), store.stamp())


@st.cache_data(max_entries=4, show_spinner=False)
def _read_latest(folder: str, stamp: tuple[int, int]) -> dict[tuple[str, str], Mark]:
    return Marks(folder).latest()
