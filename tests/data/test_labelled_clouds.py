"""Real3D-AD and Anomaly-ShapeNet: their layouts, and labels that belong to their points."""

import logging
import shutil

import numpy as np
import open3d
import pytest

from gsclip.data import anomaly_shapenet, real3d_ad
from gsclip.data.labelled_clouds import match_labels, read_labels
from gsclip.errors import InputError

POINTS = 600


def sphere(seed):
    """(600, 3) float32 points all around, in millimetres."""
    directions = np.random.default_rng(seed).normal(size=(POINTS, 3))
    return (10 * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def defect_of(points):
    return points[:, 2] > 8


def write_cloud(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    assert open3d.io.write_point_cloud(str(path), cloud)


def write_labels(path, points, separator, decimals=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.column_stack([points, defect_of(points)])
    np.savetxt(path, table, fmt=[f"%.{decimals}f"] * 3 + ["%d"], delimiter=separator)


@pytest.fixture
def real3d(tmp_path):
    """Two categories of Real3D-AD."""
    for seed, name in enumerate(("1_prototype", "2_prototype")):
        write_cloud(tmp_path / "shell" / "train" / f"{name}.pcd", sphere(seed))
    for seed, name in enumerate(("110_good", "12_good_cut", "165_bulge", "482_bulge_cut", "7_sink_copy")):
        write_cloud(tmp_path / "shell" / "test" / f"{name}.pcd", sphere(seed))
        if "good" not in name:
            write_labels(tmp_path / "shell" / "gt" / f"{name}.txt", sphere(seed), " ")
    write_cloud(tmp_path / "shell" / "test" / "3_template.pcd", sphere(9))
    write_cloud(tmp_path / "duck" / "test" / "1_good.pcd", sphere(0))
    return tmp_path


@pytest.fixture
def shapenet(tmp_path):
    """A category of Anomaly-ShapeNet."""
    write_cloud(tmp_path / "ashtray0" / "train" / "ashtray0_template0.pcd", sphere(0))
    for seed, name in enumerate(("positive0", "positive1", "bulge0", "concavity2", "hole1")):
        write_cloud(tmp_path / "ashtray0" / "test" / f"ashtray0_{name}.pcd", sphere(seed))
        if not name.startswith("positive"):
            write_labels(tmp_path / "ashtray0" / "GT" / f"ashtray0_{name}.txt", sphere(seed), ",")
    return tmp_path


def test_real3d_ad_is_listed(real3d):
    index = real3d_ad.real3d_ad_index(real3d)
    assert list(index["name"]) == [
        "duck/test/good/1_good",
        "shell/test/good/110_good",
        "shell/test/good/12_good_cut",
        "shell/test/bulge/165_bulge",
        "shell/test/bulge/482_bulge_cut",
        "shell/test/sink/7_sink_copy",
    ]
    assert list(index["label"]) == [0, 0, 0, 1, 1, 1]
    assert set(index["dataset"]) == {"real3d_ad"}
    assert list(index.iloc[3][["scan_path", "mask_path"]]) == ["shell/test/165_bulge.pcd", "shell/gt/165_bulge.txt"]
    train = real3d_ad.real3d_ad_index(real3d, ["shell"], ("train",))
    assert list(train["name"]) == ["shell/train/good/1_prototype", "shell/train/good/2_prototype"]


def test_anomaly_shapenet_is_listed(shapenet):
    index = anomaly_shapenet.anomaly_shapenet_index(shapenet, splits=("test", "train"))
    assert list(index["name"]) == [
        "ashtray0/train/good/ashtray0_template0",
        "ashtray0/test/bulge/ashtray0_bulge0",
        "ashtray0/test/concavity/ashtray0_concavity2",
        "ashtray0/test/hole/ashtray0_hole1",
        "ashtray0/test/good/ashtray0_positive0",
        "ashtray0/test/good/ashtray0_positive1",
    ]
    assert len(anomaly_shapenet.OFFICIAL_CATEGORIES) == len(set(anomaly_shapenet.OFFICIAL_CATEGORIES)) == 40


def test_masks_belong_to_the_points(real3d, shapenet):
    # Both fixtures share one folder: each reader finds its own categories.
    for index, read in (
        (real3d_ad.real3d_ad_index(real3d, ["shell"]), real3d_ad.read_row),
        (anomaly_shapenet.anomaly_shapenet_index(shapenet, ["ashtray0"]), anomaly_shapenet.read_row),
    ):
        assert len(index) == 5
        for _, row in index.iterrows():
            scan = read(real3d, row)
            assert not scan.organised
            assert scan.points.shape == (POINTS, 3)
            expected = defect_of(scan.points) if row["label"] else np.zeros(POINTS, dtype=bool)
            np.testing.assert_array_equal(scan.mask, expected)
            assert scan.colors is None


def test_letter_case_nesting_and_clutter_do_not_matter(shapenet, tmp_path_factory):
    top = tmp_path_factory.mktemp("top")
    pcd = top / "Anomaly-ShapeNet-v2" / "dataset" / "pcd"
    shutil.copytree(shapenet / "ashtray0", pcd / "Ashtray0")
    (top / "Anomaly-ShapeNet-v2" / "dataset" / "obj" / "ashtray0" / "test").mkdir(parents=True)
    (pcd / "Ashtray0" / "GT").rename(pcd / "Ashtray0" / "between")
    (pcd / "Ashtray0" / "between").rename(pcd / "Ashtray0" / "gt")
    (pcd / "Ashtray0" / "test" / "ashtray0_bulge0.pcd").rename(pcd / "Ashtray0" / "test" / "Ashtray0_Bulge0.PCD")
    for name in ("._ashtray0_hole1.pcd", ".DS_Store", "Thumbs.db"):
        (pcd / "Ashtray0" / "test" / name).touch()
    index = anomaly_shapenet.anomaly_shapenet_index(top)
    assert list(index["category"]) == ["ashtray0"] * 5
    assert index.iloc[0]["name"] == "ashtray0/test/bulge/Ashtray0_Bulge0"
    assert anomaly_shapenet.read_row(top, index.iloc[0]).mask.any()


@pytest.mark.parametrize("separator", [" ", ",", ", ", ";", "\t", " ; "])
@pytest.mark.parametrize("before", ["", "x y z label\n", "# made by hand\n", "//X Y Z Scalar_field\n", "\ufeff"])
def test_separators_and_lines_before_the_numbers(tmp_path, separator, before):
    points = sphere(0)
    write_labels(tmp_path / "a.txt", points, separator)
    (tmp_path / "a.txt").write_text(before + (tmp_path / "a.txt").read_text(), encoding="utf-8")
    table = read_labels(tmp_path / "a.txt")
    np.testing.assert_allclose(table[:, :3], points, atol=1e-6)
    np.testing.assert_array_equal(table[:, 3] > 0, defect_of(points))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "ground truth file is empty"),
        ("1 2 3\n4 5 6\n", "has 3 columns"),
        ("1,5;2,5;3,5;0\n", "labels 1 points and the scan has 600"),
        ("1,5;2.5;3,5;0\n", "its numbers have decimal commas beside decimal points"),
        ("1 2 3 0\n1 2 3\n", "cannot be read as a table of labelled points"),
        ("1 2 3 0\n1 2 three 0\n", "cannot be read as a table of labelled points"),
        ("1 2 3 0\n1 2 3 nan\n", "2. row has no label"),
        ("x y z label\n", "has no point in common with the scan"),
    ],
)
def test_broken_labels_are_named(tmp_path, text, problem):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        match_labels(sphere(0), read_labels(path), path)
    assert str(caught.value).startswith(f"{path}: {problem}")


