"""Page "Score a scan": upload, score, look, download."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import streamlit as st
from dashboards import clouds, data, judging, shell, uploads
from dashboards.text import _
from dashboards.views_panel import views_panel

from gsclip.errors import GsclipError


def main() -> None:
    """Draw the page."""
    shell.heading(_("Score a scan"), _("Upload one scan: score, decision and heat map as `gsclip score` gives them."))
    shell.write_url("threshold")
    model = data.workspace() / data.MODEL_FOLDER
    if not (model / "config.json").is_file():
        st.info(_("There is no trained model here yet ({folder}).").format(folder=shell.plain(model)))
        st.markdown(_("This trains one in minutes; then open this page again:"))
        st.code("make demo", language="bash")
        return
    files = choose_files()
    if not files:
        st.session_state.pop("result", None)
        st.caption(
            _(
                "Organised scans (.tiff, as in MVTec 3D-AD; the background is removed), clouds (.ply, .pcd, .xyz, "
                ".npy, …), meshes (.stl, .obj, …), depth images (.png with a camera file). The file stays on this "
                "machine, and is kept only if you mark it."
            )
        )
        return
    result = scored(files)
    if result is not None:
        show(result, files)


def choose_files() -> list[Any]:
    """The uploaded files, as Streamlit holds them: each reading of their bytes is a copy."""
    return st.file_uploader(
        _("Scan, and files that belong to it; {limit} MB at most").format(limit=uploads.MAX_MEGABYTES),
        accept_multiple_files=True,
        max_upload_size=uploads.MAX_MEGABYTES,
        key="upload",
    )


def scored(files: list[Any]) -> uploads.Result | None:
    """The result for these files: that of before, or a new one under progress; ``None`` where they cannot be used."""
    key = tuple(file.file_id for file in files)
    kept = st.session_state.get("result")
    if kept is not None and kept[0] == key:
        if isinstance(kept[1], uploads.Result):
            return kept[1]
        st.error(kept[1], icon=":material/error:")
        return None
    names = {
        "model": _("Loading the model"),
        "read": _("Reading the scan"),
        "prepare": _("Removing the background, estimating normals"),
        "render": _("Rendering the views"),
        "encode": _("Looking at the views"),
        "predict": _("Scoring the points"),
        "write": _("Colouring the cloud"),
    }
    bar = st.progress(0.0, names["model"])

    def begin(step: str) -> None:
        bar.progress(uploads.STEPS.index(step) / len(uploads.STEPS), names[step] + " …")

    outcome: uploads.Result | str
    try:
        outcome = uploads.score_upload(
            [uploads.Upload(file.name, file.getvalue()) for file in files], data.workspace() / data.MODEL_FOLDER, begin
        )
    except GsclipError as error:
        outcome = shell.plain(error)
    finally:
        bar.empty()
    st.session_state["result"] = (key, outcome, datetime.now(UTC))
    if isinstance(outcome, uploads.Result):
        return outcome
    st.error(outcome, icon=":material/error:")
    return None


def show(result: uploads.Result, files: list[Any]) -> None:
    """The part from all sides, what was decided, and the downloads."""
    chosen = shell.recall("threshold")
    threshold = result.threshold if chosen is None else chosen
    score = float(result.facts["object_score"])
    left, right = st.columns([3.4, 1], gap="medium")
    with left:
        show_facts(result)
        clouds.show_clouds(result.name, result.inspection, result.score_range, result.point_threshold)
    with right:
        judging.decided_as(score, threshold)
        downloads(result, threshold)
        scan = next((file for file in files if uploads.safe_name(file.name) == result.facts["scan"]), files[0])
        judging.mark_form(
            judging.Part(
                sample=scan.name,
                run="",
                category="",
                object_score=score,
                threshold=threshold,
                content=scan.getvalue,
                file_name=scan.name,
            ),
            [],
        )
    views_panel(result.inspection, limits=clouds.colour_limits(result.score_range), cameras=result.cameras)


def show_facts(result: uploads.Result) -> None:
    """What is known about the scan, one line."""
    points = f"{int(result.facts['points']):,}"
    if thinned := result.facts["thinned_to"]:
        points += _(" (scored: {count:,})").format(count=int(thinned))
    sides = np.ptp(result.sample.points, axis=0)
    facts = {
        _("Scan"): str(result.facts["scan"]),
        _("Points of the part"): points,
        _("Extent x × y × z, scan's unit"): " × ".join(f"{side:.3g}" for side in sides),
        _("Top point score"): shell.number(float(result.prediction.point_scores.max())),
        _("Time, seconds"): f"{result.facts['seconds']['total']:.1f}",
    }
    for column, (label, value) in zip(st.columns([1.6, 1.6, 2, 1.2, 1]), facts.items(), strict=True):
        column.caption(label)
        column.text(value)


def downloads(result: uploads.Result, threshold: float | None) -> None:
    """Coloured cloud, figures, and the page of the part."""
    from gsclip.report.part import part_html, part_pdf, part_report

    when = st.session_state["result"][2]
    report = part_report(
        result.facts,
        result.sample,
        result.views,
        result.prediction,
        threshold=threshold,
        score_range=result.score_range,
        scored_at=f"{when:%Y-%m-%d %H:%M} UTC",
    )
    offers = (
        (_("Report (PDF)"), lambda: part_pdf(report), "pdf", "application/pdf"),
        (_("Report (HTML)"), lambda: part_html(report).encode(), "html", "text/html"),
        (_("Cloud (PLY)"), lambda: result.ply, "ply", "application/octet-stream"),
        (_("Figures (JSON)"), lambda: uploads.json_bytes(result, threshold), "json", "application/json"),
    )
    places = [*st.columns(2), *st.columns(2)]
    for place, (label, content, extension, kind) in zip(places, offers, strict=True):
        place.download_button(
            label,
            content,
            f"{uploads.safe_name(result.name)}.{extension}",
            kind,
            width="stretch",
            on_click="ignore",
            key=f"download.{extension}",
        )


main()
