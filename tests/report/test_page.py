import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.plates import make_items, make_run, reader

from gsclip.metrics.table import METRICS
from gsclip.report.content import report_content
from gsclip.report.page import render_page, run_figures, write_report

CHROMIUM = Path("/usr/bin/chromium")
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background"}
EVIL = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """What a page holds: visible text, attributes that load something, scripts."""

    def __init__(self, source):
        super().__init__()
        self.text, self.loaded, self.tags, self.handlers = [], [], [], []
        self._hidden = ""
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [value for key, value in attributes if key in LOADING]
        self.handlers += [key for key, _ in attributes if key.startswith("on")]
        if tag in ("script", "style"):
            self._hidden = tag

    def handle_endtag(self, tag):
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data):
        if not self._hidden:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def folder(run, items, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    assert write_report(folder, run, reader(items), gallery=2) == folder / "index.html"
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def floats(value):
    if isinstance(value, dict):
        return [number for item in value.values() for number in floats(item)]
    if isinstance(value, list):
        return [number for item in value for number in floats(item)]
    return [value] if isinstance(value, float) else []


def test_page_holds_every_figure_of_the_metrics(page, run):
    shown = set(re.findall(r"\d\.\d{3}", page.words))
    metrics = run.metrics
    numbers = floats([metrics["mean"], metrics["defects"], metrics["f1_at_threshold"], metrics["threshold"]])
    numbers += floats([metrics[f"{metric}_interval"] for metric in ("o_auroc", "o_ap", "point_auroc")])
    for figures in metrics["categories"].values():
        numbers += floats([figures[metric] for metric in METRICS])
        numbers += floats([figures[f"{metric}_interval"] for metric in ("o_auroc", "o_ap", "point_auroc")])
    assert len(numbers) > 60
    assert {f"{number:.3f}" for number in numbers} <= shown


def test_page_says_what_was_run_and_what_was_not(page):
    for words in (
        "12 samples of 2 categories",
        "Embedded backbone: not CLIP",
        "vase, nut",
        "stage1 0, stage2 3",
        "bolt, ring",
        "Not from this run.",
        "83.6",
        "ring/test/good/009",
        "only 3 distinct points",
        "learning_rate",
        "0.002",
    ):
        assert words in page.words


def test_json_beside_the_page_holds_the_same_figures(folder, page, run):
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert content["results"][0]["ours"] == run.metrics["mean"]["o_auroc"]["ours"]
    for limit in content["limits"]:
        assert limit in page.words
    for shown in content["gallery"]:
        assert f"{shown['name']} · {shown['defect']} · object score {shown['object_score']:.3f}" in page.words


def test_page_loads_nothing_from_anywhere(page, folder):
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in page.loaded)
    assert sum(value.startswith("data:") for value in page.loaded) == 6
    source = (folder / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in source
    assert source.count("plotly.js v") == 1
    assert "url(" not in source[source.index("<style>") : source.index("</style>")]
    assert "@import" not in source


def test_same_run_gives_the_same_bytes(folder, run, items, tmp_path):
    write_report(tmp_path, run, reader(items), gallery=2)
    for name in ("index.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_hostile_names_stay_text(page, tmp_path):
    evil = EVIL.replace("/", "\\")
    items = make_items(
        categories=(f"<img src=x onerror=alert(1)>{evil}", "ring"), kinds=('"><b onclick=x>', "{{ 7*7 }}")
    )
    run = make_run(items, data={"protocol": EVIL, "backbone_note": EVIL}, learning={}, parameters={EVIL: {EVIL: EVIL}})
    hostile = Page(write_report(tmp_path, run, reader(items), gallery=1).read_text(encoding="utf-8"))
    assert hostile.tags.count("script") == page.tags.count("script") == 3
    assert hostile.tags.count("img") == 3
    assert "b" not in hostile.tags
    assert not hostile.handlers
    assert "alert(1)" in hostile.words
    assert "{{ 7*7 }}" in hostile.words


def test_a_run_with_little_in_it_is_still_a_page(tmp_path):
    items = [item for item in make_items(categories=("bolt",)) if item.row["label"] == 0]
    page = Page(write_report(tmp_path, make_run(items, threshold=None), reader(items)).read_text(encoding="utf-8"))
    assert "No defective sample." in page.words
    assert "None." in page.words
    assert "Object AUROC – random – · oracle –" in page.words


def test_the_page_is_small_enough_to_be_sent(folder):
    assert (folder / "index.html").stat().st_size < 10_000_000


def test_every_figure_says_how_to_read_it(page):
    for sentence in ("good ones downwards", "recall should be high", "up and left is better", "One mark a part"):
        assert sentence in page.words


def test_figures_have_a_place_each(run):
    figures = run_figures(run)
    tags = re.findall(r'<div id="([a-z0-9-]+)" role="img"', render_page(report_content(run), figures, []))
    assert sorted(tags) == sorted(figures)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_draws_every_figure_without_complaint(folder, run, scheme):
    from playwright.sync_api import sync_playwright

    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 400, "height": 900}, color_scheme=scheme)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url.split(":", 1)[0]))
        tab.goto((folder / "index.html").as_uri())
        tab.wait_for_function(f"document.querySelectorAll('svg.main-svg').length >= {2 * len(run_figures(run))}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        ink = tab.evaluate("getComputedStyle(document.body).color")
        assert tab.evaluate("document.querySelector('#roc .xtitle').style.fill") == ink
        browser.close()
    assert complaints == []
    assert set(requests) <= {"file", "data", "blob"}


def test_another_data_set_has_a_section_of_its_own(run, page):
    assert "Another data set" not in page.words
    both = dataclasses.replace(run, cross=run.metrics)
    other = Page(render_page(report_content(both), run_figures(both), ()))
    assert "Another data set" in other.words
    row = "Pixel PRO whole grid of the scan"
    assert other.words.count(row) == page.words.count(row) + 1
