"""Read JSON lines into columns of text, where it is certain that the row reader gives the same.

Parsing whole runs of lines in Rust is many times as fast as one line after the other, but it is not as
strict: a number becomes its text, the first of two equal keys counts, half of a surrogate pair becomes
a NUL. Lines where any of this could be are left to the row reader, which is the truth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.byte_streams import LONGEST_LINE, Lines

QUOTE, BACKSLASH, NEWLINE = (ord(character) for character in '"\\\n')
#: How the text of a number, truth value, list or object begins; a text that begins so may be one of them.
OTHER_TYPES = r"^[-0-9tf\[{]"
#: Bytes looked at once, so that what is made of them stays in a core's cache.
SCAN_BYTES = 1 << 18


class ScannedLines(NamedTuple):
    """Lines, where they begin and end, and what `plain` asks of them."""

    lines: Lines
    starts: np.ndarray
    ends: np.ndarray
    """After the newline."""
    quotes: np.ndarray
    """How many quotes without a backslash before them each line has."""
    doubtful: np.ndarray
    """How many quotes it has after two backslashes, of which it is not known whether they are escaped."""

    @property
    def height(self) -> int:
        """The number of lines."""
        return len(self.starts)

    def line(self, place: int) -> bytes:
        """One line."""
        return self.lines.content[self.starts[place] : self.ends[place]]


def scanned(lines: Lines) -> ScannedLines:
    """The lines and their quotes."""
    signs = np.frombuffer(lines.content, np.uint8)
    found = sign_places(signs)
    quote = signs[found] == QUOTE
    ends, quotes = found[~quote] + 1, found[quote]
    if not lines.content.endswith(b"\n"):
        ends = np.append(ends, len(signs))
    starts = np.concatenate([[0], ends[:-1]])
    slash = (quotes > 0) & (signs[quotes - 1] == BACKSLASH)
    escaped = quotes[slash]
    doubtful = escaped[(escaped > 1) & (signs[escaped - 2] == BACKSLASH)]
    return ScannedLines(
        lines, starts, ends, per_line(quotes[~slash], starts, ends), per_line(doubtful, starts, ends)
    )


def sign_places(signs: np.ndarray) -> np.ndarray:
    """Where the quotes and newlines stand."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(signs), SCAN_BYTES):
        part = signs[start : start + SCAN_BYTES]
        found.append(np.flatnonzero((part == QUOTE) | (part == NEWLINE)) + start)
    return np.concatenate(found)


def per_line(places: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many of the ordered `places` each line holds."""
    return np.searchsorted(places, ends) - np.searchsorted(places, starts)


def text_columns(scan: ScannedLines, names: Sequence[str]) -> pl.DataFrame:
    """`row` (Int64) and the `names` (String) of the lines that are an object of these texts and no more.

    Other lines are left out, good ones among them.
    """
    places = np.flatnonzero(plain(scan, 4 * len(names)))
    schema = pl.Schema({"row": pl.Int64} | dict.fromkeys(names, pl.String))
    found = parsed(scan, places, schema) if len(places) else pl.DataFrame(schema=schema)
    texts = pl.col(*names)
    certain = texts.is_not_null() & ~texts.str.contains("\0", literal=True) & ~texts.str.contains(OTHER_TYPES)
    return found.filter(pl.all_horizontal(certain))


def plain(scan: ScannedLines, quotes: int) -> np.ndarray:
    """True for lines with so many quotes that are not escaped, none that is doubtful, and not too long.

    An object of n keys with text values has 4 n such quotes; with n keys known to be there and to be
    texts, there is none besides them.
    """
    short = scan.ends - scan.starts <= LONGEST_LINE
    return short & (scan.quotes == quotes) & (scan.doubtful == 0)


def parsed(scan: ScannedLines, places: np.ndarray, schema: pl.Schema) -> pl.DataFrame:
    """The given lines, parsed; where a run of them does not parse, each half alone, without bad lines."""
    texts = pl.Schema({name: kind for name, kind in schema.items() if name != "row"})
    try:
        found = pl.read_ndjson(joined(scan, places), schema=texts)
    except pl.exceptions.PolarsError:
        found = None
    if found is not None and found.height == len(places):
        return found.insert_column(0, pl.Series("row", places + scan.lines.first, pl.Int64))
    if len(places) == 1:
        return pl.DataFrame(schema=schema)
    return pl.concat([parsed(scan, half, schema) for half in np.array_split(places, 2)])


def joined(scan: ScannedLines, places: np.ndarray) -> bytes:
    """The bytes of the given lines, one after the other."""
    if len(places) == scan.height:
        return scan.lines.content
    view = memoryview(scan.lines.content)
    # neighbours are copied together
    first = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    last = np.append(first[1:], len(places)) - 1
    starts, ends = scan.starts[places[first]], scan.ends[places[last]]
    return b"".join([view[start:end] for start, end in zip(starts, ends, strict=True)])
