"""Train the policy of an iteration on its pairs, with DPO or another objective.

The paper starts from the policy of the iteration before and keeps pi_0 as the reference model
(Algorithm 2); the reference code moves the reference silently. Both are named here, and so is whether
the pairs of earlier iterations are trained on again (paper: D_1 .. D_t; the reference code: D_t alone).
TRAINING holds for the next iteration what HISTORY, the folder of the one before, holds for this one.

`checkpoints` names parts of the run after which the policy is kept, too: later iterations may sample
from these as well (paper: exploration by training steps).

    python -m pipeline.stages.train ITERATION PAIRS HISTORY PREVIOUS PI0 OUT CHECKPOINTS CURVES TRAINING
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline import edge, history, tables
from pipeline.engines.policy import PolicyParams, Start, optimise
from pipeline.params import load
from pipeline.schemas import PAIRS
from pipeline.training import Kept

Policy = Literal["pi0", "previous"]


class TrainParams(PolicyParams):
    """From which policy, measured against which, on which pairs; and what is kept on the way."""

    start: Policy
    reference: Policy
    """Not read by an objective without a reference model."""
    pairs: history.Data
    checkpoints: tuple[Annotated[float, Field(gt=0, lt=1)], ...]

    @model_validator(mode="after")
    def rising(self) -> "TrainParams":
        """A kept policy is named by its part of the run."""
        if list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise ValueError(f"checkpoints: expected rising parts of the run, found {list(self.checkpoints)}")
        return self


def start(iteration: str, pairs: Path, earlier: Path, previous: Path, pi0: Path) -> Start:
    """The run that the recipe asks for."""
    params = load("train", TrainParams)
    policies = {"pi0": pi0, "previous": previous}
    own = history.of_iteration(tables.read(PAIRS, pairs / "pairs.parquet"))
    rows, repeated = history.united(history.read(earlier), own)
    policy, reference = policies[params.start], policies[params.reference]
    return Start(f"train@{iteration}", rows, policy, reference, params, repeated)


def referenced(iteration: str, pairs: Path, earlier: Path, previous: Path, pi0: Path) -> None:
    """Ask the row store for all that the stage asks of it; nothing is written elsewhere."""
    start(iteration, pairs, earlier, previous, pi0).rows()


def main() -> None:
    """Read the pairs, write the policy of this iteration, those that it was on the way, and what it knew."""
    names = ("ITERATION", "PAIRS", "HISTORY", "PREVIOUS", "PI0", "OUT", "CHECKPOINTS", "CURVES", "TRAINING")
    iteration, pairs, earlier, previous, pi0, out, checkpoints, curves, folder = edge.arguments(*names)
    params = load("train", TrainParams)
    run = start(str(iteration), pairs, earlier, previous, pi0)
    optimise(run, out, curves, folder, Kept(checkpoints, params.checkpoints))
    history.write(folder, run.pairs, params.pairs)


if __name__ == "__main__":
    edge.run("train", main)
