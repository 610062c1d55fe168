"""Own parts: labels by folders and by a table, masks in every form, depth images, what is assumed."""

import contextlib
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from tests.data.scan_corpus import (
    CAMERA,
    HEIGHT,
    WIDTH,
    cloud,
    colours,
    numpy_bytes,
    obj,
    off,
    organised,
    ply,
    png,
    text,
    tiff,
    write_camera,
)
from tests.unreadable import refuse

from gsclip.data.datasets import DATASETS
from gsclip.data.masks import read_scan_mask
from gsclip.data.own_parts import own_parts_index, read_row, unlabelled
from gsclip.data.preparation import assumptions
from gsclip.data.sample import Scan
from gsclip.data.scan_files import MESH_POINTS, read_scan
from gsclip.errors import InputError
from gsclip.params import PrepareParams

SPLITS = ("train", "validation", "test")
MARKED = cloud()[:, 0] > 0.1


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ply() if content is None else content)
    return path


def refusal(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- labels by folders


def test_folders_say_category_split_and_label(tmp_path):
    for place in (
        "nut/test/good/a.ply", "nut/test/hole/b.ply", "nut/TRAIN/Good/c.ply", "nut/test/hole/deep/b.xyz",
        "lid/good/a.ply", "lid/defect/a.ply", "lid/defect/a.xyz", "lid/loose.ply", "lid/train/early.ply",
        ".hidden/good/a.ply", "lid/good/.a.ply", "lid/good/notes.docx",
    ):  # fmt: skip
        write(tmp_path / place)
    index = own_parts_index(tmp_path, splits=SPLITS)
    found = {row.name_: (row.label, row.scan_path) for row in index.rename(columns={"name": "name_"}).itertuples()}
    assert found == {
        "lid/test/good/a": (0, "lid/good/a.ply"),
        "lid/test/good/loose": (0, "lid/loose.ply"),
        "lid/train/good/early": (0, "lid/train/early.ply"),
        "lid/test/defect/a.ply": (1, "lid/defect/a.ply"),
        "lid/test/defect/a.xyz": (1, "lid/defect/a.xyz"),
        "nut/train/good/c": (0, "nut/TRAIN/Good/c.ply"),
        "nut/test/good/a": (0, "nut/test/good/a.ply"),
        "nut/test/hole/b": (1, "nut/test/hole/b.ply"),
        "nut/test/hole/deep-b": (1, "nut/test/hole/deep/b.xyz"),
    }
    assert set(own_parts_index(tmp_path)["split"]) == {"test"}
    assert set(own_parts_index(tmp_path, ["nut"], SPLITS)["category"]) == {"nut"}


def test_what_is_unlabelled_has_no_ground_truth(tmp_path):
    write(tmp_path / "lid" / "loose.ply")
    write(tmp_path / "lid" / "good" / "known.ply")
    masks = {row["name"]: read_row(tmp_path, row).mask for _, row in own_parts_index(tmp_path).iterrows()}
    assert masks["lid/test/good/loose"] is None
    assert not masks["lid/test/good/known"].any()


def test_files_beside_a_scan_are_its_mask_and_colours(tmp_path):
    folder = tmp_path / "nut" / "hole"
    write(folder / "a.tiff", tiff())
    write(folder / "a_mask.png", png(MARKED.reshape(HEIGHT, WIDTH).astype(np.uint8)))
    rgb = colours().reshape(HEIGHT, WIDTH, 3)
    Image.fromarray(rgb).save(folder / "a_rgb.png")
    write(folder / "b.ply")
    write(folder / "masks" / "b.npy", numpy_bytes(MARKED))
    write(folder / "c.ply")
    index = own_parts_index(tmp_path)
    assert index["scan_path"].tolist() == [f"nut/hole/{name}" for name in ("a.tiff", "b.ply", "c.ply")]
    first, second, third = (read_row(tmp_path, row) for _, row in index.iterrows())
    np.testing.assert_array_equal(first.mask, MARKED.reshape(HEIGHT, WIDTH))
    np.testing.assert_array_equal(first.colors, rgb)
    np.testing.assert_array_equal(second.mask, MARKED)
    assert third.mask is None


def test_a_folder_of_scans_alone_is_one_category_without_labels(tmp_path):
    root = tmp_path / "nuts"
    for name in ("a.ply", "b.ply", "a_mask.ply"):
        write(root / name)
    index = own_parts_index(root)
    assert index["name"].tolist() == ["nuts/test/good/a", "nuts/test/good/b"]
    assert all(read_row(root, row).mask is None for _, row in index.iloc[1:].iterrows())
    write(root / "lid" / "good" / "c.ply")  # folders of categories go before what lies loose
    assert own_parts_index(root)["category"].tolist() == ["lid"]


def test_folders_that_hold_nothing_say_what_is_expected(tmp_path):
    assert "data set folder not found" in refusal(own_parts_index, tmp_path / "none")
    assert "holds no scans; expected <root>/<category>" in refusal(own_parts_index, tmp_path)
    write(tmp_path / "nut" / "good" / "a.ply")
    assert "no such category: vase; found nut" in refusal(own_parts_index, tmp_path, ["vase"])
    assert "no such split: exam" in refusal(own_parts_index, tmp_path, None, ["exam"])
    assert "no scans of the split train" in refusal(own_parts_index, tmp_path, None, ["train"])


def test_the_pipeline_trains_on_all_splits_and_tests_on_the_tests(tmp_path):
    for place in ("a/train/good/1.ply", "a/test/hole/2.ply", "a/3.ply", "a/test/hole/4.ply", "b/train/good/5.ply",
                  "b/test/good/6.ply", "b/test/hole/7.ply", "c/good/8.ply"):  # fmt: skip
        write(tmp_path / place)
    write(tmp_path / "a/test/hole/2_mask.ply", ply(colors=np.uint8([[0, 255, 0]]) * MARKED[:, None]))
    params = PrepareParams(
        dataset="own_parts", root=str(tmp_path), auxiliary_categories=("a",), test_categories=("b",),
        auxiliary_samples=2, calibration_samples=2, test_samples=2, rejected_share_limit=0.5, background="auto",
        max_points=200_000, mask_color="00ff00", seed=0,
    )  # fmt: skip
    index = DATASETS["own_parts"].index(params)
    assert index["scan_path"].tolist() == [
        "a/train/good/1.ply", "a/test/hole/2.ply", "b/test/good/6.ply", "b/test/hole/7.ply",
    ]  # fmt: skip
    marked = DATASETS["own_parts"].read(str(tmp_path), index.iloc[1], 0)
    np.testing.assert_array_equal(marked.mask, MARKED)


@pytest.mark.parametrize(
    ("place", "folder", "defect"),
    [
        ("nut/line1/good", "nut/line1/good", "line1"),
        ("nut/training/OK", "nut/training/OK", "training"),
        ("nut/valid/good/xyz", "nut/valid/good", "valid"),
        ("nut/test/line1/2024/normal/more", "nut/test/line1/2024/normal", "line1"),
        ("nut/hole/good", "nut/hole/good", "hole"),
    ],
)
def test_good_parts_in_deeper_folders_are_never_counted_as_defective(tmp_path, place, folder, defect):
    write(tmp_path / "nut" / "good" / "0.ply")
    write(tmp_path / "nut" / "good" / "line1" / "normal" / "0.ply")
    write(tmp_path / "nut" / "hole" / "deep" / "0.ply")
    assert own_parts_index(tmp_path)["label"].tolist() == [0, 0, 1]
    write(tmp_path / place / "1.ply")
    assert refusal(own_parts_index, tmp_path) == (
        f"{tmp_path / folder}: lies below {folder.rpartition('/')[0]}, so that its scans would count as defective "
        f"({defect}); put it below its category, or a split (train, validation, val, test) in it; or give labels.csv"
    )


# --- labels by a table


def table(folder, content):
    return write(folder / "labels.csv", content.encode() if isinstance(content, str) else content)


def test_a_table_says_everything(tmp_path):
    for name in ("x/a.ply", "x/b.ply", "c.ply", "d.ply"):
        write(tmp_path / name)
    write(tmp_path / "b_truth.npy", numpy_bytes(MARKED))
    table(
        tmp_path,
        "\ufeffScan,category,split,label,defect,mask\nx/a.ply,nut,,0,,\nx/b.ply,nut,train,1,,b_truth.npy\n"
        "c.ply,lid,test,,hole,\nd.ply,lid,test,good,Good,\n",
    )
    index = own_parts_index(tmp_path, splits=SPLITS)
    assert index[["name", "label", "mask_path"]].to_numpy().tolist() == [
        ["lid/test/good/d", 0, ""], ["lid/test/hole/c", 1, ""],
        ["nut/train/defect/b", 1, "b_truth.npy"], ["nut/test/good/a", 0, ""],
    ]  # fmt: skip
    np.testing.assert_array_equal(read_row(tmp_path, index.iloc[2]).mask, MARKED)
    assert not read_row(tmp_path, index.iloc[3]).mask.any()


def test_semicolons_separate_too(tmp_path):
    table(tmp_path, "scan;category;defect\na.ply;nut;hole\n")
    assert own_parts_index(tmp_path)["name"].tolist() == ["nut/test/hole/a"]


@pytest.mark.parametrize(
    ("word", "defect"),
    [("0", "good"), ("0.0", "good"), ("FALSE", "good"), ("ok", "good"), ("1", "defect"), ("1.0", "defect"),
     ("True", "defect"), ("nok", "defect"), ("2", "2"), ("Hole", "Hole")],
)  # fmt: skip
def test_words_of_labels_mean_the_same_in_the_column_of_defects(tmp_path, word, defect):
    table(tmp_path, f"scan,category,defect\na.ply,nut,{word}\n")
    index = own_parts_index(tmp_path)
    assert index[["defect", "label"]].to_numpy().tolist() == [[defect, int(defect != "good")]]
    if defect in ("good", "defect"):
        table(tmp_path, f"scan,category,label\na.ply,nut,{word}\n")
        assert own_parts_index(tmp_path)["defect"].tolist() == [defect]


def test_the_table_is_found_in_any_letter_case(tmp_path):
    write(tmp_path / "nut" / "a.ply")
    write(tmp_path / "Labels.CSV", b"scan,category,label\nnut/a.ply,lid,0\n")
    (row,) = (row for _, row in own_parts_index(tmp_path).iterrows())
    assert row["name"] == "lid/test/good/a"
    assert not unlabelled(tmp_path, row)
    assert not read_row(tmp_path, row).mask.any()
    table(tmp_path, "scan,category,label\nnut/a.ply,lid,1\n")
    if len(list(tmp_path.glob("*.[cC]*"))) == 2:
        assert refusal(own_parts_index, tmp_path) == (
            f"{tmp_path}: holds Labels.CSV and labels.csv: it is not clear which one counts; keep one of them"
        )


@pytest.mark.parametrize(
    "content",
    [
        "Scan;Category;Defect;;\r\n;;;;\r\na.ply;nut;hole;;\r\n\r\n;;;;\r\nb.ply;nut;0;;\r\n",
        "sep=;\r\nscan;category;defect\r\na.ply;nut;hole\r\nb.ply;nut;ok\r\n",
        "sep=,\rscan,category,defect\ra.ply,nut,hole\rb.ply,nut,ok\r",
        "scan\tcategory\tdefect\na.ply\tnut\thole\nb.ply\tnut\t0\n",
        "\ufeffsep=\t\nscan\tcategory\tdefect\na.ply\tnut\thole\nb.ply\tnut\t0\t\n",
    ],
)
def test_tables_are_read_as_spreadsheets_write_them(tmp_path, content):
    table(tmp_path, content)
    assert own_parts_index(tmp_path)["name"].tolist() == ["nut/test/good/b", "nut/test/hole/a"]


def test_scans_that_the_table_does_not_name_are_warned_of_once(tmp_path, caplog):
    for place in ("a.ply", "sub/masks/a.npy", "truth.npy", "truth.ply", "a_mask.npy", "notes.txt"):
        write(tmp_path / place)
    content = "scan,category,label,mask\n./a.ply,nut,1,truth.npy\nc.ply,nut,1,./truth.ply#00ff00\n"
    table(tmp_path, content)
    own_parts_index(tmp_path)
    assert "not named" not in caplog.text
    for number in range(12):
        write(tmp_path / "sub" / f"{number:02d}.ply")
    own_parts_index(tmp_path)
    names = ", ".join(f"sub/{number:02d}.ply" for number in range(10))
    (record,) = (record for record in caplog.records if "not named" in record.message)
    assert record.message == f"{tmp_path}: 12 scans are not named in labels.csv, left out: {names} and 2 more"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("scan,category,label\n", "the table has no rows; give one row for each scan"),
        ("scan;category;label;\n;;;\n", "the table has no rows"),
        ("sep=;\nscan;category\n", "line 2: lacks the column label"),
        ("sep=;\nscan;category;label\na.ply;nut;2\n", "line 3: no such label: 2"),
        ("scan;category;label;\n\na.ply;nut;0;x\n", "line 3: has not as many values"),
        ("scan,split\na.ply,test\n", "line 1: lacks the column category"),
        ("scan,category\na.ply,nut\n", "line 1: lacks the column label"),
        ("scan,category,label,label\na.ply,nut,1,1\n", "line 1: names a column twice"),
        ("scan,category,label\na.ply,nut,0\nb.ply,nut\n", "line 3: has not as many values"),
        ("scan,category,label\na.ply,nut,0,7\n", "line 2: has not as many values"),
        ("scan,category,label\n,nut,0\n", "line 2: scan is empty"),
        ("scan,category,label\na.ply,,0\n", "line 2: category is empty"),
        ("scan,category,label\na.ply,a/b,0\n", "line 2: category a/b is no name"),
        ("scan,category,defect\na.ply,nut,..\n", "line 2: defect .. is no name"),
        ("scan,category,label\na.ply,nut,2\n", "line 2: no such label: 2"),
        ("scan,category,label\na.ply,nut,\n", "line 2: neither label nor defect"),
        ("scan,category,label,split\na.ply,nut,0,exam\n", "line 2: no such split: exam"),
        ("scan,category,label,defect\na.ply,nut,0,hole\n", "line 2: the label 0 contradicts the defect hole"),
        ("scan,category,label\na.ply,nut,0\n\na.ply,lid,0\n", "line 4: names the scan of line 2 again"),
        ("scan,category,label\na\0.ply,nut,0\n", "line 2: "),
        ("scan,category,label\n/etc/a.ply,nut,0\n", "line 2: the path of the scan is absolute: /etc/a.ply"),
        ("scan,category,label\nC:/a.ply,nut,0\n", "line 2: the path of the scan is absolute: C:/a.ply"),
        ("scan,category,label\nx\\a.ply,nut,0\n", "line 2: the path of the scan holds a backslash: x\\a.ply"),
        ("scan,category,label\nx/../../a.ply,nut,0\n", "line 2: the path of the scan leads out of the folder: x/.."),
        ("scan,category,label\nx/..,nut,0\n", "line 2: the path of the scan leads out of the folder: x/.."),
        ("scan,category,label,mask\na.ply,nut,1,../m.npy\n", "line 2: the path of the mask leads out of the folder"),
        ("scan,category,label,mask\na.ply,nut,1,/m.npy\n", "line 2: the path of the mask is absolute"),
        ("scan,category,label\na.ply,nut,0\nx/../a.ply,lid,0\n", "line 3: names the scan of line 2 again"),
        (b"scan,category,label\n\xff,nut,0\n", "cannot be read"),
        ("", "line 1: lacks the column category, scan"),
    ],
)
def test_a_broken_table_names_the_line(tmp_path, content, problem):
    path = table(tmp_path, content)
    assert refusal(own_parts_index, tmp_path).startswith(f"{path}: {problem}")


