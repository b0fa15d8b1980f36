"""Rows of JSON text: lines, an array, or one object."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from pipeline.byte_streams import BOM, LONGEST_LINE, Lines, line_runs
from pipeline.errors import UserError
from pipeline.raw_rows import INVALID_UTF8, LONG_LINE, MALFORMED_JSON, RawRow, defect

JSON_SPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()
#: Of an array that is read element by element, so many bytes at once.
ARRAY_BYTES = 1 << 20
#: An array may be one long line; only a shorter one is looked at as a line by itself.
FIRST_LINE = 1 << 20


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
    start = first_line(stream)
    if start.lstrip().startswith(b"["):
        yield from array_parts(start, stream, file)
        return
    if len(start) >= FIRST_LINE and not start.endswith(b"\n"):
        start += stream.readline(LONGEST_LINE)
    first = json_row(start.strip(), file, 0)
    if not first.bad:
        yield from line_runs(stream, file, start)
        return
    content = start + stream.read()
    if (whole := json_row(content.strip(), file, 0)).bad is None:
        yield whole
    else:
        yield from line_runs(io.BytesIO(content), file)


def first_line(stream: io.BufferedReader) -> bytes:
    """All up to the end of the first line that is not blank, or to the FIRST_LINE bytes of it."""
    start = b""
    while line := stream.readline(FIRST_LINE):
        line = line.removeprefix(BOM)
        start += line
        if line.strip():
            break
    return start


def array_parts(start: bytes, stream: io.BufferedReader, file: str) -> Iterator[Lines | RawRow]:
    """What follows a bracket: the elements of an array, or lines where the first is an array by itself."""
    first = json_row(start.strip(), file, 0)
    if first.bad:
        yield from array_rows(start, stream, file)
    elif (more := first_line(stream)).strip():
        yield from line_runs(stream, file, start + more)
    else:
        yield from (RawRow(file, number, value) for number, value in enumerate(first.value))


class ArrayText:
    """The text of an array, of which little more than the element in work is held."""

    def __init__(self, start: bytes, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = self.decoder.decode(start).lstrip()
        self.place = 1
        self.gone = 0
        """Characters before `text`."""

    def more(self) -> bool:
        """Drop what lies before `place` and read on; False at the end.

        At least as much is read as is held, so that the tries at a long element do not add up to its square.
        """
        held = self.text[self.place :]
        content = self.stream.read(max(ARRAY_BYTES, len(held)))
        read = self.decoder.decode(content, final=not content)
        if not content:
            return False
        self.gone += self.place
        self.text, self.place = held + read, 0
        return True

    def character(self) -> str:
        """The next character that is not white space, where `place` then is; "" at the end."""
        self.place = past_space(self.text, self.place)
        while self.place == len(self.text) and self.more():
            self.place = past_space(self.text, self.place)
        return self.text[self.place : self.place + 1]

    def value(self) -> Any:
        """The next element; ValueError or RecursionError where there is none."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.place)
            except (ValueError, RecursionError) as error:
                if self.more():
                    continue
                if isinstance(error, json.JSONDecodeError):  # whose places are those in this part of the file
                    raise ValueError(f"{error.msg}, at character {self.gone + error.pos}") from error
                raise
            # of a number, the rest may not be read yet: 1 is a value, and the beginning of 1.5
            if self.text[end : end + 1] in {*",] \t\n\r"} or not self.more():
                self.place = end
                return value


def array_rows(start: bytes, stream: io.BufferedReader, file: str) -> Iterator[RawRow]:
    """The elements of an array, parsed one at a time; UserError where it is broken."""
    try:
        yield from elements(ArrayText(start, stream), file)
    except UnicodeDecodeError as error:
        raise broken(file, f"{INVALID_UTF8}: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise broken(file, f"{MALFORMED_JSON}: {error}") from error


def elements(array: ArrayText, file: str) -> Iterator[RawRow]:
    """The elements, up to the bracket that ends the array and the file."""
    rows = count()
    more = array.character() != "]"
    while more:
        array.character()
        yield RawRow(file, next(rows), array.value())
        end = array.character()
        if end not in {",", "]"}:
            raise broken(file, f"no comma or bracket at character {array.gone + array.place}")
        more = end == ","
        array.place += more
    array.place += 1
    while not (rest := array.text[array.place :].strip()) and array.more():
        pass
    if rest:
        raise broken(file, f"more content after it, at character {array.gone + array.place}")


def broken(file: str, why: str) -> UserError:
    """The error for an array that cannot be read to its end."""
    return defect(file, "a JSON array", f"a broken one ({why})")


def past_space(text: str, place: int) -> int:
    """The place of the next character that is not white space."""
    found = JSON_SPACE.match(text, place)
    assert found is not None
    return found.end()
