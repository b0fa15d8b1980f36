"""One row of a raw file, the reasons why it may not be readable, and the error of a file that is not."""

from typing import Any, NamedTuple

from pipeline.errors import UserError

MALFORMED_JSON = "malformed json"
MALFORMED_CSV = "malformed csv"
INVALID_UTF8 = "invalid utf-8"
LONG_LINE = "line too long"


class RawRow(NamedTuple):
    """One row as upstream released it, and where it stands."""

    file: str
    """Path below the raw folder; of a member of an archive: `archive.zip/member`."""
    row: int
    """From 0: the line of a lines file, the place in an array or table."""
    value: Any
    """The parsed content; None where `bad` is set."""
    bad: str | None = None
    """Why the row could not be read."""
    detail: str | None = None


def defect(file: str, expected: str, found: str) -> UserError:
    """The error for a file that cannot be read as a whole."""
    return UserError(
        f"{file}: expected {expected}, found {found}; mend: put the right file where its source is, "
        "correct its sha256 in params.yaml, and run: dvc repro"
    )
