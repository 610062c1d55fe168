"""Which files are masks or colours of a scan beside them."""

from pathlib import Path

import pytest

from gsclip.data.companions import is_companion


@pytest.fixture
def parts(tmp_path):
    for place in (
        "a.ply", "a_mask.npy", "A_MASK.PNG", "a_rgb.png", "a_rgb.ply", "a_mask.stl", "b_mask.npy", "c.TIFF",
        "C_rgb.PNG", "masks/a.npy", "masks/z.npy", "GT/a.txt", "rgb/a.png", "other/a.npy",
        "hole/xyz/000.tiff", "hole/gt/000.png", "hole/RGB/000.png", "hole/gt/007.png",
        "lone/masks/face.ply", "lone/notes.txt", "short/_mask.ply", "d.laz", "d_mask.txt", "e.png", "e_mask.png",
    ):  # fmt: skip
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    return tmp_path


@pytest.mark.parametrize(
    "place",
    ["a_mask.npy", "A_MASK.PNG", "a_rgb.png", "C_rgb.PNG", "masks/a.npy", "masks/z.npy", "GT/a.txt", "rgb/a.png",
     "hole/gt/000.png", "hole/gt/007.png", "hole/RGB/000.png", "d_mask.txt", "e_mask.png"],
)  # fmt: skip
def test_masks_and_colours_belong_to_the_scan_beside_them(parts, place):
    assert is_companion(parts / place)


@pytest.mark.parametrize(
    "place",
    ["a.ply", "c.TIFF", "a_rgb.ply", "a_mask.stl", "b_mask.npy", "other/a.npy", "hole/xyz/000.tiff",
     "lone/masks/face.ply", "short/_mask.ply", "nowhere/a_mask.ply", "d.laz", "e.png"],
)  # fmt: skip
def test_scans_and_what_has_no_scan_beside_it_are_none(parts, place):
    assert not is_companion(parts / place)


def test_relative_paths_are_the_same(parts, monkeypatch):
    monkeypatch.chdir(parts / "masks")
    assert is_companion(Path("a.npy"))
