"""What the commands of :mod:`gsclip.cli` do with files, a module for each: a command loads what it needs, no more."""
