"""What only a browser shows: the 3D canvas, its camera, and names that try to be markup."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image
from tests.dashboards.spheres import CATEGORIES, FACTS, ROOT, write_workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 180_000  # milliseconds; imports take long on a busy machine
HOSTILE = "<img src=x onerror=window.hacked=1>"
CHART = ".st-key-clouds .js-plotly-plot"
EYES = f"""() => {{
    const charts = document.querySelectorAll("{CHART}");
    if (charts.length !== 1) throw new Error("a chart is being replaced");
    const layout = charts[0]._fullLayout;
    return [layout.scene, layout.scene2].map((scene) => Object.values(scene._scene.getCamera().eye));
}}"""
TURNED_TOGETHER = f"""(before) => {{
    try {{
        const [first, second] = ({EYES})();
        const distance = (one, other) => Math.hypot(...one.map((value, axis) => value - other[axis]));
        return distance(first, second) < 0.001 && (before === null || distance(first, before) > 0.1);
    }} catch {{ return false; }}
}}"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A running dashboard on a workspace with one hostile category."""
    root = tmp_path_factory.mktemp("run")
    hostile = {HOSTILE: ("test", [("good", 0.3), (f"{HOSTILE}**x**", 0.4)])}
    write_workspace(root, {**CATEGORIES, **hostile}, {**FACTS, "dataset": HOSTILE, "backbone_note": HOSTILE})
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "dashboards/app.py", f"--server.port={port}"]
    environment = {**os.environ, "GSCLIP_WORKSPACE": str(root)}
    with open(root / "server.log", "w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://localhost:{port}/_stcore/health", server)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(url, server):
    for _ in range(PATIENCE // 500):
        assert server.poll() is None, "the server has stopped"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address, request):
    """A new page, light unless asked otherwise, that fails the test when its scripts report an error."""
    scheme = getattr(request, "param", "light")
    opened = browser.new_page(viewport={"width": 1440, "height": 2000}, color_scheme=scheme)
    opened.set_default_timeout(PATIENCE)
    problems = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.goto(address)
    yield opened
    assert problems == []
    opened.close()


def settled(page):
    """Wait until the clouds are drawn and the script has run to its end."""
    page.wait_for_selector(f"{CHART} canvas")
    page.wait_for_function(TURNED_TOGETHER, arg=None)
    page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
    page.wait_for_timeout(2000)


def drawn_share(page, half):
    """Share of a half of the clouds' area that does not have the page's colour; captions and colour bar excluded."""
    box = page.locator(CHART).bounding_box()
    area = {"x": box["x"] + half * box["width"] / 2, "y": box["y"] + 0.15 * box["height"]}
    clip = {**area, "width": box["width"] / 2, "height": 0.65 * box["height"]}
    pixels = np.array(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")).astype(int)
    return (np.abs(pixels - pixels[0, 0]).max(axis=-1) > 30).mean()


def turn(page, across):
    """Drag the clouds at a share of their width."""
    box = page.locator(CHART).bounding_box()
    x, y = box["x"] + across * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 15, steps=4)
    page.mouse.up()


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_choosing_a_sample_draws_it_and_one_camera_turns_both_clouds(page):
    settled(page)
    assert "sample=ball%2Ftest%2Fgood%2F001" in page.url
    sample = page.locator(".st-key-sample input")
    sample.fill("scratch")
    sample.press("Enter")
    page.wait_for_url("**sample=marble%2Ftest%2Fscratch%2F001")
    settled(page)
    for half in (0, 1):
        assert drawn_share(page, half) > 0.05
    assert page.locator(".stAlert").count() == 0
    assert page.locator(".stException").count() == 0
    assert page.locator(".stImage img").count() == 9

    for half in (0.25, 0.75):
        before = page.evaluate(EYES)[0]
        turn(page, half)
        page.wait_for_function(TURNED_TOGETHER, arg=before)
    turned = page.evaluate(EYES)[0]
    page.get_by_role("button", name="Previous").click()
    page.wait_for_url("**sample=marble%2Ftest%2Fgood%2F000")
    settled(page)
    assert page.evaluate(EYES)[0] == pytest.approx(turned, abs=0.05)


def test_keys_step_through_the_list_and_hostile_names_stay_text(page):
    settled(page)
    page.keyboard.press("n")
    page.wait_for_url(lambda url: "onerror" in url)
    settled(page)
    assert page.locator(".st-key-sample input").input_value().startswith(HOSTILE)
    assert page.get_by_text(HOSTILE).count() > 0
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hacked") is None
    page.keyboard.press("p")
    page.wait_for_url("**sample=ball**")
