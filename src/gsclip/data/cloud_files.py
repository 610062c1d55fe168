"""Parse clouds and meshes: PLY, PCD, rows of numbers, OBJ, OFF and STL.

Written out here, since files come from anywhere: whatever their bytes are, the result is an array or a
:class:`ValueError`, no memory is taken for what a header promises and the file does not hold, and nothing leaves the
interpreter. Libraries of the usual kind crash on damaged files, or return what the memory held before.

Text becomes numbers line by line: at its largest, the memory taken is four times the file where coordinates have six
digits, and ten times where all numbers have one. What holds more than :data:`MAX_POINTS` points, rows or triangles is
refused at the first one too many.

Formats: PLY (Turk, 1994), PCD 0.7 (Point Cloud Library), OBJ (Wavefront), OFF (Geomview), STL (3D Systems).
"""

from __future__ import annotations

import itertools
import re
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MAX_POINTS = 50_000_000  # of one scan: an organised scan of 7000 x 7000; likewise triangles of a mesh
_MAX_HEADER = 100_000  # bytes
_BLOCK = 2**17  # bytes of text that are split into lines at a time, and the longest line
_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_PCD_TYPES = {"F": "f", "U": "u", "I": "i"}
_SEPARATORS = bytes.maketrans(b",;", b"  ")
_DECIMALS = bytes.maketrans(b",;", b". ")
_SIGN, _EXPONENT = rb"[+-]?", rb"(?:[eE][+-]?[0-9]+)?"
_DECIMAL_COMMA = _SIGN + rb"[0-9]+,[0-9]+" + _EXPONENT
_THOUSANDS = _SIGN + rb"(?:[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+|[0-9]{1,3},[0-9]{3}\.[0-9]+)" + _EXPONENT
_WITH_COMMA = b"(?:" + _DECIMAL_COMMA + b"|" + _THOUSANDS + b")"
_MAY_BE_DECIMAL = re.compile(
    rb"[;\t ]" + _WITH_COMMA + rb"(?=[;\s]|\Z)|(?:\A|(?<=[\r\n]))" + _WITH_COMMA + rb"(?=[;\t ])"
)
_NUMBERS_BEHIND = (b"v", b"vn", b"vt", b"vertex", b"facet", b"nan", b"inf", b"infinity")  # words before numbers


class IncompleteError(ValueError):
    """The file ends before what it promises, or some of its rows hold no points; ``args``: problem and remedy."""


class CommaError(ValueError):
    """Commas that are neither all separators nor all decimal signs; ``args``: problem and remedy."""

    def __init__(self) -> None:
        super().__init__(
            "its numbers have decimal commas beside decimal points or commas between numbers",
            "export it with decimal points and without separators of thousands",
        )


class TooManyError(ValueError):
    """More points, rows or triangles than :data:`MAX_POINTS`; ``args``: problem and remedy."""


class ColorError(ValueError):
    """Colours out of range; ``args``: problem and remedy."""


@dataclass(frozen=True)
class Cloud:
    """Content of a file.

    Attributes:
        points: (n, 3) float64, in the file's unit; values that are not finite stay.
        colors: (n, 3) float64 RGB in 0..1, or ``None``.
        triangles: (m, 3) int32 or int64 rows of ``points``; polygons are cut into fans. ``None`` for clouds.
        grid: (h, w) of an organised cloud, whose rows are those of the grid one after the other; else ``None``.
    """

    points: np.ndarray
    colors: np.ndarray | None = None
    triangles: np.ndarray | None = None
    grid: tuple[int, int] | None = None


