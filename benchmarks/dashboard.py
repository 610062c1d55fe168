"""Times of the dashboard in a real browser, on many samples of many points: first page, change of page, of sample.

A run of ``--samples`` parts of ``--points`` points each is written as the pipeline writes runs, a dashboard is started
on it, and headless Chromium opens it. A page counts as shown when its heading is there and nothing on it changes any
more, figures included; a sample when both of its clouds are drawn, too. Packs are read cold and warm as they come: each
step goes to a sample that was not shown before. Limits: first page 2 s, change of page 1 s, of sample 1 s.

    python -m benchmarks.dashboard --output benchmarks/results/dashboard
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.browser import CHROMIUM, CLOUDS, IDLE, PATIENCE, Server
from benchmarks.full_size import ROOT, machine
from benchmarks.shared import write_results
from gsclip.data.sample import Sample
from gsclip.metrics.sample_scores import sample_scores
from gsclip.metrics.table import evaluate_samples
from gsclip.report.curves import write_curves
from gsclip.scores.prediction import Prediction
from gsclip.storage import write_csv, write_json, write_pack
from gsclip.views.renderer import render_views

LIMITS = {"first page": 2.0, "change of page": 1.0, "change of sample": 1.0}
PAGES = ("Categories", "Threshold", "Worst first", "Sample", "Score a scan", "Marks", "Compare", "Drift", "Overview")
# Waits until the graphics processor, or what stands for it, has drawn the clouds.
DRAWN = """(canvas) => {
    const gl = canvas.getContext("webgl2");
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
}"""
STILL = 1000  # milliseconds without a change after which a page counts as shown; they are not part of its time
# Waits for that, and says for how long nothing had changed then.
SETTLED = f"""(still) => new Promise((resolve) => {{
    let last = performance.now();
    const watch = new MutationObserver(() => {{ last = performance.now(); }});
    watch.observe(document.body, {{ subtree: true, childList: true, attributes: true, characterData: true }});
    const look = () => {{
        const now = performance.now();
        if (!({IDLE})()) last = now;
        if (now - last < still) return setTimeout(look, 20);
        watch.disconnect();
        resolve(now - last);
    }};
    look();
}})"""


def part(seed: int, points: int) -> Sample:
    """The half of a wavy sphere that a sensor sees, a patch of it defective where the seed is odd."""
    random = np.random.default_rng(seed)
    direction = random.normal(size=(points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = -np.abs(direction[:, 2])
    mask = (direction @ random.permutation([0.3, 0.4, -0.866]) > 0.95) & bool(seed % 2)
    radius = 1 + 0.03 * np.sin(9 * direction[:, :1]) - 0.06 * mask[:, None]
    return Sample((0.02 * radius * direction + [0, 0, 0.6]).astype(np.float32), direction.astype(np.float32), mask=mask)


def write_run(root: Path, samples: int, points: int, image_size: int) -> None:
    """Write a run of one category; the views of all parts are those of one good and one defective part."""
    random = np.random.default_rng(0)
    views = [render_views(part(seed, points), image_size=image_size) for seed in (0, 1)]
    rows, scored = [], []
    with (
        write_pack(root / "data/prepared/part.h5") as prepared,
        write_pack(root / "data/views/part.h5") as viewed,
        write_pack(root / "outputs/predictions/part.h5") as predicted,
    ):
        for number in range(samples):
            sample, label = part(number, points), number % 2
            defect = "dent" if label else "good"
            name = f"part/test/{defect}/{number:05d}"
            score = float(np.clip(random.normal(0.35 + 0.2 * label, 0.12), 0, 1))
            prediction = Prediction(
                object_score=score,
                point_scores=np.clip(random.normal(0.1 + 0.5 * sample.mask, 0.05), 0, 1).astype(np.float32),
                view_probabilities=random.random(9, dtype=np.float32),
                view_maps=random.random((9, 15, 15), dtype=np.float32),
            )
            prepared.add(name, sample)
            viewed.add(name, views[label])
            predicted.add(name, prediction)
            rows.append({
                "name": name, "dataset": "spheres", "category": "part", "split": "test", "defect": defect,
                "label": label, "role": "test", "object_score": score, "decision": int(score >= 0.45),
                "threshold": 0.45, "map_max": 0.8, "map_mean": 0.2, "points": points, "extent_x": 0.04,
                "extent_y": 0.04, "extent_z": 0.02,
            })  # fmt: skip
            if number < 20:
                scored.append(sample_scores(name, "part", defect, label, prediction, sample))
    table = pd.DataFrame(rows)
    write_csv(root / "outputs/predictions/samples.csv", table)
    write_curves(table, root / "outputs/curves")
    metrics = evaluate_samples(scored, threshold=0.45, data={"dataset": "spheres"}, bootstrap_repeats=50)
    write_json(root / "outputs/metrics.json", metrics)


def measure(root: Path, repeats: int) -> dict[str, Any]:
    """Start the dashboard on a run and time it in the browser; seconds, and the server's peak memory in MiB."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise SystemExit("gsclip: chromium: not found; install it")
    started = time.perf_counter()
    server = Server(root)
    ready = time.perf_counter() - started
    times: dict[str, list[float]] = {name: [] for name in LIMITS}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(PATIENCE)

            def timed(name: str, act: Callable[[], object], shown: Callable[[], object]) -> None:
                begin = time.perf_counter()
                act()
                shown()
                still = page.evaluate(SETTLED, STILL) / 1000
                times[name].append(time.perf_counter() - begin - still)

            def headed(title: str) -> Callable[[], object]:
                found = "(title) => document.querySelector('h1')?.innerText.trim() === title"

                def wait() -> None:
                    page.wait_for_function(found, arg=title)
                    if title == "Sample":  # its figures are in shadow roots, where no change is seen from outside
                        drawn(f"{CLOUDS}[data-name]")

                return wait

            def drawn(clouds: str) -> None:
                page.locator(clouds).evaluate(DRAWN)
                page.locator(".view img").last.evaluate("(image) => image.decode()")

            timed("first page", lambda: page.goto(server.address), headed("Overview"))
            for title in PAGES:
                link = page.locator("[data-testid=stSidebarNavLink]", has_text=title)
                timed("change of page", link.click, headed(title))
            page.locator("[data-testid=stSidebarNavLink]", has_text="Sample").click()
            clouds = page.locator(f"{CLOUDS}[data-name]")
            clouds.wait_for()
            page.wait_for_function(IDLE)
            for _ in range(repeats):
                others = f'{CLOUDS}[data-name]:not([data-name="{clouds.get_attribute("data-name")}"])'
                following = page.get_by_role("button", name="Next")
                timed("change of sample", following.click, lambda others=others: drawn(others))
            browser.close()
        return {"server ready after": ready, "seconds": times, "peak_memory_mib": server.peak_memory()}
    finally:
        server.stop()


