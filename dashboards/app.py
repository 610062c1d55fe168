"""Router of the dashboard: ``streamlit run dashboards/app.py`` from the root of the repository."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path; the pages import the package `dashboards`.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

st.set_page_config(page_title="gsclip review", layout="wide")
st.html("<style>.stMainBlockContainer { padding-top: 2.5rem }</style>")
st.navigation([st.Page("pages/review.py", title="Review", default=True)]).run()
