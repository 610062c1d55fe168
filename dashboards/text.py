"""Texts of the dashboard in the reader's language: English in the code, others in ``locales``.

Every sentence that a reader sees goes through :func:`_`. ``python -m dashboards.text`` writes the template for
translators, ``locales/dashboard.pot``; a translation is ``locales/<language>/LC_MESSAGES/dashboard.mo`` (by msgfmt).
The language is that of the environment variable GSCLIP_LANGUAGE, else the browser's.
"""

from __future__ import annotations

import ast
import gettext
import os
from functools import lru_cache
from pathlib import Path

import streamlit as st

DOMAIN = "dashboard"
FOLDER = Path(__file__).parent
LOCALES = FOLDER / "locales"
LANGUAGE_VARIABLE = "GSCLIP_LANGUAGE"


def _(message: str) -> str:
    """Message in the reader's language; English where there is no translation."""
    return _translation(os.environ.get(LANGUAGE_VARIABLE) or st.context.locale or "en").gettext(message)


@lru_cache(maxsize=16)
def _translation(language: str) -> gettext.NullTranslations:
    names = [language.replace("-", "_"), language.partition("-")[0]]
    return gettext.translation(DOMAIN, LOCALES, names, fallback=True)


def messages(folder: Path = FOLDER) -> dict[str, list[str]]:
    """Every message of the dashboard's code, with the files in which it stands."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "_"
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                places = found.setdefault(node.args[0].value, [])
                if (place := path.relative_to(folder.parent).as_posix()) not in places:
                    places.append(place)
    return found


def template() -> str:
    """Template for translators, in gettext's format."""
    head = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Content-Transfer-Encoding: 8bit\\n"\n'
    entries = [
        f"#: {' '.join(places)}\nmsgid {_quoted(message)}\nmsgstr \"\"\n" for message, places in messages().items()
    ]
    return "\n".join([head, *entries])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


if __name__ == "__main__":
    LOCALES.mkdir(exist_ok=True)
    (LOCALES / f"{DOMAIN}.pot").write_text(template(), encoding="utf-8")
