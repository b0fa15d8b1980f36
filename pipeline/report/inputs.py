"""What the report reads: the folders of the stages, and from params.yaml the names that count.

What is left in a folder of a removed source, mix or iteration is not in the report.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.params import load

VALIDATION, PI0, OFFLINE = "validation", "t0", "offline_dpo"


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the stages wrote, one field per argument of the report stage."""

    standard: Path
    mixes: Path
    profiles: Path
    prompts: Path
    sft_mix: Path
    packed: Path
    training: Path
    history: Path
    iterations: Path
    counterfactuals: Path
    baselines: Path
    judge_evaluation: Path
    learning_curve: Path
    control: Path
    select: Path
    release: Path
    curves: Path


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The names in params.yaml, in its order.

    `kinds` maps a source to its kind, `rewards` a reward model to its mix; `control` is one of these.
    """

    kinds: dict[str, str]
    mixes: tuple[str, ...]
    rewards: dict[str, str]
    control: str
    iterations: tuple[str, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """Every training run, in the order of the pipeline."""
        return ("sft", *self.rewards, "pairwise", OFFLINE, *self.iterations)

    @property
    def policies(self) -> tuple[str, ...]:
        """Every policy that answers the validation prompts."""
        return (PI0, OFFLINE, *self.iterations)


def recipe() -> Recipe:
    """The names of params.yaml that the report loops over."""
    sources = load("sources", dict[str, dict[str, Any]])
    if missing := sorted(name for name, source in sources.items() if not isinstance(source.get("kind"), str)):
        raise UserError(
            f"params.yaml: expected sources.{missing[0]}.kind, found none; see recipes/quickstart.yaml"
        )
    return Recipe(
        kinds={name: source["kind"] for name, source in sources.items()},
        mixes=tuple(load("mixes", dict[str, Any])),
        rewards={name: row["mix"] for name, row in load("rewards", dict[str, Any]).items()},
        control=str(load("control.model", str)).removeprefix("models/"),
        iterations=tuple(load("iterations", dict[str, Any])),
    )


def read_json(path: Path, made_by: str) -> Any:
    """A JSON file that a stage wrote."""
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: dvc repro {made_by}")
    return json.loads(path.read_text(encoding="utf-8"))
