"""Which published set a source's raw rows are, and whether they are all of it.

`standardize` leaves this beside its table, for whoever compares our figures with those of a paper: that is
fair only where the same rows went in.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.errors import UserError
from pipeline.ledger import write_json
from pipeline.source_params import Source
from pipeline.upstream import Paper, Upstream, described

FILE = "upstream.json"


@dataclass(frozen=True, kw_only=True)
class ReadSet:
    """The raw rows that were read, and the published set they come from, if `origin` names one we know."""

    rows: int
    name: str | None = None
    upstream_rows: int | None = None
    """Raw rows of the whole set; None where nobody has counted."""
    paper: Paper | None = None
    """The set's row of table 5."""

    @property
    def whole(self) -> bool:
        """Whether every row of the published set was read."""
        return self.rows == self.upstream_rows

    @property
    def compared(self) -> Paper | None:
        """The paper's figures, where they are of the rows that were read."""
        return self.paper if self.whole else None


def read_set(source: Source, sets: Iterable[Upstream], rows: int) -> ReadSet:
    """What the `rows` raw rows of a source are, by the sets that its adapter knows."""
    upstream = described(source.origin, [file.path for file in source.files], sets)
    if upstream is None:
        return ReadSet(rows=rows)
    return ReadSet(rows=rows, name=upstream.name, upstream_rows=upstream.rows, paper=upstream.paper)


def write(folder: Path, found: ReadSet) -> None:
    """Leave it in the folder of a standardized source."""
    write_json(folder / FILE, asdict(found))


def read(folder: Path) -> ReadSet:
    """What stands in the folder of a standardized source; UserError where it has none."""
    if not (folder / FILE).exists():
        raise UserError(f"{folder / FILE} is missing; make it with: dvc repro standardize@{folder.name}")
    return TypeAdapter(ReadSet).validate_json((folder / FILE).read_bytes())
