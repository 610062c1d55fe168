"""Every reader on random and damaged bytes: a scan or a foreseeable error, in bounded time of the processor and memory.

``GSCLIP_FUZZ_EXAMPLES`` sets the examples for each format, 40 by default.
"""

import json
import os
import resource
import signal
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.scan_corpus import CAMERA, HEIGHT, WIDTH, cloud, organised, ply, png, text, valid_files, write_camera

from gsclip.data.checks import find_problems
from gsclip.data.masks import read_scan_mask
from gsclip.data.own_parts import own_parts_index
from gsclip.data.sample import Scan
from gsclip.data.scan_files import MESH_POINTS, SCAN_EXTENSIONS, read_scan
from gsclip.errors import GsclipError

EXAMPLES = int(os.environ.get("GSCLIP_FUZZ_EXAMPLES", "40"))
SECONDS = 5.0  # of the processor, for one file of some kilobytes; a thousand times what it takes
PEAK = 1.5 * 2**30  # bytes that a run may grow by: the largest image that may be read
VALID = valid_files()
LARGE = [b"4294967295", b"2147483648", b"-1", b"0", b"nan", b"1e308", b"\xff" * 4, b"\x00" * 8, b"\x7f\xff\xff\xff"]
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 40,
    database=None,
    suppress_health_check=list(HealthCheck),
)

EDIT = st.tuples(
    st.sampled_from(["flip", "insert", "delete", "repeat", "large"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
    st.binary(min_size=1, max_size=8),
)


def damage(content, edits, head, kept):
    """Change bytes here and there, in the header where ``head``, and cut the end off."""
    data = bytearray(content)
    for kind, place, value, inserted in edits:
        at = int(place * min(len(data), 400 if head else len(data)))
        if kind == "flip" and data:
            data[at] ^= value
        elif kind == "insert":
            data[at:at] = inserted
        elif kind == "delete":
            del data[at : at + 1 + value % 16]
        elif kind == "repeat":
            data[at:at] = data[at : at + value]
        elif kind == "large":
            large = LARGE[value % len(LARGE)]
            data[at : at + len(large)] = large
    return bytes(data[: int(kept * len(data))])


damaged = st.tuples(st.lists(EDIT, max_size=4), st.booleans(), st.one_of(st.just(1.0), st.floats(0, 1)))


def stop(_signal, _frame):
    raise TimeoutError("the reader hangs")


@pytest.fixture(autouse=True)
def _bounded():
    handler = signal.signal(signal.SIGPROF, stop)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield
    signal.signal(signal.SIGPROF, handler)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < PEAK


def survive(read, path):
    """Read a file; a foreseeable error is one line that names a file."""
    start = time.process_time()  # other processes do not count
    result, message = None, None
    # A reader that hangs is stopped; that it took too long is found below.
    signal.setitimer(signal.ITIMER_PROF, 2 * SECONDS)
    try:
        result = read(path)
    except GsclipError as error:
        message = str(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert message is None or (message.startswith(str(path.parent)) and "\n" not in message), message
    assert time.process_time() - start < SECONDS
    return result


def survive_scan(path):
    scan = survive(read_scan, path)
    if scan is not None:
        assert scan.points.shape[-1] == 3
        assert scan.points.dtype in (np.float32, np.float64)
        assert scan.colors is None or scan.colors.shape == scan.points.shape
        assert len(scan.points) <= max(10_000, MESH_POINTS)
        find_problems(scan, str(path), 1)


def test_a_reader_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SECONDS", 0.05)

    def hang(_path):
        while True:
            pass

    with pytest.raises(TimeoutError, match="the reader hangs"):
        survive(hang, tmp_path / "a.ply")
    survive(lambda _path: time.sleep(0.2), tmp_path / "a.ply")  # a busy machine


@pytest.mark.parametrize("name", VALID)
def test_valid_files_are_scans(tmp_path, name):
    write_camera(tmp_path)
    path = tmp_path / name
    path.write_bytes(VALID[name])
    scan = read_scan(path)
    assert not find_problems(scan, name)
    if "mesh" not in name and path.suffix != ".stl" and name != "quads.ply":
        points = scan.points.reshape(-1, 3)
        assert points.shape == (HEIGHT * WIDTH, 3)
        # Depth images have whole levels of 0.001, and a camera of their own.
        np.testing.assert_allclose(points[:, 2], cloud()[:, 2], atol=1e-3 if name == "depth.png" else 1e-6)


@pytest.mark.parametrize("name", VALID)
def test_damaged_scans(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("fuzz")
    write_camera(folder)

    @fuzz
    @given(damaged)
    def run(changes):
        path = folder / name
        path.write_bytes(damage(VALID[name], *changes))
        survive_scan(path)

    run()


@pytest.mark.parametrize("extension", [*SCAN_EXTENSIONS, ".png"])
def test_random_bytes_as_scans(tmp_path_factory, extension):
    folder = tmp_path_factory.mktemp("fuzz")
    write_camera(folder)
    starts = sorted({content[:start] for content in VALID.values() for start in (0, 8, 60)})

    @fuzz
    @given(st.sampled_from(starts), st.binary(max_size=600))
    def run(start, content):
        path = folder / f"scan{extension}"
        path.write_bytes(start + content)
        survive_scan(path)

    run()


@fuzz
@given(changes=damaged, noise=st.binary(max_size=100))
def test_damaged_cameras(tmp_path_factory, changes, noise):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "depth.png").write_bytes(VALID["depth.png"])
    for content in (damage(json.dumps({**CAMERA, "width": WIDTH}).encode(), *changes), noise):
        (folder / "depth.json").write_bytes(content)
        survive_scan(folder / "depth.png")


MASKS = {
    "mask.png": png((organised()[..., 0] > 0.1).astype(np.uint8)),
    "mask.npy": None,
    "mask.txt": text(np.column_stack([cloud(), cloud()[:, 0] > 0.1])),
    "mask.csv": b"x,y,z,label\n" + text(np.column_stack([cloud(), cloud()[:, 0] > 0.1])).replace(b" ", b","),
    "mask.ply": ply(colors=np.tile(np.uint8([255, 0, 0]), (len(cloud()), 1))),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("points", [organised(), cloud()], ids=["grid", "cloud"])
def test_damaged_masks(tmp_path_factory, name, points):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / name
    scan = Scan(points)
    content = MASKS[name]
    if content is None:
        np.save(path, points[..., 0] > 0.1)
        content = path.read_bytes()

    @fuzz
    @given(damaged)
    def run(changes):
        path.write_bytes(damage(content, *changes))
        mask = survive(lambda path: read_scan_mask(path, scan), path)
        assert mask is None or (mask.dtype == bool and mask.shape == points.shape[:-1])

    run()


@fuzz
@given(changes=damaged, noise=st.binary(max_size=200))
def test_damaged_tables_of_labels(tmp_path_factory, changes, noise):
    folder = tmp_path_factory.mktemp("fuzz")
    table = b"scan,category,split,defect,label,mask\na.ply,nut,test,good,0,\nb.ply,nut,train,hole,1,m.npy\n"
    for content in (damage(table, *changes), noise, table + noise):
        path = folder / "labels.csv"
        path.write_bytes(content)
        index = survive(lambda path: own_parts_index(path.parent, None, ("train", "validation", "test")), path)
        assert index is None or index["name"].is_unique
