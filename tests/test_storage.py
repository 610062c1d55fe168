import math
import pickle
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gsclip.errors import InputError
from gsclip.storage import (
    Pack,
    atomic_directory,
    atomic_path,
    link_or_copy,
    load_module,
    save_module,
    sha256,
    write_csv,
    write_json,
    write_pack,
    write_rows,
)


@dataclass(frozen=True)
class Record:
    values: np.ndarray
    name: str
    size: tuple[int, int]
    extra: np.ndarray | None = None


def records():
    random = np.random.default_rng(0)
    for number in (2, 0, 1):
        yield f"kind/{number}", Record(random.normal(size=(40, 60)), f"größe {number}", (number, 7))


def write(path):
    with write_pack(path) as pack:
        for name, record in records():
            pack.add(name, record)


def test_pack_gives_back_what_was_written_in_its_order(tmp_path):
    write(tmp_path / "pack.h5")
    with Pack(tmp_path / "pack.h5", Record) as pack:
        assert pack.names == ("kind/2", "kind/0", "kind/1")
        for (name, expected), (read_name, record) in zip(records(), pack, strict=True):
            assert name == read_name
            np.testing.assert_array_equal(record.values, expected.values)
            assert (record.name, record.size, record.extra) == (expected.name, expected.size, None)
        assert pack.read("kind/1", ("name",)).values is None
        with pytest.raises(InputError, match="holds no record"):
            pack["kind/3"]


def test_same_records_give_the_same_bytes(tmp_path):
    for name in ("one.h5", "two.h5"):
        write(tmp_path / name)
    assert sha256(tmp_path / "one.h5") == sha256(tmp_path / "two.h5")


def test_large_values_that_are_not_compressed_are_mapped_and_never_written_back(tmp_path):
    path = tmp_path / "pack.h5"
    with write_pack(path, compress=False) as pack:
        for name, record in records():
            pack.add(name, Record(np.tile(record.values, (10, 1)), record.name, record.size, record.values))
    before = sha256(path)
    with Pack(path, Record) as pack:
        for name, expected in records():
            record = pack[name]
            assert isinstance(record.values, np.memmap)
            assert not isinstance(record.extra, np.memmap)  # small
            np.testing.assert_array_equal(record.values, np.tile(expected.values, (10, 1)))
            there_and_back = pickle.loads(pickle.dumps(record))  # noqa: S301
            np.testing.assert_array_equal(there_and_back.values, record.values)
            assert pack.digest(name) == pack.digest(name)
            record.values[:] = 0
        assert pack["kind/1"].values.any()
    assert sha256(path) == before


def test_digest_of_a_record_is_that_of_its_content(tmp_path):
    base = Record(np.arange(3000.0), "a", (1, 2))
    others = [
        Record(np.arange(3000.0) + (np.arange(3000) == 2999), "a", (1, 2)),
        Record(np.arange(3000, dtype=np.float32), "a", (1, 2)),
        Record(np.arange(3000.0).reshape(2, 1500), "a", (1, 2)),
        Record(np.arange(3000.0), "b", (1, 2)),
        Record(np.arange(3000.0), "a", (1, 3)),
        Record(np.arange(3000.0), "a", (1, 2), extra=np.arange(3)),
        Record(np.arange(3000.0), "a", (1, 2), extra=np.arange(3) + 1),
    ]
    with write_pack(tmp_path / "pack.h5") as pack:
        for number, record in enumerate([base, *others]):
            pack.add(f"kind/{number}", record)
    with write_pack(tmp_path / "other.h5") as pack:
        pack.add("another name", base)
    with Pack(tmp_path / "pack.h5", Record) as pack, Pack(tmp_path / "other.h5", Record) as other:
        digests = [pack.digest(name) for name in pack.names]
        assert len(set(digests)) == 1 + len(others)
        assert other.digest("another name") == digests[0]
        with pytest.raises(InputError, match="holds no record"):
            other.digest("kind/0")


def test_a_link_takes_the_place_of_a_file_and_leaves_nothing_beside_it(tmp_path):
    source, target = tmp_path / "source", tmp_path / "folder/target"
    source.write_text("new")
    for _ in range(2):  # also where both are one file already
        link_or_copy(source, target)
        assert target.samefile(source)
        assert list(target.parent.iterdir()) == [target]
    target.unlink()
    target.write_text("old")
    link_or_copy(source, target)
    assert target.read_text() == "new"


@pytest.mark.parametrize("content", [None, b"", b"no pack at all"])
def test_missing_or_broken_pack_is_an_input_error(tmp_path, content):
    path = tmp_path / "pack.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"pack\.h5: cannot be read"):
        Pack(path, Record)


def test_failure_leaves_what_was_there(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(RuntimeError), atomic_path(file) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic_directory(folder) as temporary:  # noqa: PT012
        (temporary / "half").touch()
        raise RuntimeError
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "old"]


def test_directory_is_replaced_whole(tmp_path):
    for name in ("first", "second"):
        with atomic_directory(tmp_path / "folder") as folder:
            (folder / name).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["second"]


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "file.json", {"a": np.float32(0.5), "b": float("nan"), "c": np.arange(2), "d": (1, None)})
    text = (tmp_path / "file.json").read_text()
    assert "NaN" not in text
    assert '"b": null' in text


def test_module_is_loaded_strictly(tmp_path):
    torch.manual_seed(0)
    module = nn.Linear(2, 3)
    save_module(module, tmp_path / "weights.safetensors")
    other = nn.Linear(2, 3)
    load_module(other, tmp_path / "weights.safetensors")
    assert torch.equal(module.weight, other.weight)
    for wrong, path in ((nn.Linear(2, 4), "weights.safetensors"), (other, "missing.safetensors")):
        with pytest.raises(InputError, match=path):
            load_module(wrong, tmp_path / path)


def test_rows_are_written_as_pandas_writes_them(tmp_path):
    values = [
        {"name": 'a, "b"', "score": 0.1, "small": np.float32(0.1), "count": 3, "decision": 1, "missing": None},
        {"name": "zwölf\nlines", "score": math.nan, "small": 1e-07, "count": 10**12, "decision": None},
        {"name": "", "score": 1e16, "small": 2.0, "count": 0, "decision": 0, "further": 1},
    ]
    columns = ("name", "score", "small", "count", "decision", "missing")
    write_csv(tmp_path / "table.csv", pd.DataFrame(values, columns=columns).astype({"decision": "Int64"}))
    write_rows(tmp_path / "rows.csv", columns, values)
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()
    write_csv(tmp_path / "table.csv", pd.DataFrame([], columns=columns))
    write_rows(tmp_path / "rows.csv", columns, [])
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()
