"""What the recipe reaches in the row store: the keys that its stages ask, set by set."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from pipeline.commands.asks import ASKING, planned
from pipeline.commands.graph import Graph, Outlook


@dataclass
class Reach:
    """Keys and stages by name of a set, and the stages whose keys cannot be told."""

    keys: dict[str, list[pl.Series]] = field(default_factory=dict)
    stages: dict[str, list[str]] = field(default_factory=dict)
    blind: dict[str, str] = field(default_factory=dict)
    """Stage -> why its keys cannot be told, and what mends that."""

    def look(self, outlook: Outlook) -> None:
        """Enter what a stage asks."""
        name = outlook.name
        if not outlook.settled:
            waits = outlook.waits_for or outlook.absent
            self.blind[name] = (
                f"{waits[0]} is not made or out of date; make it: dvc repro {name} (or dvc pull)"
            )
            return
        plan, _ = planned(outlook)
        if not all(fill.exact for fill in plan.fills):
            force = "" if outlook.state == "runs" else "--force --single-item "
            self.blind[name] = f"the store lacks answers of it; sample them: dvc repro {force}{name}"
        for fill in plan.fills:
            self.keys.setdefault(fill.cells.name, []).append(fill.asked)
            users = self.stages.setdefault(fill.cells.name, [])
            users += [] if name in users else [name]

    def wanted(self, present: Sequence[str]) -> dict[str, pl.Series | None]:
        """The keys to keep of each set; None keeps a whole one, of a kind that a blind stage may ask."""
        kinds = {kind for stage in self.blind for kind in ASKING[stage.partition("@")[0]].kinds}
        whole = {name: None for name in present if name.partition("/")[0] in kinds}
        return {name: pl.concat(parts).unique() for name, parts in self.keys.items()} | whole


def reach() -> Reach:
    """What params.yaml asks, as far as its stages' inputs are in this workspace."""
    found = Reach()
    for outlook in Graph.load():
        if outlook.name.partition("@")[0] in ASKING:
            found.look(outlook)
    return found
