import logging

import numpy as np
import open3d
import pytest
from tests.detectors import PARAMS

from gsclip.experiments.data_sets import other_data_set
from gsclip.features.backbone import load_backbone
from gsclip.features.encode import ViewTokens
from gsclip.storage import Pack


@pytest.fixture
def params(tmp_path):
    """Two clouds of Anomaly-ShapeNet as the other data set, and two views."""
    folder = tmp_path / "shapenet" / "vase0"
    (folder / "test").mkdir(parents=True)
    (folder / "GT").mkdir()
    for number, name in enumerate(("vase0_positive0", "vase0_bulge0")):
        points = np.random.default_rng(number).normal(size=(2000, 3))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
        open3d.io.write_point_cloud(str(folder / "test" / f"{name}.pcd"), cloud)
    np.savetxt(folder / "GT" / "vase0_bulge0.txt", np.column_stack([points, points[:, 0] > 0.8]), delimiter=",")
    return PARAMS.model_copy(
        update={
            "cross": PARAMS.cross.model_copy(update={"dataset": "anomaly_shapenet", "root": str(tmp_path)}),
            "render": PARAMS.render.model_copy(update={"views": 2, "cameras": "full"}),
            "features": PARAMS.features.model_copy(update={"cloud_points": 512}),
        }
    )


def test_every_data_set_with_a_folder_can_be_the_other_one(params, tmp_path, caplog):
    backbone = load_backbone()
    with caplog.at_level(logging.WARNING, logger="gsclip"):
        encoded = other_data_set(params, backbone, tmp_path / "work")
    assert encoded.dataset == "anomaly_shapenet"
    assert list(encoded.index["name"]) == ["vase0/test/bulge/vase0_bulge0", "vase0/test/good/vase0_positive0"]
    assert encoded.tested(()).equals(encoded.index)
    assert "render.cameras" not in caplog.text
    assert "anomaly_shapenet is not complete here: ashtray0/test missing, " in caplog.text
    with Pack(encoded.folders.features / "vase0.tokens.h5", ViewTokens) as tokens:
        assert sorted(tokens.names) == sorted(encoded.index["name"])
    again = other_data_set(params, backbone, tmp_path / "work")
    assert again.folders == encoded.folders


def test_without_a_folder_there_is_no_other_data_set(params, tmp_path):
    cross = params.cross.model_copy(update={"root": ""})
    assert other_data_set(params.model_copy(update={"cross": cross}), load_backbone(), tmp_path) is None
