"""What only a browser shows: the 3D canvas, its camera, sliders, uploads, a restart, and names that try to be markup.

Screenshots of every page are left in ``build/screenshots``.
"""

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
import tifffile
from PIL import Image
from tests.dashboards.spheres import CATEGORIES, FACTS, ROOT, write_workspace
from tests.detectors import untrained_detector

from gsclip.features.backbone import load_backbone

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 180_000  # milliseconds; imports take long on a busy machine
REAL_SCANS = ROOT.parent / "shared/data/mvtec_3d_ad/cable_gland/test/hole/xyz"
SCREENSHOTS = ROOT / "build" / "screenshots"
HOSTILE = "<img src=x onerror=window.hacked=1>"
PAGES = ("overview", "categories", "threshold", "worst", "sample", "score", "marks", "compare", "drift")
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


class Server:
    """A dashboard on a workspace; it can be started again on the same port."""

    def __init__(self, root):
        self.root, self.port, self.process = root, free_port(), None
        self.start()

    @property
    def address(self):
        return f"http://localhost:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "streamlit", "run", "dashboards/app.py", f"--server.port={self.port}"]
        environment = {**os.environ, "GSCLIP_WORKSPACE": str(self.root)}
        with open(self.root / "server.log", "a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        wait_for(f"{self.address}/_stcore/health", self.process)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running dashboard on a workspace with a model and one hostile category."""
    root = tmp_path_factory.mktemp("run")
    hostile = {HOSTILE: ("test", [("good", 0.3), (f"{HOSTILE}**x**", 0.4)])}
    write_workspace(root, {**CATEGORIES, **hostile}, {**FACTS, "dataset": HOSTILE, "backbone_note": HOSTILE})
    untrained_detector(load_backbone("embedded"), threshold=0.5, point_threshold=0.4).save(root / "models/gsclip")
    running = Server(root)
    try:
        yield running
    finally:
        running.stop()


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
def page(browser, server, request):
    """A new page, light unless asked otherwise, that fails the test when its scripts report an error."""
    scheme = getattr(request, "param", "light")
    opened = browser.new_page(viewport={"width": 1440, "height": 1700}, color_scheme=scheme)
    opened.set_default_timeout(PATIENCE)
    problems = []

    def collect(message):
        # Opened at a page's address, Streamlit looks for its server below that address first.
        if message.type == "error" and "_stcore" not in str(message.location):
            problems.append(message.text)

    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", collect)
    yield opened
    assert problems == []
    opened.close()


def show(page, server, path):
    """Open an address and wait until the page is there."""
    page.goto(f"{server.address}/{path}")
    idle(page)


def idle(page):
    """Wait until the script has run to its end."""
    page.wait_for_selector("h1")
    page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
    page.wait_for_timeout(700)
    page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
    page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")


def tiles(page):
    """Values of a page's tiles by label."""
    return dict(page.evaluate("""() => [...document.querySelectorAll("[data-testid=stMetric]")].map((tile) => [
        tile.querySelector("[data-testid=stMetricLabel]").innerText,
        tile.querySelector("[data-testid=stMetricValue]").innerText])"""))


def settled(page):
    """Wait until the clouds are drawn and the script has run to its end."""
    page.wait_for_selector(f"{CHART} canvas")
    for _ in range(2):  # the first time it may be the clouds before that are drawn still
        page.wait_for_function(TURNED_TOGETHER, arg=None)
        page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
        page.wait_for_timeout(1500)


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
def test_every_page_opens_by_its_address(page, server, request):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        show(page, server, "" if name == "overview" else name)
        if name == "sample":
            settled(page)
        assert page.locator(".stAlert [data-testid=stAlertContentError]").count() == 0, name
        assert page.locator(".stException").count() == 0, name
        page.screenshot(path=SCREENSHOTS / f"{name}-{request.node.callspec.params['page']}.png")
    assert page.evaluate("window.hacked") is None


def test_choosing_a_sample_draws_it_and_one_camera_turns_both_clouds(page, server):
    show(page, server, "sample")
    settled(page)
    assert "sample=ball%2Ftest%2Fgood%2F001" in page.url
    sample = page.locator(".st-key-sample_choice input")
    sample.fill("scratch")
    sample.press("Enter")
    page.wait_for_url("**sample=marble%2Ftest%2Fscratch%2F001")
    settled(page)
    for half in (0, 1):
        assert drawn_share(page, half) > 0.05
    assert page.locator(".view").count() == 9
    for half in (0.25, 0.75):
        before, pixels = page.evaluate(EYES)[0], page.locator(CHART).screenshot()
        turn(page, half)
        page.wait_for_function(TURNED_TOGETHER, arg=before)
        assert page.locator(CHART).screenshot() != pixels
    turned = page.evaluate(EYES)[0]
    page.get_by_role("button", name="Previous").click()
    page.wait_for_url("**sample=marble%2Ftest%2Fgood%2F000")
    settled(page)
    assert page.evaluate(EYES)[0] == pytest.approx(turned, abs=0.05)


def test_in_a_narrow_window_the_part_is_seen_whole_from_farther_away(page, server):
    page.set_viewport_size({"width": 620, "height": 900})
    show(page, server, "sample")
    settled(page)
    farther = f"""(limits) => {{
        const eyes = ({EYES})();
        return eyes.every((eye) => limits[0] <= Math.hypot(...eye) && Math.hypot(...eye) <= limits[1]);
    }}"""
    page.wait_for_function(farther, arg=[1.6, 5])
    page.set_viewport_size({"width": 1600, "height": 900})
    page.wait_for_function(farther, arg=[1.4, 1.5])


def test_maps_over_the_views_fade_and_blink_without_the_server(page, server):
    show(page, server, "sample?sample=marble/test/scratch/001")
    page.wait_for_selector(".view .map")
    find = page.locator(".view .map").first
    assert find.evaluate("(map) => getComputedStyle(map).opacity") == "0.6"
    page.locator(".bar input[type=range]").focus()
    page.keyboard.press("End")
    assert find.evaluate("(map) => getComputedStyle(map).opacity") == "1"
    page.locator(".views").first.click(position={"x": 2, "y": 2})
    page.keyboard.press("b")
    assert find.evaluate("(map) => getComputedStyle(map).animationName") == "blink"
    page.get_by_role("button", name="Depth").click()
    assert page.locator(".view .stack.rendered").count() == 0
    page.locator(".view").first.click()
    assert page.locator(".view.large").count() == 1


def test_counts_follow_the_slider(page, server):
    show(page, server, "threshold")
    before = tiles(page)
    thumb = page.locator(".st-key-threshold_slider input[type=range]")
    thumb.focus()
    page.keyboard.press("End")
    page.wait_for_url("**threshold=**")
    idle(page)
    after = tiles(page)
    assert int(after["Missed"]) > int(before["Missed"])
    assert int(after["False alarms"]) == 0 < int(before["False alarms"])
    assert page.get_by_text("chosen by you").count() == 1


def test_keys_step_through_the_list_and_hostile_names_stay_text(page, server):
    show(page, server, "sample")
    settled(page)
    page.keyboard.press("n")
    page.wait_for_url(lambda url: "onerror" in url)
    settled(page)
    assert page.locator(".st-key-sample_choice input").input_value().startswith(HOSTILE)
    assert page.get_by_text(HOSTILE).count() > 0
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hacked") is None
    page.keyboard.press("p")
    page.wait_for_url("**sample=ball**")


def organised_scan():
    """A bump on a plane as MVTec 3D-AD stores scans: float32 (h, w, 3), (0, 0, 0) where nothing was measured."""
    rows, columns = np.mgrid[0:60, 0:60]
    depth = 0.6 - 0.05 * np.sqrt(np.clip(1 - ((rows - 30) ** 2 + (columns - 30) ** 2) / 18**2, 0, None))
    scan = np.dstack([(columns - 30) * 0.002, (rows - 30) * 0.002, depth]).astype(np.float32)
    scan[:2] = 0
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, scan, photometric="rgb")
    return buffer.getvalue()


