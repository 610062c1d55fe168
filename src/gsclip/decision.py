"""The file of a decision threshold: what the dashboard exports and ``gsclip score --threshold FILE`` reads."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gsclip.errors import InputError, one_line
from gsclip.params import Profile
from gsclip.storage import write_json

REMEDY = "export it from the dashboard's page Threshold again"


class DecisionThreshold(BaseModel):
    """A threshold of the object score, and where it comes from.

    Attributes:
        format: what the file is.
        threshold: object scores at or above it are decided abnormal, 0 to 1.
        model: :func:`model_digest` of the model whose scores it cuts; ``None`` where it is not known.
        profile: of those scores; ``None`` where it is not known.
        source: who chose it: the ``model``'s calibration, a ``suggestion`` by costs, or a person (``manual``).
        costs: cost of a miss and of a false alarm and the share of defective parts, for a suggestion.
        note: free text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["gsclip threshold 1"] = "gsclip threshold 1"
    threshold: float = Field(ge=0, le=1)
    model: str | None = None
    profile: Profile | None = None
    source: Literal["model", "suggestion", "manual"] = "manual"
    costs: dict[str, float] = {}
    note: str = Field(default="", max_length=1000)

    @field_validator("threshold")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("is no finite number")
        return value

    def as_json(self) -> dict[str, Any]:
        """Content of the file."""
        return self.model_dump(mode="json")


def model_digest(files: Mapping[str, str]) -> str:
    """Hexadecimal SHA-256 over the checksums of a saved model's files, by name: which weights give the scores."""
    content = json.dumps(dict(sorted(files.items())), separators=(",", ":"))
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def write_threshold(path: str | Path, threshold: DecisionThreshold) -> None:
    """Write the file, atomically."""
    write_json(path, threshold.as_json())


def read_threshold(
    path: str | Path, files: Mapping[str, str] | None = None, profile: Profile | None = None
) -> DecisionThreshold:
    """Read the file.

    Args:
        path: of the file.
        files: checksums of the model that it will be used with, by file name.
        profile: of the scores that it will be used with.

    Raises:
        InputError: when the file is missing or no threshold, or was made for another model or profile.
    """
    try:
        threshold = DecisionThreshold.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(path, f"cannot be read ({one_line(error.strerror or error)})", REMEDY) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        raise InputError(path, f"is no file of a threshold ({place}: {one_line(first['msg'])})", REMEDY) from error
    if files is not None and threshold.model is not None and threshold.model != model_digest(files):
        problem = "was chosen on the scores of another model"
        raise InputError(path, problem, "choose it anew on the scores of this one, or take the field model away")
    if profile is not None and threshold.profile not in (None, profile):
        problem = f"was chosen on scores of the profile {threshold.profile}, these are of {profile}"
        raise InputError(path, problem, f"score with --profile {threshold.profile}, or choose it anew")
    return threshold
