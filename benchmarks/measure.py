"""What every benchmark shares: its flags, medians of alternating runs, and the one JSON line it ends with.

`ratio` says how many times as fast as the peer ours is. Inputs are made by a fixed seed, so a figure can
be taken again on any machine.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

#: Everyday words from which the texts of the inputs are drawn.
WORDS = (
    *("the", "a", "of", "and", "is", "in", "to", "for", "with"),
    *("water", "house", "garden", "letter", "morning", "river", "stone", "table", "window"),
    *("music", "answer", "question", "because", "therefore", "quickly", "slowly", "often", "never"),
    *("always", "bright", "quiet", "green", "seven", "eleven"),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one benchmark; the fields are the keys of its JSON line."""

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    unit: str
    peer_is: str | None
    input: dict[str, int]
    """rows and bytes."""
    equality: str
    """What was checked to be equal before anything was timed, or why nothing could be."""
    runs: int
    notes: dict[str, Any] = field(default_factory=dict)
    recall: float | None = None
    """Of what a labelled set says is to be found, the part that was; absent where nothing is searched."""
    precision: float | None = None
    """Of what was found, the part that the labelled set says is right."""
    classes: dict[str, dict[str, Any]] | None = None
    """Counts per class of the labelled set, or per scenario."""
    extra_cells: dict[str, int] | None = None
    """Per scenario, the answers that engines gave although they were stored or not asked for."""


def flags(description: str, *, rows: int) -> argparse.ArgumentParser:
    """The command line that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=rows, help=f"size of the input, {rows} if not given")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each side, of which the median counts"
    )
    return parser


def seconds(run: Callable[[], Any]) -> float:
    """Time on the clock of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def medians(repeats: int, *sides: Callable[[], Any]) -> list[float]:
    """The median seconds of each side; the sides take turns, so that a slow minute hits all of them."""
    times = [[seconds(side) for side in sides] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def tell(result: Result) -> None:
    """Write the JSON line."""
    told = asdict(result)
    for key in ("recall", "precision", "classes", "extra_cells"):
        if told[key] is None:
            del told[key]
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in told.items()}
    sys.stdout.write(json.dumps(rounded) + "\n")
