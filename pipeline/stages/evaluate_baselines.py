"""Answer the validation prompts with pi_0 and with the offline baseline, and judge the answers.

python -m pipeline.stages.evaluate_baselines PROMPTS PI0 OFFLINE JUDGE PREFERENCE OUT
"""

from pathlib import Path

import polars as pl

from pipeline import edge, tables
from pipeline.engines.evaluation import Evaluated, EvaluateParams, answers, evaluated
from pipeline.engines.judging import JudgeParams
from pipeline.params import load
from pipeline.schemas import EVALUATIONS, SLICE


def made(prompts: Path, pi0: Path, offline: Path, judge_model: Path, preference_model: Path) -> Evaluated:
    """The evaluations of t0 and offline_dpo."""
    params, judge = load("evaluate", EvaluateParams), load("judge", JudgeParams)
    asked = tables.read(SLICE, prompts)
    baseline = answers(asked, "t0", pi0, params)
    shared = {
        "pi0": pi0,
        "judge_model": judge_model,
        "judge": judge,
        "preference_model": preference_model,
        "params": params,
    }
    both = (
        evaluated(baseline, baseline, model=pi0, **shared),
        evaluated(answers(asked, "offline_dpo", offline, params), baseline, model=offline, **shared),
    )
    return Evaluated(pl.concat([one.rows for one in both]), pl.concat([one.lost for one in both]))


def write(found: Evaluated, out: Path) -> None:
    """Write what was made, and the account of what was not judged."""
    tables.write(EVALUATIONS, found.rows, out / "evaluations.parquet")
    found.ledger("evaluate_baselines").close(found.asked, found.kept, out)


def main() -> None:
    """Read the validation prompts, write the evaluations of t0 and offline_dpo."""
    *inputs, out = edge.arguments("PROMPTS", "PI0", "OFFLINE", "JUDGE", "PREFERENCE", "OUT")
    write(made(*inputs), out)


if __name__ == "__main__":
    edge.run("evaluate_baselines", main)