def test_links_in_the_folder_may_lead_anywhere_and_dots_do_not_follow_them(tmp_path):
    root = tmp_path / "parts"
    write(tmp_path / "store" / "deep" / "a.ply")
    write(root / "a.ply")
    (root / "link").symlink_to(tmp_path / "store" / "deep")
    table(root, "scan,category,label\nlink/a.ply,nut,0\nlink/../a.ply,nut,0\n")
    index = own_parts_index(root)
    assert index["scan_path"].tolist() == ["a.ply", "link/a.ply"]
    assert all(read_row(root, row).points.shape == (180, 3) for _, row in index.iterrows())


# --- masks


def test_masks_of_every_form_are_the_same(tmp_path):
    points = Scan(cloud())
    labelled = np.column_stack([cloud(), MARKED])
    color = np.uint8([[255, 0, 0]]) * MARKED[:, None] + np.uint8([[9, 9, 9]]) * ~MARKED[:, None]
    for name, content in {
        "a.npy": numpy_bytes(MARKED),
        "b.npy": numpy_bytes(MARKED.astype(np.float64)),
        "c.npz": numpy_bytes(archive=True, mask=MARKED),
        "d.txt": text(MARKED[:, None]),
        "e.txt": text(labelled),
        "f.csv": b"x,y,z,label\n" + text(labelled).replace(b" ", b","),
        "g.csv": b"defect;x\n" + text(np.column_stack([MARKED, np.ones(len(MARKED))])).replace(b" ", b";"),
        "h.csv": b"".join(b"True\n" if marked else b"false\n" for marked in MARKED),
        "i.ply": ply(colors=color),
        "k.txt": b"".join(b"0,25;1,0\n" if marked else b"0;0,0\n" for marked in MARKED),
        "l.csv": b"x\tdefect\n" + b"".join(b"0,25\t1,0\n" if marked else b"0\t0\n" for marked in MARKED),
    }.items():
        np.testing.assert_array_equal(read_scan_mask(write(tmp_path / name, content), points), MARKED, err_msg=name)
    write(tmp_path / "j.ply", ply(colors=color))
    np.testing.assert_array_equal(read_scan_mask(f"{tmp_path}/j.ply#090909", points), ~MARKED)
    grid = read_scan_mask(tmp_path / "a.npy", Scan(organised()))
    np.testing.assert_array_equal(grid, MARKED.reshape(HEIGHT, WIDTH))


