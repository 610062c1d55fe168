import shutil

import pytest
from tests.dashboards.spheres import CATEGORIES, write_workspace


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Two test categories and one that was trained on; one miss and one false alarm in ``ball``. Read only."""
    root = tmp_path_factory.mktemp("run")
    write_workspace(root, CATEGORIES)
    return root


@pytest.fixture
def workspace(run, tmp_path, monkeypatch):
    """A copy of the run that a test may change; it is the dashboard's."""
    root = tmp_path / "workspace"
    shutil.copytree(run, root)
    monkeypatch.setenv("GSCLIP_WORKSPACE", str(root))
    return root
