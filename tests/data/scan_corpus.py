"""Valid scans of every format as bytes, for tests that damage them."""

import io
import json
import struct

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

HEIGHT, WIDTH = 12, 15
CAMERA = {"fx": 100.0, "fy": 100.0, "cx": 7.0, "cy": 5.5, "depth_scale": 0.001}


def organised():
    """(12, 15, 3) float32: a wavy surface 0.6 away."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return np.stack([u / 100, v / 100, 0.6 + 0.01 * np.sin(u)], axis=-1).astype(np.float32)


def cloud():
    return organised().reshape(-1, 3)


def triangles():
    """(308, 3) int: two for each cell of the grid."""
    corner = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)


def text(rows):
    return "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows).encode()


def ply(encoding="ascii", colors=None, mesh=False, quads=False, points=None, promised=None):
    points = cloud() if points is None else points
    head = ["ply", f"format {encoding} 1.0", f"element vertex {len(points) if promised is None else promised}"]
    head += [f"property float {axis}" for axis in "xyz"]
    if colors is not None:
        head += [f"property uchar {name}" for name in ("red", "green", "blue")]
    faces = []
    if mesh:
        faces = [tuple(face) for face in triangles().tolist()]
        if quads:
            faces = [(*faces[0], faces[0][0]), *faces[1:]]
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    content = "\n".join([*head, "end_header", ""]).encode()
    order = ">" if "big" in encoding else "<"
    for place, point in enumerate(points.tolist()):
        color = [] if colors is None else colors[place].tolist()
        content += (
            text([[*point, *color]]) if encoding == "ascii" else struct.pack(f"{order}3f{len(color)}B", *point, *color)
        )
    for face in faces:
        row = [len(face), *face]
        content += text([row]) if encoding == "ascii" else struct.pack(f"{order}B{len(face)}i", *row)
    return content


def pcd(kind="ascii", promised=None):
    points = cloud()
    count = len(points) if promised is None else promised
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
        f"WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {kind}\n"
    ).encode()
    packed = np.full((len(points), 1), 0x0A141E, dtype="<u4")
    if kind == "ascii":
        return head + text(np.hstack([points, packed]))
    if kind == "binary":
        return head + np.hstack([points.astype("<f4").view("<u4"), packed]).tobytes()
    columns = points.T.astype("<f4").tobytes() + packed.tobytes()
    data = imagecodecs.lzf_encode(columns)
    return head + struct.pack("<II", len(data), len(columns)) + data


def numpy_bytes(array=None, archive=False, **arrays):
    buffer = io.BytesIO()
    if archive:
        np.savez_compressed(buffer, **(arrays or {"points": organised()}))
    else:
        np.save(buffer, organised() if array is None else array)
    return buffer.getvalue()


def tiff(compression=None, array=None):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, organised() if array is None else array, photometric="rgb", compression=compression)
    return buffer.getvalue()


def png(array=None):
    buffer = io.BytesIO()
    levels = (organised()[..., 2] * 1000).astype(np.uint16) if array is None else array
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def obj():
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in cloud().tolist()]
    lines += [f"f {a + 1}/1/1 {b + 1}/1/1 {c + 1}/1/1" for a, b, c in triangles().tolist()]
    return "\n".join([*lines, ""]).encode()


def off():
    faces = triangles()
    return f"OFF\n{len(cloud())} {len(faces)} 0\n".encode() + text(cloud()) + text(np.insert(faces, 0, 3, axis=1))


def stl(ascii_text=False):
    corners = cloud()[triangles()]
    if ascii_text:
        facets = []
        for facet in corners.tolist():
            rows = "".join(f"vertex {x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in facet)
            facets.append(f"facet normal 0 0 1\nouter loop\n{rows}endloop\nendfacet\n")
        return ("solid part\n" + "".join(facets) + "endsolid part\n").encode()
    head = b"part".ljust(80) + struct.pack("<I", len(corners))
    return head + b"".join(struct.pack("<12fH", 0, 0, 1, *facet.ravel(), 0) for facet in corners)


def colours():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT * WIDTH, 3)).astype(np.uint8)


def valid_files():
    """Bytes by ``<what>.<extension>``; every one is a scan."""
    return {
        "text.ply": ply(),
        "colour.ply": ply("binary_little_endian", colours()),
        "big.ply": ply("binary_big_endian"),
        "mesh.ply": ply("binary_little_endian", mesh=True),
        "quads.ply": ply("binary_little_endian", mesh=True, quads=True),
        "text_mesh.ply": ply(mesh=True),
        "text.pcd": pcd(),
        "binary.pcd": pcd("binary"),
        "compressed.pcd": pcd("binary_compressed"),
        "rows.xyz": text(cloud()),
        "rows.xyzrgb": text(np.hstack([cloud(), colours() / 255])),
        "rows.pts": f"{len(cloud())}\n".encode() + text(np.hstack([cloud(), np.zeros((len(cloud()), 1)), colours()])),
        "mesh.obj": obj(),
        "mesh.off": off(),
        "binary.stl": stl(),
        "text.stl": stl(ascii_text=True),
        "grid.npy": numpy_bytes(),
        "cloud.npy": numpy_bytes(cloud()),
        "grid.npz": numpy_bytes(archive=True),
        "plain.tiff": tiff(),
        "lzw.tiff": tiff("lzw"),
        "deflate.tif": tiff("zlib"),
        "depth.png": png(),
    }


def write_camera(folder, **changes):
    (folder / "camera.json").write_text(json.dumps({**CAMERA, **changes}))