def marked_files(points, marked):
    """Coloured cloud and tables with these points, by the name of the file."""
    rows = np.column_stack([points, marked])
    color = np.uint8([[255, 0, 0]]) * np.asarray(marked)[:, None]
    return {
        "a.ply": ply(points=points, colors=color),
        "b.txt": text(rows),
        "c.csv": b"label,z,y,x\n" + text(rows[:, ::-1]).replace(b" ", b","),
        "d.txt": text(np.column_stack([points, color, marked])),
        "e.csv": b"//X Y Z\n" + text(rows),
    }


@pytest.mark.parametrize("missing", [False, True])
def test_masks_with_coordinates_may_be_in_another_order(tmp_path, missing):
    scan = cloud().copy()
    if missing:
        scan[40:60] = np.nan
    order = np.random.default_rng(0).permutation(len(scan))
    expected = MARKED & np.isfinite(scan[:, 0])
    for name, content in marked_files(scan[order], MARKED[order]).items():
        path = write(tmp_path / name, content)
        np.testing.assert_array_equal(read_scan_mask(path, Scan(scan)), expected, err_msg=name)
        grid = read_scan_mask(path, Scan(scan.reshape(HEIGHT, WIDTH, 3)))
        np.testing.assert_array_equal(grid, expected.reshape(HEIGHT, WIDTH), err_msg=name)
    kept = order[np.isfinite(scan[order, 0])]
    for name, content in marked_files(scan[kept], MARKED[kept]).items():
        found = read_scan_mask(write(tmp_path / name, content), Scan(scan))
        np.testing.assert_array_equal(found, expected, err_msg=name)


