"""Each page as Streamlit's own test runner sees it: what is shown, what a choice changes, what a broken file does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from tests.dashboards.spheres import ROOT, THRESHOLD, write_workspace

from gsclip.marks import Mark, Marks
from gsclip.metrics.table import HEADLINE_METRICS

PAGES = ("overview", "categories", "threshold", "worst", "sample", "score", "marks", "compare", "drift")
HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_KIND = ":red[**bold**] $a$ [x](javascript:alert(1))"


def opened(page="overview", **query):
    """The page, as a link with these parameters opens it."""
    app = AppTest.from_file(str(ROOT / "dashboards/app.py"), default_timeout=60)
    app.query_params.update(query)
    app.run()
    if page != "overview":
        app.switch_page(f"screens/{page}.py")
        app.query_params.update(query)
        app.run()
    assert not app.exception
    return app


def words(app):
    """All text of a page."""
    elements = [
        *app.markdown, *app.caption, *app.error, *app.warning, *app.info, *app.success, *app.text, *app.title,
        *app.subheader,
    ]  # fmt: skip
    return " ".join(str(element.value) for element in elements).replace("\\", "")


def facts(app):
    """What the page Sample says about the part."""
    captions = [caption.value for caption in app.caption]
    first = captions.index("Category")
    return dict(zip(captions[first : first + 5], [text.value for text in app.text], strict=False))


def tiles(app):
    return {metric.label: metric.value for metric in app.metric}


def changed(workspace, **columns):
    path = workspace / "outputs/predictions/samples.csv"
    pd.read_csv(path, keep_default_na=False).assign(**columns).to_csv(path, index=False)


# --- all pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_and_says_what_it_is_for(workspace, page):
    app = opened(page)
    assert len(app.title) == 1
    assert app.markdown[0].value.startswith((":gray[", "<style>"))
    assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_project_says_what_to_do(tmp_path, monkeypatch, page):
    monkeypatch.setenv("GSCLIP_WORKSPACE", str(tmp_path))
    app = opened(page)
    assert not app.error
    assert len(app.info) >= 1
    assert any(command in code.value for code in app.code for command in ("make demo", "gsclip"))


@pytest.mark.parametrize("page", ["overview", "categories", "worst", "sample", "threshold", "compare"])
def test_names_from_files_are_shown_as_they_are(workspace, page):
    shutil.rmtree(workspace / "outputs")
    run = {"dataset": HOSTILE, "backbone_note": HOSTILE_KIND, "test_categories": [HOSTILE]}
    write_workspace(workspace, {HOSTILE: ("test", [("good", 0.1), (HOSTILE_KIND.replace("/", ""), 0.2)])}, run)
    app = opened(page)
    shown = " ".join(element.value for element in [*app.markdown, *app.caption, *app.error, *app.warning])
    for active in ("<img", "](", ":red[", "$a$"):
        assert active not in shown.replace(f"\\{active}", "")


@pytest.mark.parametrize("page", ["overview", "categories", "worst", "sample", "threshold", "compare"])
def test_a_broken_table_is_an_error_with_its_remedy(workspace, page):
    for name in ("outputs/metrics.json", "outputs/predictions/samples.csv"):
        (workspace / name).write_bytes(b"\xff broken")
    assert "run `make demo` to make it again" in words(opened(page))


# --- overview ---------------------------------------------------------------------------------------------------------


def test_the_overview_shows_the_figures_beside_chance_and_the_best_possible(workspace):
    app = opened()
    metrics = json.loads((workspace / "outputs/metrics.json").read_text())
    text = words(app)
    for metric, key in zip(app.metric, HEADLINE_METRICS, strict=True):
        row = {name: "–" if value is None else f"{value:.3f}" for name, value in metrics["mean"][key].items()}
        assert metric.value == row["ours"]
        assert f"chance {row['random']} · best {row['oracle']}" in text
    low, high = metrics["o_auroc_interval"]
    assert f"95 %: {low:.3f} to {high:.3f}" in text
    for part in ("not CLIP", "pearl (2)", "ball, marble", "one-vs-rest", "Published figures: not from this run"):
        assert part in text


def test_learning_curves_are_drawn_where_there_are_some(workspace):
    assert len(opened().get("plotly_chart")) == 0
    folder = workspace / "outputs/curves"
    folder.mkdir()
    (folder / "stage1.csv").write_text("epoch,loss,classification\n1,2.0,1.0\n2,1.5,0.8\n")
    assert len(opened().get("plotly_chart")) == 1


# --- categories -------------------------------------------------------------------------------------------------------


def test_categories_and_kinds_come_worst_first(workspace):
    app = opened("categories")
    assert list(app.dataframe[0].value["category"]) == ["ball", "marble"]
    kinds = app.dataframe[1].value
    assert set(kinds["defect"]) == {"dent", "scratch"}
    assert dict(zip(kinds["defect"], kinds["found"], strict=True)) == {"dent": 0.5, "scratch": 1.0}


def test_a_category_of_the_link_filters_and_leads_to_its_parts(workspace):
    app = opened("categories", category="marble")
    app.button(key="categories_table.open").click().run()
    assert app.title[0].value == "Worst first"
    assert app.selectbox(key="filter.category").value == "marble"


# --- threshold --------------------------------------------------------------------------------------------------------


def test_the_counts_follow_the_threshold(workspace):
    app = opened("threshold")
    assert app.slider(key="threshold_slider").value == THRESHOLD
    before = tiles(app)
    assert [before[name] for name in ("Missed", "Found", "False alarms", "Passed")] == ["1", "2", "1", "2"]
    assert before["False alarms per 1,000"] == "333"
    app.slider(key="threshold_slider").set_value(0.85).run()
    after = tiles(app)
    assert [after[name] for name in ("Missed", "Found", "False alarms", "Passed")] == ["2", "1", "0", "3"]
    assert (after["Recall"], after["Precision"]) == ("33%", "100%")
    assert app.query_params["threshold"] == "0.85"
    app.button(key="use_own").click().run()
    assert tiles(app) == before


def test_the_suggestion_follows_the_costs_and_not_the_labels_of_the_test(workspace):
    suggested = tiles(opened("threshold"))["Suggested threshold"]
    assert suggested == "0.500"  # half-way between the auxiliary scores 0.05 and 0.95
    path = workspace / "outputs/predictions/samples.csv"
    table = pd.read_csv(path)
    table.loc[table["role"] == "test", "label"] = 1 - table.loc[table["role"] == "test", "label"]
    table.to_csv(path, index=False)
    app = opened("threshold")
    assert tiles(app)["Suggested threshold"] == suggested
    app.number_input(key="miss_cost").set_value(0.0).run()
    assert float(tiles(app)["Suggested threshold"]) > 0.95
    app.button(key="use_suggestion").click().run()
    assert app.slider(key="threshold_slider").value == pytest.approx(0.975)


def test_a_threshold_of_the_link_decides_on_every_page(workspace):
    app = opened("worst", threshold="0.85", group="missed")
    assert "missed" in words(app).lower()
    assert app.button(key="open.marble/test/scratch/001").label == "Open 001"
    app.button(key="reset_threshold").click().run()
    assert [button.label for button in app.button if button.label.startswith("Open")] == ["Open 003"]


# --- worst first ------------------------------------------------------------------------------------------------------


def test_the_worst_parts_are_shown_with_pictures_and_lead_to_their_page(workspace):
    app = opened("worst")
    names = [button.key.removeprefix("open.") for button in app.button if button.key and button.key.startswith("open.")]
    assert names[:2] == ["ball/test/good/001", "ball/test/dent/003"]
    assert not any(name.startswith("pearl") for name in names)
    assert len(app.get("image")) == len(names) == 6
    app.button(key="open.ball/test/dent/003").click().run()
    assert app.title[0].value == "Sample"
    assert app.selectbox(key="sample_choice").value == "ball/test/dent/003"


def test_localised_parts_have_their_figure(workspace):
    app = opened("worst", group="worst-localised")
    assert "AUROC 1.000" in words(app)
    assert len(app.get("image")) == 3


def test_a_missing_pack_leaves_the_other_pictures(workspace):
    (workspace / "data/views/marble.h5").unlink()
    app = opened("worst")
    assert len(app.get("image")) == 4
    assert "data/views/marble.h5: not found" in words(app)


# --- sample -----------------------------------------------------------------------------------------------------------


def test_the_worst_sample_is_shown_first_with_clouds_and_views(workspace):
    app = opened("sample")
    assert app.query_params["sample"] == "ball/test/good/001"
    known = facts(app)
    assert (known["Category"], known["Label"], known["Points"]) == ("ball", "good", "900")
    assert tiles(app)["Decision"] == "Abnormal"
    assert app.code[0].value == "ball/test/good/001"
    assert len(app.get("bidi_component")) == 2


def test_next_and_previous_follow_the_list(workspace):
    app = opened("sample")
    step = {button.label: button for button in app.button}
    assert step["Previous"].disabled
    step["Next"].click().run()
    assert app.query_params["sample"] == "ball/test/dent/003"
    next(button for button in app.button if button.label == "Previous").click().run()
    assert app.query_params["sample"] == "ball/test/good/001"


def test_a_link_opens_its_sample_even_outside_of_the_list(workspace):
    app = opened("sample", sample="pearl/test/dent/001")
    assert facts(app)["Category"] == "pearl"
    app.query_params["sample"] = "ball/test/dent/002"
    app.run()
    assert facts(app)["Category"] == "ball"


def test_an_unknown_sample_of_a_link_is_named_and_replaced(workspace):
    app = opened("sample", sample="[x](javascript:alert(1))")
    assert "has no sample" in app.toast[0].value
    assert "](" not in app.toast[0].value
    assert facts(app)["Category"] == "ball"


def test_filters_shorten_the_list_and_show_the_worst_that_is_left(workspace):
    app = opened("sample")
    app.selectbox(key="filter.defect").select("scratch").run()
    assert app.selectbox(key="sample_choice").options == ["marble/test/scratch/001"]
    assert app.query_params["sample"] == "marble/test/scratch/001"


def test_display_settings_change_the_cloud_and_stay(workspace):
    app = opened("sample")
    before = app.get("bidi_component")[0].proto
    app.slider(key="opacity").set_value(0.2).run()
    assert app.get("bidi_component")[0].proto != before
    next(button for button in app.button if button.label == "Next").click().run()
    assert app.slider(key="opacity").value == 0.2


def test_samples_without_labels_are_called_so(workspace):
    changed(workspace, label="", defect="", role="test")
    app = opened("sample")
    assert facts(app)["Label"] == "not labelled"


def test_a_broken_pack_leaves_the_rest_of_the_page(workspace):
    (workspace / "outputs/predictions/ball.h5").write_bytes(b"\x89HDF\r\n\x1a\n broken")
    app = opened("sample")
    assert "outputs/predictions/ball.h5: cannot be read as a pack; run `make demo`" in words(app)
    assert tiles(app)["Decision"] == "Abnormal"


# --- marks ------------------------------------------------------------------------------------------------------------


def save(app, verdict, **fields):
    app.radio[0].set_value(verdict)
    for label, value in fields.items():
        box = next(box for box in [*app.text_input, *app.text_area] if box.label.lower().endswith(label))
        box.set_value(value)
    next(button for button in app.button if button.label == "Save mark").click().run()
    assert not app.exception


def test_a_mark_is_saved_shown_and_found_again(workspace):
    app = opened("sample")
    save(app, "false_alarm", note="dust, no dent", name="Ada")
    (mark,) = Marks(workspace / "marks").all()
    assert (mark.sample, mark.verdict, mark.author) == ("ball/test/good/001", "false_alarm", "Ada")
    assert (mark.note, mark.run, mark.decision, mark.threshold) == ("dust, no dent", "current", 1, THRESHOLD)
    again = opened("sample", sample="ball/test/good/001")
    assert "A false alarm" in words(again)
    assert "dust, no dent" in words(again)
    again.button(key="withdraw").click().run()
    assert Marks(workspace / "marks").latest() == {}
    table = opened("marks").dataframe[0].value
    assert list(table["counts"]) == [False, False]


def test_marks_that_say_nothing_are_refused(workspace):
    app = opened("sample")
    next(button for button in app.button if button.label == "Save mark").click().run()
    assert "Choose what the decision is." in words(app)
    save(app, "relabel")
    assert "Choose or type the right label." in words(app)
    assert Marks(workspace / "marks").all() == []


def test_the_page_of_marks_lists_and_counts_them(workspace):
    store = Marks(workspace / "marks")
    store.add(Mark(sample="ball/test/good/001", run="current", verdict="false_alarm", note=HOSTILE_KIND))
    store.add(Mark(sample="ball/test/dent/003", run="current", verdict="missed", defect="dent"))
    app = opened("marks")
    assert set(app.dataframe[0].value["sample"]) == {"ball/test/good/001", "ball/test/dent/003"}
    assert [metric.value for metric in app.metric] == ["0", "1", "1", "0"]


# --- compare ----------------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_by_sample(workspace):
    shutil.copytree(workspace / "outputs", workspace / "runs/other/outputs")
    path = workspace / "runs/other/outputs/predictions/samples.csv"
    table = pd.read_csv(path)
    table.loc[table["name"] == "ball/test/good/001", ["object_score", "decision"]] = [0.2, 0]
    table.to_csv(path, index=False)
    app = opened("compare")
    assert "1 of 6 parts: 1 were right and are wrong now" in words(app)
    assert list(app.dataframe[0].value["name"]) == ["ball/test/good/001"]
    assert app.dataframe[0].value["difference"].iloc[0] == pytest.approx(0.5)
    assert "None." in words(app)


def test_a_run_of_the_link_is_opened_and_one_that_is_gone_is_told(workspace):
    shutil.copytree(workspace / "outputs", workspace / "runs/other/outputs")
    assert opened("overview", run="runs/other").selectbox(key="run_choice").value == "runs/other"
    app = opened("overview", run="runs/gone")
    assert "There is no run" in app.toast[0].value
    assert app.selectbox(key="run_choice").value == "current"


# --- drift ------------------------------------------------------------------------------------------------------------


def test_windows_are_listed_with_their_columns(workspace):
    for day, drifted in (("2026-01-01", False), ("2026-01-02", True)):
        folder = workspace / "monitoring" / day
        folder.mkdir(parents=True)
        columns = [{"column": "spacing", "distance": 1.2 if drifted else 0.1, "threshold": 0.4, "drifted": drifted}]
        (folder / "drift.json").write_text(json.dumps({"drifted": drifted, "verdict": "words", "columns": columns}))
    app = opened("drift")
    assert "1 of 2 windows drifted; the last one: drift, 2026-01-02" in words(app)
    assert app.dataframe[0].value["ratio"].iloc[0] == pytest.approx(3)
    app.selectbox(key="window").select_index(1).run()
    assert app.dataframe[0].value["ratio"].iloc[0] == pytest.approx(0.25)


# --- score a scan -----------------------------------------------------------------------------------------------------


@pytest.fixture
def with_model(workspace):
    from tests.detectors import untrained_detector

    from gsclip.features.backbone import load_backbone

    detector = untrained_detector(load_backbone("embedded"), threshold=0.5, point_threshold=0.4)
    detector.save(workspace / "models/gsclip")
    return workspace


def cloud(points=2000):
    direction = np.random.default_rng(0).normal(size=(points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = -np.abs(direction[:, 2])
    return "\n".join(" ".join(f"{value:.6f}" for value in row) for row in direction).encode()


def test_a_scan_is_scored_and_marked_with_its_file(with_model):
    app = opened("score")
    app.file_uploader[0].upload("line 3.xyz", cloud(), "text/plain").run()
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    assert tiles(app)["Decision"] in ("Abnormal", "Normal")
    assert len(app.get("bidi_component")) == 2
    assert len(app.get("download_button")) == 4
    save(app, "ok", part="gland")
    (mark,) = Marks(with_model / "marks").all()
    assert (mark.sample, mark.category, mark.run) == ("line 3.xyz", "gland", "")
    assert (with_model / "marks" / mark.scan).read_bytes() == cloud()


@pytest.mark.parametrize(
    ("name", "content"), [("broken.ply", b"ply\nnonsense"), ("few.xyz", b"0 0 0\n1 1 1\n"), ("notes.docx", b"words")]
)
def test_bad_files_get_the_messages_of_the_command_line(with_model, tmp_path, monkeypatch, name, content):
    from gsclip.commands.score import score_files

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / name).write_bytes(content)
    (expected,) = score_files([Path(name)], with_model / "models/gsclip", Path("out"))
    app = opened("score")
    app.file_uploader[0].upload(name, content, "application/octet-stream").run()
    assert [error.value.replace("\\", "") for error in app.error] == [str(expected)]
