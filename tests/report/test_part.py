import re

import pytest

from gsclip.report.part import part_html, part_pdf, part_report

NAME = "<b>gland</b> $x_1$ 007"
FACTS = {"name": NAME, "points": 1234, "trained_on": {"auxiliary_categories": ["vase", "biscuit"]}}


@pytest.fixture(scope="module")
def report(items):
    item = items[0]
    return part_report(FACTS, item.sample, item.views, item.prediction, threshold=0.25, score_range=(0.0, 1.0))


def test_the_page_says_what_was_decided(report):
    page = part_html(report)
    words = " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    assert f"object score {report.object_score:.3f} · threshold 0.250" in words
    assert report.decision in ("abnormal", "normal")
    assert report.decision.capitalize() in words
    assert "1,234" in words
    assert "vase, biscuit" in words
    assert "<b>gland" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_pdf_is_one_page_that_depends_on_the_part_alone(report):
    content = part_pdf(report)
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") == 1
    assert content == part_pdf(report)


def test_without_a_threshold_nothing_is_decided(items):
    item = items[0]
    report = part_report(FACTS, item.sample, item.views, item.prediction, threshold=None, score_range=(0.0, 1.0))
    assert report.decision == "no decision"
    assert "no threshold" in part_html(report)
    assert part_pdf(report)
