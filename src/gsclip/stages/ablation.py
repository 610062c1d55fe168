"""Stage ablation: what each part of the method adds, under several seeds (method, section 7; the paper's Table 4)."""

from __future__ import annotations

from gsclip.data.index import read_index
from gsclip.data.preparing import INDEX_FILE
from gsclip.experiments.data_sets import EncodedData, other_data_set
from gsclip.experiments.protocols import ablation_runs, perform_all
from gsclip.experiments.tables import ablation_page, long_table
from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.stages import common
from gsclip.storage import write_csv, write_text


def ablation(params: Params) -> None:
    """Write ``outputs/experiments/ablation.csv`` and ``.md``."""
    backbone = load_backbone(*params.features.backbone_arguments)
    data = EncodedData(params.prepare.dataset, common.FOLDERS, read_index(common.PREPARED / INDEX_FILE))
    other = other_data_set(params, backbone, common.EXPERIMENTS_WORK)
    runs = ablation_runs(params, data, [data] if other is None else [data, other])
    table = long_table("ablation", perform_all(runs, backbone, common.EXPERIMENTS_WORK))
    write_csv(common.EXPERIMENTS / "ablation.csv", table)
    page = ablation_page(table, common.experiments_header(params, backbone.note))
    write_text(common.EXPERIMENTS / "ablation.md", page)


if __name__ == "__main__":
    common.run(ablation)
