"""`pairmill plan`: which stages would run, how many rows each would compute, and how long that takes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from pipeline.commands.asks import Rows
from pipeline.commands.forecast import Entry, Forecast, totals

HEAD = ["stage", "would", "because", "rows", "asked", "stored", "to compute", "time"]


def made(targets: Sequence[str]) -> list[Entry]:
    """Every stage that leads to `targets`, all stages without any."""
    return list(Forecast(targets).entries())


def record(entries: Sequence[Entry], store: dict[str, Any]) -> dict[str, Any]:
    """The plan for machines."""
    return {"store": store, "stages": [as_json(entry) for entry in entries], "total": totals(entries)}


def as_json(entry: Entry) -> dict[str, Any]:
    """One stage for machines; `compute` is null where nothing bounds it."""
    look = entry.outlook
    return {
        "stage": look.name,
        "state": look.state,
        "because": look.because,
        "waits_for": list(look.waits_for),
        "rows": [asdict(rows) for rows in entry.rows or ()],
        "compute": None if entry.unknown else entry.compute,
        "exact": entry.exact,
        "same_bytes": entry.same,
        "seconds": entry.seconds,
    }


def table(entries: Sequence[Entry], *, every: bool) -> list[list[str]]:
    """The stages that would not be left alone (`every`: all), as rows of cells."""
    shown = [entry for entry in entries if every or entry.outlook.state != "up to date"]
    return [HEAD, *(line for entry in shown for line in lines(entry))] if shown else []


def lines(entry: Entry) -> Iterator[list[str]]:
    """One line per stage, and one more for each further kind of rows that it asks."""
    look, rows = entry.outlook, merged(entry.rows or [])
    because = short(look.because) + (" (same bytes)" if entry.same and rows else "")
    time = "" if look.state == "up to date" else duration(entry.seconds)
    first = cells(rows[0]) if rows else ["", "", "", "unknown" if entry.unknown else ""]
    yield [look.name, look.state, because, *first, time]
    for more in rows[1:]:
        yield ["", "", "", *cells(more), ""]


def merged(rows: Sequence[Rows]) -> list[Rows]:
    """The rows of a stage, kind by kind."""
    found: dict[str, Rows] = {}
    for one in rows:
        if before := found.get(one.kind):
            sums = {"asked": before.asked + one.asked, "compute": before.compute + one.compute}
            one = replace(before, **sums, exact=before.exact and one.exact)
        found[one.kind] = one
    return list(found.values())


def cells(rows: Rows) -> list[str]:
    """Kind, asked, stored and to compute."""
    if rows.exact:
        return [rows.kind, f"{rows.asked:,}", f"{rows.asked - rows.compute:,}", f"{rows.compute:,}"]
    return [rows.kind, f"{rows.asked:,}", "", f"at most {rows.compute:,}"]


def summary(entries: Sequence[Entry]) -> Iterator[str]:
    """The sums, and what to do where they are not exact."""
    alone = sum(entry.outlook.state == "up to date" for entry in entries)
    total = totals(entries)
    yield f"{alone} of {len(entries)} stages are up to date"
    if alone == len(entries):
        return
    yield f"rows to compute: {span(*(f'{total[name]:,}' for name in ('compute', 'compute_at_most')))}"
    yield f"time: {span(duration(total['seconds']), duration(total['seconds_at_most']))}"
    if total["time_unknown"]:
        yield f"no rate measured yet: {short(', '.join(total['time_unknown']))}"
    waiting = next((entry.outlook for entry in entries if entry.rows is not None and not entry.exact), None)
    for name in (waiting.waits_for or waiting.absent)[:1] if waiting else ():
        yield f"exact once its inputs are there: dvc repro {name}, then plan again"


def span(low: str, high: str) -> str:
    """A number, or what it may grow to."""
    return low if low == high else f"{low}, at most {high}"


def short(text: str, width: int = 60) -> str:
    """A text cut to a width."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def duration(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return "no rate"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
