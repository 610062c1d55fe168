import pandas as pd
import pytest

from gsclip.data.index import INDEX_COLUMNS, validate_index
from gsclip.errors import InputError


def rows(**changes):
    """Two valid rows, a normal and an abnormal one; ``changes`` overwrite the second."""
    normal = {
        "name": "washer/test/good/000",
        "dataset": "procedural",
        "category": "washer",
        "split": "test",
        "defect": "good",
        "label": 0,
        "scan_path": "",
        "mask_path": "",
        "color_path": "",
    }
    abnormal = {**normal, "name": "washer/test/dent/001", "defect": "dent", "label": 1, **changes}
    return pd.DataFrame([normal, abnormal])


def test_valid_rows_come_back_in_the_order_of_the_schema():
    shuffled = rows()[sorted(INDEX_COLUMNS, reverse=True)].assign(note="not in the schema")
    shuffled.index = [7, 3]
    checked = validate_index(shuffled, "index.csv")
    assert tuple(checked.columns) == INDEX_COLUMNS
    assert list(checked.index) == [0, 1]
    assert list(checked["name"]) == ["washer/test/good/000", "washer/test/dent/001"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "washer/test/good/000"}, "name"),
        ({"name": "washer/dent/001"}, "washer/dent/001"),
        ({"name": "washer/final/dent/001"}, "washer/final/dent/001"),
        ({"split": "final"}, "final"),
        ({"label": 2}, "label"),
        ({"label": 0}, "label must be 0 exactly where defect is 'good'"),
        ({"defect": "good"}, "label must be 0 exactly where defect is 'good'"),
        ({"dataset": ""}, "dataset"),
        ({"mask_path": None}, "mask_path"),
    ],
)
def test_a_broken_row_is_refused_and_the_message_says_which(changes, named):
    with pytest.raises(InputError) as caught:
        validate_index(rows(**changes), "index.csv")
    message = str(caught.value)
    assert message.startswith("index.csv: index is not valid: ")
    assert named in message
    assert "\n" not in message


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match=r"index lacks a column: .*mask_path.*; see gsclip.data.index"):
        validate_index(rows().drop(columns="mask_path"), "index.csv")


def test_labels_that_are_no_integers_are_refused():
    with pytest.raises(InputError, match="label"):
        validate_index(rows().astype({"label": str}), "index.csv")
