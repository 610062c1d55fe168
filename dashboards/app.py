"""Router of the dashboard: ``python -m dashboards``, or ``streamlit run dashboards/app.py``, from the root.

The folder of the pages is not called ``pages``: Streamlit would list such a folder's files by itself until this file
has run once, and the first link to a page would open it without the router.
"""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path; the pages import the package `dashboards`.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from dashboards import shell  # noqa: E402 - the path comes first
from dashboards.text import _  # noqa: E402

# Pages are as wide as their figures can use; the sidebar takes what its words need; tiles take a second row before
# their words are cut.
STYLE = """<style>
.stMainBlockContainer { max-width: 1560px; padding-left: 2rem; padding-right: 2rem }
[data-testid=stSidebar] { width: 210px !important; min-width: 210px }
.st-key-tiles > * { flex: 1 1 165px }
[data-testid=stImage] img { border-radius: 4px; background: BACKDROP }
</style>"""

st.set_page_config(page_title="gsclip", layout="wide", initial_sidebar_state="expanded")
shell.take_url()
pages = {
    _("Results"): [
        st.Page("screens/overview.py", title=_("Overview"), default=True),
        st.Page("screens/categories.py", title=_("Categories")),
        st.Page("screens/threshold.py", title=_("Threshold")),
    ],
    _("Parts"): [
        st.Page("screens/worst.py", title=_("Worst first")),
        st.Page("screens/sample.py", title=_("Sample")),
        st.Page("screens/score.py", title=_("Score a scan")),
        st.Page("screens/marks.py", title=_("Marks")),
    ],
    _("Over time"): [
        st.Page("screens/compare.py", title=_("Compare")),
        st.Page("screens/drift.py", title=_("Drift")),
    ],
}
chosen = st.navigation(pages, expanded=True)
shell.sidebar()
st.html(STYLE.replace("BACKDROP", shell.behind_pictures()))
chosen.run()
