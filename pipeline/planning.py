"""What the fills of a stage would do, found out without computing anything.

Within `planning()` a fill (pipeline/filling.py) notes what it is asked and what the store does not have,
and answers with stand-ins for what is missing, so that a stage goes on to its last fill.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.cells import VALUES, Cells
from pipeline.store import RowStore, Unchanged


@dataclass(frozen=True)
class Planned:
    """One fill: its set of cells, the folder of the model, and the distinct keys that it asks."""

    cells: Cells
    model: Path
    asked: pl.Series
    missing: pl.Series
    """Those of `asked` that the store does not have."""
    exact: bool
    """False where an ask may contain a text that is still to be sampled, or follows from a value that nothing
    has computed (`at_most`): the keys are then stand-ins, as many as there can be. What a policy samples
    never depends on what the same stage has sampled before; what a judge does (`after_texts`) may."""


@dataclass
class Plan:
    """The fills of a stage, in their order."""

    fills: list[Planned] = field(default_factory=list)
    surely: bool = True
    """Whether what is asked now surely will be."""

    @property
    def complete(self) -> bool:
        """Whether every ask is known: no text is missing."""
        return not any("text" in VALUES[fill.cells.kind] and len(fill.missing) for fill in self.fills)

    def note(self, store: RowStore, cells: Cells, keys: pl.Series, model: Path) -> pl.DataFrame:
        """Enter a fill. Gives the value of each distinct key, or a stand-in; the store stays as it is."""
        exact = self.surely and (cells.kind == "sample" or self.complete)
        asked = keys.unique(maintain_order=True)
        found = Unchanged(store).values(cells, asked)
        missing = asked.filter(~asked.is_in(found["key"].implode()))
        self.fills.append(Planned(cells, model, asked, missing, exact))
        return pl.concat([found, stand_ins(cells, missing)])


def stand_ins(cells: Cells, keys: pl.Series) -> pl.DataFrame:
    """Values for `keys` that nothing has computed: a text like no other, a number that is none.

    Two models that are asked the same have the same key: their texts differ by the set.
    """
    texts = {
        "text": f"pending {cells.name} " + pl.col("key"),
        "prompt_tokens": pl.lit(1),
        "tokens": pl.lit(1),
        "finish_reason": pl.lit("stop"),
        "retries": pl.lit(0),
    }
    state = cells.kind == "state"  # of which a stand-in has one number
    numbers = {"value": pl.concat_list(pl.lit(math.nan)) if state else pl.lit(math.nan)}
    values = texts if "text" in VALUES[cells.kind] else numbers
    frame = keys.rename("key").to_frame().with_columns(**values)
    return frame.select(cells.schema.names()).cast(dict(cells.schema))


def is_stand_in(text: str) -> bool:
    """Whether a text only stands for one that nothing has computed."""
    return PLAN.get() is not None and text.startswith("pending ")


PLAN: ContextVar[Plan | None] = ContextVar("plan", default=None)


@contextmanager
def planning() -> Generator[Plan]:
    """Within it fills compute nothing and are noted in the plan."""
    token = PLAN.set(plan := Plan())
    try:
        yield plan
    finally:
        PLAN.reset(token)


def is_planning() -> bool:
    """Whether fills compute nothing and are noted."""
    return PLAN.get() is not None


@contextmanager
def at_most() -> Generator[None]:
    """Within it asks of a plan stand for others, which depend on values that nothing has computed yet: they
    are as many as there can be."""
    plan = PLAN.get()
    assert plan is not None, "only a plan may ask stand-ins"
    before, plan.surely = plan.surely, False
    try:
        yield
    finally:
        plan.surely = before


@contextmanager
def after_texts() -> Generator[None]:
    """Within it samples are asked about texts, unlike those of a policy: where some of these are still to be
    sampled in a plan, they are `at_most`. Outside of a plan it does nothing."""
    plan = PLAN.get()
    with nullcontext() if plan is None or plan.complete else at_most():
        yield
