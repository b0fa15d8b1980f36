"""The offline baseline: vanilla DPO from pi_0 on the pairs of a mix (paper, section 4: Nectar).

Pairs that ask a validation prompt are left out, as they are of the loop's.

    python -m pipeline.stages.offline_dpo MIX PASSED VALIDATION PI0 OUT CURVES TRAINING
"""

from pathlib import Path

from pydantic import Field

from pipeline import edge, tables
from pipeline.engines.policy import PolicyParams, Start, optimise
from pipeline.held_out import apart
from pipeline.objectives import Dpo
from pipeline.params import load
from pipeline.preference_training import capped, demand_gate
from pipeline.schemas import MIX


class OfflineDpoParams(PolicyParams):
    """Which mix, how much of it, and how to train; whatever the loop tries, this is DPO."""

    objective: Dpo
    mix: str
    max_pairs: int | None = Field(gt=0)


def start(mix: Path, passed: Path, validation: Path, pi0: Path) -> Start:
    """The run that the recipe asks for."""
    params = load("offline_dpo", OfflineDpoParams)
    demand_gate(passed)
    pairs = capped(tables.read(MIX, mix / "train.parquet"), params.max_pairs)
    pairs, measured = apart(pairs, validation, "offline_dpo")
    return Start("offline_dpo", pairs, pi0, pi0, params, measured)


def referenced(mix: Path, passed: Path, validation: Path, pi0: Path) -> None:
    """Ask the row store for all that the stage asks of it; nothing is written elsewhere."""
    start(mix, passed, validation, pi0).rows()


def main() -> None:
    """Read the train split of the mix, write the offline policy."""
    names = ("MIX", "PASSED", "VALIDATION", "PI0", "OUT", "CURVES", "TRAINING")
    mix, passed, validation, pi0, out, curves, folder = edge.arguments(*names)
    optimise(start(mix, passed, validation, pi0), out, curves, folder)


if __name__ == "__main__":
    edge.run("offline_dpo", main)
