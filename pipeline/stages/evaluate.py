"""Answer the validation prompts with the policy of an iteration and compare it with pi_0.

python -m pipeline.stages.evaluate ITERATION PROMPTS POLICY PI0 BASELINES JUDGE PREFERENCE OUT
"""

import polars as pl

from pipeline import edge, tables
from pipeline.engines.evaluation import EvaluateParams, answers, evaluated, summary
from pipeline.engines.judging import JudgeParams
from pipeline.ledger import write_json
from pipeline.params import load
from pipeline.schemas import EVALUATIONS, SLICE


def main() -> None:
    """Read the validation prompts and pi_0's answers, write the evaluation of this policy."""
    iteration, prompts, policy, pi0, baselines, judge_model, preference_model, out = edge.arguments(
        "ITERATION", "PROMPTS", "POLICY", "PI0", "BASELINES", "JUDGE", "PREFERENCE", "OUT"
    )
    params = load("evaluate", EvaluateParams)
    rows = answers(tables.read(SLICE, prompts), str(iteration), policy, params)
    reference = tables.read(EVALUATIONS, baselines / "evaluations.parquet").filter(pl.col("policy") == "t0")
    done = evaluated(
        rows,
        reference,
        model=policy,
        pi0=pi0,
        judge_model=judge_model,
        judge=load("judge", JudgeParams),
        preference_model=preference_model,
        params=params,
    )
    tables.write(EVALUATIONS, done, out / "evaluations.parquet")
    write_json(out / "summary.json", summary(done))


if __name__ == "__main__":
    edge.run("evaluate", main)
