"""Memory and limits of the parsers of clouds and meshes; what they read is in test_scan_files."""

import tracemalloc

import numpy as np
import pytest
from tests.data import scan_corpus

from gsclip.data import cloud_files, scan_files
from gsclip.data.cloud_files import IncompleteError, TooManyError, parse
from gsclip.data.scan_files import read_cloud_file, read_scan
from gsclip.errors import InputError

TRIANGLE = b"0.123456 0.5 0.25\n1.5 0.123456 0.25\n0.5 1.5 0.125\n"


def lines(before, rows):
    return b"".join(before + row + b"\n" for row in rows)


def text_files(rows):
    """Of each text format a file with ``rows`` vertices, and as many triangles where it is a mesh."""
    table = np.random.default_rng(0).random((rows, 3)).tolist()
    places = [b"%.6f %.6f %.6f" % tuple(place) for place in table]
    faces = [b"0 %d %d" % (row % rows, (row + 1) % rows) for row in range(rows)]
    header = b"ply\nformat ascii 1.0\nelement vertex %d\n" % rows
    header += b"".join(b"property float %s\n" % axis for axis in (b"x", b"y", b"z"))
    header += b"element face %d\nproperty list uchar int vertex_indices\nend_header\n" % rows
    pcd = b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS %d\nDATA ascii\n" % rows
    facet = b"facet normal 0 0 1\nouter loop\n%sendloop\nendfacet\n" % lines(b"vertex ", TRIANGLE.splitlines())
    return {
        ".xyz": lines(b"", places),
        ".xyzrgb": lines(b"0.5 0.25 0.75 ", places),
        ".pts": b"%d\n" % rows + lines(b"", places),
        ".ply": header + lines(b"", places) + lines(b"3 ", faces),
        ".pcd": pcd + lines(b"", places),
        ".obj": lines(b"v ", places) + b"".join(b"f 1 2 %d\n" % (row % rows + 1) for row in range(rows)),
        ".off": b"OFF\n%d %d 0\n" % (rows, rows) + lines(b"", places) + lines(b"3 ", faces),
        ".stl": b"solid a\n" + facet * (rows // 3) + b"endsolid a\n",
    }


FORMATS = sorted(text_files(3))


def peak(content, extension):
    """Bytes that parsing takes at most, beside the content."""
    tracemalloc.start()
    try:
        parse(content, extension)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("extension", FORMATS)
def test_text_takes_a_few_times_its_size(extension):
    content = text_files(100_000)[extension]
    assert len(content) > 2_000_000
    assert peak(content, extension) < 4 * len(content)


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        (".xyz", b"1 2 3\n" * 400_000),
        (".xyz", b"1 2 3\r" * 400_000),
        (".obj", b"v 1 2 3\n" * 3 + b"f 1 2 3\n" * 300_000),
        (".obj", b"v 1 2 3\n" * 3 + (b"f " + b"1 2 3 " * 1000 + b"\n") * 400),
    ],
)
def test_the_shortest_numbers_take_no_more_than_eight_times_their_size(extension, content):
    assert peak(content, extension) < 7 * len(content)  # and the content itself


@pytest.mark.parametrize("extension", FORMATS)
def test_too_many_points_are_refused_at_the_first_one_too_many(monkeypatch, tmp_path, extension):
    monkeypatch.setattr(cloud_files, "MAX_POINTS", 1000)
    path = tmp_path / f"a{extension}"
    path.write_bytes(text_files(999)[extension])
    assert len(read_cloud_file(path).points) == 999
    path.write_bytes(text_files(100_000)[extension])
    with pytest.raises(InputError) as caught:
        read_cloud_file(path)
    assert str(caught.value) == f"{path}: has more than 1,000 points, rows or triangles; thin it out"
    tracemalloc.start()
    with pytest.raises(TooManyError):
        parse(path.read_bytes(), extension)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < path.stat().st_size + 1_000_000  # the others would take 2.4 million


@pytest.mark.parametrize("count", [10, 11])
def test_triangles_are_limited_as_points_are(monkeypatch, count):
    monkeypatch.setattr(cloud_files, "MAX_POINTS", 10)
    header = b"ply\nformat %s 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += b"element face %d\nproperty list uchar int vertex_indices\nend_header\n"
    corners = np.tile(np.array([(3, (0, 1, 2))], dtype=[("count", "u1"), ("corners", "<i4", (3,))]), count)
    uneven = np.zeros(9, dtype="<f4").tobytes() + b"\x04" + np.array([0, 1, 2, 0], "<i4").tobytes()
    files = {
        "even.ply": header % (b"binary_little_endian", count) + bytes(36) + corners.tobytes(),
        "uneven.ply": header % (b"binary_little_endian", count - 1) + uneven + corners[: count - 2].tobytes(),
        "text.ply": header % (b"ascii", count) + TRIANGLE + b"3 0 1 2\n" * count,
        "fan.obj": lines(b"v ", TRIANGLE.splitlines()) + b"f 1 2" + b" 3" * count + b"\n",
        "text.off": b"OFF\n3 %d 0\n" % count + TRIANGLE + b"3 0 1 2\n" * count,
    }
    for name, content in files.items():
        if count > 10:
            with pytest.raises(TooManyError, match="more than 10 points, rows or triangles"):
                parse(content, name[-4:])
        else:
            assert parse(content, name[-4:]).triangles.shape == (10, 3), name


