import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from gsclip.data.eyecandies import FOCAL_LENGTH, KINDS, MAX_YAML, back_project, eyecandies_index, read_row
from gsclip.data.preparation import prepare_sample
from gsclip.errors import InputError

REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data" / "eyecandies"
REAL = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real scans of Eyecandies are not on this machine")
SIDE = 64
NEAREST, FARTHEST = 2.0, 4.0


def levels():
    """(64, 64) uint16: a slope, its last row nearest, with a step that is the part."""
    depth = np.repeat(np.linspace(65535, 0, SIDE)[:, None], SIDE, axis=1)
    depth[20:40, 20:40] -= 5000
    return depth.round().astype(np.uint16)


def write_scene(root, name, kinds=(), masks=True, metadata=True):
    """Write one scene as downloaded; ``name`` is Category/split/number. Each kind has its mask in its own rows."""
    category, split, number = name.split("/")
    data = root / category / split / "data"
    data.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels()).save(data / f"{number}_depth.png")
    info = {"normalization": {"min": NEAREST, "max": FARTHEST}}
    (data / f"{number}_info_depth.yaml").write_text(yaml.safe_dump(info))
    for light in range(6):
        image = np.full((SIDE, SIDE, 3), (10 * light, 20, 30), dtype=np.uint8)
        Image.fromarray(image).save(data / f"{number}_image_{light}.png")
    Image.fromarray(np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)).save(data / f"{number}_normals.png")
    np.savetxt(data / f"{number}_pose.txt", np.eye(4))
    every = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for row, kind in enumerate(KINDS):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        if kind in kinds:
            mask[22 + row, 22:30] = 255
        every |= mask
        if masks:
            Image.fromarray(mask).save(data / f"{number}_{kind}_mask.png")
    if masks:
        Image.fromarray(every).save(data / f"{number}_mask.png")
    if metadata:
        flags = {"anomalous": int(bool(kinds)), **{f"anomalous_{kind}": int(kind in kinds) for kind in KINDS}}
        (data / f"{number}_metadata.yaml").write_text(yaml.safe_dump(flags))
    return data


@pytest.fixture
def root(tmp_path):
    write_scene(tmp_path, "CandyCane/train/000")
    write_scene(tmp_path, "CandyCane/val/000")
    write_scene(tmp_path, "CandyCane/test_public/00")
    write_scene(tmp_path, "CandyCane/test_public/25", ["bumps"])
    write_scene(tmp_path, "CandyCane/test_public/26", ["normals"], metadata=False)
    write_scene(tmp_path, "CandyCane/test_public/29", ["dents", "colors"])
    write_scene(tmp_path, "CandyCane/test_private/000", masks=False, metadata=False)
    write_scene(tmp_path, "Lollipop/test_public/00", metadata=False)
    return tmp_path


def message_of(*arguments):
    with pytest.raises(InputError) as caught:
        eyecandies_index(*arguments)
    return str(caught.value)


def test_the_kind_comes_from_metadata_or_masks_and_the_private_split_is_left_out(root):
    index = eyecandies_index(root)
    assert list(index["name"]) == [
        "CandyCane/test/good/00",
        "CandyCane/test/bumps/25",
        "CandyCane/test/normals/26",
        "CandyCane/test/combined/29",
        "Lollipop/test/good/00",
    ]
    assert list(index["label"]) == [0, 1, 1, 1, 0]
    assert set(index["dataset"]) == {"eyecandies"}
    assert index.iloc[1]["scan_path"] == "CandyCane/test_public/data/25_depth.png"
    assert index.iloc[1]["mask_path"] == "CandyCane/test_public/data/25_mask.png"
    assert index.iloc[1]["color_path"] == "CandyCane/test_public/data/25_image_5.png"


def test_val_is_called_validation_and_splits_without_defects_are_good(root):
    index = eyecandies_index(root, ["CandyCane"], ("validation", "train"))
    assert list(index["name"]) == ["CandyCane/train/good/000", "CandyCane/validation/good/000"]


def test_points_masks_and_colours_share_their_pixels(root):
    index = eyecandies_index(root)
    scan = read_row(root, index.iloc[3])
    depth = levels() / 65535 * (FARTHEST - NEAREST) + NEAREST
    assert scan.points.dtype == np.float32
    np.testing.assert_allclose(scan.points[..., 2], depth, atol=1e-6)
    focal_length = FOCAL_LENGTH * SIDE / 512
    assert scan.points[10, 50, 0] == pytest.approx((50 - 32) * depth[10, 50] / focal_length)
    assert scan.points[10, 50, 1] == pytest.approx((10 - 32) * depth[10, 50] / focal_length)
    assert np.argwhere(scan.mask)[:, 0].tolist() == [23] * 8 + [24] * 8
    assert (scan.colors == (50, 20, 30)).all()
    assert not read_row(root, index.iloc[0]).mask.any()


