"""Choose the best of pi_0 .. pi_T on the validation prompts, and make models/best a copy of it.

The rule: the highest mean of reward - length_penalty * characters. With `require_gain`, a policy
other than pi_0 is taken only if the paired bootstrap interval of its gain over pi_0 is above 0
(paper, Algorithm 2, last line: output the best policy by a validation set).

    python -m pipeline.stages.select BASELINES ITERATIONS POLICIES OUT BEST
"""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.errors import UserError
from pipeline.intervals import bootstrap_mean, paired_difference
from pipeline.ledger import write_json
from pipeline.params import Params, load
from pipeline.schemas import EVALUATIONS


class SelectParams(Params):
    """The rule by which the best policy is chosen."""

    length_penalty: float = Field(ge=0)
    require_gain: bool
    seed: int


def scores(rows: pl.DataFrame, length_penalty: float) -> dict[str, pl.Series]:
    """Per policy, its penalised rewards in the order of prompt ids.

    Only prompts on which every policy has a reward count: so all are compared on the same. UserError where
    there is none.
    """
    value = pl.col("reward") - length_penalty * pl.col("response").str.len_chars()
    judged = rows.filter(pl.col("reward").is_not_null().all().over("prompt_id"))
    if judged.is_empty():
        raise UserError(
            f"select: expected a validation prompt on which each policy has a reward, found none of "
            f"{rows['prompt_id'].n_unique()}; choose another judge in params.yaml, or mend its template"
        )
    ordered = judged.sort("policy", "prompt_id").with_columns(score=value)
    return {name: group["score"] for (name,), group in ordered.group_by("policy", maintain_order=True)}


def verdict(rows: pl.DataFrame, policies: list[str], params: SelectParams) -> dict[str, Any]:
    """The best of `policies`, the figures of each with 95% intervals, and the reasons in words."""
    values = scores(rows, params.length_penalty)
    table, reasons = {}, []
    for name in policies:
        mean, low, high = bootstrap_mean(values[name].to_numpy(), params.seed)
        gain, gain_low, gain_high = paired_difference(
            values[name].to_numpy(), values["t0"].to_numpy(), params.seed
        )
        own = rows.filter(pl.col("policy") == name)
        table[name] = {
            "reward": mean,
            "low": low,
            "high": high,
            "gain": gain,
            "gain_low": gain_low,
            "gain_high": gain_high,
            "length": own.sort("prompt_id")["tokens"].mean(),
        }
    best = max(policies, key=lambda name: (table[name]["reward"], -policies.index(name)))
    figures = table[best]
    reasons.append(f"{best} has the highest mean score, {figures['reward']:.4f}")
    if best != "t0":
        clear = figures["gain_low"] > 0
        reasons.append(
            f"its gain over t0 is {figures['gain']:.4f}, 95% interval {figures['gain_low']:.4f} to "
            f"{figures['gain_high']:.4f}, which {'excludes' if clear else 'includes'} 0"
        )
        if params.require_gain and not clear:
            best = "t0"
            reasons.append("the recipe requires a gain clear of 0, so t0 stays")
    rule = f"highest mean of reward - {params.length_penalty} * characters" + (
        ", with a gain over t0 clear of 0" if params.require_gain else ""
    )
    return {"best": best, "rule": rule, "policies": table, "reasons": reasons}


def main() -> None:
    """Read all evaluations, write the verdict and the best model."""
    baselines, iterations, policies, out, best = edge.arguments(
        "BASELINES", "ITERATIONS", "POLICIES", "OUT", "BEST"
    )
    params = load("select", SelectParams)
    names = list(load("iterations", dict[str, dict[str, Any]]))
    frames = [tables.read(EVALUATIONS, Path(baselines) / "evaluations.parquet")]
    frames += [
        tables.read(EVALUATIONS, iterations / name / "evaluate" / "evaluations.parquet") for name in names
    ]
    chosen = verdict(pl.concat(frames), ["t0", *names], params)
    write_json(out / "verdict.json", chosen)
    shutil.copytree(policies / chosen["best"], best, dirs_exist_ok=True)


if __name__ == "__main__":
    edge.run("select", main)
