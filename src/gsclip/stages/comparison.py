"""Stage comparison: the model as it ships against what is simpler, on every data set there is, under several seeds."""

from __future__ import annotations

import functools

from gsclip.data.index import read_index
from gsclip.data.preparing import INDEX_FILE
from gsclip.experiments.baselines import self_similarity
from gsclip.experiments.data_sets import EncodedData, other_data_set
from gsclip.experiments.meshes import mesh_data_sets
from gsclip.experiments.protocols import comparison_runs, perform_all, self_similarity_runs
from gsclip.experiments.runs import perform_baseline
from gsclip.experiments.tables import comparison_page, kinds_table, long_table
from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.stages import common
from gsclip.storage import write_csv, write_text


def comparison(params: Params) -> None:
    """Write ``outputs/experiments/comparison.csv``, ``comparison-kinds.csv`` and ``comparison.md``."""
    backbone = load_backbone(*params.features.backbone_arguments)
    work = common.EXPERIMENTS_WORK
    data = EncodedData(params.prepare.dataset, common.FOLDERS, read_index(common.PREPARED / INDEX_FILE))
    other = other_data_set(params, backbone, work)
    tests = [data, *([] if other is None else [other]), *mesh_data_sets(params, backbone, work)]
    score = functools.partial(self_similarity, smoothing=params.predict.smoothing)
    finished = [(run, perform_baseline(run, score, work)) for run in self_similarity_runs(params, data, tests)]
    finished += perform_all(comparison_runs(params, data, tests), backbone, work)
    table, kinds = long_table("comparison", finished), kinds_table(finished)
    write_csv(common.EXPERIMENTS / "comparison.csv", table)
    write_csv(common.EXPERIMENTS / "comparison-kinds.csv", kinds)
    page = comparison_page(table, kinds, common.experiments_header(params, backbone.note))
    write_text(common.EXPERIMENTS / "comparison.md", page)


if __name__ == "__main__":
    common.run(comparison)