TURN = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    "change",
    [
        lambda points: points + np.float32(7),
        lambda points: np.float32(1000) * points,
        lambda points: np.float32(25.4) * points @ TURN + [5000, -3, 0.5],
        lambda points: np.round(points, 3),
        lambda points: np.where(np.arange(len(points))[:, None] % 9 == 0, np.nan, points),
        lambda points: np.where(np.arange(len(points))[:, None] % 9 == 0, np.nan, np.round(points, 3) + 3),
    ],
)
def test_masks_in_the_scans_order_count_however_the_scan_was_moved_or_rounded(tmp_path, change):
    places = change(cloud())
    for name, content in marked_files(places, MARKED).items():
        found = read_scan_mask(write(tmp_path / name, content), Scan(cloud()))
        np.testing.assert_array_equal(found, MARKED, err_msg=name)
    scan = cloud().copy()
    scan[::7] = np.nan
    for name, content in marked_files(places, MARKED).items():
        found = read_scan_mask(write(tmp_path / name, content), Scan(scan))
        np.testing.assert_array_equal(found, MARKED, err_msg=name)


def test_masks_with_coordinates_of_other_points_are_refused(tmp_path):
    order = np.random.default_rng(0).permutation(len(cloud()))
    for places in (cloud()[order] + 7, np.random.default_rng(1).normal(size=cloud().shape), cloud() ** 2 + 1):
        for name, content in marked_files(places.astype(np.float32), MARKED[order]).items():
            path = write(tmp_path / name, content)
            assert refusal(read_scan_mask, path, Scan(cloud())) == (
                f"{path}: the mask holds coordinates of other points than the scan; give the one that belongs to the "
                "scan, or labels without coordinates"
            )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("m.npy", numpy_bytes(np.zeros(7, bool)), "the mask has 7 values and the scan 180 points"),
        ("m.npy", numpy_bytes(np.array(["a"] * 180)), "holds <U1 instead of numbers"),
        ("m.npy", numpy_bytes(np.full(180, np.nan)), "values that are not finite"),
        ("m.npz", numpy_bytes(archive=True, truth=MARKED), "has no array 'mask'"),
        ("m.txt", b"good\nbad\n", "cannot be read as a table of labels"),
        ("m.csv", b"label\n1\n0\n", "the mask has 2 values"),
        ("m.txt", b"0,5;1.0\n" * 180, "its numbers have decimal commas beside decimal points"),
        ("m.ply", ply(), "the mask has no colours"),
        ("m.ply", ply(points=cloud()[:50], colors=colours()[:50]), "the mask has 50 values"),
        ("m.png", png(), "is an image, and the scan has no pixels"),
        ("m.gif", b"GIF", "unknown kind of mask file"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, name, content, problem):
    assert problem in refusal(read_scan_mask, write(tmp_path / name, content), Scan(cloud()))


