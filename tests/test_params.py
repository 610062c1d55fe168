from pathlib import Path

import pytest
import yaml

from gsclip.errors import InputError
from gsclip.params import load_params

ROOT = Path(__file__).parents[1]


def test_parameters_of_the_repository_are_valid():
    params = load_params(ROOT / "params.yaml")
    assert set(params.prepare.auxiliary_categories).isdisjoint(params.prepare.test_categories)
    leaves = [value for group in yaml.safe_load((ROOT / "params.yaml").read_text()).values() for value in group]
    assert len(leaves) <= 55


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [("render", "views", 10), ("stage1", "unknown", 1), ("stage2", "learning_rate", -1), ("prepare", "dataset", "x")],
)
def test_wrong_parameter_is_named(tmp_path, group, name, value):
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content[group][name] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=rf"params.yaml: {group}\.{name}"):
        load_params(path)


@pytest.mark.parametrize("text", [None, "a: [", "just text"])
def test_unreadable_file_is_an_input_error(tmp_path, text):
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"params.yaml"):
        load_params(path)