@pytest.mark.parametrize("decimals", [6, 3])
def test_labels_in_another_order_are_matched_by_the_nearest_point(tmp_path, caplog, decimals):
    points = sphere(0)
    path = tmp_path / "a.txt"
    write_labels(path, points[::-1], " ", decimals)
    with caplog.at_level(logging.INFO, logger="gsclip"):
        np.testing.assert_array_equal(match_labels(points, read_labels(path), path), defect_of(points))
    assert caplog.messages == [f"{path}: not in the order of the scan's points; matched by the nearest point"]
    caplog.clear()
    write_labels(path, points, " ", decimals)
    with caplog.at_level(logging.INFO, logger="gsclip"):
        np.testing.assert_array_equal(match_labels(points, read_labels(path), path), defect_of(points))
    assert not caplog.messages


def test_missing_points_are_not_labelled(tmp_path):
    points = sphere(0)
    labelled = np.column_stack([points, np.ones(POINTS)])
    points[5] = np.nan
    labelled[5, :3] = np.nan
    mask = match_labels(points, labelled, tmp_path / "a.txt")
    assert not mask[5]
    assert mask.sum() == POINTS - 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda table: table[:-10], "labels 590 points and the scan has 600; 10 points of the scan have no label, 0"),
        (lambda table: table + np.array([0.05, 0, 0, 0]), "labels 600 points and the scan has 600; 600 points of"),
        (lambda table: np.vstack([table, [[9, 9, 9, 1]]]), "labels 601 points and the scan has 600; 0 points of the "),
        (lambda table: table * [np.nan, 1, 1, 1], "has no point in common with the scan"),
    ],
)
def test_labels_of_other_points_are_refused(tmp_path, change, problem):
    points = sphere(0)
    labelled = change(np.column_stack([points, defect_of(points)]).astype(np.float64))
    with pytest.raises(InputError) as caught:
        match_labels(points, labelled, tmp_path / "a.txt")
    assert str(caught.value).startswith(f"{tmp_path / 'a.txt'}: {problem}")
    assert str(caught.value).endswith("give the ground truth that belongs to the scan")


