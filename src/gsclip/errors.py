"""Errors that a user sees: one line that names the file, what is wrong with it, and the remedy."""

from __future__ import annotations

import logging
from pathlib import Path


class GsclipError(Exception):
    """A foreseeable failure. Entry points print its message on one line and exit with code 2."""


def one_line(error: object, longest: int | None = 200) -> str:
    """Message of another library's error, or another text, on one line; ``None``: however long it is."""
    return " ".join(str(error).split())[:longest]


def printable(name: object) -> str:
    """Name of a file as text that fits on one line and in any file: other bytes than UTF-8 and controls escaped."""
    text = str(name).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def unexpected(where: object, error: Exception) -> GsclipError:
    """Turn any other error of one item of a batch into a rejection; the traceback goes to the log at debug level."""
    if isinstance(error, GsclipError):
        return error
    logging.getLogger(__name__).debug("%s", where, exc_info=error)
    problem = f"cannot be used ({type(error).__name__}: {one_line(error)})"
    return InputError(str(where), problem, "check the file; --verbose tells more")


class InputError(GsclipError):
    """A file or value from outside that cannot be used.

    The message reads ``<where>: <problem>; <remedy>``, on one line. ``check`` is the name of the check of
    :mod:`gsclip.data.checks` that failed; empty where no check of a scan did.
    """

    def __init__(self, where: str | Path, problem: str, remedy: str, check: str = "") -> None:
        self.where = printable(where)
        self.problem = printable(problem)
        self.remedy = printable(remedy)
        self.check = check
        super().__init__(f"{self.where}: {self.problem}; {self.remedy}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, str]]:
        """Keep the parts when the error crosses a process boundary."""
        return (InputError, (self.where, self.problem, self.remedy, self.check))
