"""The section `sources.<name>` of params.yaml: which raw files, from where, read by which adapter."""

import re
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field, field_validator

from pipeline.params import Params

ORIGIN = re.compile(r"(path|env):[^:]+|hub:[^/@:]+/[^/@:]+@[^@:]+")


class RawFile(Params):
    """One raw file of a source."""

    path: str
    """Below the folder or repository that `origin` names."""
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the file; null only for a Hub origin, whose revision pins it."""

    @field_validator("path")
    @classmethod
    def stays_below(cls, path: str) -> str:
        """A relative path that does not leave its folder."""
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise ValueError(f"expected a path below the origin, found {path!r}")
        return path


class Source(Params):
    """The section `sources.<name>` of params.yaml."""

    adapter: str
    """Module below pipeline/sources."""
    kind: Literal["preferences", "demonstrations", "prompts", "benchmarks", "judge_sets"]
    origin: str
    """`path:<folder>` in the project, `env:<folder>` below $PAIRMILL_DATA, or `hub:<org>/<name>@<commit>`."""
    files: tuple[RawFile, ...] = Field(min_length=1)
    licence: str
    redistributable: bool
    rules: dict[str, Any]
    """The adapter's own rules; its `Rules` class checks them."""
    max_bad_fraction: float = Field(ge=0, le=1)
    """A source with a larger part of unreadable or misshapen raw rows stops."""

    @field_validator("files")
    @classmethod
    def each_once(cls, files: tuple[RawFile, ...]) -> tuple[RawFile, ...]:
        """No path twice, however it is written: its rows would count twice."""
        paths = [str(PurePosixPath(file.path)) for file in files]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(f"expected each path once, found {twice[0]!r} again")
        return files

    @field_validator("origin")
    @classmethod
    def is_origin(cls, origin: str) -> str:
        """One of the three forms."""
        if not ORIGIN.fullmatch(origin):
            raise ValueError(
                f"expected path:<folder>, env:<folder> or hub:<org>/<name>@<commit>, not {origin!r}"
            )
        return origin
