"""Records that an earlier run of a step made, taken over where all that they are made from is the same.

DVC removes the outputs of a stage before it runs, so the last packs of each step are kept in a store outside of what it
tracks::

    <store>/<step>/<pack>.h5    hard links to the outputs, or copies where the file system has no links
    <store>/<step>/keys.json    {pack: {sha256, records: {name: [key, note]}}}

A key is the digest of all that one record is made from: its inputs, the parameters and the code of its step. A record
is taken over under the same name and key, and only from a pack that has the SHA-256 of its making: a store that is
missing, damaged or half replaced costs time and nothing else. Packs come out as a run without a store writes them, byte
for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import gsclip
from gsclip.storage import Pack, PackWriter, link_or_copy, sha256, write_json, write_pack

KEYS_FILE = "keys.json"
PACKAGE = Path(gsclip.__file__).parent
# Their versions are part of every key.
LIBRARIES = (
    "h5py", "imagecodecs", "numpy", "open-clip-torch", "open3d", "open3d-cpu", "pillow", "scipy", "tifffile", "torch",
)  # fmt: skip

_log = logging.getLogger(__name__)

Record = TypeVar("Record")


class Entry(NamedTuple):
    """What is known of a stored record: its key, and a text that its step keeps beside it."""

    key: str
    note: str = ""


def digest(*parts: Any) -> str:  # noqa: ANN401 - any JSON values
    """Hexadecimal SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_digest(sources: Sequence[str]) -> str:
    """Hexadecimal digest of code: some of the package's files, and the versions of the :data:`LIBRARIES`.

    Args:
        sources: patterns of files, relative to the package; each must match one.

    Raises:
        ValueError: when a pattern matches nothing.
    """
    contents = [(file.relative_to(PACKAGE).as_posix(), sha256(file)) for file in code_files(sources)]
    return digest(contents, list(library_versions().items()))


def library_versions() -> dict[str, str]:
    """Versions of the :data:`LIBRARIES`; empty where one is not installed."""
    return {name: _version(name) for name in LIBRARIES}


def code_files(sources: Sequence[str]) -> list[Path]:
    """Sorted files of :func:`code_digest`; arguments and errors as there."""
    files: set[Path] = set()
    for source in sources:
        found = set(PACKAGE.glob(source))
        if not found:
            raise ValueError(f"no code matches {source}")
        files |= found
    return sorted(files)