def message_of(*arguments):
    with pytest.raises(InputError) as caught:
        real3d_ad.real3d_ad_index(*arguments)
    return str(caught.value)


def test_what_is_missing_is_named(real3d):
    assert message_of(real3d / "nowhere").startswith(f"{real3d / 'nowhere'}: data set folder not found")
    assert message_of(real3d, ["Duck"]).endswith("no such category: Duck; found duck, shell")
    assert message_of(real3d, None, ("validation",)).endswith("no such split: validation; use train, test")
    assert message_of(real3d, ["duck"], ("train",)).endswith("no such category: duck; found shell")
    assert message_of(real3d, ["duck"], ("test", "train")).startswith(f"{real3d / 'duck' / 'train'}: the category has")


def test_missing_ground_truth_is_listed_and_told_when_it_is_read(real3d):
    before = real3d_ad.real3d_ad_index(real3d)
    truth = real3d / "shell" / "gt" / "165_bulge.txt"
    truth.unlink()
    for _ in range(2):
        index = real3d_ad.real3d_ad_index(real3d)
        assert index.equals(before)
        with pytest.raises(InputError) as caught:
            real3d_ad.read_row(real3d, index.iloc[3])
        assert str(caught.value).startswith(f"{truth}: ground truth file not found")
        shutil.rmtree(real3d / "shell" / "gt", ignore_errors=True)


def test_ground_truth_without_a_scan_is_warned_of(real3d, caplog):
    before = real3d_ad.real3d_ad_index(real3d)
    assert not caplog.messages
    shutil.copy(real3d / "shell" / "gt" / "165_bulge.txt", real3d / "shell" / "gt" / "9_sink.txt")
    assert real3d_ad.real3d_ad_index(real3d).equals(before)
    assert caplog.messages == [f"{real3d / 'shell'}: ground truth without a scan, left out: gt/9_sink.txt"]


def test_ground_truth_folders_that_differ_in_case_alone_are_refused(real3d):
    (real3d / "shell" / "GT").mkdir(exist_ok=True)
    if len([path for path in (real3d / "shell").iterdir() if path.name.lower() == "gt"]) < 2:
        pytest.skip("this file system does not tell upper from lower case")
    assert "holds GT and gt: it is not clear which one counts; keep one of them" in message_of(real3d)
