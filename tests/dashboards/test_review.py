import json
import shutil

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from tests.dashboards.spheres import ROOT, THRESHOLD, write_workspace

from gsclip.metrics.table import HEADLINE_METRICS

HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_KIND = ":red[**bold**] $a$ [x](javascript:alert(1))"


def opened(**query):
    page = AppTest.from_file(str(ROOT / "dashboards/app.py"), default_timeout=60)
    page.query_params.update(query)
    return page.run()


@pytest.fixture(scope="module")
def first_page(run):
    """The page as it opens; for tests that change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSCLIP_WORKSPACE", str(run))
        return opened()


def facts(page):
    """Score, threshold, decision, kind, points and extent of the chosen sample."""
    assert not page.exception
    captions = [caption.value for caption in page.caption]
    first = captions.index("Object score")
    return dict(zip(captions[first : first + 6], [text.value for text in page.text], strict=True))


def listed(page):
    """The samples of the list, in its order."""
    return list(page.dataframe[2].value["name"])


def messages(page):
    assert not page.exception
    return " ".join(error.value.replace("\\", "") for error in page.error)


def markdown(page):
    elements = [*page.markdown, *page.caption, *page.error, *page.warning]
    return " ".join(element.value for element in elements)


def test_the_headline_shows_the_figures_beside_random_and_oracle(first_page, run):
    page = first_page
    metrics = json.loads((run / "outputs/metrics.json").read_text())
    captions = [caption.value for caption in page.caption]
    assert [metric.label for metric in page.metric][:3] == ["Object AUROC", "Object AP", "Point AUROC"]
    for metric, key in zip(page.metric, HEADLINE_METRICS, strict=True):
        row = metrics["mean"][key]
        shown = {name: "–" if value is None else f"{value:.3f}" for name, value in row.items()}
        assert metric.value == shown["ours"]
        assert any(f"random {shown['random']} · oracle {shown['oracle']}" in caption for caption in captions)
    low, high = metrics["o_auroc_interval"]
    assert f"95 % interval {low:.3f}–{high:.3f}" in captions[0]


def test_the_headline_says_what_was_trained_on_what(first_page):
    text = markdown(first_page).replace("\\", "")
    for part in ("ball, marble: 6 samples, 3 of them", "Trained on** pearl: 2 samples", "not CLIP", "one-vs-rest"):
        assert part in text


def test_categories_and_samples_come_worst_first(first_page):
    page = first_page
    assert list(page.dataframe[0].value["category"]) == ["ball", "marble"]
    table = page.dataframe[2].value
    assert list(table["name"][:2]) == ["ball/test/good/001", "ball/test/dent/003"]
    assert list(table["outcome"][:2]) == ["false alarm", "missed"]
    assert list(table["margin"]) == pytest.approx([-0.2, -0.05, 0.3, 0.3, 0.4, 0.4])


def test_samples_that_were_trained_on_are_shown_only_when_asked_for(workspace):
    page = opened()
    assert not any(name.startswith("pearl") for name in listed(page))
    page.selectbox(key="category").select("ball").run()
    page.selectbox(key="role").select("auxiliary").run()
    assert page.selectbox(key="category").value is None
    assert page.selectbox(key="category").options == ["pearl"]
    assert listed(page) == ["pearl/test/dent/001", "pearl/test/good/000"]


def test_the_worst_sample_is_shown_first_with_clouds_and_views(first_page):
    page = first_page
    assert page.query_params["sample"] == "ball/test/good/001"
    assert facts(page) == {
        "Object score": "0.700",
        "Threshold": f"{THRESHOLD:.3f}",
        "Decision": "abnormal (false alarm)",
        "Kind": "good",
        "Points": "900",
        "Extent x × y × z": "0.04 × 0.04 × 0.04",
    }
    assert len(page.get("plotly_chart")) == 2
    assert len(page.get("image")) == 9


def test_choosing_a_sample_shows_it_and_puts_it_into_the_url(workspace):
    page = opened()
    page.selectbox(key="sample").select("marble/test/scratch/001").run()
    assert facts(page)["Object score"] == "0.800"
    assert page.query_params["sample"] == "marble/test/scratch/001"


def test_the_url_chooses_the_sample_even_outside_of_the_filters(workspace):
    page = opened(sample="pearl/test/dent/001")
    assert facts(page)["Object score"] == "0.950"
    page.query_params["sample"] = "ball/test/dent/002"
    page.run()
    assert facts(page)["Object score"] == "0.900"


def test_an_unknown_sample_in_the_url_is_named_and_replaced(workspace):
    page = opened(sample="[x](javascript:alert(1))")
    assert "has no sample" in page.toast[0].value
    assert "](" not in page.toast[0].value
    assert facts(page)["Object score"] == "0.700"


def test_next_and_previous_follow_the_list(workspace):
    page = opened()
    previous, following = page.button
    assert previous.disabled
    assert not following.disabled
    following.click().run()
    assert page.query_params["sample"] == "ball/test/dent/003"
    page.button[0].click().run()
    assert page.query_params["sample"] == "ball/test/good/001"


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("category", "marble", ["marble/test/good/000", "marble/test/scratch/001"]),
        ("defect", "scratch", ["marble/test/scratch/001"]),
        ("outcome", "missed", ["ball/test/dent/003"]),
    ],
)
def test_filters_shorten_the_list_and_show_the_worst_that_is_left(workspace, column, value, expected):
    page = opened()
    page.selectbox(key=column).select(value).run()
    assert listed(page) == expected
    assert page.query_params["sample"] == expected[0]


def test_filters_that_exclude_everything_leave_the_sample_in_place(workspace):
    page = opened()
    page.selectbox(key="category").select("marble")
    page.selectbox(key="outcome").select("missed").run()
    assert listed(page) == []
    assert facts(page)["Object score"] == "0.700"


def test_opacity_changes_the_images(workspace):
    page = opened()
    before = page.get("image")[0].value
    page.slider(key="opacity").set_value(1.0).run()
    assert before != page.get("image")[0].value


def test_the_colour_range_is_the_same_for_every_sample(workspace):
    page = opened()
    assert page.slider(key="limits").value == (0.2, 0.8)
    page.slider(key="limits").set_value((0.4, 0.6)).run()
    page.button[1].click().run()
    assert page.slider(key="limits").value == (0.4, 0.6)


def test_nothing_at_all_gives_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("GSCLIP_WORKSPACE", str(tmp_path))
    text = messages(opened())
    assert "outputs/metrics.json: not found; run `make demo`" in text
    assert "outputs/predictions/samples.csv: not found; run `make demo`" in text


@pytest.mark.parametrize("path", ["data/views/ball.h5", "outputs/metrics.json"])
def test_a_missing_file_leaves_the_rest_of_the_page(workspace, path):
    (workspace / path).unlink()
    page = opened()
    assert f"{path}: not found; run `make demo`" in messages(page)
    assert 6 in [len(table.value) for table in page.dataframe]


def test_a_broken_file_leaves_the_rest_of_the_page(workspace):
    (workspace / "outputs/predictions/ball.h5").write_bytes(b"\x89HDF\r\n\x1a\n broken")
    page = opened()
    assert "outputs/predictions/ball.h5: cannot be read as a pack; run `make demo`" in messages(page)
    assert len(listed(page)) == 6


def test_samples_without_labels_come_by_score(workspace):
    path = workspace / "outputs/predictions/samples.csv"
    table = pd.read_csv(path).assign(label="", defect="", role="test")
    table.to_csv(path, index=False)
    page = opened()
    scores = list(page.dataframe[2].value["object_score"])
    assert scores == sorted(scores, reverse=True)
    assert facts(page)["Decision"] == "abnormal (called abnormal)"
    assert facts(page)["Kind"] == "not labelled"


def test_hostile_names_are_shown_as_they_are(workspace):
    shutil.rmtree(workspace / "outputs")
    facts_of_run = {"dataset": HOSTILE, "backbone_note": HOSTILE_KIND, "test_categories": [HOSTILE]}
    members = [("good", 0.1), (HOSTILE_KIND.replace("/", ""), 0.2)]
    write_workspace(workspace, {HOSTILE: ("test", members)}, facts_of_run)
    page = opened()
    assert facts(page)["Kind"] == HOSTILE_KIND
    assert page.selectbox(key="sample").value == f"{HOSTILE}/test/{HOSTILE_KIND}/001"
    text = markdown(page)
    assert "\\<img" in text
    for active in ("<img", "](", ":red[", "$a$"):
        assert active not in text.replace(f"\\{active}", "")