def parse(content: bytes, extension: str) -> Cloud:
    """Parse the content of a file.

    Args:
        content: all bytes.
        extension: one of :data:`PARSERS`, lower case.

    Returns:
        At least one point; triangles name points that are there.

    Raises:
        ValueError: when the bytes are no such file; :class:`IncompleteError`, :class:`TooManyError`,
            :class:`ColorError` and :class:`CommaError` say more.
    """
    try:
        with np.errstate(all="ignore"):  # what is not finite stays so, without a warning
            cloud = PARSERS[extension](content)
    except (LookupError, TypeError, StopIteration, EOFError, struct.error, OverflowError, RuntimeError) as error:
        raise ValueError(f"no {extension[1:].upper()} file") from error
    triangles = cloud.triangles if cloud.triangles is not None and len(cloud.triangles) else None
    if triangles is not None and not (triangles.min() >= 0 and triangles.max() < len(cloud.points)):
        raise _no_vertices()
    if len(cloud.points) == 0:
        raise ValueError("no points")
    return Cloud(cloud.points, cloud.colors, triangles, cloud.grid)


# --- PLY


@dataclass(frozen=True)
class _Property:
    """One property of a PLY element: NumPy type of its values, and of the length before them for a list."""

    name: str
    kind: str
    length_kind: str | None = None


def _parse_ply(content: bytes) -> Cloud:
    header, start = _header(content, rb"\Aply\s.*?\nend_header[ \t]*\r?\n")
    lines = [line.split() for line in header.splitlines()]
    encoding = next(line[1] for line in lines if line[:1] == ["format"])
    elements: list[tuple[str, int, list[_Property]]] = []
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], _count(line[2]), []))
        elif line[:2] == ["property", "list"]:
            elements[-1][2].append(_Property(line[4], _PLY_TYPES[line[3]], _PLY_TYPES[line[2]]))
        elif line[:1] == ["property"]:
            elements[-1][2].append(_Property(line[2], _PLY_TYPES[line[1]]))
    vertices = next(count for name, count, _ in elements if name == "vertex")
    if encoding == "ascii":
        read = _ply_text(content, start)
    elif encoding in ("binary_little_endian", "binary_big_endian"):
        read = _ply_binary(memoryview(content)[start:], "<" if encoding == "binary_little_endian" else ">")
    else:
        raise ValueError("unknown encoding")
    columns: dict[str, np.ndarray] = {}
    triangles: np.ndarray | None = None
    for name, count, properties in elements:
        try:
            values, lists = read(count, properties)
        except EOFError as error:
            problem = f"ends before the {vertices} points that it promises" if name == "vertex" else "ends too early"
            raise IncompleteError(problem, "copy or export it again") from error
        if name == "vertex":
            _check_number(count)
            columns = values
        elif name == "face":
            triangles = lists.get("vertex_indices", lists.get("vertex_index"))
    columns = {**{name.lower(): column for name, column in columns.items()}, **columns}
    points = _stack([columns[axis] for axis in "xyz"])
    colors = None
    if all(name in columns for name in ("red", "green", "blue")):
        channels = [columns[name] for name in ("red", "green", "blue")]
        colors = _unit_colors(_stack(channels), channels[0].dtype)
    return Cloud(points, colors, triangles)


_PlyReader = Callable[[int, Sequence[_Property]], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]


