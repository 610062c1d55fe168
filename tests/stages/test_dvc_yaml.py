"""The pipeline's file against the code: what a stage imports is a dependency of the stage."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Shared by all stages and below the level of results: a change here that alters results also changes what uses it.
SHARED = {
    "gsclip.axes", "gsclip.determinism", "gsclip.errors", "gsclip.packs", "gsclip.parallel", "gsclip.params",
    "gsclip.reuse", "gsclip.stages", "gsclip.stages.common", "gsclip.storage",
}  # fmt: skip
# Classes of records and readers of tables: their content is a dependency already.
RECORDS = {
    "gsclip.data.index", "gsclip.data.sample", "gsclip.views.views", "gsclip.features.encode",
    "gsclip.scores.prediction", "gsclip.data.datasets", "gsclip.data.preparing",
}  # fmt: skip


def imported_modules(path):
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gsclip"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = module_path(name).exists() or module_path(name).with_suffix("").is_dir()
                modules.add(name if is_module else node.module)
    return modules


def module_path(module):
    return ROOT / "src" / (module.replace(".", "/") + ".py")


TABLES = yaml.safe_load((ROOT / "experiments/dvc.yaml").read_text())["stages"]["table"]


@pytest.mark.parametrize("item", TABLES["foreach"])
def test_what_the_tables_of_experiments_use_is_their_dependency(item):
    dependencies = [ROOT / path.replace("${item}", item) for path in TABLES["do"]["deps"]]
    seen, waiting = set(), [f"gsclip.stages.{item}"]
    while waiting:
        module = waiting.pop()
        if module in seen or module in SHARED or not module_path(module).is_file():
            continue
        seen.add(module)
        if module.startswith(("gsclip.stages", "gsclip.experiments")):
            waiting += imported_modules(module_path(module))
    uncovered = [
        name for name in sorted(seen - RECORDS) if not any(
            module_path(name).is_relative_to(path) or module_path(name) == path for path in dependencies
        )
    ]  # fmt: skip
    assert not uncovered


@pytest.mark.parametrize("stage", STAGES)
def test_imports_of_a_stage_are_its_dependencies(stage):
    module = STAGES[stage]["cmd"].split()[-1]
    dependencies = [ROOT / path for path in STAGES[stage]["deps"]]
    imported = imported_modules(module_path(module)) - SHARED - RECORDS | {module}
    missing = [
        name
        for name in sorted(imported)
        if not any(module_path(name).is_relative_to(path) or module_path(name) == path for path in dependencies)
    ]
    assert not missing, f"stage {stage} uses {missing}, which are not in its deps"


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_that_a_stage_reads_are_tracked(stage):
    groups = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    source = module_path(STAGES[stage]["cmd"].split()[-1]).read_text()
    read = {group for group in groups if f"params.{group}." in source or f"params.{group})" in source}
    tracked = {name.split(".")[0] for name in STAGES[stage].get("params", [])}
    # These describe data that the stage depends on anyway, or stand in the model's configuration.
    passed_on = {"render", "features", "stage1", "stage2", "predict"}
    assert read - tracked <= passed_on


def test_stages_that_split_the_data_by_role_track_the_roles():
    # With a real data set the prepared samples are the same for every split of its categories.
    for stage in ("stage1", "stage2", "calibrate", "predict", "evaluate"):
        assert {"prepare.auxiliary_categories", "prepare.test_categories"} <= set(STAGES[stage]["params"]), stage


def test_what_changes_the_depth_stream_alone_is_tracked_where_it_is_used():
    # The tokens of the rendered stream do not depend on it, hence neither does data/features.
    for stage in ("stage2", "calibrate"):
        assert "features.depth_encoding" in STAGES[stage]["params"], stage


def test_stages_are_few_and_every_dependency_in_the_repository_exists():
    assert len(STAGES) <= 10
    for stage in STAGES.values():
        for path in stage["deps"]:
            if path.startswith("src/"):
                assert (ROOT / path).exists(), path
