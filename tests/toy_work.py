"""Work whose values are known without an engine, that notes what it computes and fails as it is told."""

import os
import signal
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.cells import Cells, sequence_key
from pipeline.errors import UserError
from pipeline.filling import Job, open_store


@dataclass(frozen=True)
class Squares:
    """The value of a number is its square; four numbers in a row are a group."""

    notes: Path
    """Folder: a file per process with a line for each engine that starts and each number that is computed."""
    backwards: bool = False
    slow: float = 0.0
    """Seconds per number."""
    dies: frozenset[int] = frozenset()
    """Numbers at which the process is killed, the first time that they are computed."""
    poison: int | None = None
    """A number at which the process is killed each time."""
    mistake: int | None = None
    """A number at which the engine raises a UserError."""
    bug: int | None = None
    """A number at which the engine raises another error."""
    model: Path = Path("models/toy")
    engine: str = "toy"
    dtype: str = "float32"
    on_device: bool = False
    cells: Cells = field(default=Cells("score", (("engine", "toy"), ("dtype", "float32"))))

    def keys(self, asks: Sequence[int]) -> list[str]:
        return [sequence_key([ask]) for ask in asks]

    def group(self, ask: int) -> Hashable | None:
        return ask // 4

    def tokens(self, asks: Sequence[int], values: pl.DataFrame) -> int:
        return len(asks)

    def start(self):
        self.note(f"start {os.environ.get('OMP_NUM_THREADS')} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
        return self.compute

    def note(self, line: str) -> None:
        self.notes.mkdir(parents=True, exist_ok=True)
        with (self.notes / str(os.getpid())).open("a") as file:
            file.write(f"{line}\n")

    def compute(self, asks: Sequence[int]) -> Iterator[tuple[int, tuple[float]]]:
        for i in reversed(range(len(asks))) if self.backwards else range(len(asks)):
            number = asks[i]
            if number == self.poison or (number in self.dies and self.first_time(number)):
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self.mistake:
                raise UserError(f"number {number} does not fit")
            if number == self.bug:
                raise ZeroDivisionError(f"number {number}")
            time.sleep(self.slow)
            self.note(str(number))
            yield i, (float(number**2),)

    def first_time(self, number: int) -> bool:
        try:
            (self.notes.parent / f"died-at-{number}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def lines(self) -> list[list[str]]:
        """What each process noted."""
        return [path.read_text().splitlines() for path in sorted(self.notes.glob("*"))]

    def computed(self) -> list[int]:
        """The numbers that were computed, as often as they were."""
        return sorted(int(line) for lines in self.lines() for line in lines if line.isdigit())

    def job(self, numbers: Sequence[int]) -> Job:
        """The numbers as a launcher gets them."""
        return Job(self, self.cells, numbers, self.keys(numbers))

    def stored(self, numbers: Sequence[int]) -> set[int]:
        """Those of the numbers that have a value in the store."""
        missing = set(open_store().missing(self.cells, self.job(numbers).column()))
        return {n for n, key in zip(numbers, self.keys(numbers), strict=True) if key not in missing}