def _ply_text(content: bytes, start: int) -> _PlyReader:
    """Reader of the elements of an ASCII PLY file, one after the other; each row is a line."""
    rows = _lines(content, start)

    def read(count: int, properties: Sequence[_Property]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        if not properties:
            return {}, {}
        if all(item.length_kind is None for item in properties):
            table = _table(rows, len(properties), count)
            return {item.name: _typed(table[:, column], item.kind) for column, item in enumerate(properties)}, {}
        faces = {item.name: _Fans() for item in properties if item.length_kind}
        found = 0
        for line in itertools.islice(rows, count):
            found += 1
            tokens = iter(line.split())
            for item in properties:
                if item.length_kind is None:
                    float(next(tokens))
                else:
                    length = _count(next(tokens).decode("latin-1"))
                    values = list(itertools.islice(tokens, length))
                    if len(values) < length:
                        raise EOFError
                    # Texture coordinates and the like are lists, too, of other numbers.
                    if item.kind[0] in "iu":
                        faces[item.name].add([int(value) for value in values])
        if found < count:
            raise EOFError
        return {}, {name: fans.triangles() for name, fans in faces.items()}

    return read


def _ply_binary(body: memoryview, order: str) -> _PlyReader:
    """Reader of the elements of a binary PLY file, one after the other."""
    position = 0

    def read(count: int, properties: Sequence[_Property]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        nonlocal position
        if not properties or not count:
            return ({item.name: np.empty(0) for item in properties if item.length_kind is None}, {})
        least = sum(int((item.length_kind or item.kind)[1]) for item in properties)
        if count * least > len(body) - position:
            raise EOFError
        if all(item.length_kind is None for item in properties):
            kind = np.dtype([(item.name, order + item.kind) for item in properties])
            table = np.frombuffer(body, kind, count, position)
            position += count * kind.itemsize
            return {item.name: table[item.name] for item in properties}, {}
        even = _even_lists(body, position, count, properties, order)
        if even is not None:
            position += count * even.dtype.itemsize
            lists = {item.name: even[item.name] for item in properties if item.length_kind and item.kind[0] in "iu"}
            return {}, {name: _fans(values.astype(np.int64)) for name, values in lists.items()}
        faces = {item.name: _Fans() for item in properties if item.length_kind}
        for _ in range(count):
            for item in properties:
                kind = np.dtype(order + item.kind)
                if item.length_kind is None:
                    position += kind.itemsize
                    continue
                length = int(_numbers(body, position, order + item.length_kind, 1)[0])
                position += int(item.length_kind[1])
                if length < 0:
                    raise ValueError("negative length")
                values = _numbers(body, position, order + item.kind, length)
                position += length * kind.itemsize
                if item.kind[0] in "iu":
                    faces[item.name].add(values.tolist())
        return {}, {name: fans.triangles() for name, fans in faces.items()}

    return read


def _even_lists(
    body: memoryview, position: int, count: int, properties: Sequence[_Property], order: str
) -> np.ndarray | None:
    """Rows of an element whose lists are all as long as those of its first row; ``None`` where they are not."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    at = position
    lengths: dict[str, int] = {}
    for item in properties:
        if item.length_kind is None:
            fields.append((item.name, order + item.kind))
            at += int(item.kind[1])
            continue
        length = int(_numbers(body, at, order + item.length_kind, 1)[0])
        at += int(item.length_kind[1]) + max(length, 0) * int(item.kind[1])
        if length < 1 or at > len(body):
            return None
        lengths[item.name] = length
        fields += [(f"length of {item.name}", order + item.length_kind), (item.name, order + item.kind, (length,))]
    kind = np.dtype(fields)
    if position + count * kind.itemsize > len(body):
        return None
    rows = np.frombuffer(body, kind, count, position)
    return rows if all((rows[f"length of {name}"] == length).all() for name, length in lengths.items()) else None


def _numbers(body: memoryview, position: int, kind: str, count: int) -> np.ndarray:
    """(count,) numbers at a place. Raises EOFError where the bytes end before."""
    if position + count * np.dtype(kind).itemsize > len(body):
        raise EOFError
    return np.frombuffer(body, kind, count, position)


# --- PCD


def _parse_pcd(content: bytes) -> Cloud:
    header, start = _header(content, rb"\A.*?(?:\A|\n)DATA[ \t]+\w+[ \t]*\r?\n")
    fields = {line.split()[0]: line.split()[1:] for line in header.splitlines() if line.split()}
    height, width = (_count(fields.get(name, ["0"])[0]) for name in ("HEIGHT", "WIDTH"))
    count = _count(fields["POINTS"][0]) if "POINTS" in fields else max(height, 1) * _count(fields["WIDTH"][0])
    names = fields["FIELDS"]
    repeats = [_count(value) for value in fields.get("COUNT", ["1"] * len(names))]
    kinds = [f"<{_PCD_TYPES[kind]}{_count(size)}" for kind, size in zip(fields["TYPE"], fields["SIZE"], strict=True)]
    if not len(names) == len(repeats) == len(kinds) or len(set(names) - {"_"}) < len([n for n in names if n != "_"]):
        raise ValueError("fields do not fit")
    incomplete = IncompleteError(f"ends before the {count} points that it promises", "copy or export it again")
    encoding = fields["DATA"][0]
    columns: dict[str, np.ndarray] = {}
    if encoding == "ascii":
        table = _table(_lines(content, start), sum(repeats), count)
        first = np.cumsum([0, *repeats])
        columns = {name: _typed(table[:, first[place]], kinds[place]) for place, name in enumerate(names)}
    else:
        sizes = [np.dtype(kind).itemsize * repeat for kind, repeat in zip(kinds, repeats, strict=True)]
        body, row = memoryview(content)[start:], sum(sizes)
        if encoding == "binary_compressed":
            body = _decompress(body, count * row)
        elif encoding != "binary":
            raise ValueError("unknown encoding")
        if len(body) < count * row or row == 0:
            raise incomplete
        offset = 0
        for name, kind, size in zip(names, kinds, sizes, strict=True):
            if size and encoding == "binary_compressed":  # one field after the other
                columns[name] = np.frombuffer(body, kind, count * (size // np.dtype(kind).itemsize), count * offset)
                columns[name] = columns[name][:: size // np.dtype(kind).itemsize]
            elif size:
                field = np.dtype({"names": ["value"], "formats": [kind], "offsets": [offset], "itemsize": row})
                columns[name] = np.frombuffer(body, field, count)["value"]
            offset += size
    _check_number(count)
    points = _stack([columns[axis] for axis in "xyz"])
    packed = columns.get("rgb", columns.get("rgba"))
    colors = None
    if packed is not None and packed.dtype == np.float64:  # of a text: the number whose four bytes are the colour
        with np.errstate(over="ignore"):
            packed = packed.astype(np.float32)
    if packed is not None and packed.dtype.itemsize == 4:
        bits = np.ascontiguousarray(packed).view(np.uint32)
        colors = np.stack([bits >> shift & 255 for shift in (16, 8, 0)], axis=1) / 255
    return Cloud(points, colors, grid=(height, width) if height > 1 and height * width == count else None)


def _decompress(body: memoryview, expected: int) -> memoryview:
    """Undo LZF of a PCD file; it makes no more than 264 bytes of three."""
    import imagecodecs

    packed, whole = struct.unpack_from("<II", body)
    if packed > len(body) - 8 or whole != expected or whole > 88 * packed + 264:
        raise IncompleteError("ends before the points that it promises", "copy or export it again")
    try:
        data = imagecodecs.lzf_decode(bytes(body[8 : 8 + packed]), out=whole)
    except imagecodecs.LzfError as error:
        raise ValueError("broken compression") from error
    return memoryview(data)


# --- rows of numbers


def _parse_rows(content: bytes) -> Cloud:
    table = _table(_lines(content, 0), None)
    return Cloud(np.ascontiguousarray(table[:, :3]))


def _parse_xyzrgb(content: bytes) -> Cloud:
    table = _table(_lines(content, 0), None)
    if table.shape[1] < 6:
        raise ValueError("no colours")
    return Cloud(np.ascontiguousarray(table[:, :3]), _unit_colors(table[:, 3:6], np.dtype(np.float64)))


def _parse_pts(content: bytes) -> Cloud:
    rows = _lines(content, 0)
    count = _count(next(rows).decode("latin-1"))
    table = _table(rows, None, count)
    colors = None
    if table.shape[1] >= 6:
        colors = _unit_colors(table[:, -3:], np.dtype(np.uint8))
    return Cloud(np.ascontiguousarray(table[:, :3]), colors)


# --- meshes


def _parse_obj(content: bytes) -> Cloud:
    places, channels = array("d"), array("d")
    fans = _Fans()
    count = colored = 0
    for line in _lines(content, 0):
        tokens = line.split()
        if tokens[0] == b"v":
            count += 1
            _check_number(count)
            values = [float(token) for token in tokens[1:7]]
            if len(values) < 3:
                raise ValueError("no vertex")
            places.extend(values[:3])
            if len(values) == 6 and colored == count - 1:  # colours count where every vertex has one
                colored = count
                channels.extend(values[3:])
        elif tokens[0] == b"f":
            corners = [int(token.split(b"/")[0]) for token in tokens[1:]]
            if 0 in corners:
                raise _no_vertices()
            fans.add([corner - 1 if corner > 0 else count + corner for corner in corners])
    colors = _unit_colors(_rows_of(channels, 3), np.dtype(np.float64)) if count and colored == count else None
    return Cloud(_rows_of(places, 3), colors, fans.triangles())


def _parse_off(content: bytes) -> Cloud:
    rows = _lines(content, 0)
    first = next(rows).split(b"#")[0].split()
    if re.fullmatch(rb"(?:ST)?C?N?OFF", first[0]) is None:
        raise ValueError("no header")
    counts = first[1:] or next(rows).split(b"#")[0].split()
    count, faces = (_count(value.decode("latin-1")) for value in counts[:2])
    table = _table(rows, None, count)
    fans = _Fans()
    found = 0
    for line in itertools.islice(rows, faces):
        tokens = line.split(b"#")[0].split()
        length = _count(tokens[0].decode("latin-1"))
        if len(tokens) <= length:
            break
        found += 1
        fans.add([int(token) for token in tokens[1 : 1 + length]])
    if found < faces:
        raise IncompleteError(f"ends before the {faces} faces that it promises", "copy or export it again")
    colors = None
    if b"C" in first[0] and table.shape[1] >= 6:
        values = table[:, 6:9] if b"N" in first[0] and table.shape[1] >= 9 else table[:, 3:6]
        colors = _unit_colors(values, np.dtype(np.float64))
    return Cloud(np.ascontiguousarray(table[:, :3]), colors, fans.triangles())


_STL_FACET = np.dtype([("normal", "<f4", (3,)), ("corners", "<f4", (9,)), ("attribute", "<u2")])


def _parse_stl(content: bytes) -> Cloud:
    promised = struct.unpack_from("<I", content, 80)[0] if len(content) >= 84 else 0
    body = len(content) - 84
    if content[:5].lower() == b"solid" and body != promised * _STL_FACET.itemsize:
        places, count, last = array("d"), 0, b""
        for line in _lines(content, 0):
            row = line.split(maxsplit=4)
            last = row[0].lower()
            if last == b"vertex":
                count += 1
                _check_number(count)
                places.extend([float(token) for token in row[1:4]])
                if len(places) != 3 * count:
                    raise ValueError("no vertex")
        if not count or count % 3 or last != b"endsolid":
            raise IncompleteError("ends within a solid", "copy or export it again")
        points = _rows_of(places, 3)
    else:
        if not promised:
            raise ValueError("no facets")
        if body < promised * _STL_FACET.itemsize:
            raise IncompleteError(f"ends before the {promised} facets that it promises", "copy or export it again")
        _check_number(3 * promised)
        facets = np.frombuffer(content, _STL_FACET, promised, 84)
        points = facets["corners"].reshape(-1, 3).astype(np.float64)
    return Cloud(points, None, np.arange(len(points), dtype=np.int32).reshape(-1, 3))


PARSERS: dict[str, Callable[[bytes], Cloud]] = {
    ".ply": _parse_ply,
    ".pcd": _parse_pcd,
    ".xyz": _parse_rows,
    ".xyzrgb": _parse_xyzrgb,
    ".pts": _parse_pts,
    ".obj": _parse_obj,
    ".off": _parse_off,
    ".stl": _parse_stl,
}


def parse_table(content: bytes) -> tuple[list[str], np.ndarray]:
    """Rows of numbers, with or without a line of names before them; ``true`` and ``false`` are numbers, too.

    Returns:
        The names in lower case, none where the first line holds numbers; (n, columns) float64.

    Raises:
        ValueError: when it holds anything else, or rows of different lengths; :class:`CommaError` says more.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    content = re.sub(rb"(?i)\btrue\b", b"1", re.sub(rb"(?i)\bfalse\b", b"0", content))
    rows = _lines(content, 0)
    first = next(rows, b"")
    names = [] if _floats(first.split()) else [name.decode("latin-1").lower() for name in first.split()]
    table = _table(rows if names else itertools.chain([first] if first else [], rows), len(first.split()))
    return names, table


# --- parts of all formats


def _header(content: bytes, pattern: bytes) -> tuple[str, int]:
    """Header of a file and where its body begins. Raises ValueError when it does not begin with ``pattern``."""
    found = re.match(pattern, content[:_MAX_HEADER], flags=re.DOTALL)
    if found is None:
        raise ValueError("no header")
    return found[0].decode("latin-1"), found.end()


def _count(text: str) -> int:
    """Non-negative integer, of up to 18 digits."""
    if re.fullmatch(r"[0-9]{1,18}", text.strip()) is None:
        raise ValueError(f"no count: {text[:20]}")
    return int(text)


def _lines(content: bytes, start: int) -> Iterator[bytes]:
    """Lines from ``start`` on, without comments and empty ones; their numbers have decimal points and blanks between.

    Commas and semicolons separate as blanks do. Where semicolons, tabs or blanks separate and commas stand within
    numbers, as in ``1,5;2,5``, the commas are decimal signs.

    Raises:
        ValueError: when a line is longer than :data:`_BLOCK`.
        CommaError: when some commas are decimal signs, and others are not or some numbers have decimal points.
    """
    plain = content.find(b",", start) < 0 or _MAY_BE_DECIMAL.search(content, start) is None
    commas = _Commas()
    while start < len(content):
        end = start + _BLOCK
        if end < len(content):
            # Old Macintosh exports end lines by \r alone.
            end = max(content.rfind(b"\n", start, end), content.rfind(b"\r", start, end)) + 1
            if not end:
                raise ValueError("a line without end")
        block = content[start:end]
        for line in (block.translate(_SEPARATORS) if plain else block).splitlines():
            text = line.strip()
            if text and not text.startswith((b"#", b"//")):
                separated = text if plain else commas.separate(text)
                if separated:
                    yield separated
        start = end


class _Commas:
    """Tells decimal commas from commas between numbers; all lines of a file have to agree."""

    def __init__(self) -> None:
        self._decimal = self._other = False

    def separate(self, line: bytes) -> bytes:
        """The line with decimal points and blanks between numbers. Raises CommaError where lines contradict."""
        tokens = line.replace(b";", b" ").split()
        decimal = False
        if len(tokens) > 1 and not (tokens[0].isalpha() and tokens[0].lower() not in _NUMBERS_BEHIND):
            decimal = any(re.fullmatch(_DECIMAL_COMMA, token) for token in tokens)
            thousands = any(re.fullmatch(_THOUSANDS, token) for token in tokens)
            self._decimal |= decimal or thousands
            self._other |= thousands or any(map(_is_other_number, tokens))
        elif len(tokens) == 1:
            self._other |= _is_other_number(tokens[0]) or b"," in tokens[0]
        if self._decimal and self._other:
            raise CommaError
        return line.translate(_DECIMALS if decimal else _SEPARATORS).strip()


def _is_other_number(token: bytes) -> bool:
    """Whether it holds numbers with decimal points, or commas that are no decimal signs."""
    signs = (b"." in token or b"," in token) and re.fullmatch(rb"[-+0-9.,eE]*[0-9][-+0-9.,eE]*", token)
    return bool(signs) and re.fullmatch(_DECIMAL_COMMA, token) is None


def _table(lines: Iterator[bytes], columns: int | None, promised: int | None = None) -> np.ndarray:
    """Read rows of numbers.

    Args:
        lines: as :func:`_lines` gives them; no more than ``promised`` of them are taken.
        columns: how many numbers a row has; as many as the first one where it is ``None``.
        promised: how many rows there are; all that come where it is ``None``.

    Returns:
        (n, columns) float64.

    Raises:
        ValueError: when there are rows, and none holds three numbers.
        IncompleteError: when rows are missing, or some hold no numbers, or fewer or more than the others.
        TooManyError: when there are too many.
    """
    numbers = array("d")
    total = good = 0
    for line in lines if promised is None else itertools.islice(lines, promised):
        total += 1
        _check_number(total)
        tokens = line.split()
        if columns is None and len(tokens) >= 3:
            columns = len(tokens)
        if len(tokens) != columns:
            continue
        try:
            numbers.extend(map(float, tokens))
        except ValueError:
            del numbers[good * columns :]
            continue
        good += 1
    if total and not good:
        raise ValueError("no row of numbers")
    if promised is not None and total < promised:
        raise IncompleteError(f"ends before the {promised} points that it promises", "copy or export it again")
    if good < total:
        raise IncompleteError(f"only {good} of {total} rows hold points", "export it again")
    return _rows_of(numbers, columns or 3)


def _rows_of(numbers: array[float], columns: int) -> np.ndarray:
    """(n, columns) view of numbers."""
    return np.frombuffer(numbers, numbers.typecode).reshape(-1, columns) if numbers else np.empty((0, columns))


def _stack(columns: Sequence[np.ndarray]) -> np.ndarray:
    """(n, columns) float64."""
    table = np.empty((len(columns[0]), len(columns)))
    for place, column in enumerate(columns):
        table[:, place] = column
    return table


def _check_number(count: int) -> None:
    """Raise TooManyError where there are more points, rows or triangles than :data:`MAX_POINTS`."""
    if count > MAX_POINTS:
        raise TooManyError(f"has more than {MAX_POINTS:,} points, rows or triangles", "thin it out")


def _floats(tokens: Sequence[bytes]) -> list[float]:
    """Numbers of a row; none where a token is no number."""
    try:
        return [float(token) for token in tokens]
    except ValueError:
        return []


def _typed(values: np.ndarray, kind: str) -> np.ndarray:
    """Numbers from text in the type that the header says, as far as it matters: bytes of packed colours."""
    if kind.endswith("u4"):
        with np.errstate(invalid="ignore"):
            return values.astype(np.uint32)
    return values.astype(np.dtype(kind).type) if kind.endswith(("u1", "u2")) and _fits(values, kind) else values


def _fits(values: np.ndarray, kind: str) -> bool:
    limits = np.iinfo(np.dtype(kind))
    return bool(((values >= limits.min) & (values <= limits.max)).all())


def _unit_colors(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Colours in 0..1: whole numbers are divided by the largest of their type, others by 255 where any is above 1.

    Raises:
        ColorError: when a value is negative, not finite or too large.
    """
    top = float(np.iinfo(kind).max) if kind.kind == "u" else 255.0
    if kind.kind == "f" and not (values > 1).any():
        top = 1.0
    if len(values) and not ((values >= 0) & (values <= top)).all():
        finite = values[np.isfinite(values)]
        found = f"{finite.min():g} to {finite.max():g}" if finite.size else "no numbers"
        raise ColorError(f"has colours out of range ({found})", "save colours as 0..255 or 0..1, or without colours")
    return values / top


class _Fans:
    """Triangles of polygons, each cut into a fan at its first corner."""

    def __init__(self) -> None:
        self._corners = array("i")

    def add(self, corners: Sequence[int]) -> None:
        """Add one polygon.

        Raises:
            TooManyError: when the triangles become too many.
            IncompleteError: when a corner is no vertex that a file can hold.
        """
        sides = len(corners)
        _check_number(len(self._corners) // 3 + sides - 2)
        try:
            if sides == 3:
                self._corners.extend(corners)
            for place in range(1, sides - 1) if sides > 3 else ():
                self._corners.extend((corners[0], corners[place], corners[place + 1]))
        except OverflowError as error:
            raise _no_vertices() from error

    def triangles(self) -> np.ndarray:
        """(m, 3) int32."""
        if not self._corners:
            return np.empty((0, 3), dtype=np.int32)
        return np.frombuffer(self._corners, np.int32).reshape(-1, 3)


def _no_vertices() -> IncompleteError:
    return IncompleteError("has faces between vertices that it does not hold", "export it again")


def _fans(polygons: np.ndarray) -> np.ndarray:
    """(m, 3) triangles of polygons (p, k) of one length."""
    sides = polygons.shape[1]
    if sides < 3:
        return np.empty((0, 3), dtype=np.int64)
    _check_number(len(polygons) * (sides - 2))
    cut = [polygons[:, [0, place, place + 1]] for place in range(1, sides - 1)]
    return np.stack(cut, axis=1).reshape(-1, 3)
