"""`gsclip render`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gsclip.commands.batch import for_each
from gsclip.data import checks
from gsclip.data.preparation import DEFAULT_SCAN_PARAMS, prepare_sample
from gsclip.data.scan_files import read_scan
from gsclip.errors import GsclipError
from gsclip.params import ScanParams
from gsclip.results import VIEWS_FILE, check_rendered_results
from gsclip.scans import find_scans
from gsclip.storage import atomic_directory
from gsclip.views.cameras import camera_angles
from gsclip.views.renderer import render_views


def render_files(
    paths: Sequence[Path],
    output: Path,
    *,
    views: int,
    image_size: int,
    cameras: str,
    params: ScanParams = DEFAULT_SCAN_PARAMS,
) -> list[GsclipError]:
    """Render scans to ``<output>/<name>/{rendered,depth}_<view>.png`` and ``<name>/views.npz``.

    Rendered images are 8 bit grey, depth images 16 bit; ``views.npz`` holds pixel (v, n, 2) and visibility (v, n) of
    every point, its place (n, 3), and the cameras' angles (v, 2) in degrees.

    Returns:
        Why scans were rejected; they are listed in ``rejected.csv`` too.

    Raises:
        InputError: when a folder holds no scan, or a result would replace what `gsclip render` has not written; then
            nothing is written.
    """
    angles = camera_angles(cameras, views)

    def render(name: str, path: Path) -> None:
        sample = prepare_sample(checks.usable(read_scan(path), str(path)), str(path), params=params)
        rendered = render_views(sample, image_size=image_size, cameras=cameras, views=views)
        with atomic_directory(output / name) as folder:
            for number in range(views):
                Image.fromarray(rendered.rendered[number]).save(folder / f"rendered_{number}.png")
                Image.fromarray(rendered.depth[number]).save(folder / f"depth_{number}.png")
            np.savez_compressed(
                folder / VIEWS_FILE,
                points=sample.points,
                pixels=rendered.pixels,
                visible=rendered.visible,
                angles=np.array(angles, dtype=np.float32),
            )

    scans = find_scans(paths, output)
    check_rendered_results(scans, output)
    return for_each(scans, output, render)
