"""Train the policy of an iteration on its pairs, with DPO or another objective.

The paper starts from the policy of the iteration before and keeps pi_0 as the reference model
(Algorithm 2); the reference code moves the reference silently. Both are named here. HISTORY, the folder of
stage `gather`, holds the pairs.

`checkpoints` names parts of the run after which the policy is kept, too: later iterations may sample
from these as well (paper: exploration by training steps).

    python -m pipeline.stages.train ITERATION HISTORY PREVIOUS PI0 OUT CHECKPOINTS CURVES TRAINING
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline import edge, history
from pipeline.engines.policy import PolicyParams, Start, optimise
from pipeline.params import load
from pipeline.training import Kept

Policy = Literal["pi0", "previous"]


class TrainParams(PolicyParams):
    """From which policy, measured against which; and what is kept on the way."""

    start: Policy
    reference: Policy
    """Not read by an objective without a reference model."""
    checkpoints: tuple[Annotated[float, Field(gt=0, lt=1)], ...]

    @model_validator(mode="after")
    def rising(self) -> "TrainParams":
        """A kept policy is named by its part of the run."""
        if list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise ValueError(f"checkpoints: expected rising parts of the run, found {list(self.checkpoints)}")
        return self


def start(iteration: str, pairs: Path, previous: Path, pi0: Path) -> Start:
    """The run that the recipe asks for."""
    params = load("train", TrainParams)
    policies = {"pi0": pi0, "previous": previous}
    policy, reference = policies[params.start], policies[params.reference]
    return Start(f"train@{iteration}", history.read(pairs), policy, reference, params)


def referenced(iteration: str, pairs: Path, previous: Path, pi0: Path) -> None:
    """Ask the row store for all that the stage asks of it; nothing is written elsewhere."""
    start(iteration, pairs, previous, pi0).rows()


def main() -> None:
    """Read the pairs, write the policy of this iteration and those that it was on the way."""
    names = ("ITERATION", "HISTORY", "PREVIOUS", "PI0", "OUT", "CHECKPOINTS", "CURVES", "TRAINING")
    iteration, pairs, previous, pi0, out, checkpoints, curves, folder = edge.arguments(*names)
    run = start(str(iteration), pairs, previous, pi0)
    kept = Kept(checkpoints, load("train", TrainParams).checkpoints)
    optimise(run, out, curves, folder, kept)


if __name__ == "__main__":
    edge.run("train", main)
