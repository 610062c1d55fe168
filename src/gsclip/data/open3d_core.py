"""Open3D without its viewers: ``import open3d`` loads a web server and IPython for them, most of its time."""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

_NAME = "open3d.pybind"
_loading = threading.Lock()


def open3d_core() -> Any:  # noqa: ANN401 - a compiled module; Open3D itself where it has another layout
    """Open3D's compiled module: ``geometry``, ``utility``, ``core``, ``t`` and others as in ``open3d``.

    A later ``import open3d`` takes over the same module.
    """
    with _loading:
        return _load()


@functools.cache
def _load() -> Any:  # noqa: ANN401
    if "open3d" not in sys.modules:
        package = importlib.util.find_spec("open3d")
        folders = package.submodule_search_locations if package is not None else None
        for file in (Path(folder) / f"pybind{suffix}" for folder in folders or () for suffix in EXTENSION_SUFFIXES):
            spec = importlib.util.spec_from_file_location(_NAME, file) if file.is_file() else None
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                sys.modules[_NAME] = module
                spec.loader.exec_module(module)
                return module
    import open3d

    return open3d