def as_markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    lines = [
        "# Times of the dashboard",
        "",
        f"{result['samples']} samples of {result['points']:,} points, views of {result['image_size']}² pixels, "
        f"headless Chromium without a GPU; {result['machine']}. Seconds; made by `python -m benchmarks.dashboard`.",
        "",
        "| | median | slowest | limit | times |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, limit in LIMITS.items():
        values = result["seconds"][name]
        median = statistics.median(values)
        lines.append(f"| {name} | {median:.2f} | {max(values):.2f} | {limit:.0f} | {len(values)} |")
    lines += [
        "",
        f"The server answers {result['server ready after']:.1f} s after its start; peak memory of the server "
        f"{result['peak_memory_mib']:.0f} MiB. The first sample and the first page of pictures read the packs cold.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--image-size", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=20, help="changes of sample")
    parser.add_argument("--workspace", type=Path, help="folder that keeps the run for the next call")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/dashboard", help="without extension")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gsclip-dashboard-") as temporary:
        root = arguments.workspace or Path(temporary)
        if not (root / "outputs/metrics.json").is_file():
            write_run(root, arguments.samples, arguments.points, arguments.image_size)
        result = {
            "samples": arguments.samples,
            "points": arguments.points,
            "image_size": arguments.image_size,
            "machine": machine(),
            "limits": LIMITS,
            **measure(root, arguments.repeats),
        }
    write_results(arguments.output, result, as_markdown(result))
    print(as_markdown(result))


if __name__ == "__main__":
    main()