@pytest.mark.parametrize("extension", [".ply", ".pcd", ".stl"])
def test_binary_files_of_too_many_points_are_refused(monkeypatch, extension):
    header = b"ply\nformat binary_little_endian 1.0\nelement vertex 12\n"
    header += b"property float x\nproperty float y\nproperty float z\nend_header\n"
    content = {
        ".ply": header + bytes(144),
        ".pcd": b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 12\nDATA binary\n" + bytes(144),
        ".stl": bytes(80) + b"\x04\0\0\0" + bytes(200),
    }[extension]
    monkeypatch.setattr(cloud_files, "MAX_POINTS", 12)
    assert len(parse(content, extension).points) == 12
    monkeypatch.setattr(cloud_files, "MAX_POINTS", 11)
    with pytest.raises(TooManyError):
        parse(content, extension)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_may_fall_anywhere_on_the_blocks_of_the_text(monkeypatch, end):
    rows = [b"%d %d 1" % (row, 10**row) for row in range(9)]
    content = b"# comment" + end + end.join(rows) + end
    expected = [[row, 10**row, 1] for row in range(9)]
    for block in range(16, len(content) + 2):
        monkeypatch.setattr(cloud_files, "_BLOCK", block)
        np.testing.assert_array_equal(parse(content, ".xyz").points, expected)


def test_a_line_that_does_not_end_is_refused(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(b"1 2 3 " * 100_000)
    with pytest.raises(InputError, match="cannot be read as XYZ"):
        read_cloud_file(path)


@pytest.mark.parametrize("corner", [b"4", b"-4", b"3000000000", b"-3000000000", b"0"])
def test_corners_that_are_no_vertices_are_refused(corner):
    with pytest.raises(IncompleteError, match="faces between vertices that it does not hold"):
        parse(lines(b"v ", TRIANGLE.splitlines()) + b"f 1 2 " + corner + b"\n", ".obj")


def test_colours_of_an_obj_count_where_every_vertex_has_one():
    colored = b"v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\n"
    np.testing.assert_array_equal(parse(colored, ".obj").colors, np.eye(3))
    for other in (b"v 0 0 1\n" + colored, colored + b"v 0 0 1\n", colored + b"v 0 0 1\nv 0 0 2 1 1 1\n"):
        assert parse(other, ".obj").colors is None
        assert {len(parse(other, ".obj").points)} <= {4, 5}
    with pytest.raises(ValueError, match="no vertex"):
        parse(b"v 1 2\nv 3 4\n", ".obj")


def pcd(points, colors, height, width, encoding):
    header = b"FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\n"
    header += b"WIDTH %d\nHEIGHT %d\nPOINTS %d\nDATA %s\n" % (width, height, len(points), encoding)
    packed = (colors.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=1).astype("<u4")
    if encoding == b"binary":
        kind = [("place", "<f4", (3,)), ("rgb", "<u4")]
        return header + np.array(list(zip(points, packed, strict=True)), dtype=kind).tobytes()
    return header + b"".join(b"%.9g %.9g %.9g %d\n" % (*map(float, p), c) for p, c in zip(points, packed, strict=True))


@pytest.mark.parametrize("encoding", [b"ascii", b"binary"])
def test_organised_pcd_keeps_its_grid(tmp_path, encoding):
    v, u = np.mgrid[:12, :15].astype(np.float32)
    grid = np.stack([u, v, 1 + np.sin(u)], axis=-1)
    grid[3, 4] = 0
    grid[5, 6, 2] = np.nan
    colors = np.random.default_rng(0).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd(grid.reshape(-1, 3), colors.reshape(-1, 3), 12, 15, encoding))
    scan = read_scan(path)
    grid[[3, 5], [4, 6]] = np.nan
    np.testing.assert_array_equal(scan.points, grid)
    np.testing.assert_array_equal(scan.colors, colors)
    for height, width in ((1, 180), (12, 14), (0, 0)):
        path.write_bytes(pcd(grid.reshape(-1, 3), colors.reshape(-1, 3), height, width, encoding))
        assert read_scan(path).points.shape == (180, 3)


