"""How long rows and stages will take, from what was measured on this machine; None where nothing was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline import edge
from pipeline.execution import execution

RECENT = 20
"""Launches whose median counts: machines and engines change."""

SHORTEST = 0.001
"""Seconds below which a launch is not told from none."""

AT_ONCE = 0.05
"""Part of a launch's time below which what is left after its first row is no measure of the others: they
came in the same batch."""


@dataclass(frozen=True)
class Estimates:
    """The records of `<state>/cells.jsonl`, oldest first, and the last run of each stage."""

    launches: Sequence[Mapping[str, Any]]
    runs: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls) -> "Estimates":
        """What is on record here."""
        return cls(edge.records("cells.jsonl"), edge.recorded())

    def rows(self, count: int, *, kind: str, engine: str, model: str | None = None) -> float | None:
        """Seconds for computing `count` rows: the start of the engine, then rows at the median rate.

        Launches with the same model come first, and of these the ones with as many workers as now.
        """
        if not count:
            return 0.0
        alike = [line for line in self.launches if (line["kind"], line["engine"]) == (kind, engine)]
        alike = [line for line in alike if line["model"] == model] or alike
        alike = [line for line in alike if line["workers"] == execution().workers] or alike
        if not alike:
            return None
        recent = alike[-RECENT:]
        return median(line["first_row_seconds"] for line in recent) + (count - 1) / median(map(rate, recent))

    def stage(self, name: str) -> float | None:
        """Seconds of a stage's last run here, or of the last run of its like: train@t2 for train@t3."""
        group = name.partition("@")[0]
        alike = [record for other, record in self.runs.items() if other.partition("@")[0] == group]
        if name in self.runs:
            return float(self.runs[name]["seconds"])
        return float(max(alike, key=lambda record: record["ended"])["seconds"]) if alike else None


def rate(line: Mapping[str, Any]) -> float:
    """Rows per second of a launch, once its first row was there.

    Where all came at once nobody knows what of the time was the start: then it counts for the rows, too.
    """
    seconds = max(line["seconds"], SHORTEST)
    rest = seconds - line["first_row_seconds"]
    at_once = line["rows"] == 1 or rest < AT_ONCE * seconds
    return line["rows"] / seconds if at_once else (line["rows"] - 1) / rest
