"""Answer the validation prompts with the policy of an iteration and compare it with pi_0.

python -m pipeline.stages.evaluate ITERATION PROMPTS POLICY PI0 BASELINES JUDGE PREFERENCE OUT
"""

from pathlib import Path

import polars as pl

from pipeline import edge, tables
from pipeline.engines.evaluation import Evaluated, EvaluateParams, answers, evaluated
from pipeline.engines.judging import JudgeParams
from pipeline.params import load
from pipeline.schemas import EVALUATIONS, SLICE


def made(
    iteration: str,
    prompts: Path,
    policy: Path,
    pi0: Path,
    baselines: Path,
    judge_model: Path,
    preference_model: Path,
) -> Evaluated:
    """The evaluations of this policy against pi_0's answers."""
    params = load("evaluate", EvaluateParams)
    rows = answers(tables.read(SLICE, prompts), iteration, policy, params)
    reference = tables.read(EVALUATIONS, baselines / "evaluations.parquet").filter(pl.col("policy") == "t0")
    return evaluated(
        rows,
        reference,
        model=policy,
        pi0=pi0,
        judge_model=judge_model,
        judge=load("judge", JudgeParams),
        preference_model=preference_model,
        params=params,
    )


def write(found: Evaluated, out: Path) -> None:
    """Write what was made, and the account of what was not judged."""
    tables.write(EVALUATIONS, found.rows, out / "evaluations.parquet")
    iteration = found.rows["policy"][0]
    found.ledger(f"evaluate@{iteration}").close(found.asked, found.kept, out)


def main() -> None:
    """Read the validation prompts and pi_0's answers, write the evaluation of this policy."""
    iteration, *inputs, out = edge.arguments(
        "ITERATION", "PROMPTS", "POLICY", "PI0", "BASELINES", "JUDGE", "PREFERENCE", "OUT"
    )
    write(made(str(iteration), *inputs), out)


if __name__ == "__main__":
    edge.run("evaluate", main)
