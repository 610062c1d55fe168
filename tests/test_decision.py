import json

import pytest

from gsclip.decision import DecisionThreshold, model_digest, read_threshold, write_threshold
from gsclip.errors import InputError

FILES = {"prompts.safetensors": "a" * 64, "refinement.safetensors": "b" * 64}


def test_what_is_written_is_read(tmp_path):
    written = DecisionThreshold(threshold=0.31, model=model_digest(FILES), source="suggestion", costs={"miss": 10.0})
    write_threshold(tmp_path / "threshold.json", written)
    assert read_threshold(tmp_path / "threshold.json", FILES) == written


def test_the_digest_does_not_depend_on_the_order_of_the_files():
    assert model_digest(FILES) == model_digest(dict(reversed(FILES.items())))
    assert model_digest(FILES) != model_digest({**FILES, "prompts.safetensors": "c" * 64})


def test_a_threshold_of_another_model_is_refused(tmp_path):
    path = tmp_path / "threshold.json"
    write_threshold(path, DecisionThreshold(threshold=0.3, model=model_digest({})))
    with pytest.raises(InputError, match="another model"):
        read_threshold(path, FILES)
    write_threshold(path, DecisionThreshold(threshold=0.3))
    assert read_threshold(path, FILES).threshold == 0.3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "0.3",
        json.dumps({"threshold": 1.5}),
        '{"format": "gsclip threshold 1", "threshold": NaN}',
        json.dumps({"format": "other", "threshold": 0.5}),
        json.dumps({"threshold": 0.5, "more": 1}),
    ],
)
def test_what_is_no_threshold_is_named(tmp_path, content):
    path = tmp_path / "threshold.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"threshold.json: is no file of a threshold .*; export it"):
        read_threshold(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.json: cannot be read"):
        read_threshold(tmp_path / "absent.json")
