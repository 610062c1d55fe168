"""``python -m dashboards``: the dashboard; modules are loaded before the server answers, so the first page is quick.

Takes the options of ``streamlit run``. That command shows the same pages, the first ones a second or two later.
"""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

# In the order in which pages need them. What draws components is left out: it registers them with the running server.
MODULES = (
    "dashboards.shell",
    "dashboards.baseline",
    "gsclip.report.published",
    "gsclip.report.figures",
    "gsclip.decision",
    "dashboards.judging",
    "dashboards.figures",
    "gsclip.report.palette",
    "gsclip.metrics.table",
    "scipy.ndimage",
    "matplotlib",
    "dashboards.compare",
    "dashboards.drift",
)


def main() -> None:
    """Run Streamlit on the pages."""
    caches = logging.getLogger("streamlit.runtime.caching.cache_data_api")
    caches.setLevel(logging.ERROR)  # it warns that there is no server yet
    for name in MODULES:  # not in a thread: libraries look into modules that another thread has half imported
        importlib.import_module(name)
    caches.setLevel(logging.NOTSET)
    from streamlit.web.cli import main as streamlit

    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("app.py")), *sys.argv[1:]]
    streamlit()


if __name__ == "__main__":
    main()
