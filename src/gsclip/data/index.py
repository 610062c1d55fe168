"""The index of a data set: one row per sample, validated.

==============  =======  ==================================================================================
column          type     meaning
==============  =======  ==================================================================================
``name``        str      unique: ``<category>/<split>/<defect>/<id>``; the key of the sample in every pack
``dataset``     str      name in :mod:`gsclip.data.datasets`
``category``    str      class of the part
``split``       str      ``train``, ``validation`` or ``test``
``defect``      str      ``good`` or the kind of defect
``label``       int      0 normal, 1 abnormal; 0 exactly where ``defect`` is ``good``
``scan_path``   str      scan file, absolute or relative to the data set's root; empty for generated samples
``mask_path``   str      ground truth file; empty where there is none
``color_path``  str      RGB image; empty where there is none
==============  =======  ==================================================================================
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from gsclip.errors import InputError, one_line

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

INDEX_COLUMNS = (
    "name", "dataset", "category", "split", "defect", "label", "scan_path", "mask_path", "color_path",
)  # fmt: skip


def read_index(path: str | Path) -> pd.DataFrame:
    """Read and validate an index file.

    Raises:
        InputError: when the file is missing or not valid.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype={"name": str, "defect": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(path, "cannot be read as an index", "run `dvc repro prepare`") from error
    return validate_index(frame, str(path))


@functools.cache
def _schema() -> pa.DataFrameSchema:
    import pandera.pandas as pa  # takes half a second, and `gsclip score` has no index

    return pa.DataFrameSchema(
        {
            "name": pa.Column(str, pa.Check.str_matches(r"^[^/]+/(train|validation|test)/[^/]+/[^/]+$"), unique=True),
            "dataset": pa.Column(str, pa.Check.str_length(min_value=1)),
            "category": pa.Column(str, pa.Check.str_length(min_value=1)),
            "split": pa.Column(str, pa.Check.isin(["train", "validation", "test"])),
            "defect": pa.Column(str, pa.Check.str_length(min_value=1)),
            "label": pa.Column(int, pa.Check.isin([0, 1])),
            "scan_path": pa.Column(str),
            "mask_path": pa.Column(str),
            "color_path": pa.Column(str),
        },
        checks=pa.Check(
            lambda frame: (frame["label"] == 0) == (frame["defect"] == "good"),
            error="label must be 0 exactly where defect is 'good'",
        ),
        strict=True,
        ordered=True,
    )


def validate_index(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return ``frame`` in the schema's column order, rows kept in order.

    Raises:
        InputError: naming ``where``, the first offending column and row.
    """
    from pandera.errors import SchemaError

    try:
        return _schema().validate(frame.reset_index(drop=True).loc[:, list(INDEX_COLUMNS)])
    except KeyError as error:
        raise InputError(where, f"index lacks a column: {error.args[0]}", "see gsclip.data.index") from error
    except SchemaError as error:
        problem = one_line(error, 300)
        raise InputError(where, f"index is not valid: {problem}", "see gsclip.data.index for the schema") from error
