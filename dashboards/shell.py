"""What all pages share: the chosen run, links that open the same view again, headings, guidance where nothing is."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
import streamlit as st

from dashboards import data, runs, selection
from dashboards.text import _
from gsclip.errors import InputError

Loaded = TypeVar("Loaded")

# What a link may carry. Each is kept for the session, too, so that a change of the page keeps it.
LINKED = ("run", "category", "defect", "group", "sample", "threshold", "other")
MARKUP = re.compile(f"[{re.escape(string.punctuation)}]")
MISSING = "not found"
DARK_BACKDROP = "#4A535D"


def outcome_name(outcome: str) -> str:
    """An outcome of :data:`dashboards.data.OUTCOMES` as readers see it."""
    return {
        "missed": _("missed"),
        "false alarm": _("false alarm"),
        "found": _("found"),
        "passed": _("passed"),
        "called abnormal": _("called abnormal"),
        "called normal": _("called normal"),
    }.get(outcome, _("undecided"))


def group_name(group: str) -> str:
    """A group of :data:`dashboards.selection.GROUPS` as readers see it."""
    return {
        selection.WORST: _("All, worst first"),
        selection.MISSED: _("Missed defects"),
        selection.FALSE_ALARMS: _("False alarms"),
        selection.WORST_LOCALISED: _("Worst localised"),
        selection.BEST_LOCALISED: _("Best localised"),
    }.get(group, _("Auxiliary (threshold)"))


# --- what is chosen ---------------------------------------------------------------------------------------------------


def recall(name: str, default: Any = None) -> Any:  # noqa: ANN401 - values of several types
    """What was chosen in this session."""
    return st.session_state.get(f"chosen.{name}", default)


def remember(name: str, value: Any) -> None:  # noqa: ANN401
    """Choose for this session."""
    st.session_state[f"chosen.{name}"] = value


def take_url() -> None:
    """Take what the address says when it is not what this session has put there: a link, or the back button."""
    for name in LINKED:
        text = st.query_params.get(name)
        if text is None or text == st.session_state.get(f"url.{name}"):
            continue
        st.session_state[f"url.{name}"] = text
        if name == "threshold":
            remember(name, _fraction(text))
        elif name == "group":
            remember(name, text if text in selection.GROUPS else None)
        else:
            remember(name, text)


def write_url(*names: str) -> None:
    """Put what is chosen into the address, and nothing else."""
    wanted = {}
    for name in names:
        value = recall(name)
        if value is not None and not (name == "run" and value == runs.CURRENT):
            wanted[name] = f"{value:.6g}" if isinstance(value, float) else str(value)
    for name in LINKED:
        st.session_state[f"url.{name}"] = wanted.get(name)
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def _fraction(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


# --- frame of a page --------------------------------------------------------------------------------------------------


def sidebar() -> None:
    """Choice of the run, and the threshold in effect."""
    found = runs.find_runs(data.workspace())
    keys = [run.key for run in found]
    if recall("run") not in keys:
        if recall("run") is not None:
            st.toast(_("There is no run {name} here.").format(name=plain(str(recall("run"))[:100])))
        remember("run", keys[0])
    if len(found) > 1:
        st.session_state["run_choice"] = recall("run")
        st.sidebar.selectbox(
            _("Run"),
            keys,
            key="run_choice",
            format_func=lambda key: _("Pipeline's run") if key == runs.CURRENT else key.removeprefix("runs/"),
            on_change=_change_run,
        )
    if (threshold := recall("threshold")) is not None:
        with st.sidebar.container(key="own_threshold"):
            st.caption(_("Threshold {value:.3f}, chosen by you").format(value=threshold))
            st.button(_("Back to the model's"), on_click=remember, args=("threshold", None), key="reset_threshold")


def _change_run() -> None:
    remember("run", st.session_state["run_choice"])
    for name in ("sample", "category", "defect", "threshold"):
        remember(name, None)


def run_root() -> Path:
    """Folder of the chosen run."""
    found = {run.key: run.root for run in runs.find_runs(data.workspace())}
    return found.get(recall("run"), data.workspace())


def heading(title: str, lead: str) -> None:
    """Title of a page and one sentence about what it is for."""
    st.title(title, anchor=False)
    st.markdown(f":gray[{lead}]")


def section(title: str, reading: str = "") -> None:
    """Title of a part of a page, and a sentence that says how to read what follows."""
    st.subheader(title, anchor=False)
    if reading:
        st.caption(reading)


def samples_or_guidance() -> pd.DataFrame:
    """The run's samples under the threshold in effect; where there are none, say what to do and end the page."""
    try:
        return data.load_samples(run_root(), recall("threshold"))
    except InputError as error:
        guidance(error)
        st.stop()


