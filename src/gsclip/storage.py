"""Files that appear whole or not at all, and packs: one HDF5 file for many records of one kind.

A pack holds one group per record (a frozen dataclass), keyed by the record's name. Arrays become datasets, plain
values become attributes, ``None`` is left out. Records are written one at a time and read one at a time, so
memory does not grow with their number; the file's bytes depend on its content alone.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import functools
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import h5py
import numpy as np

from gsclip.errors import InputError, one_line

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

TRAIN_AGAIN = "copy the model again, or train it with `dvc repro`"

Record = TypeVar("Record")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; it replaces ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        old = temporary.with_name(temporary.name + ".old")
        if path.exists():
            path.replace(old)  # a rename: the old content is never half there
        temporary.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file in the place of ``target``, atomically: a hard link, or a copy where the file system has no links.

    Both may share their bytes from then on, so neither may be written in place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        temporary = Path(folder) / target.name
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: str | Path, text: str) -> None:
    """Add one line of UTF-8 text to a file, which need not exist, in one write, and flush it to the disk.

    Lines of several processes never mix. A crash can tear the last line alone; the next line then starts anew.

    Raises:
        OSError: the line could not be written whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = text.encode("utf-8") + b"\n"
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(handle, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write indented JSON atomically; numpy scalars and arrays are allowed, NaN is written as null."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table atomically, without its row numbers."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def write_rows(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table atomically, as :func:`write_csv` does, without pandas, whose import takes half a second.

    Args:
        path: of the file.
        columns: in their order.
        rows: values by column; what is ``None``, NaN or not there is left empty. Where pandas would write a column of
            integers with gaps as decimals, they stay integers.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = (_attribute(row.get(column)) for column in columns)
            writer.writerow([None if isinstance(value, float) and math.isnan(value) else value for value in values])


def save_module(module: nn.Module, path: str | Path) -> None:
    """Write a module's state as safetensors, atomically."""
    from safetensors.torch import save_file

    state = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary)


def load_module(module: nn.Module, path: str | Path) -> None:
    """Load a module's state from safetensors, strictly.

    Raises:
        InputError: when the file is missing, broken, or does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(path, f"weights cannot be loaded ({one_line(error)})", TRAIN_AGAIN) from error


def plain(value: Any) -> Any:  # noqa: ANN401
    """A value as JSON has it: paths as text, numpy's values as Python's, numbers that are not finite as ``None``."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# What lzf writes depends on memory that it does not initialise, not on the data alone.
MAPPED = 1 << 14  # values; smaller arrays are read
GZIP = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


class PackWriter(Generic[Record]):
    """Adds records of one dataclass to a pack; see :func:`write_pack`."""

    def __init__(self, file: h5py.File, *, compress: bool) -> None:
        self._file, self._compress = file, compress

    def add(self, name: str, record: Record) -> None:
        """Append one record. ``name`` may contain ``/``; it must be new."""
        group = self._file.create_group(name)
        group.attrs["record"] = True
        for field in dataclasses.fields(record):  # type: ignore[arg-type]
            value = getattr(record, field.name)
            if value is None:
                continue
            if isinstance(value, np.ndarray):
                compress = self._compress and value.size > 1024
                group.create_dataset(field.name, data=value, **(GZIP if compress else {}))
            else:
                group.attrs[field.name] = value


@contextlib.contextmanager
def write_pack(path: str | Path, *, compress: bool = True) -> Iterator[PackWriter[Any]]:
    """Create a pack; it appears at ``path`` when the block ends without an error.

    What is read over and over is better left uncompressed: it is mapped into memory when it is read.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w", track_order=True, libver="latest") as file:
        yield PackWriter(file, compress=compress)


class Pack(Generic[Record]):
    """A pack opened for reading: a sequence of names, and records or parts of them by name.

    Raises :class:`InputError` when the file is missing or is no pack.
    """

    def __init__(self, path: str | Path, record: type[Record]) -> None:
        self.path = Path(path)
        self._record = record
        try:
            self._file = h5py.File(self.path, "r", track_order=True)
        except OSError as error:
            raise InputError(self.path, "cannot be read as a pack", "run `dvc repro` to make it again") from error

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all records; they are looked up at the first use: of a thousand records that takes long."""
        return tuple(_record_names(self._file))

    def __len__(self) -> int:
        """Count the records."""
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        """Tell whether a record of this name is there."""
        return name in self.names

    def __getitem__(self, name: str) -> Record:
        """Read one record whole."""
        return self.read(name)

    def read(self, name: str, fields: Sequence[str] | None = None) -> Record:
        """Read one record; with ``fields``, only those (the others become ``None``)."""
        group = self._group(name)
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self._record):  # type: ignore[arg-type]
            if fields is not None and field.name not in fields:
                values[field.name] = None
            elif field.name in group:
                values[field.name] = self._array(group[field.name])
            else:
                values[field.name] = _attribute(group.attrs.get(field.name))
        return self._record(**values)

    def _group(self, name: str) -> h5py.Group:
        if name not in self._file:
            raise InputError(self.path, f"holds no record {name!r}", "look at the names in the index")
        return self._file[name]

    def _array(self, data: h5py.Dataset) -> np.ndarray:
        """Values of a dataset; a large one that lies in one piece is mapped, and copied when written to."""
        place = data.id.get_offset() if data.chunks is None and data.size > MAPPED else None
        if place is None:
            return np.asarray(data[()])
        return np.memmap(self.path, dtype=data.dtype, mode="c", offset=place, shape=data.shape)

    def part(self, name: str, field: str, place: int) -> np.ndarray | None:
        """Read one element along the first axis of an array of a record; ``None`` where the record has no such array.

        Raises:
            InputError: when there is no such record.
            IndexError: when the array has no such element.
        """
        group = self._group(name)
        if field not in group:
            return None
        if not 0 <= place < len(group[field]):
            raise IndexError(f"{field} of {name!r} has {len(group[field])} elements, none is number {place}")
        return np.asarray(group[field][place])

    def digest(self, name: str) -> str:
        """Hexadecimal SHA-256 of one record as it is stored, without reading its values.

        Equal records have equal digests where the same code and libraries wrote them.
        """
        group, content = self._group(name), hashlib.sha256()
        for field in dataclasses.fields(self._record):  # type: ignore[arg-type]
            if field.name in group.attrs:
                content.update(repr((field.name, _attribute(group.attrs[field.name]))).encode())
            elif field.name in group:
                data = group[field.name]
                content.update(repr((field.name, data.dtype.str, data.shape, data.chunks)).encode())
                if data.chunks is None:
                    content.update(np.ascontiguousarray(data[()]).tobytes())
                    continue
                for number in range(data.id.get_num_chunks()):
                    place = data.id.get_chunk_info(number).chunk_offset
                    content.update(repr(place).encode() + data.id.read_direct_chunk(place)[1])
        return content.hexdigest()

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        """Read all records, one at a time, in a fixed order: as written, those of one folder of names together."""
        for name in self.names:
            yield name, self.read(name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Pack[Record]:
        """Use the pack as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file at the end of the block."""
        self.close()


def _record_names(group: h5py.Group, prefix: str = "") -> Iterable[str]:
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            if "record" in item.attrs:
                yield prefix + key
            else:
                yield from _record_names(item, f"{prefix}{key}/")


def _attribute(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value