@pytest.mark.parametrize(("name", "content"), [("a.ply", ply(mesh=True)), ("a.off", off()), ("a.obj", obj())])
@pytest.mark.parametrize("mask", ["a_mask.npy", "a_mask.txt", "a_mask.png"])
def test_masks_of_meshes_are_refused_whatever_their_size(tmp_path, name, content, mask):
    folder = tmp_path / "nut" / "hole"
    write(folder / name, content)
    marked = np.arange(MESH_POINTS) < 100
    write(folder / mask, {"y": numpy_bytes(marked), "t": text(marked[:, None]), "g": png()}[mask[-1]])
    (row,) = (row for _, row in own_parts_index(tmp_path).iterrows())
    assert refusal(read_row, tmp_path, row) == (
        f"{folder / mask}: is a mask of single points, and those of the scan, a mesh, are sampled: they are not its "
        "vertices; export the mesh as a cloud, and give the mask for its points"
    )
    (folder / mask).unlink()
    assert read_row(tmp_path, own_parts_index(tmp_path).iloc[0]).mask is None


def test_a_mesh_file_without_faces_takes_a_mask(tmp_path):
    vertices = b"".join(line + b"\n" for line in obj().splitlines() if line.startswith(b"v "))
    write(tmp_path / "nut" / "hole" / "a.obj", vertices)
    write(tmp_path / "nut" / "hole" / "a_mask.npy", numpy_bytes(MARKED))
    np.testing.assert_array_equal(read_row(tmp_path, own_parts_index(tmp_path).iloc[0]).mask, MARKED)


# --- depth images


def test_depth_images_are_seen_through_their_camera(tmp_path):
    levels = np.full((HEIGHT, WIDTH), 600, np.uint16)
    levels[3, 4] = 0
    path = write(tmp_path / "nut" / "good" / "a.png", png(levels + np.arange(WIDTH, dtype=np.uint16) * (levels > 0)))
    write_camera(tmp_path)
    points = read_scan(path).points
    assert np.isnan(points[3, 4]).all()
    depth = 0.610
    expected = ((10 - CAMERA["cx"]) / CAMERA["fx"] * depth, (2 - CAMERA["cy"]) / CAMERA["fy"] * depth, depth)
    np.testing.assert_allclose(points[2, 10], expected, rtol=1e-6)
    assert own_parts_index(tmp_path)["scan_path"].tolist() == ["nut/good/a.png"]
    (path.with_suffix(".json")).write_text(json.dumps({**CAMERA, "depth_scale": 0.002}))
    np.testing.assert_allclose(read_scan(path).points[2, 10, 2], 2 * depth, rtol=1e-6)