def test_the_official_size_has_the_published_camera():
    points = back_project(np.full((512, 512), 3.0))
    np.testing.assert_allclose(points[256, 256], (0, 0, 3))
    np.testing.assert_allclose(points[0, 511], (255 * 3 / 711.11, -256 * 3 / 711.11, 3), rtol=1e-6)


def test_letter_case_and_a_nested_folder_do_not_matter(root, tmp_path_factory):
    top = tmp_path_factory.mktemp("top")
    shutil.copytree(root / "CandyCane" / "test_public", top / "Eyecandies" / "candycane" / "Test_Public")
    data = top / "Eyecandies" / "candycane" / "Test_Public" / "data"
    (data / "25_depth.png").rename(data / "25_Depth.PNG")
    (data / "25_info_depth.yaml").rename(data / "25_Info_Depth.YAML")
    (data / "25_metadata.yaml").rename(data / "25_metadata.YML")
    (data / "._25_depth.png").touch()
    index = eyecandies_index(top)
    assert list(index["name"]) == list(eyecandies_index(root, ["CandyCane"])["name"])
    expected = read_row(root, eyecandies_index(root).iloc[1])
    np.testing.assert_array_equal(read_row(top, index.iloc[1]).points, expected.points)


def test_the_converted_form_is_recognised(root, tmp_path_factory):
    top = tmp_path_factory.mktemp("converted")
    scan = read_row(root, eyecandies_index(root).iloc[1])
    for defect, number in (("good", 0), ("bad", 1)):
        folder = top / "candycane" / "test_public" / defect
        for kind in ("xyz", "rgb", "gt"):
            (folder / kind).mkdir(parents=True)
        tifffile.imwrite(folder / "xyz" / f"{number:03d}.tiff", scan.points, photometric="rgb")
        Image.fromarray(scan.colors).save(folder / "rgb" / f"{number:03d}.png")
        Image.fromarray(scan.mask & (number == 1)).save(folder / "gt" / f"{number:03d}.png")
    index = eyecandies_index(top)
    assert list(index["name"]) == ["CandyCane/test/bad/001", "CandyCane/test/good/000"]
    assert set(index["dataset"]) == {"eyecandies"}
    read = read_row(top, index.iloc[0])
    np.testing.assert_array_equal(read.points, scan.points)
    np.testing.assert_array_equal(read.mask, scan.mask)
    shutil.copytree(root / "Lollipop", top / "Lollipop")
    assert "Lollipop is laid out as downloaded, and CandyCane as MVTec 3D-AD" in message_of(top)


def reading_fails(root, row):
    with pytest.raises(InputError) as caught:
        read_row(root, row)
    return str(caught.value)


def test_missing_truth_is_listed_and_told_when_it_is_read(root):
    data = root / "CandyCane" / "test_public" / "data"
    (data / "25_mask.png").unlink()
    for path in (root / "Lollipop" / "test_public" / "data").glob("*_mask.png"):
        path.unlink()
    index = eyecandies_index(root)
    assert list(index["name"][[1, 4]]) == ["CandyCane/test/bumps/25", "Lollipop/test/unknown/00"]
    assert list(index["label"]) == [0, 1, 1, 1, 1]
    assert reading_fails(root, index.iloc[1]).startswith(f"{data / '25_mask.png'}: mask file not found")
    assert "00_metadata.yaml: neither metadata nor masks say" in reading_fails(root, index.iloc[4])
    assert read_row(root, index.iloc[2]).mask.any()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("25_metadata.yaml", b"a: [", "cannot be read as YAML"),
        ("25_metadata.yaml", b"", "YAML file is empty"),
        ("26_dents_mask.png", b"no image", "cannot be read as a mask"),
    ],
)
def test_a_kind_that_cannot_be_known_is_told_when_the_sample_is_read(root, name, content, problem):
    before = eyecandies_index(root)
    path = root / "CandyCane" / "test_public" / "data" / name
    whole = path.read_bytes()
    path.write_bytes(content)
    index = eyecandies_index(root)
    number = name[:2]
    rows = index[index["defect"] == "unknown"]
    assert list(rows["name"]) == [f"CandyCane/test/unknown/{number}"]
    assert len(index) == len(before)
    row = rows.iloc[0]
    assert row["label"] == 1
    assert reading_fails(root, row).startswith(f"{path}: {problem}")
    path.write_bytes(whole)
    assert "its kind of defect could not be read when it was listed; list it again" in reading_fails(root, row)


