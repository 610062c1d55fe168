"""Takes secrets out of what is logged: values of environment variables, DVC's credentials, passwords in addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configobj import ConfigObj, ConfigObjError

from gsclip.errors import InputError
from gsclip.promotion.registry import without_credentials

SHORTEST = 6  # a shorter value would take innocent words along
MASK = "***"
_NAMES = re.compile(r"secret|token|passw|passphrase|credential|api_?key|access_?key|auth_string|connection_(?:url|str)")
_known: set[str] = set()


def know_secrets(config: Path) -> None:
    """Remember the credentials of a DVC configuration (``.dvc/config.local``), where there is one."""
    try:
        content = ConfigObj(str(config), encoding="utf-8", interpolation=False)
    except (ConfigObjError, OSError, UnicodeDecodeError) as error:
        raise InputError(config, "cannot be read", "mend it, or set the remote up again by `dvc remote`") from error
    _known.update(_named(content))


def without_secrets(text: str) -> str:
    """A text with every secret masked."""
    for value in sorted({*_named(os.environ), *_known}, key=len, reverse=True):
        text = text.replace(value, MASK)
    return without_credentials(text)


def _named(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif isinstance(value, str) and len(value) >= SHORTEST and _NAMES.search(name.lower()):
            yield value
