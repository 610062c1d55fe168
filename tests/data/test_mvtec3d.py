import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from gsclip.data.mvtec3d import mvtec_3d_ad_index, read_row
from gsclip.errors import InputError

REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data" / "mvtec_3d_ad"
HEIGHT, WIDTH = 16, 20


def scan(number):
    """(16, 20, 3) float32: a wavy surface; the first row of pixels has no measurement."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    points = np.stack([u / 100, v / 100, 0.6 + 0.01 * np.sin(u + number)], axis=-1).astype(np.float32)
    points[0] = 0
    return points


def write_sample(root, name, mask=True, color=True):
    """Write one sample; ``name`` is category/split/defect/number."""
    category, split, defect, number = name.split("/")
    folder = root / category / split / defect
    for kind in ("xyz", "rgb", "gt"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "xyz" / f"{number}.tiff", scan(int(number)), photometric="rgb")
    if color:
        image = np.full((HEIGHT, WIDTH, 3), (10, 20, 30), dtype=np.uint8)
        Image.fromarray(image).save(folder / "rgb" / f"{number}.png")
    if mask:
        truth = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        if defect != "good":
            truth[4:6, 3:9] = 1  # a class number, not 255
        Image.fromarray(truth).save(folder / "gt" / f"{number}.png")


@pytest.fixture
def root(tmp_path):
    """Two categories in the official layout; the official training split has no masks."""
    for name in ("bagel/test/hole/001", "bagel/test/good/000", "bagel/test/hole/000", "tire/test/good/000"):
        write_sample(tmp_path, name)
    for name in ("bagel/train/good/000", "bagel/validation/good/003"):
        write_sample(tmp_path, name, mask=False)
    (tmp_path / "bagel" / "calibration").mkdir()
    (tmp_path / "bagel" / "license.txt").write_text("text")
    return tmp_path


def test_samples_are_listed_in_order_with_paths_relative_to_the_root(root):
    index = mvtec_3d_ad_index(root)
    assert list(index["name"]) == [
        "bagel/test/good/000",
        "bagel/test/hole/000",
        "bagel/test/hole/001",
        "tire/test/good/000",
    ]
    assert list(index["label"]) == [0, 1, 1, 0]
    assert set(index["dataset"]) == {"mvtec_3d_ad"}
    last_hole = index.iloc[2]
    assert last_hole["scan_path"] == "bagel/test/hole/xyz/001.tiff"
    assert last_hole["mask_path"] == "bagel/test/hole/gt/001.png"
    assert last_hole["color_path"] == "bagel/test/hole/rgb/001.png"


def test_splits_come_in_their_own_order_and_good_samples_need_no_mask(root):
    index = mvtec_3d_ad_index(root, ["bagel"], ("test", "validation", "train"))
    assert list(index["split"]) == ["train", "validation", "test", "test", "test"]
    assert list(index["mask_path"][:2]) == ["", ""]


def test_the_listing_is_the_same_each_time(root):
    assert mvtec_3d_ad_index(root).equals(mvtec_3d_ad_index(str(root)))


def test_categories_can_be_chosen(root):
    assert set(mvtec_3d_ad_index(root, ["tire"])["category"]) == {"tire"}


def test_reading_a_defective_sample(root):
    row = mvtec_3d_ad_index(root).iloc[1]
    sample = read_row(root, row)
    assert sample.organised
    expected = scan(0)
    expected[0] = np.nan
    np.testing.assert_array_equal(sample.points, expected)
    assert sample.mask.sum() == 12
    assert sample.mask[4:6, 3:9].all()
    assert (sample.colors == (10, 20, 30)).all()


def test_reading_good_samples_with_and_without_files_of_mask_and_colour(root):
    (root / "tire" / "test" / "good" / "rgb" / "000.png").unlink()
    (root / "tire" / "test" / "good" / "gt" / "000.png").unlink()
    index = mvtec_3d_ad_index(root)
    assert list(index.iloc[3][["mask_path", "color_path"]]) == ["", ""]
    sample = read_row(root, index.iloc[3])
    assert sample.mask.shape == (HEIGHT, WIDTH)
    assert not sample.mask.any()
    assert sample.colors is None
    assert not read_row(root, index.iloc[0]).mask.any()


def message_of(*arguments):
    with pytest.raises(InputError) as caught:
        mvtec_3d_ad_index(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_folder_is_named(tmp_path):
    message = message_of(tmp_path / "nowhere")
    assert message.startswith(f"{tmp_path / 'nowhere'}: data set folder not found; check the path; expected <root>")


def test_a_file_instead_of_a_folder_is_refused(root):
    assert "data set folder not found" in message_of(root / "bagel" / "license.txt")


def test_a_missing_category_is_named_beside_those_found(root):
    assert message_of(root, ["bagel", "dowel"]).endswith("no such category: dowel; found bagel, tire")
    assert "none named" in message_of(root, [])


def test_a_missing_or_unknown_split_is_named(root):
    message = message_of(root, ["tire", "bagel"], ("test", "train"))
    assert message.startswith(f"{root / 'tire' / 'train'}: the category has no split train")
    assert "no such split: final; use train, validation, test" in message_of(root, None, ("final",))
    assert "no such split: none named" in message_of(root, None, ())


def test_a_folder_without_categories_is_refused(root):
    assert "holds no category with the split test" in message_of(root / "bagel")


def test_a_defective_sample_without_a_mask_is_refused(root):
    mask = root / "bagel" / "test" / "hole" / "gt" / "001.png"
    mask.unlink()
    assert message_of(root).startswith(f"{mask}: mask of a defective sample not found")


@pytest.mark.parametrize("kind", ["gt", "rgb"])
def test_an_orphan_mask_or_image_names_the_missing_scan(root, kind):
    folder = root / "bagel" / "test" / "hole"
    shutil.copy(folder / kind / "000.png", folder / kind / "007.png")
    assert message_of(root).startswith(f"{folder / 'xyz' / '007.tiff'}: scan file not found, though there is an image")


def test_folders_without_scans_are_refused(root):
    for name in ("xyz", "rgb", "gt"):
        shutil.rmtree(root / "tire" / "test" / "good" / name)
    (root / "tire" / "test" / "good" / "xyz").mkdir()
    assert message_of(root, ["tire"]).startswith(f"{root}: the folders xyz hold no .tiff files")


def test_a_mask_of_another_size_is_refused(root):
    mask = root / "bagel" / "test" / "hole" / "gt" / "000.png"
    Image.fromarray(np.zeros((WIDTH, HEIGHT), dtype=np.uint8)).save(mask)
    with pytest.raises(InputError) as caught:
        read_row(root, mvtec_3d_ad_index(root).iloc[1])
    assert str(caught.value).startswith(f"{mask}: the mask has 20 x 16 pixels and the scan 16 x 20")


def test_a_truncated_scan_is_refused(root):
    path = root / "bagel" / "test" / "hole" / "xyz" / "000.tiff"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError) as caught:
        read_row(root, mvtec_3d_ad_index(root).iloc[1])
    assert str(caught.value).startswith(f"{path}: cannot be read as TIFF")


def test_a_scan_that_vanished_after_listing_is_named(root):
    index = mvtec_3d_ad_index(root)
    path = root / "tire" / "test" / "good" / "xyz" / "000.tiff"
    path.unlink()
    with pytest.raises(InputError, match="scan file not found"):
        read_row(root, index.iloc[3])


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real scans of MVTec 3D-AD are not on this machine")
def test_the_real_selection_is_listed_and_read():
    index = mvtec_3d_ad_index(REAL_DATA)
    assert len(index) == 67
    assert index["defect"].value_counts().to_dict() == {"good": 23, "bent": 11, "cut": 11, "hole": 11, "thread": 11}
    sample = read_row(REAL_DATA, index[index["defect"] == "hole"].iloc[0])
    assert sample.points.shape == sample.colors.shape == (400, 400, 3)
    assert np.nanmin(sample.points[..., 2]) > 0.5
    assert 76 <= sample.mask.sum() <= 500