def guidance(error: InputError) -> None:
    """What to do next: an empty project is no error, a broken one is."""
    if not error.problem.startswith(MISSING):
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.info(_("There is no run here yet."), icon=":material/info:")
    st.markdown(_("Any of these makes one; then open this page again:"))
    steps = (
        (_("The whole pipeline on the embedded data set, in minutes"), "make demo"),
        (_("The pipeline with your parameters and data (params.yaml)"), "dvc repro"),
        (
            _("A trained model on a data set with labels"),
            "gsclip evaluate --dataset mvtec_3d_ad --root DIR --model models/gsclip --output mvtec.json"
            " --run runs/mvtec",
        ),
    )
    for text, command in steps:
        st.markdown(text)
        st.code(command, language="bash")
    where = _("Looked for {file} in {folder}; another folder is named by the variable {variable}.")
    st.caption(
        where.format(file=plain(error.where), folder=plain(run_root().resolve()), variable=data.WORKSPACE_VARIABLE)
    )


def loaded(load: Callable[..., Loaded], *arguments: Any) -> Loaded | None:  # noqa: ANN401
    """Call a loader; where it fails, tell why and what helps, and go on without."""
    try:
        return load(*arguments)
    except InputError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None


def open_sample(name: str) -> None:
    """Show a sample on its page; not to be called in a callback."""
    remember("sample", name)
    st.switch_page("screens/sample.py")


def category_filter(samples: pd.DataFrame, *, kinds: bool = True) -> None:
    """Boxes for the category and the kind of defect; kept for all pages."""
    columns = st.columns(2) if kinds else [st.container()]
    for column, name, label in zip(
        columns, ("category", "defect"), (_("Category"), _("Kind of defect")), strict=False
    ):
        filter_box(column, samples, name, label)


def filter_box(
    place: Any,  # noqa: ANN401 - a container
    samples: pd.DataFrame,
    name: str,
    label: str,
    width: int | Literal["stretch"] = "stretch",
) -> None:
    """A box that filters by one column; a value that the samples do not have is forgotten."""
    values = sorted(set(samples[name]))
    if recall(name) not in values:
        remember(name, None)
    key = f"filter.{name}"
    st.session_state[key] = recall(name)
    place.selectbox(
        label,
        values,
        index=None,
        placeholder=_("all"),
        format_func=lambda value: value or _("(none)"),
        key=key,
        width=width,
        on_change=lambda: remember(name, st.session_state[key]),
    )


def behind_pictures() -> str:
    """Colour behind clouds and views: on the dark page a middle grey, on which all colours of scores show."""
    return DARK_BACKDROP if st.context.theme.type == "dark" else "rgba(0,0,0,0)"


# --- words ------------------------------------------------------------------------------------------------------------


def plain(text: object) -> str:
    """Text as it is: names from files must not act as Markdown."""
    return MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))


def change(value: float, digits: int = 3) -> str:
    """A difference as the pages show it: with its sign, a plain zero without."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def number(value: float | None, digits: int = 3) -> str:
    """A figure as the pages show it."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"
