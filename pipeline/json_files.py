"""Rows of JSON text: lines, an array, or one object."""

import io
import json
import re
from collections.abc import Iterator
from itertools import count

from pipeline.byte_streams import BOM, LONGEST_LINE, Lines, line_runs
from pipeline.raw_rows import INVALID_UTF8, LONG_LINE, MALFORMED_JSON, RawRow, defect

JSON_SPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()


def line_rows(lines: Lines) -> Iterator[RawRow]:
    """One row per line that is not blank."""
    for number, line in enumerate(lines.content.split(b"\n"), start=lines.first):
        if row := line_row(lines.file, number, line):
            yield row


def line_row(file: str, number: int, line: bytes) -> RawRow | None:
    """The row of a line; None where it is blank."""
    content = line.strip()
    if not content:
        return None
    if len(line) > LONGEST_LINE:
        return RawRow(file, number, None, LONG_LINE, f"more than {LONGEST_LINE} bytes")
    parsed = json_row(content, file, number)
    if number == 0 and parsed.bad and content.startswith(b"["):
        raise defect(file, "one JSON value per line", "a JSON array (its name should end in .json)")
    return parsed


def json_row(content: bytes, file: str, number: int) -> RawRow:
    """A parsed line, or a bad row."""
    try:
        return RawRow(file, number, json.loads(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        return RawRow(file, number, None, INVALID_UTF8, str(error))
    except (ValueError, RecursionError) as error:
        return RawRow(file, number, None, MALFORMED_JSON, str(error))


def json_parts(stream: io.BufferedReader, file: str) -> Iterator[Lines | RawRow]:
    """The elements of an array, one object as one row, or lines; these where the first line is a value."""
    start = b""
    while line := stream.readline(LONGEST_LINE):
        start += line.removeprefix(BOM)
        if not line.isspace():
            break
    first = json_row(start.strip(), file, 0)
    if first.bad is None and not isinstance(first.value, list):
        yield from line_runs(stream, file, start)
        return
    content = start + stream.read()
    if first.bad is None and len(content.strip()) == len(start.strip()):
        yield from (RawRow(file, number, value) for number, value in enumerate(first.value))
    elif first.bad and content.lstrip().startswith(b"["):
        yield from array_rows(content, file)
    elif first.bad and (whole := json_row(content.strip(), file, 0)).bad is None:
        yield whole
    else:
        yield from line_runs(io.BytesIO(content), file)


def array_rows(content: bytes, file: str) -> Iterator[RawRow]:
    """The elements of an array, parsed one at a time; UserError where it is broken."""
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise defect(file, "a JSON array", f"a broken one ({INVALID_UTF8}: {error})") from error
    place, rows = past_space(text, 1), count()
    more = text[place : place + 1] != "]"
    while more:
        try:
            value, place = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise defect(file, "a JSON array", f"a broken one ({MALFORMED_JSON}: {error})") from error
        yield RawRow(file, next(rows), value)
        place = past_space(text, place)
        if more := text[place : place + 1] == ",":
            place = past_space(text, place + 1)
        elif text[place : place + 1] != "]":
            raise defect(file, "a JSON array", f"a broken one (no comma or bracket at character {place})")
    if place != len(text) - 1:
        raise defect(file, "a JSON array", f"a broken one (more content after it, at character {place + 1})")


def past_space(text: str, place: int) -> int:
    """The place of the next character that is not white space."""
    found = JSON_SPACE.match(text, place)
    assert found is not None
    return found.end()