def test_big_depth_images_take_little_memory(tmp_path):
    side = 2000
    path = write(tmp_path / "a.png", png(np.full((side, side), 600, np.uint16)))
    write_camera(tmp_path)
    tracemalloc.start()
    try:
        points = read_scan(path).points
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert points.dtype == np.float32
    assert peak < 24 * side**2 + 20_000_000  # bytes a pixel: 12 are the points


def test_depth_images_keep_64_bits_where_they_matter(tmp_path):
    levels = 60_000 + np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) % 7
    path = write(tmp_path / "a.png", png(levels))
    path.with_suffix(".json").write_text(json.dumps({**CAMERA, "fx": 1e6, "fy": 1e6, "depth_scale": 1.0}))
    points = read_scan(path).points
    assert points.dtype == np.float64
    np.testing.assert_array_equal(points[..., 2], levels)


@pytest.mark.parametrize(
    ("camera", "problem"),
    [
        ({"fx": 0}, "fx: Input should be greater than 0"),
        ({"fx": "wide"}, "fx: Input should be a valid number"),
        ({"cx": float("nan")}, "cx: Input should be a finite number"),
        ({"depth_scale": -1}, "depth_scale: Input should be greater than 0"),
        ({"depth_scale": None}, "depth_scale: "),
        ({"width": 640, "height": 480}, "is for 480 x 640 pixels and a.png has 12 x 15"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(tmp_path, camera, problem):
    write_camera(tmp_path, **camera)
    message = refusal(read_scan, write(tmp_path / "a.png", png()))
    assert message.startswith(f"{tmp_path / 'camera.json'}: ")
    assert problem in message


def test_a_picture_named_as_a_scan_beside_it_is_no_scan(tmp_path, caplog):
    folder = tmp_path / "nut" / "good"
    write(folder / "a.ply")
    write(folder / "A.png", png())
    write(folder / "b.png", png())
    assert list(own_parts_index(tmp_path)["scan_path"]) == ["nut/good/a.ply", "nut/good/b.png"]
    problem = "1 pictures have the name of a scan beside them and no camera file"
    assert f"{tmp_path}: {problem}, left out: nut/good/A.png" in caplog.messages
    write_camera(folder)
    assert len(own_parts_index(tmp_path)) == 3


def test_a_depth_image_without_a_camera_says_so(tmp_path):
    assert "without a camera file a.json or camera.json" in refusal(read_scan, write(tmp_path / "a.png", png()))
    (tmp_path / "camera.json").write_text("{")
    assert "cannot be read as JSON" in refusal(read_scan, tmp_path / "a.png")


# --- numbers far from the origin, and what is assumed


def test_coordinates_of_a_map_keep_their_digits(tmp_path):
    away = cloud().astype(np.float64) + np.array([4.5e6, 5.2e6, 300.0])
    write(tmp_path / "a.xyz", "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in away).encode())
    points = read_scan(tmp_path / "a.xyz").points
    np.testing.assert_allclose(points, away, rtol=0, atol=1e-6)
    near = write(tmp_path / "b.xyz", text(cloud().astype(np.float64) + 1.0))
    assert read_scan(near).points.dtype == np.float32


def test_assumptions_are_one_line():
    assert assumptions(np.array([[84.04, 82.2, 61.0]])) == (
        "extent 84 x 82.2 x 61: taken as it is; scores do not depend on the unit; the cameras look along +z"
    )
    assert assumptions(np.array([[1, 2, 3], [3, 4, 5], [2, 3, 4]])).startswith("median extent of 3 scans 2 x 3 x 4: ")


# --- what lies where in the folders


def found_in(root, splits=SPLITS):
    index = own_parts_index(root, splits=splits)
    return dict(zip(index["scan_path"], index["name"], strict=True))


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (("good/a.ply", "bad/a.ply"), ("test/good/a", "test/bad/a")),
        (("OK/a.ply", "nok/b.ply", "c.ply"), ("test/good/a", "test/nok/b", "test/good/c")),
        (("normal/a.ply", "hole/deep/b.ply"), ("test/good/a", "test/hole/deep-b")),
        (("train/good/a.ply", "test/hole/b.ply", "Val/c.ply"), ("train/good/a", "test/hole/b", "validation/good/c")),
        (("xyz/a.tiff", "gt/a.png"), ("test/good/a",)),
        (("train/good/a.ply", "good/b.ply", "hole/c.ply"), ("train/good/a", "test/good/b", "test/hole/c")),
    ],
)
def test_labels_right_below_the_root_make_it_one_category(tmp_path, places, names):
    root = tmp_path / "nuts"
    for place in places:
        write(root / place)
    (root / "test_results").mkdir(parents=True)
    assert sorted(found_in(root).values()) == sorted(f"nuts/{name}" for name in names)
    for _, row in own_parts_index(root, splits=SPLITS).iterrows():
        unknown = row["scan_path"] in ("c.ply", "Val/c.ply", "xyz/a.tiff")
        assert unlabelled(root, row) == unknown


def test_a_category_may_have_the_name_of_a_label(tmp_path):
    root = tmp_path / "bad"
    for place in ("good/a.ply", "bad/b.ply"):
        write(root / place)
    index = own_parts_index(root)
    assert index["name"].tolist() == ["bad/test/bad/b", "bad/test/good/a"]
    assert not any(unlabelled(root, row) for _, row in index.iterrows())


@pytest.mark.parametrize("word", ["ok", "Normal", "GOOD"])
def test_good_has_several_names_below_a_category_too(tmp_path, word):
    write(tmp_path / "nut" / word / "a.ply")
    (row,) = (row for _, row in own_parts_index(tmp_path).iterrows())
    assert (row["name"], row["label"]) == ("nut/test/good/a", 0)
    assert not read_row(tmp_path, row).mask.any()


@pytest.mark.parametrize(
    ("places", "problem"),
    [
        (("good/a.ply", "nut/good/b.ply"), "holds good at the top, and nut, which holds good as a category does"),
        (("ok/a.ply", "nut/TRAIN/b.ply"), "holds ok at the top, and nut, which holds TRAIN as a category does"),
        (("good/train/a.ply", "hole/b.ply"), "holds good, which holds train as a category does"),
        (("test/nut/good/a.ply",), "holds test at the top, and test/nut, which holds good as a category does"),
        (("train/a.ply", "nut/b.ply"), "holds train beside nut, which may be a category or a kind of defect"),
        (("xyz/a.tiff", "nut/b.ply"), "holds xyz beside nut, which may be a category or a kind of defect"),
    ],
)
def test_labels_beside_categories_are_refused(tmp_path, places, problem):
    for place in places:
        write(tmp_path / place)
    assert refusal(own_parts_index, tmp_path).startswith(f"{tmp_path}: {problem}; put categories at the top")


def test_scans_in_the_layout_of_mvtec_3d_ad(tmp_path, caplog):
    folder = tmp_path / "nut" / "train" / "Hole"
    write(folder / "XYZ" / "000.TIFF", tiff())
    write(folder / "GT" / "000.PNG", png(MARKED.reshape(HEIGHT, WIDTH).astype(np.uint8)))
    rgb = colours().reshape(HEIGHT, WIDTH, 3)
    (folder / "Rgb").mkdir()
    Image.fromarray(rgb).save(folder / "Rgb" / "000.png")
    write(tmp_path / "nut" / "good" / "xyz" / "000.tiff", tiff())
    assert found_in(tmp_path) == {
        "nut/train/Hole/XYZ/000.TIFF": "nut/train/Hole/000", "nut/good/xyz/000.tiff": "nut/test/good/000",
    }  # fmt: skip
    assert not caplog.messages
    scan = read_row(tmp_path, own_parts_index(tmp_path, splits=["train"]).iloc[0])
    np.testing.assert_array_equal(scan.mask, MARKED.reshape(HEIGHT, WIDTH))
    np.testing.assert_array_equal(scan.colors, rgb)
    (tmp_path / "nut").rename(tmp_path / "bagel")
    found_in(tmp_path)
    assert caplog.messages == [f"{tmp_path}: looks like mvtec_3d_ad: use --dataset mvtec_3d_ad"]


def test_letter_case_of_masks_and_colours_does_not_matter(tmp_path, caplog):
    folder = tmp_path / "nut" / "hole"
    write_camera(tmp_path)
    for place in (
        "a.PLY", "a_MASK.NPY", "B.ply", "b_mask.npy", "b.ply", "Masks/c.TXT", "C.Xyz", "d.PNG", "D_RGB.PNG", "gt/D.png",
        "e.ply", "E.ply", "e_mask.npy", "f.ply", "F_mask.txt",
    ):  # fmt: skip
        write(folder / place)
    index = own_parts_index(tmp_path).assign(
        mask_path=lambda table: table["mask_path"].str.removeprefix("nut/hole/"),
        color_path=lambda table: table["color_path"].str.removeprefix("nut/hole/"),
    )
    found = {row.scan_path.removeprefix("nut/hole/"): (row.mask_path, row.color_path) for row in index.itertuples()}
    assert found == {
        "a.PLY": ("a_MASK.NPY", ""), "B.ply": ("", ""), "b.ply": ("b_mask.npy", ""), "C.Xyz": ("Masks/c.TXT", ""),
        "d.PNG": ("gt/D.png", "D_RGB.PNG"), "E.ply": ("", ""), "e.ply": ("e_mask.npy", ""),
        "f.ply": ("F_mask.txt", ""),
    }  # fmt: skip
    assert not caplog.messages


# --- nothing vanishes


def test_files_that_look_like_scans_are_listed_readable_or_not(tmp_path):
    for place in ("a.las", "b.LAZ", "c.png", "good/d.png", "good/e.ply", "good/README.txt", "good/t.csv",
                  "good/.DS_Store", "good/Thumbs.db", "good/e.json"):  # fmt: skip
        write(tmp_path / "nut" / place, png() if place.endswith("png") else None)
    index = own_parts_index(tmp_path)
    problems = {}
    for _, row in index.iterrows():
        with contextlib.suppress(InputError):
            read_row(tmp_path, row)
            continue
        message = refusal(read_row, tmp_path, row)
        problems[row["scan_path"]] = message.removeprefix(f"{tmp_path / row['scan_path']}: ")
    las = "no installed library reads LAS and LAZ files; export it as .ply or .xyz"
    depth = (
        "is a depth image without a camera file {0}.json or camera.json; give numbers for fx, fy, cx, cy and "
        "depth_scale, or take the image away if it is none"
    )
    assert problems == {
        "nut/a.las": las, "nut/b.LAZ": las, "nut/c.png": depth.format("c"), "nut/good/d.png": depth.format("d"),
    }  # fmt: skip


def test_a_picture_without_a_camera_is_told_about_the_camera(tmp_path):
    path = write(tmp_path / "nut" / "good" / "a.png")
    Image.fromarray(colours().reshape(HEIGHT, WIDTH, 3)).save(path)
    assert "without a camera file a.json or camera.json" in refusal(read_scan, path)


def test_masks_and_colours_without_a_scan_are_one_warning(tmp_path, caplog):
    for place in (
        "nut/hole/a.ply", "nut/hole/a_mask.npy", "nut/hole/a_mask.txt", "nut/hole/b_MASK.npy", "nut/hole/c_rgb.png",
        "nut/hole/gt/x.png", "nut/hole/gt/deep/y.npy", "nut/hole/gt/readme.md", "nut/dent/Masks/z.npy",
        "nut/dent/xyz/0.tiff", "nut/dent/rgb/1.png", "nut/hole/part_rgb.ply", "nut/hole/face_mask.stl",
        *(f"nut/far/gt/{number}.npy" for number in range(9)),
    ):  # fmt: skip
        write(tmp_path / place)
    assert set(found_in(tmp_path)) == {
        "nut/hole/a.ply", "nut/dent/xyz/0.tiff", "nut/hole/part_rgb.ply", "nut/hole/face_mask.stl",
    }  # fmt: skip
    names = "nut/dent/Masks/z.npy, nut/dent/rgb/1.png, " + ", ".join(f"nut/far/gt/{number}.npy" for number in range(8))
    assert caplog.messages == [f"{tmp_path}: masks or images without a scan, left out: {names} and 6 more"]


def test_scans_beside_categories_are_named(tmp_path, caplog):
    write(tmp_path / "nut" / "good" / "a.ply")
    for number in range(12):
        write(tmp_path / f"{number:02d}.ply")
    write(tmp_path / "00_mask.npy")
    found_in(tmp_path)
    names = ", ".join(f"{number:02d}.ply" for number in range(10))
    assert f"{tmp_path}: 12 scans lie in no folder of a category, left out: {names} and 2 more" in caplog.messages


def test_masks_in_a_folder_beside_loose_scans_are_theirs(tmp_path):
    for place in ("nuts/a.ply", "nuts/masks/a.npy"):
        write(tmp_path / place)
    assert own_parts_index(tmp_path / "nuts")[["scan_path", "mask_path"]].values.tolist() == [["a.ply", "masks/a.npy"]]


@pytest.mark.parametrize("method", ["iterdir", "is_dir"])
def test_a_folder_that_cannot_be_looked_into_is_one_warning(tmp_path, monkeypatch, caplog, method):
    for place in ("nut/good/a.ply", "nut/hole/b.ply", "lid/good/c.ply", "lid/good/masks/c.npy"):
        write(tmp_path / place)
    closed = [tmp_path / "nut" / "hole", tmp_path / "lid" / "good" / "masks"]
    refuse(monkeypatch, closed, method)
    for _ in range(2):
        caplog.clear()
        assert set(found_in(tmp_path)) == {"nut/good/a.ply", "lid/good/c.ply"}
        assert sorted(caplog.messages) == [
            f"{path}: cannot be looked into (Permission denied) and is left out; check its permissions"
            for path in sorted(closed)
        ]


def test_a_root_that_cannot_be_looked_into_is_an_error(tmp_path, monkeypatch):
    refuse(monkeypatch, [tmp_path])
    assert "the folder cannot be read (Permission denied)" in refusal(own_parts_index, tmp_path)


def test_links_to_folders_are_warned_of(tmp_path, caplog):
    write(tmp_path / "nut" / "good" / "a.ply")
    (tmp_path / "nut" / "good" / "again").symlink_to(tmp_path / "nut")
    (tmp_path / "lid").symlink_to(tmp_path / "nut")
    assert set(found_in(tmp_path)) == {"nut/good/a.ply", "lid/good/a.ply"}
    assert caplog.messages == [
        f"{tmp_path}: 2 links to folders are not followed, left out: lid/good/again, nut/good/again"
    ]
