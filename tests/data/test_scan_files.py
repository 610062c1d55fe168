import io
import os
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.explosive import Explosive

from gsclip.data.scan_files import MESH_POINTS, MIN_POINTS, SCAN_EXTENSIONS, read_color, read_mask, read_scan
from gsclip.errors import InputError

HEIGHT, WIDTH = 12, 15


def organised():
    """(12, 15, 3) float32: a wavy surface 0.6 m away."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return np.stack([u / 100, v / 100, 0.6 + 0.01 * np.sin(u)], axis=-1).astype(np.float32)


def cloud():
    return organised().reshape(-1, 3)


def colours():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT * WIDTH, 3)).astype(np.uint8)


def ply_bytes(points, colors=None, encoding="ascii", promised=None):
    header = ["ply", f"format {encoding} 1.0", f"element vertex {len(points) if promised is None else promised}"]
    header += [f"property float {axis}" for axis in "xyz"]
    if colors is not None:
        header += [f"property uchar {name}" for name in ("red", "green", "blue")]
    head = "\n".join([*header, "end_header", ""]).encode()
    order = ">" if "big" in encoding else "<"
    body = b""
    for row, point in enumerate(points):
        values = [*map(float, point), *([] if colors is None else map(int, colors[row]))]
        if encoding == "ascii":
            body += (" ".join(f"{value:.9g}" for value in values) + "\n").encode()
        else:
            body += struct.pack(order + "fff" + ("" if colors is None else "BBB"), *values)
    return head + body


def pcd_bytes(points, kind="ascii"):
    count = len(points)
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
        f"WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {kind}\n"
    ).encode()
    if kind == "binary":
        return head + points.astype("<f4").tobytes()
    return head + rows_bytes(points)


def rows_bytes(points, *more):
    table = np.column_stack([points, *more])
    return "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in table).encode()


def write(path, content):
    path.write_bytes(content)
    return path


def message_of(read, *arguments):
    with pytest.raises(InputError) as caught:
        read(*arguments)
    message = str(caught.value)
    assert message.startswith(f"{arguments[0]}: ")
    assert "\n" not in message
    return message.removeprefix(f"{arguments[0]}: ")


# --- what is read


@pytest.mark.parametrize("extension", ["tiff", "tif", "TIFF"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_tiff_scans_are_organised_and_mark_missing_points(tmp_path, extension, compression):
    points = organised().astype(np.float64)
    points[0, 0] = 0  # MVTec 3D-AD's mark
    points[1, 1] = np.nan
    points[2, 2, 2] = np.inf
    points[3, 3] = (0, 0.1, 0.6)  # on an axis, and a measurement all the same
    path = tmp_path / f"scan.{extension}"
    tifffile.imwrite(path, points, photometric="rgb", compression=compression)
    scan = read_scan(path)
    assert scan.organised
    assert scan.points.dtype == np.float32
    assert scan.mask is None
    assert scan.colors is None
    missing = np.zeros((HEIGHT, WIDTH), dtype=bool)
    missing[[0, 1, 2], [0, 1, 2]] = True
    np.testing.assert_array_equal(np.isnan(scan.points).all(axis=2), missing)
    np.testing.assert_array_equal(scan.points[~missing], points[~missing].astype(np.float32))


def test_numpy_files_hold_grids_or_clouds(tmp_path):
    np.save(tmp_path / "grid.npy", organised())
    np.save(tmp_path / "cloud.npy", cloud().astype(np.float64))
    np.savez_compressed(tmp_path / "grid.npz", points=organised(), other=np.zeros(3))
    for name in ("grid.npy", "grid.npz"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).points, organised())
    np.testing.assert_array_equal(read_scan(str(tmp_path / "cloud.npy")).points, cloud())


def test_clouds_keep_every_row_so_that_labels_stay_valid(tmp_path):
    points = cloud()
    points[3] = np.nan
    points[5] = 0  # in a cloud the origin is a place like any other
    np.save(tmp_path / "cloud.npy", points)
    read = read_scan(tmp_path / "cloud.npy").points
    np.testing.assert_array_equal(read, points)


def test_numbers_beyond_float32_are_missing(tmp_path):
    points = cloud().astype(np.float64)
    points[7, 1] = 1e300
    np.save(tmp_path / "cloud.npy", points)
    assert np.flatnonzero(np.isnan(read_scan(tmp_path / "cloud.npy").points).all(axis=1)).tolist() == [7]


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_clouds_with_and_without_colours(tmp_path, encoding):
    plain = read_scan(write(tmp_path / "plain.ply", ply_bytes(cloud(), encoding=encoding)))
    np.testing.assert_array_equal(plain.points, cloud())
    assert plain.colors is None
    coloured = read_scan(write(tmp_path / "colour.PLY", ply_bytes(cloud(), colours(), encoding)))
    np.testing.assert_array_equal(coloured.points, cloud())
    np.testing.assert_array_equal(coloured.colors, colours())


@pytest.mark.parametrize("kind", ["ascii", "binary"])
def test_pcd_clouds(tmp_path, kind):
    np.testing.assert_array_equal(read_scan(write(tmp_path / "a.pcd", pcd_bytes(cloud(), kind))).points, cloud())


@pytest.mark.parametrize("comment", [b"", b"# x y z in metres\n\n"])
def test_xyz_rows(tmp_path, comment):
    scan = read_scan(write(tmp_path / "a.xyz", comment + rows_bytes(cloud())))
    np.testing.assert_allclose(scan.points, cloud(), rtol=1e-7)
    assert scan.colors is None


def test_xyzrgb_and_pts_rows_have_colours(tmp_path):
    xyzrgb = read_scan(write(tmp_path / "a.xyzrgb", rows_bytes(cloud(), colours() / 255)))
    np.testing.assert_array_equal(xyzrgb.colors, colours())
    content = f"{len(cloud())}\n".encode() + rows_bytes(cloud(), np.zeros(len(cloud())), colours())
    pts = read_scan(write(tmp_path / "a.pts", content))
    np.testing.assert_allclose(pts.points, cloud(), rtol=1e-7)
    np.testing.assert_array_equal(pts.colors, colours())


OBJ_BOX = "".join(f"v {x} {y} {z}\n" for x in (0, 2) for y in (0, 1) for z in (0, 1)) + "".join(
    f"f {a} {b} {c}\n"
    for a, b, c in [
        *[(1, 2, 4), (1, 4, 3), (5, 8, 6), (5, 7, 8), (1, 5, 6), (1, 6, 2)],
        *[(3, 4, 8), (3, 8, 7), (1, 3, 7), (1, 7, 5), (2, 6, 8), (2, 8, 4)],
    ]
)


@pytest.mark.parametrize("extension", ["obj", "stl", "ply", "off"])
def test_meshes_are_sampled_evenly_by_area(tmp_path, extension):
    import open3d

    write(tmp_path / "box.obj", OBJ_BOX.encode())
    path = tmp_path / f"box.{extension}"
    if extension != "obj":
        mesh = open3d.io.read_triangle_mesh(tmp_path / "box.obj")
        mesh.compute_triangle_normals()
        assert open3d.io.write_triangle_mesh(str(path), mesh)
    points = read_scan(path).points
    assert points.shape == (MESH_POINTS, 3)
    on_face = np.isclose(points, [0, 0, 0], atol=1e-6) | np.isclose(points, [2, 1, 1], atol=1e-6)
    assert on_face.any(axis=1).all()
    # Faces of 1, 2 and 2 of a total area of 10, each twice.
    for axis, share in ((0, 0.1), (1, 0.2), (2, 0.2)):
        for end in (0, (2, 1, 1)[axis]):
            assert np.mean(np.abs(points[:, axis] - end) < 1e-6) == pytest.approx(share, abs=0.002)
    np.testing.assert_allclose(points.mean(axis=0), [1, 0.5, 0.5], atol=0.01)
    assert read_scan(path).points.tobytes() == points.tobytes()


def test_colours_of_a_mesh_are_interpolated(tmp_path):
    vertices = [(0, 0, 0, 255, 0, 0), (1, 0, 0, 0, 255, 0), (0, 1, 0, 0, 0, 255)]
    lines = ["ply", "format ascii 1.0", "element vertex 3"]
    lines += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(map(str, vertex)) for vertex in vertices] + ["3 0 1 2"]
    scan = read_scan(write(tmp_path / "a.ply", "\n".join([*lines, ""]).encode()))
    x, y, _ = scan.points.T
    expected = 255 * np.stack([1 - x - y, x, y], axis=1)
    np.testing.assert_allclose(scan.colors, expected, atol=0.51)


# --- what is refused


@pytest.mark.parametrize("extension", SCAN_EXTENSIONS)
def test_missing_empty_and_folder_are_told_apart(tmp_path, extension):
    path = tmp_path / f"scan{extension}"
    assert message_of(read_scan, path) == "scan file not found; check the path"
    path.touch()
    assert message_of(read_scan, path) == "scan file is empty; copy or export it again"
    path.unlink()
    path.mkdir()
    assert message_of(read_scan, path) == "is a folder; name a scan file in it"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission_is_named(tmp_path):
    path = write(tmp_path / "a.ply", ply_bytes(cloud()))
    path.chmod(0)
    assert message_of(read_scan, path) == "scan file cannot be read; check its permissions"


def test_an_unknown_kind_lists_the_known_ones(tmp_path):
    message = message_of(read_scan, write(tmp_path / "scan.docx", b"PK"))
    known = f"use one of {', '.join(SCAN_EXTENSIONS)}, or .png with a camera file"
    assert message == f"unknown kind of scan file; {known}"
    laser = message_of(read_scan, write(tmp_path / "scan.las", b"LASF"))
    assert laser == "no installed library reads LAS and LAZ files; export it as .ply or .xyz"


@pytest.mark.parametrize("extension", SCAN_EXTENSIONS)
def test_text_under_a_wrong_name_is_refused(tmp_path, extension):
    path = write(tmp_path / f"scan{extension}", b"Dear Sir,\nplease find the scan enclosed.\n")
    assert message_of(read_scan, path).startswith("cannot be read as")


@pytest.mark.parametrize("extension", SCAN_EXTENSIONS)
def test_noise_under_a_wrong_name_is_refused(tmp_path, extension):
    content = np.random.default_rng(1).integers(0, 256, 4000).astype(np.uint8).tobytes()
    message_of(read_scan, write(tmp_path / f"scan{extension}", content))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_truncated_tiffs_are_refused(tmp_path, kept):
    path = tmp_path / "scan.tiff"
    tifffile.imwrite(path, organised(), photometric="rgb", compression="lzw")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert message_of(read_scan, path) == "cannot be read as TIFF; copy or export it again, or correct its extension"


def whole_file(name):
    buffer = io.BytesIO()
    if name == "npy":
        np.save(buffer, cloud())
        return buffer.getvalue()
    if name == "npz":
        np.savez(buffer, points=cloud())
        return buffer.getvalue()
    return {
        "ply": ply_bytes(cloud()),
        "binary.ply": ply_bytes(cloud(), colours(), "binary_little_endian"),
        "pcd": pcd_bytes(cloud()),
        "binary.pcd": pcd_bytes(cloud(), "binary"),
        "pts": f"{len(cloud())}\n".encode() + rows_bytes(cloud()),
    }[name]


@pytest.mark.parametrize("name", ["npy", "npz", "ply", "binary.ply", "pcd", "binary.pcd", "pts"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_other_truncated_files_are_refused(tmp_path, name, kept):
    content = whole_file(name)
    path = write(tmp_path / f"scan.{name}", content)
    assert len(read_scan(path).points) == len(cloud())
    path.write_bytes(content[: int(kept * len(content))])
    message = message_of(read_scan, path)
    assert "cannot be read" in message or "ends before" in message


@pytest.mark.parametrize("content", [ply_bytes(cloud()[:0]), ply_bytes(cloud()[:0], encoding="binary_little_endian")])
def test_an_empty_cloud_is_refused(tmp_path, content):
    assert message_of(read_scan, write(tmp_path / "a.ply", content)).startswith("cannot be read as PLY")


def test_a_mesh_without_area_is_refused(tmp_path):
    flat = b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n"
    assert message_of(read_scan, write(tmp_path / "a.obj", flat)).startswith("cannot be read as OBJ")


def test_rows_that_are_no_numbers_are_counted(tmp_path):
    content = rows_bytes(cloud()).replace(b"\n", b"\nnot a number\n", 1)
    assert message_of(read_scan, write(tmp_path / "a.xyz", content)).startswith("only ")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_scan_without_measurements_is_refused(tmp_path, value):
    path = tmp_path / "scan.tiff"
    tifffile.imwrite(path, np.full((HEIGHT, WIDTH, 3), value, dtype=np.float32), photometric="rgb")
    assert message_of(read_scan, path) == "has only 0 distinct points; give a scan with 100 or more"


def test_repeated_points_count_once(tmp_path):
    few = cloud()[: MIN_POINTS - 1]
    np.save(tmp_path / "few.npy", np.concatenate([few, few]))
    assert message_of(read_scan, tmp_path / "few.npy").startswith(f"has only {MIN_POINTS - 1} distinct points")
    np.save(tmp_path / "enough.npy", cloud()[:MIN_POINTS])
    assert len(read_scan(tmp_path / "enough.npy").points) == MIN_POINTS


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((40, 3), dtype=np.int64), "holds int64 instead of float coordinates"),
        (np.zeros((40, 3), dtype=complex), "holds complex128 instead of float coordinates"),
        (np.zeros((40, 4)), "has the shape 40 x 4; save x, y, z as height x width x 3 or n x 3"),
        (np.zeros((3, 40, 40)), "has the shape 3 x 40 x 40"),
        (np.zeros(120), "has the shape 120"),
        (np.array(["a", "b"]), "holds <U1"),
    ],
)
def test_arrays_that_hold_no_points_are_refused(tmp_path, array, problem):
    np.save(tmp_path / "a.npy", array)
    assert message_of(read_scan, tmp_path / "a.npy").startswith(problem)


def test_a_tiff_photograph_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", np.zeros((20, 20, 3), dtype=np.uint8), photometric="rgb")
    assert message_of(read_scan, tmp_path / "a.tiff").startswith("holds uint8 instead of float coordinates")
    tifffile.imwrite(tmp_path / "b.tiff", np.zeros((20, 20), dtype=np.float32))
    assert message_of(read_scan, tmp_path / "b.tiff") == "has the shape 20 x 20; save x, y, z as height x width x 3"


def test_pickled_arrays_are_never_unpickled(tmp_path):
    bomb = np.array([Explosive(tmp_path / "exploded")], dtype=object)
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "a.npz", points=bomb)
    for name in ("a.npy", "a.npz"):
        assert message_of(read_scan, tmp_path / name).startswith("cannot be read as a NumPy array of numbers")
    assert not (tmp_path / "exploded").exists()


def test_an_archive_without_points_says_how_to_save_them(tmp_path):
    np.savez(tmp_path / "a.npz", vertices=cloud())
    message = message_of(read_scan, tmp_path / "a.npz")
    assert message == "has no array 'points'; save it with numpy.savez(file, points=array)"


# --- masks and colours


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_every_mode_are_true_where_a_value_is_above_zero(tmp_path, mode):
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    truth[2:4, 5:9] = True
    if mode == "I;16":
        image = Image.fromarray(truth.astype(np.uint16))
    elif mode == "1":
        image = Image.fromarray(truth)
    elif mode == "P":
        image = Image.fromarray(truth.astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 0, 0])
    else:
        image = Image.fromarray(truth.astype(np.uint8)).convert(mode)
    image.save(tmp_path / "mask.png")
    read = read_mask(tmp_path / "mask.png", (HEIGHT, WIDTH))
    assert read.dtype == bool
    np.testing.assert_array_equal(read, truth)


def test_colour_images_are_rgb_whatever_they_were(tmp_path):
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    read = read_color(tmp_path / "grey.png", (HEIGHT, WIDTH))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=2))
    rgb = colours().reshape(HEIGHT, WIDTH, 3)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_color(tmp_path / "rgb.png", (HEIGHT, WIDTH)), rgb)


@pytest.mark.parametrize(("read", "kind"), [(read_mask, "mask"), (read_color, "color image")])
def test_broken_or_foreign_images_are_refused(tmp_path, read, kind):
    path = tmp_path / "image.png"
    assert message_of(read, path, (HEIGHT, WIDTH)) == f"{kind} file not found; check the path"
    path.touch()
    assert message_of(read, path, (HEIGHT, WIDTH)).startswith(f"{kind} file is empty")
    path.write_bytes(b"no picture")
    assert message_of(read, path, (HEIGHT, WIDTH)).startswith(f"cannot be read as a {kind}")
    noise = np.random.default_rng(0).integers(0, 256, (WIDTH, HEIGHT)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    assert message_of(read, path, (HEIGHT, WIDTH)) == (
        f"the {kind} has 15 x 12 pixels and the scan 12 x 15; give the one that belongs to the scan"
    )
    path.write_bytes(path.read_bytes()[:150])
    assert message_of(read, path, (WIDTH, HEIGHT)).startswith(f"cannot be read as a {kind}")


def test_a_tiff_may_have_a_page_for_each_row(tmp_path):
    tifffile.imwrite(tmp_path / "rows.tiff", organised(), photometric="minisblack")
    tifffile.imwrite(tmp_path / "big.tiff", organised(), photometric="minisblack", bigtiff=True)
    with tifffile.TiffFile(tmp_path / "rows.tiff") as file:
        assert len(file.pages) == HEIGHT
    for name in ("rows.tiff", "big.tiff"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).points, organised())


@pytest.mark.parametrize("bigtiff", [False, True])
def test_pages_in_a_circle_are_refused(tmp_path, bigtiff):
    path = tmp_path / "scan.tiff"
    tifffile.imwrite(path, np.zeros((200, 15, 3), np.float32), photometric="minisblack", bigtiff=bigtiff)
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[len(file.pages) - 1]
        size = 8 if bigtiff else 4
        end = last.offset + (8 + 20 * len(last.tags) if bigtiff else 2 + 12 * len(last.tags))
    content = bytearray(path.read_bytes())
    assert content[end : end + size] == bytes(size)  # the end of the chain
    content[end : end + size] = first.to_bytes(size, "little")
    assert message_of(read_scan, write(path, bytes(content))).startswith("cannot be read as TIFF")
