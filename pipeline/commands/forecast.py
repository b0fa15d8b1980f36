"""What each stage would do, and the rows that it would compute: the content of `pairmill plan`.

Where all inputs of a stage are there, its own code says which rows it asks, and the store which of them
it has; these numbers are exact. Where an input is still to be made, the recipe bounds them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.commands.asks import ASKING, Counter, Rows, planned, same_bytes
from pipeline.commands.bounds import Bounds
from pipeline.commands.estimates import Estimates
from pipeline.commands.graph import Graph, Outlook
from pipeline.planning import planning
from pipeline.stages import generate, judge


@dataclass(frozen=True)
class Entry:
    """What a stage would do. `rows` is None where it asks none, or where nobody can say how many."""

    outlook: Outlook
    rows: list[Rows] | None = None
    unknown: bool = False
    """Whether it asks rows, but nothing bounds how many."""
    same: bool = False
    """Whether it would write the bytes that are there already, so that nothing else runs for its sake."""
    seconds: float | None = None
    """Time for it; None where nothing like it has been measured here."""

    @property
    def compute(self) -> int:
        """Rows to compute, or most of them."""
        return sum(rows.compute for rows in self.rows or ())

    @property
    def exact(self) -> bool:
        """Whether it surely runs and computes these rows, no fewer."""
        sure = self.outlook.state != "may run" and not self.unknown
        return sure and all(rows.exact for rows in self.rows or ())


class Forecast:
    """Looks at the stages in the order in which DVC would run them."""

    def __init__(self, targets: Sequence[str] = ()) -> None:
        self.graph = Graph.load(targets)
        self.bounds = Bounds()
        self.estimates = Estimates.load()
        self.counter = Counter(self.estimates)
        self.sampled: dict[str, tuple[pl.DataFrame, bool]] = {}
        """Candidates by the folder that they will stand in; and whether all texts are there, no stand-ins."""

    def entries(self) -> Iterator[Entry]:
        """One per stage. UserError where a stage would fail on inputs that are there."""
        for outlook in self.graph:
            self.bounds.note(outlook)
            entry = self.entry(outlook)
            if entry.same:
                self.graph.settle(outlook)
            yield entry

    def entry(self, outlook: Outlook) -> Entry:
        """What would come of one stage."""
        group = outlook.name.partition("@")[0]
        last = self.estimates.stage(outlook.name)
        if outlook.state in ("up to date", "restored"):
            return Entry(outlook, seconds=0.0)
        if group not in ASKING:
            return Entry(outlook, seconds=last)
        rows, same = self.rows(group, outlook)
        seconds = added([r.seconds for r in rows or ()]) if ASKING[group].function == "made" else last
        return Entry(outlook, rows, rows is None, same, None if rows is None else seconds)

    def rows(self, group: str, outlook: Outlook) -> tuple[list[Rows] | None, bool]:
        """The rows that a stage asks, None where nothing bounds them; and whether its bytes stay."""
        if outlook.settled:
            plan, result = planned(outlook)
            if isinstance(result, generate.Generated):
                self.sampled[outlook.outs[0]] = result.candidates, plan.complete
            stored = not any(len(fill.missing) for fill in plan.fills)
            same = stored and ASKING[group].function == "made" and same_bytes(outlook, result)
            return self.counter.exact(plan), same
        sampled = [folder for folder in outlook.stale if folder in self.sampled]
        if group == "judge" and sampled == [*outlook.stale, *outlook.absent]:
            return self.judged(sampled[0], outlook), False
        most = self.bounds.most(outlook)
        return None if most is None else self.counter.bounded(most), False

    def judged(self, answers: str, outlook: Outlook) -> list[Rows]:
        """The rows of a judge of answers that are sampled before it: those of old have been judged."""
        candidates, complete = self.sampled[answers]
        with planning() as plan:
            judge.judged(candidates, *map(Path, outlook.words[2:]))
        return [replace(rows, exact=rows.exact and complete) for rows in self.counter.exact(plan)]


def added(seconds: Sequence[float | None]) -> float | None:
    """The sum, None where a part is unknown."""
    known = [part for part in seconds if part is not None]
    return sum(known) if len(known) == len(seconds) else None


def totals(entries: Sequence[Entry]) -> dict[str, Any]:
    """Sums over stages: what is sure, the most that can be, and what is in neither sum."""
    sure = [entry for entry in entries if entry.exact]
    return {
        "compute": sum(entry.compute for entry in sure),
        "compute_at_most": sum(entry.compute for entry in entries),
        "seconds": sum(entry.seconds or 0 for entry in sure),
        "seconds_at_most": sum(entry.seconds or 0 for entry in entries),
        "rows_unknown": [entry.outlook.name for entry in entries if entry.unknown],
        "time_unknown": [entry.outlook.name for entry in entries if entry.seconds is None],
    }