def _version(library: str) -> str:
    """Its version; empty where it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class _Stored:
    """A pack of the store whose bytes are those of its making."""

    path: Path
    sha256: str
    entries: Mapping[str, Entry]


class Store:
    """The last packs of one step.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stored = _read_keys(folder)
        self._checked: dict[str, _Stored | None] = {}
        self._written: dict[str, tuple[Mapping[str, Entry], str]] = {}

    def pack(self, file: str) -> _Stored | None:
        """A stored pack by the name of its file; ``None`` where there is none or it is damaged."""
        if file not in self._checked:
            stored = self._stored.get(file)
            try:
                whole = stored is not None and sha256(stored.path) == stored.sha256
            except OSError:
                whole = False
            if stored is not None and not whole:
                _log.info("%s: missing or damaged, made again", stored.path)
            self._checked[file] = stored if whole else None
        return self._checked[file]

    def key(self, file: str, name: str) -> str:
        """Key of a stored record; empty where there is none."""
        stored = self.pack(file)
        return stored.entries[name].key if stored is not None and name in stored.entries else ""

    def remember(self, file: str, entries: Mapping[str, Entry], unchanged: _Stored | None) -> None:
        """Note what a finished pack holds; ``unchanged``: the stored one, where it is that."""
        self._written[file] = (entries, unchanged.sha256 if unchanged is not None else "")

    def keep(self, outputs: Path) -> None:
        """Put the packs that were written in the place of what is stored, as soon as they lie in ``outputs`` for good.

        Each is replaced as a whole, never changed. What was not written goes: the store takes as much disk as the last
        outputs, and nothing where it shares them by hard links. A store that cannot be written is a warning.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            table = {}
            for file, (entries, known) in self._written.items():
                table[file] = {"sha256": known or sha256(outputs / file), "records": entries}
                link_or_copy(outputs / file, self.folder / file)
            write_json(self.folder / KEYS_FILE, table)
            for path in self.folder.iterdir():
                if path.name not in (*table, KEYS_FILE):
                    path.unlink()
        except OSError as error:
            _log.warning("%s: cannot be written (%s); the next run takes nothing over", self.folder, error.strerror)


def _read_keys(folder: Path) -> Mapping[str, _Stored]:
    try:
        table = json.loads((folder / KEYS_FILE).read_text(encoding="utf-8"))
        return MappingProxyType({
            file: _Stored(
                folder / file,
                str(content["sha256"]),
                {name: Entry(str(key), str(note)) for name, (key, note) in content["records"].items()},
            )
            for file, content in table.items()
        })
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return MappingProxyType({})


class ReusingWriter(Generic[Record]):
    """Adds records to a pack, new ones or stored ones; see :func:`reusing_pack`.

    Attributes:
        taken: number of records that were taken over.
        made: number of records that are new.
    """

    def __init__(
        self,
        path: Path,
        record: type[Record],
        store: Store | None,
        resources: contextlib.ExitStack,
        *,
        compress: bool = True,
    ) -> None:
        self.taken = self.made = 0
        self._compress = compress
        self._path, self._record, self._store, self._resources = path, record, store, resources
        self._old = store.pack(path.name) if store is not None else None
        self._opened: Pack[Record] | None = None
        if self._old is not None:
            self._opened = resources.enter_context(Pack(self._old.path, record))
        self._entries: dict[str, Entry] = {}
        self._pack: PackWriter[Record] | None = None

    def holds(self, name: str, key: str) -> bool:
        """Whether the record can be taken over."""
        return self._old is not None and bool(key) and self._old.entries.get(name, Entry("")).key == key

    def note(self, name: str) -> str:
        """What was kept beside a stored record; :class:`KeyError` where there is none."""
        return self._entry(name).note

    def stored(self, name: str) -> Record:
        """Read a stored record; :class:`KeyError` where there is none."""
        if self._opened is None:
            raise KeyError(name)
        return self._opened[name]

    def take(self, name: str) -> None:
        """Append a stored record; :class:`KeyError` where there is none."""
        self._entries[name] = self._entry(name)
        self.taken += 1
        if self._pack is not None:
            self._pack.add(name, self.stored(name))

    def add(self, name: str, record: Record, key: str, note: str = "") -> None:
        """Append a new record; with an empty key it is never taken over."""
        self._start().add(name, record)
        self._entries[name] = Entry(key, note)
        self.made += 1

    def finish(self) -> None:
        """Write what is left; a pack in which nothing has changed is the stored one."""
        unchanged = None
        if self._pack is None and self._old is not None and list(self._entries) == list(self._old.entries):
            unchanged = self._old
            link_or_copy(unchanged.path, self._path)
        else:
            self._start()
        if self._store is not None:
            self._store.remember(self._path.name, self._entries, unchanged)

    def remove(self, names: Container[str]) -> None:
        """Take records out of the finished pack, as if they had not been added: it is written again, one at a time."""
        left = {name: entry for name, entry in self._entries.items() if name not in names}
        if len(left) == len(self._entries):
            return
        with Pack(self._path, self._record) as whole, write_pack(self._path, compress=self._compress) as pack:
            for name in left:
                pack.add(name, whole[name])
        self._entries = left
        if self._store is not None:
            self._store.remember(self._path.name, left, None)

    def _entry(self, name: str) -> Entry:
        if self._old is None:
            raise KeyError(name)
        return self._old.entries[name]

    def _start(self) -> PackWriter[Record]:
        """Give the new pack; the first call creates it, with the records that have been taken over up to here."""
        if self._pack is None:
            self._pack = self._resources.enter_context(write_pack(self._path, compress=self._compress))
            for name in self._entries:
                self._pack.add(name, self.stored(name))
        return self._pack


@contextlib.contextmanager
def reusing_pack(
    path: Path, record: type[Record], store: Store | None, *, compress: bool = True
) -> Iterator[ReusingWriter[Record]]:
    """Create a pack whose records may come from a store; it appears when the block ends without an error.

    Args:
        path: of the pack; the store knows it by the name of the file.
        record: class of the records.
        store: of the step; ``None``: nothing is taken over.
        compress: see :func:`~gsclip.storage.write_pack`.
    """
    with contextlib.ExitStack() as resources:
        writer = ReusingWriter(path, record, store, resources, compress=compress)
        yield writer
        writer.finish()


def log_reuse(step: str, writers: Mapping[str, ReusingWriter[Any]], verb: str) -> None:
    """Log one line for each category: how many of its records were taken over and how many made."""
    for category, writer in writers.items():
        total = writer.taken + writer.made
        _log.info("%s: %s: %d of %d taken over, %d %s", step, category, writer.taken, total, writer.made, verb)
