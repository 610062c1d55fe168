"""Every check finds its problem and lets a good scan pass."""

import pickle

import numpy as np
import pytest
from tests.data.scan_corpus import HEIGHT, WIDTH, cloud, organised

from gsclip.data import checks
from gsclip.data.sample import Scan
from gsclip.errors import GsclipError, InputError

COUNT = HEIGHT * WIDTH


def with_nan(share):
    points = np.concatenate([cloud() * np.float32(scale) for scale in range(1, 11)])
    points[: int(share * len(points))] = np.nan
    return points


def flat():
    points = cloud().copy()
    points[:, 2] = 0.5
    return points @ np.array([[1, 0, 0.5], [0, 1, 0.25], [0, 0, 1]], np.float32)


BROKEN = {
    "organised": [Scan(cloud()[None]), Scan(np.zeros((4, 5, 4), np.float32)), Scan(np.zeros(9, np.float32))],
    "mask size": [Scan(cloud(), mask=np.zeros(3, bool)), Scan(organised(), mask=np.zeros(COUNT, bool))],
    "colours": [
        Scan(cloud(), colors=np.zeros((3, 3), np.uint8)), Scan(cloud(), colors=np.full((COUNT, 3), 0.5, np.float32)),
    ],
    "finite": [Scan(with_nan(0.6)), Scan(np.full((60, 60, 3), np.nan, np.float32)), Scan(np.empty((0, 3), np.float32))],
    "points": [Scan(np.ones((500, 3), np.float32)), Scan(cloud()[:99])],
    "scale": [Scan(cloud() * np.float32(1e11)), Scan(cloud() * np.float32(1e-12)), Scan(cloud() + np.float32(3000))],
    "extent": [Scan(np.linspace(0, 1, 300, dtype=np.float32)[:, None] * np.float32([1, 2, 3]))],
    "coplanar": [Scan(flat())],
}  # fmt: skip


@pytest.mark.parametrize(("name", "scan"), [(name, scan) for name, scans in BROKEN.items() for scan in scans])
def test_each_check_finds_its_problem_and_tells_a_remedy(name, scan):
    error = checks.find_problems(scan, "a.ply")[0]
    assert error.check == name
    assert error.where == "a.ply"
    assert error.problem
    assert error.remedy
    with pytest.raises(InputError, match=r"^a\.ply: "):
        checks.usable(scan, "a.ply")


@pytest.mark.parametrize("points", [cloud(), organised(), with_nan(0.4), cloud() + np.float32(20), cloud() * 1e8])
def test_good_scans_pass(points):
    colors = np.zeros(points.shape, np.uint8)
    scan = Scan(points, mask=np.zeros(points.shape[:-1], bool), colors=colors)
    assert checks.usable(scan, "a.ply", 0) is scan


def test_every_check_of_a_scan_is_tried():
    assert set(checks.CHECKS) == set(BROKEN)


def test_masks_agree_with_labels():
    marked, empty = np.arange(COUNT) < 5, np.zeros(COUNT, bool)
    for mask, label, problem in (
        (marked, 1, None), (empty, 0, None), (None, 1, None), (None, 0, None),
        (marked, 0, "the label says good and the mask marks 5 points"),
        (empty, 1, "the label says defect and the mask marks nothing"),
    ):  # fmt: skip
        found = [(error.check, error.problem) for error in checks.find_problems(Scan(cloud(), mask=mask), "a", label)]
        assert found == ([] if problem is None else [("mask", problem)])
    assert not checks.find_problems(Scan(cloud(), mask=empty), "a")  # of published data sets the label is not asked


def test_several_problems_of_one_scan_are_all_told():
    scan = Scan(cloud(), mask=np.zeros(3, bool), colors=np.zeros((COUNT, 3), np.float32))
    assert [error.check for error in checks.find_problems(scan, "a")] == ["mask size", "colours"]


def test_a_scan_has_the_fingerprint_of_its_points():
    first = checks.fingerprint(Scan(cloud()))
    assert checks.fingerprint(Scan(cloud().copy(), colors=np.zeros((COUNT, 3), np.uint8))) == first
    assert checks.fingerprint(Scan(organised())) != first
    assert checks.fingerprint(Scan(cloud() + np.float32(1))) != first


def duplicates(*scans):
    found = checks.Duplicates()
    stays = [found.add(points, name, f"{name}.ply", label) for name, points, label in scans]
    return stays, {name: (error.check, error.problem) for name, error in found.errors().items()}


def test_of_scans_with_the_same_points_and_label_the_first_stays():
    stays, errors = duplicates(("a", "1", 0), ("b", "1", 0), ("c", "2", 1), ("d", "1", 0))
    assert stays == [True, False, True, False]
    problem = ("duplicate", "holds the same points as a.ply")
    assert errors == {"b": problem, "d": problem}


def test_of_scans_with_the_same_points_and_other_labels_none_stays():
    stays, errors = duplicates(("a", "1", 0), ("b", "1", 0), ("c", "2", 1), ("d", "1", 1))
    assert stays == [True, False, True, False]
    defective = ("duplicate", "holds the same points as d.ply, which counts as defective")
    good = ("duplicate", "holds the same points as a.ply, which counts as good")
    assert errors == {"a": defective, "b": defective, "d": good}


def test_rows_name_the_file_and_the_check():
    row = checks.rejected_row(
        "nut/test/good/a", "a.ply", InputError("nut/test/good/a", "is flat", "scan it", "coplanar")
    )
    assert row == {
        "name": "nut/test/good/a", "path": "a.ply", "check": "coplanar", "problem": "is flat", "remedy": "scan it",
    }  # fmt: skip
    assert (
        checks.rejected_row("n", "a.ply", InputError("/data/mask.png", "is none", "copy"))["path"] == "/data/mask.png"
    )
    assert checks.rejected_row("n", "a.ply", GsclipError("no luck"))["problem"] == "no luck"


def test_errors_stay_one_line_and_whole_across_processes():
    error = pickle.loads(pickle.dumps(InputError("a\nb\udcff.ply", "is\rodd", "rename it", "readable")))  # noqa: S301
    assert str(error) == "a\\nb\\udcff.ply: is\\rodd; rename it"
    assert error.check == "readable"