def test_images_without_a_depth_image_are_warned_of(root, caplog):
    data = root / "CandyCane" / "test_public" / "data"
    assert len(eyecandies_index(root)) == 5
    assert not caplog.messages
    (data / "25_depth.png").unlink()
    assert len(eyecandies_index(root)) == 4
    assert caplog.messages == [
        f"{data.parent}: images or masks without a scan, left out: data/25_image_5.png, data/25_mask.png"
    ]


def test_missing_folders_categories_and_splits_are_named(root):
    assert message_of(root / "nowhere").startswith(f"{root / 'nowhere'}: data set folder not found")
    assert message_of(root, ["candycane"]).endswith("no such category: candycane; found CandyCane, Lollipop")
    assert "no such split: val; use train, validation, test" in message_of(root, None, ("val",))
    assert "the category has no split train" in message_of(root, ["CandyCane", "Lollipop"][1:], ("train", "test"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("normalization: {min: 2.0}", "lacks the numbers normalization.min and .max"),
        ("normalization: 3", "lacks the numbers"),
        ("normalization: {min: near, max: 4}", "lacks the numbers"),
        ("normalization: {min: 4.0, max: 2.0}", "the depths 4 to 2 m are no range"),
        ("normalization: {min: 2.0, max: .inf}", "no range"),
        ("- 1", "holds no keys and values"),
        ("a: [", "cannot be read as YAML"),
        ("[" * 20000, "cannot be read as YAML"),
        ("!!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        ("# " + "x" * MAX_YAML, f"has more than {MAX_YAML} bytes"),
        ("", "YAML file is empty"),
    ],
)
def test_broken_depth_ranges_are_named(root, text, problem):
    path = root / "CandyCane" / "test_public" / "data" / "25_info_depth.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_row(root, eyecandies_index(root).iloc[1])
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_broken_depth_images_are_named(root):
    path = root / "CandyCane" / "test_public" / "data" / "25_depth.png"
    row = eyecandies_index(root).iloc[1]
    Image.fromarray((levels() // 256).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match="holds uint8 in 2 dimensions instead of one 16 bit depth a pixel"):
        read_row(root, row)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as a depth image"):
        read_row(root, row)
    path.unlink()
    with pytest.raises(InputError, match="depth image file not found"):
        read_row(root, row)


@REAL
def test_real_scenes_are_listed():
    assert list(eyecandies_index(REAL_DATA)["name"]) == [
        "CandyCane/test/good/00",
        "CandyCane/test/bumps/25",
        "CandyCane/test/dents/26",
        "CandyCane/test/combined/29",
    ]


@REAL
def test_real_depths_are_plausible_and_bumps_stand_out():
    index = eyecandies_index(REAL_DATA)
    scans = {row["defect"]: read_row(REAL_DATA, row) for _, row in index.iterrows()}
    for scan in scans.values():
        assert scan.points.shape == scan.colors.shape == (512, 512, 3)
        assert np.isfinite(scan.points).all()
        assert 2 < scan.points[..., 2].min() < scan.points[..., 2].max() < 5
    # The lower rows show the table alone: with the right camera it is one plane, to the steps of the 16 bits.
    table = scans["good"].points[420:].reshape(-1, 3).astype(np.float64)
    assert np.linalg.svd(table - table.mean(axis=0), compute_uv=False)[2] / np.sqrt(len(table)) < 1e-4
    assert not scans["good"].mask.any()
    assert scans["bumps"].mask.sum() == 382


@REAL
@pytest.mark.parametrize("number", [1, 2, 3])
def test_real_masks_and_colours_lie_on_the_part(number):
    row = eyecandies_index(REAL_DATA).iloc[number]
    scan = read_row(REAL_DATA, row)
    sample = prepare_sample(scan, row["name"])
    assert 5_000 < len(sample.points) < 40_000
    assert sample.mask.sum() > 0.9 * scan.mask.sum()
    # The candy is brighter than the table: images and depths show the same shape at the same place.
    part = np.zeros((512, 512), dtype=bool)
    part[tuple(sample.pixels.T)] = True
    bright = scan.colors.max(axis=2) > 140

    def overlap(rows, columns):
        moved = np.roll(bright, (rows, columns), axis=(0, 1))
        return (moved & part).sum() / (moved | part).sum()

    assert overlap(0, 0) > 0.85
    assert all(overlap(0, 0) > overlap(*shift) for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)))