def upload(page, name, content):
    page.set_input_files(
        "[data-testid=stFileUploader] input",
        files=[{"name": name, "mimeType": "application/octet-stream", "buffer": content}],
    )


def real_scan():
    """A scan of a cable gland of MVTec 3D-AD, where the data set is there."""
    path = next(iter(sorted(REAL_SCANS.glob("*.tiff"))), None)
    return pytest.skip(f"no real scans in {REAL_SCANS}") if path is None else path.read_bytes()


@pytest.mark.parametrize("scan", [organised_scan, real_scan])
def test_a_scan_is_scored_and_a_broken_one_is_explained(page, server, scan):
    show(page, server, "score")
    upload(page, "part 1.tiff", scan())
    page.wait_for_selector(f"{CHART} canvas")
    settled(page)
    assert tiles(page)["Decision"] in ("Abnormal", "Normal")
    assert page.locator(".view").count() == 2
    with page.expect_download() as download:
        page.get_by_role("button", name="Report (PDF)").click()
    with open(download.value.path(), "rb") as file:
        assert file.read(5) == b"%PDF-"
    show(page, server, "score")
    upload(page, "broken.tiff", b"II*\0 broken")
    page.wait_for_selector("[data-testid=stAlertContentError]")
    assert "broken.tiff: " in page.locator("[data-testid=stAlertContentError]").inner_text()


def test_a_mark_is_found_after_a_restart(page, server):
    show(page, server, "sample?sample=ball/test/dent/003")
    page.get_by_text("A missed defect").click()
    page.get_by_label("Note").fill("shallow dent at the pole")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_role("button", name="Save mark").click()
    page.wait_for_selector(".st-key-withdraw")
    page.goto("about:blank")  # a page whose server goes away complains
    server.stop()
    server.start()
    show(page, server, "sample?sample=ball/test/dent/003")
    page.wait_for_selector(".st-key-withdraw")
    assert page.get_by_text("shallow dent at the pole").count() == 1
    show(page, server, "marks")
    assert tiles(page)["A missed defect"] == "1"