def test_big_meshes_are_sampled_as_small_ones(monkeypatch, tmp_path):
    path = tmp_path / "a.obj"
    path.write_bytes(text_files(1000)[".obj"])
    whole = read_scan(path).points
    monkeypatch.setattr(scan_files, "_TRIANGLES", 7)
    np.testing.assert_array_equal(read_scan(path).points, whole)


NUMBERS = [[-19.328, -22.344, -2.993], [1.5, 2, 3e-4], [4, 5, 6]]


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        (".xyz", b"-19,328;-22,344;-2,993\n1,5;2,0;3e-4\n4;5;6\n"),
        (".xyz", b"-19,328 -22,344  -2,993\r\n1,5 2 3,0E-4\r\n4 5 6"),
        (".xyz", b"# 1.5 mm\n-19,328\t-22,344\t-2,993\r1,5\t2\t3,0e-4\r4\t5\t6\r"),
        (".xyz", b"4; 5; 6;\n1,5; 2; 3,0e-4;\n-19,328; -22,344; -2,993;\n"),
        (".xyzrgb", b"-19,328;-22,344;-2,993;0;0,5;1\n1,5;2,0;3e-4;0;1;1\n4;5;6;0,0;1;1\n"),
        (".pts", b"3\n-19,328 -22,344 -2,993 7 255 0 0\n1,5 2 3e-4 1,5 0 0 0\n4 5 6 0 0 0 0\n"),
        (".obj", b"o bolt 1,5 x 7.25\nv -19,328 -22,344 -2,993\nv 1,5 2 3e-4\nv 4 5 6\nf 1 2 3\n"),
    ],
)
def test_decimal_commas_are_read_where_something_else_separates(extension, content):
    assert sorted(parse(content, extension).points.tolist()) == sorted(NUMBERS)


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (b"1.0, 2.0, 3.0\n" * 3, [1, 2, 3]),
        (b"1,2,3\n" * 3, [1, 2, 3]),
        (b"1, 2, 3\n" * 3, [1, 2, 3]),
        (b" 1,2,3 \n" * 3, [1, 2, 3]),
        (b"1,2,3 255,0,0\n" * 3, [1, 2, 3]),
        (b"1.5,2.5,3.5;7\n" * 3, [1.5, 2.5, 3.5]),
        (b"1.5;2.5,3.5\n" * 3, [1.5, 2.5, 3.5]),
        (b"# 1,5 mm\n1.5,2.5,3.5\n", [1.5, 2.5, 3.5]),
    ],
)
def test_commas_between_numbers_separate(content, first):
    assert parse(content, ".xyz").points[0].tolist() == first


@pytest.mark.parametrize(
    "content",
    [
        b"1,5;2,5;3.5\n",
        b"1,5 2,5 3,5\n1.5 2.5 3.5\n",
        b"1.5 2.5 3.5\n1,5 2,5 3,5\n",
        b"1,5, 2,5, 3,5\n",
        b"1,5;2,5;3,5\n1,2,3\n",
        b"1.234,5;2.345,6;1.000,2\n",
        b"1,234.5 2,345.6 1,000.2\n",
        b",5;1,5;2\n",
    ],
)
def test_commas_that_may_mean_either_are_refused(tmp_path, content):
    path = tmp_path / "a.xyz"
    path.write_bytes(content * 200)
    with pytest.raises(InputError) as caught:
        read_scan(path)
    assert str(caught.value) == (
        f"{path}: its numbers have decimal commas beside decimal points or commas between numbers; "
        "export it with decimal points and without separators of thousands"
    )


def test_names_of_axes_may_be_in_upper_case():
    for encoding in ("ascii", "binary_little_endian"):
        content = scan_corpus.ply(encoding)
        for axis in b"xyz":
            content = content.replace(b"property float %c\n" % axis, b"property float %c\n" % (axis - 32), 1)
        assert b"property float X" in content
        np.testing.assert_allclose(parse(content, ".ply").points, scan_corpus.cloud(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("size", [b"WIDTH 180\nHEIGHT 1\n", b"WIDTH 15\nHEIGHT 12\n", b"WIDTH 180\n"])
def test_width_and_height_of_a_pcd_file_stand_for_the_number_of_points(kind, size):
    content = scan_corpus.pcd(kind).replace(b"POINTS 180\n", b"").replace(b"WIDTH 180\nHEIGHT 1\n", size)
    found = parse(content, ".pcd")
    np.testing.assert_allclose(found.points, scan_corpus.cloud(), rtol=1e-6)
    assert found.grid == ((12, 15) if b"12" in size else None)


def test_a_pcd_file_without_any_number_of_points_is_none():
    with pytest.raises(ValueError, match="no PCD file"):
        parse(scan_corpus.pcd().replace(b"POINTS 180\n", b"").replace(b"WIDTH 180\n", b""), ".pcd")
