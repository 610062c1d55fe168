import pytest
from tests.dashboards.spheres import CATEGORIES, write_workspace


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Two test categories and one that was trained on; one miss and one false alarm in ``ball``."""
    write_workspace(tmp_path, CATEGORIES)
    monkeypatch.setenv("GSCLIP_WORKSPACE", str(tmp_path))
    return tmp_path
