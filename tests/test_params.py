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
    assert len(leaves) <= 75


def test_the_paper_preset_is_valid_and_differs_in_values_alone():
    paper, default = load_params(ROOT / "presets" / "paper.yaml"), load_params(ROOT / "params.yaml")
    assert [list(group) for group in paper.model_dump().values()] == [
        list(group) for group in default.model_dump().values()
    ]
    assert (paper.features.backbone, paper.features.weights) == ("ViT-L-14-336", "openai")
    assert (paper.render.image_size, paper.render.views, paper.features.local_blocks) == (336, 9, 19)
    assert (paper.stage1.epochs, paper.stage1.learning_rate, paper.stage1.outliers) == (15, 2e-3, 12)
    assert (paper.stage2.epochs, paper.stage2.learning_rate, paper.stage2.consistency_weight) == (10, 5e-4, 0.3)


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


def test_the_data_set_trained_on_is_no_other_one(tmp_path):
    content = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text())
    content["cross"]["root"] = "/data/mvtec_3d_ad"
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"cross\.dataset is the data set trained on"):
        load_params(path)


@pytest.mark.parametrize("text", [None, "a: [", "just text"])
def test_unreadable_file_is_an_input_error(tmp_path, text):
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"params.yaml"):
        load_params(path)
