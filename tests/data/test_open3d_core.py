"""What Open3D's compiled module alone is good for, in processes of their own: modules stay loaded."""

import subprocess
import sys

import pytest

USE = """
import numpy
normals = estimate_normals(numpy.random.default_rng(0).normal(size=(200, 3)))
print(normals.tobytes().hex())
"""


def output(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_normals_are_those_of_the_whole_package_and_no_viewer_is_loaded():
    estimate = "from gsclip.data.geometry import estimate_normals\n" + USE
    alone = output(estimate + "import sys; print(sorted({'open3d', 'dash', 'IPython'} & set(sys.modules)))")
    normals, loaded = alone.splitlines()
    assert loaded == "[]"
    assert output("import open3d\n" + estimate).strip() == normals


@pytest.mark.parametrize("first", ["open3d_core()", "import open3d"])
def test_the_package_and_the_module_alone_are_the_same_in_either_order(first):
    code = (
        f"from gsclip.data.open3d_core import open3d_core\n{first}\nimport open3d\n"
        "core = open3d_core()\n"
        "assert open3d.geometry.PointCloud is core.geometry.PointCloud\n"
        "assert open3d.t.io.write_point_cloud is core.t.io.write_point_cloud\n"
        "import open3d.visualization; print(len(open3d.geometry.PointCloud().points))"
    )
    assert output(code).strip() == "0"
