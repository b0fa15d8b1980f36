"""What all work of engines has in common: a model in an engine, and numbers about pairs of sequences."""

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.cells import Cells, Kind, sequence_key
from pipeline.errors import UserError
from pipeline.models import model_identity

Ids = Sequence[int]


@dataclass(frozen=True)
class EngineWork:
    """A model in an engine; `pipeline.filling.Work` says what its methods are for."""

    model: Path
    engine: str
    dtype: str

    @property
    def on_device(self) -> bool:
        return self.engine not in ("fake", "openai")

    def cells_of(self, kind: Kind, more: dict[str, str | int | float] | None = None) -> Cells:
        """The set of cells that the model computes with the engine."""
        identity = {**model_identity(self.model), "engine": self.engine, "dtype": self.dtype, **(more or {})}
        return Cells(kind, tuple(identity.items()))


@dataclass(frozen=True)
class AnswerWork(EngineWork):
    """The summed log-probability of each (prompt, response), in nats."""

    @property
    def cells(self) -> Cells:
        return self.cells_of("log_probs")

    def keys(self, asks: Sequence[tuple[Ids, Ids]]) -> list[str]:
        return [sequence_key(prompt, response) for prompt, response in asks]

    def group(self, ask: tuple[Ids, Ids]) -> Hashable | None:
        return None

    def tokens(self, asks: Sequence[tuple[Ids, Ids]], values: pl.DataFrame) -> int:
        return sum(len(prompt) + len(response) for prompt, response in asks)


def finite(model: Path, found: Iterable[tuple[int, float]]) -> Iterator[tuple[int, tuple[float]]]:
    """Index and number of what an engine yields, as cells; UserError for a number that must not be stored."""
    for i, value in found:
        if not math.isfinite(value):
            raise UserError(
                f"{model}: expected finite numbers from the model, found {value} for row {i}; check its "
                "weights (make it again: dvc repro), or set its dtype or precision in params.yaml to float32"
            )
        yield i, (float(value),)
