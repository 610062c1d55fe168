import functools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from tests.unreadable import refuse

from gsclip.data import preparing
from gsclip.data.mvtec3d import mvtec_3d_ad_index, read_row
from gsclip.data.preparation import DEFAULT_SCAN_PARAMS
from gsclip.errors import GsclipError, InputError

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


def test_a_defective_sample_without_a_mask_is_listed_and_refused_when_it_is_read(root):
    before = mvtec_3d_ad_index(root)
    mask = root / "bagel" / "test" / "hole" / "gt" / "001.png"
    mask.unlink()
    index = mvtec_3d_ad_index(root)
    assert index.equals(before)
    with pytest.raises(InputError) as caught:
        read_row(root, index.iloc[2])
    assert str(caught.value).startswith(f"{mask}: mask file not found")
    assert read_row(root, index.iloc[1]).mask.any()
    shutil.rmtree(mask.parent)
    assert mvtec_3d_ad_index(root).equals(before)


@pytest.mark.parametrize("limit", [0.1, 0.5])
def test_a_missing_mask_counts_as_a_rejected_sample(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(preparing, "ordered_map", map)
    for name in ("bagel/test/good/000", "bagel/test/hole/001", "bagel/test/hole/002"):
        write_sample(tmp_path / "data", name)
    mask = tmp_path / "data" / "bagel" / "test" / "hole" / "gt" / "001.png"
    mask.unlink()
    index = mvtec_3d_ad_index(tmp_path / "data")
    read = functools.partial(preparing.read_row, "mvtec_3d_ad", str(tmp_path / "data"), 0)
    arguments = (index, read, tmp_path / "prepared", DEFAULT_SCAN_PARAMS, limit)
    if limit > 1 / 3:
        assert list(preparing.prepare_index(*arguments)["name"]) == ["bagel/test/good/000", "bagel/test/hole/002"]
    else:
        with pytest.raises(GsclipError, match=r"1 of 3 samples are rejected, more than prepare.rejected_share_limit"):
            preparing.prepare_index(*arguments)
    rejected = pd.read_csv(tmp_path / "prepared" / "rejected.csv")
    assert rejected[["name", "path", "check"]].values.tolist() == [["bagel/test/hole/001", str(mask), "readable"]]


@pytest.mark.parametrize("kind", ["gt", "rgb"])
def test_masks_and_images_without_a_scan_are_warned_of(root, kind, caplog):
    before = mvtec_3d_ad_index(root)
    assert not caplog.messages
    folder = root / "bagel" / "test" / "hole"
    for number in range(7, 20):
        shutil.copy(folder / kind / "000.png", folder / kind / f"{number:03d}.png")
    assert mvtec_3d_ad_index(root).equals(before)
    names = ", ".join(f"{kind}/{number:03d}.png" for number in range(7, 17))
    assert caplog.messages == [f"{folder}: images or masks without a scan, left out: {names} and 3 more"]


@pytest.mark.parametrize("method", ["iterdir", "is_dir"])
@pytest.mark.parametrize(
    ("closed", "lost"),
    [("tire", "tire/"), ("bagel/test/hole", "bagel/test/hole/"), ("bagel/test/hole/xyz", "bagel/test/hole/")],
)
def test_a_folder_that_cannot_be_looked_into_is_one_warning(root, monkeypatch, caplog, closed, lost, method):
    before = mvtec_3d_ad_index(root)
    refuse(monkeypatch, [root / closed], method)
    for _ in range(2):
        caplog.clear()
        index = mvtec_3d_ad_index(root)
        assert list(index["name"]) == [name for name in before["name"] if not name.startswith(lost)]
        warning = f"{root / closed}: cannot be looked into (Permission denied) and is left out; check its permissions"
        assert caplog.messages.count(warning) == 1
        assert len(caplog.messages) == (2 if closed.endswith("xyz") else 1)  # the masks are orphans, then


def test_masks_in_a_folder_that_cannot_be_looked_into_are_rejected_rows(root, monkeypatch):
    before = mvtec_3d_ad_index(root)
    refuse(monkeypatch, [root / "bagel" / "test" / "hole" / "gt"], "iterdir")
    assert mvtec_3d_ad_index(root).equals(before)


def test_files_that_cannot_be_looked_at_are_listed(root, monkeypatch):
    before = mvtec_3d_ad_index(root)
    refuse(monkeypatch, [root / path for path in before["scan_path"]], "is_file")
    assert mvtec_3d_ad_index(root).equals(before)


def test_a_data_set_that_cannot_be_looked_into_is_an_error(root, monkeypatch):
    refuse(monkeypatch, [root], "iterdir")
    assert "holds no category with the split test" in message_of(root)


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


def rename(path, name):
    """Also where the file system does not tell the two names apart."""
    between = path.with_name("between")
    path.rename(between)
    between.rename(path.with_name(name))


def test_letter_case_of_folders_and_extensions_does_not_matter(root):
    before = mvtec_3d_ad_index(root)
    hole = root / "bagel" / "test" / "hole"
    rename(hole / "gt", "GT")
    rename(hole / "xyz" / "000.tiff", "000.TIFF")
    rename(hole / "GT" / "000.png", "000.PNG")
    for path, name in ((hole, "Hole"), (root / "bagel" / "test", "Test"), (root / "bagel", "Bagel")):
        rename(path, name)
    after = mvtec_3d_ad_index(root)
    paths = ["scan_path", "mask_path", "color_path"]
    assert after.drop(columns=paths).equals(before.drop(columns=paths))
    assert after.iloc[1]["scan_path"] == "Bagel/Test/Hole/xyz/000.TIFF"
    assert read_row(root, after.iloc[1]).mask.sum() == 12


def test_clutter_of_file_managers_is_passed_over(root):
    before = mvtec_3d_ad_index(root)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        for folder in (root, root / "bagel", root / "bagel" / "test", root / "bagel" / "test" / "hole" / "gt"):
            (folder / name).touch()
    (root / "bagel" / "test" / "hole" / "gt" / "._000.png").touch()
    (root / "__MACOSX" / "bagel" / "test" / "hole" / "xyz").mkdir(parents=True)
    assert mvtec_3d_ad_index(root).equals(before)


def test_categories_may_lie_some_folders_below(root, tmp_path_factory):
    top = tmp_path_factory.mktemp("top")
    shutil.copytree(root, top / "archive" / "mvtec_3d_anomaly_detection")
    index = mvtec_3d_ad_index(top)
    assert list(index["name"]) == list(mvtec_3d_ad_index(root)["name"])
    assert index.iloc[1]["scan_path"] == "archive/mvtec_3d_anomaly_detection/bagel/test/hole/xyz/000.tiff"
    assert read_row(top, index.iloc[1]).mask.sum() == 12


def test_two_data_sets_below_the_root_are_refused(root, tmp_path_factory):
    top = tmp_path_factory.mktemp("top")
    for name in ("first", "second"):
        shutil.copytree(root, top / name)
    message = message_of(top)
    assert message.startswith(f"{top}: holds categories in several folders: first, second; name one of these")


@pytest.mark.parametrize(("folder", "twin"), [("bagel/test/hole", "Hole"), ("bagel/test", "TEST"), ("tire", "Tire")])
def test_folders_that_differ_in_case_alone_are_refused(root, folder, twin):
    shutil.copytree(root / folder, (root / folder).with_name(twin))
    if len({path.name for path in (root / folder).parent.iterdir() if path.name.lower() == twin.lower()}) < 2:
        pytest.skip("this file system does not tell upper from lower case")
    message = message_of(root)
    assert twin in message
    assert message.endswith("it is not clear which one counts; keep one of them")


def test_scans_of_one_number_are_refused_when_they_are_read(root):
    before = mvtec_3d_ad_index(root)
    folder = root / "bagel" / "test" / "hole" / "xyz"
    shutil.copy(folder / "000.tiff", folder / "000.tif")
    index = mvtec_3d_ad_index(root).set_index("name", drop=False)
    assert sorted(set(index["name"]) ^ set(before["name"])) == [
        "bagel/test/hole/000", "bagel/test/hole/000.tif", "bagel/test/hole/000.tiff"
    ]  # fmt: skip
    for name in ("000.tif", "000.tiff"):
        with pytest.raises(InputError) as caught:
            read_row(root, index.loc[f"bagel/test/hole/{name}"])
        assert str(caught.value) == (
            f"{folder / name}: 000.tif and 000.tiff are the same sample: it is not clear which one counts; "
            "keep one of them"
        )
        assert caught.value.check == "readable"


def test_masks_of_one_number_are_refused(root):
    folder = root / "bagel" / "test" / "hole" / "gt"
    shutil.copy(folder / "000.png", folder / "000.PNG")
    if len([path for path in folder.iterdir() if path.stem == "000"]) < 2:
        pytest.skip("this file system does not tell upper from lower case")
    assert message_of(root).startswith(f"{folder}: holds 000.PNG and 000.png: it is not clear which one counts")


def test_validation_may_be_called_val_but_not_both(root):
    shutil.copytree(root / "bagel" / "validation", root / "bagel" / "val")
    assert "holds val and validation, which mean the same; keep one" in message_of(root, ["bagel"], ("validation",))
    shutil.rmtree(root / "bagel" / "validation")
    index = mvtec_3d_ad_index(root, ["bagel"], ("validation",))
    assert index[["name", "scan_path"]].values.tolist() == [
        ["bagel/validation/good/003", "bagel/val/good/xyz/003.tiff"]
    ]


def test_class_numbers_in_masks_are_defects(root):
    truth = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    truth[1, :6] = [1, 2, 3, 127, 254, 255]
    Image.fromarray(truth).save(root / "bagel" / "test" / "hole" / "gt" / "000.png")
    assert read_row(root, mvtec_3d_ad_index(root).iloc[1]).mask.sum() == 6
