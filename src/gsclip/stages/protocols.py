"""Stage protocols: one-vs-rest and cross-data-set evaluation, under several seeds."""

from __future__ import annotations

import pandas as pd

from gsclip.data.index import read_index
from gsclip.data.preparing import INDEX_FILE
from gsclip.experiments.data_sets import EncodedData, other_data_set
from gsclip.experiments.protocols import cross_data_set_runs, one_vs_rest_runs, perform_all
from gsclip.experiments.tables import long_table, protocols_page
from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.stages import common
from gsclip.storage import write_csv, write_text


def protocols(params: Params) -> None:
    """Write ``outputs/experiments/protocols.csv`` and ``.md``."""
    backbone = load_backbone(*params.features.backbone_arguments)
    data = EncodedData(params.prepare.dataset, common.FOLDERS, read_index(common.PREPARED / INDEX_FILE))
    other = other_data_set(params, backbone, common.EXPERIMENTS_WORK)
    runs = {"one-vs-rest": one_vs_rest_runs(params, data)}
    if other is not None:
        runs["cross-data-set"] = cross_data_set_runs(params, data, other)
    finished = {name: perform_all(members, backbone, common.EXPERIMENTS_WORK) for name, members in runs.items()}
    table = pd.concat([long_table(name, members) for name, members in finished.items()], ignore_index=True)
    write_csv(common.EXPERIMENTS / "protocols.csv", table)
    write_text(
        common.EXPERIMENTS / "protocols.md", protocols_page(table, common.experiments_header(params, backbone.note))
    )


if __name__ == "__main__":
    common.run(protocols)
