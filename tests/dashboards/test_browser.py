"""What only a browser shows: the 3D canvas, its camera, sliders, uploads, a restart, and names that try to be markup.

Screenshots of every page are left in ``build/screenshots``.
"""

import io

import numpy as np
import pytest
import tifffile
from benchmarks.browser import CHROMIUM, CLOUDS, PATIENCE, Server
from PIL import Image
from tests.dashboards.spheres import CATEGORIES, FACTS, ROOT, write_workspace
from tests.detectors import untrained_detector

from gsclip.features.backbone import load_backbone

REAL_SCANS = ROOT.parent / "shared/data/mvtec_3d_ad/cable_gland/test/hole/xyz"
SCREENSHOTS = ROOT / "build" / "screenshots"
HOSTILE = "<img src=x onerror=window.hacked=1>"
PAGES = ("overview", "categories", "threshold", "worst", "sample", "score", "marks", "compare", "drift")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]


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


def settled(page, name=None):
    """Wait until the script has run to its end and the clouds, of the named part, are drawn; their canvas."""
    idle(page)
    clouds = page.locator(CLOUDS + ("[data-name]" if name is None else f'[data-name="{name}"]'))
    clouds.wait_for()
    page.wait_for_timeout(300)
    return clouds


def eye(clouds):
    """Direction from the part to the camera."""
    return [float(value) for value in clouds.get_attribute("data-eye").split()]


def drawn_share(clouds, half):
    """Share of a half of the clouds' area that does not have the page's colour."""
    pixels = np.array(Image.open(io.BytesIO(clouds.screenshot())).convert("RGB")).astype(int)
    pixels = np.array_split(pixels[4:-4, 4:-4], 2, axis=1)[half]
    return (np.abs(pixels - pixels[0, 0]).max(axis=-1) > 30).mean()


def turn(page, clouds, across, button="left"):
    """Drag the clouds from a share of their width."""
    box = clouds.bounding_box()
    x, y = box["x"] + across * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + 40, y + 15, steps=4)
    page.mouse.up(button=button)
    page.wait_for_timeout(300)


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
    clouds = settled(page, "marble/test/scratch/001")
    assert page.url.endswith("sample=marble%2Ftest%2Fscratch%2F001")
    for half in (0, 1):
        assert drawn_share(clouds, half) > 0.02
    assert page.locator(".view").count() == 9
    for across in (0.25, 0.75):
        before, pixels = eye(clouds), halves(clouds)
        turn(page, clouds, across)
        assert np.linalg.norm(np.subtract(eye(clouds), before)) > 0.1
        assert all((old != new).any() for old, new in zip(pixels, halves(clouds), strict=True))
    turned = eye(clouds)
    page.get_by_role("button", name="Previous").click()
    clouds = settled(page, "marble/test/good/000")
    assert eye(clouds) == turned
    page.get_by_text("Above", exact=True).click()
    idle(page)
    assert eye(clouds) == pytest.approx([0, -0.769, -0.639], abs=0.01)


def halves(clouds):
    """Pixels of both clouds."""
    return np.array_split(np.array(Image.open(io.BytesIO(clouds.screenshot())).convert("RGB")), 2, axis=1)


def test_clouds_are_moved_enlarged_and_reset_by_hand_and_by_keys(page, server):
    show(page, server, "sample?sample=marble/test/scratch/001")
    clouds = settled(page)
    start, pixels = eye(clouds), halves(clouds)[0]
    clouds.hover(position={"x": 300, "y": 250})
    page.wait_for_selector(".hint:has-text('score 0.')")
    page.mouse.wheel(0, -400)
    page.wait_for_selector(".hint", state="hidden")
    page.wait_for_timeout(300)
    assert float(clouds.get_attribute("data-zoom")) > 1.5
    assert (halves(clouds)[0] != pixels).any()
    clouds.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("-")
    page.wait_for_timeout(300)
    assert eye(clouds) != start
    page.keyboard.press("0")
    page.wait_for_timeout(300)
    assert (eye(clouds), clouds.get_attribute("data-zoom")) == (start, "1.000")
    assert clouds.get_attribute("data-shift") == "0.000 0.000"
    page.mouse.move(2, 2)
    pixels = halves(clouds)[0]
    turn(page, clouds, 0.25, button="right")
    page.mouse.move(2, 2)
    page.wait_for_timeout(300)
    assert eye(clouds) == start
    assert (halves(clouds)[0] != pixels).any()
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_timeout(300)
    across = 80 / clouds.bounding_box()["width"] * 2 - 0.1
    assert float(clouds.get_attribute("data-shift").split()[0]) == pytest.approx(across, abs=0.01)


def test_lost_graphics_are_told_and_come_back(page, server):
    show(page, server, "sample?sample=marble/test/scratch/001")
    clouds = settled(page)
    before = halves(clouds)[0]
    clouds.evaluate("(canvas) => { window.lost = canvas.getContext('webgl2').getExtension('WEBGL_lose_context'); }")
    page.evaluate("window.lost.loseContext()")
    page.wait_for_selector(".alert:has-text('lost its graphics')")
    page.evaluate("window.lost.restoreContext()")
    page.wait_for_selector(".alert", state="hidden")
    page.wait_for_timeout(300)
    np.testing.assert_array_equal(halves(clouds)[0], before)


def test_a_browser_without_webgl_says_so(page, server):
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    show(page, server, "sample?sample=marble/test/scratch/001")
    page.wait_for_selector(".clouds .alert:has-text('WebGL 2 is switched off or missing')")
    assert page.locator(".view").count() == 9


@pytest.mark.parametrize("width", [620, 1600])
def test_the_part_is_seen_whole_from_every_side_in_every_window(page, server, width):
    page.set_viewport_size({"width": width, "height": 900})
    show(page, server, "sample?sample=marble/test/scratch/001")
    clouds = settled(page)
    clouds.focus()
    for _ in range(5):
        for key in ("ArrowLeft", "ArrowUp"):
            page.keyboard.press(key)
        page.wait_for_timeout(200)
        inner = halves(clouds)[1][6:-6, 6:-6].astype(int)  # not the ring of the focus; the menu may hide the left half
        rim = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
        assert (np.abs(rim - inner[0, 0]).max(axis=-1) <= 30).all()
        assert (np.abs(inner - inner[0, 0]).max(axis=-1) > 30).any()


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
