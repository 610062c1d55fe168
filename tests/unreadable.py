"""Paths as a user without permission finds them; the tests may run as the superuser, who has it."""

from pathlib import Path


def refuse(monkeypatch, refused, method="iterdir"):
    """Let a method of :class:`pathlib.Path` fail on some paths."""
    original = getattr(Path, method)

    def guarded(path, *arguments):
        if path in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments)

    monkeypatch.setattr(Path, method, guarded)
