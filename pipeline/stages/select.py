"""Choose the best of pi_0 .. pi_T on the validation prompts, and make models/best the same files.

The rule (paper, Algorithm 2, last line: output the best policy by a validation set): the highest mean of the
reward, or of reward - per_character * characters; or with `length: {rule: regression}` the highest gain over
pi_0 at equal length (pipeline/length_control.py). With `require_gain`, a policy other than pi_0 is taken only
if the interval of its gain, from a bootstrap in pairs, is above 0.

    python -m pipeline.stages.select BASELINES ITERATIONS POLICIES OUT BEST
"""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import edge, tables
from pipeline.errors import UserError
from pipeline.intervals import bootstrap_mean, paired_difference
from pipeline.ledger import write_json
from pipeline.length_control import LengthControl, LengthRegression, gain_at_equal_length
from pipeline.pair_rules import LengthPenalty
from pipeline.params import Params, load
from pipeline.schemas import EVALUATIONS

WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class SelectParams(Params):
    """The rule by which the best policy is chosen."""

    length: LengthControl
    """What a policy's length takes off its reward."""
    require_gain: bool
    seed: int


def scores(rows: pl.DataFrame, params: SelectParams) -> dict[str, pl.DataFrame]:
    """Per policy `score` (the reward, less the penalty) and `characters`, in the order of prompt ids.

    Only prompts on which every policy has a reward count: so all are compared on the same. UserError where
    there is none.
    """
    judged = rows.filter(pl.col("reward").is_not_null().all().over("prompt_id"))
    if judged.is_empty():
        raise UserError(
            f"select: expected a validation prompt on which each policy has a reward, found none of "
            f"{rows['prompt_id'].n_unique()}; choose another judge in params.yaml, or mend its template"
        )
    penalty = params.length.per_character if isinstance(params.length, LengthPenalty) else 0.0
    characters = pl.col("response").str.len_chars().cast(pl.Int64)
    table = judged.sort("policy", "prompt_id").select(
        "policy", score=pl.col("reward") - penalty * characters, characters=characters
    )
    return {name: group for (name,), group in table.group_by("policy", maintain_order=True)}


def figures(own: pl.DataFrame, pi0: pl.DataFrame, params: SelectParams) -> dict[str, Any]:
    """The mean score and the gain over pi_0, each with its 95% interval.

    With a regression also its slope, and whether all answers are longer, or all shorter, than those of pi_0:
    then the gain at equal length is beyond what was seen.
    """
    score, base = own["score"].to_numpy(), pi0["score"].to_numpy()
    mean, slope = bootstrap_mean(score, params.seed), {}
    gain = paired_difference(score, base, params.seed)
    if isinstance(params.length, LengthRegression):
        longer = (own["characters"] - pi0["characters"]).to_numpy()
        gain, per_character = gain_at_equal_length(score - base, longer, params.seed)
        beyond = bool(longer.min() > 0 or longer.max() < 0)
        slope = {"reward_per_character": per_character, "beyond_what_was_seen": beyond}
    return {
        "reward": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "gain": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
        **slope,
    }


def verdict(rows: pl.DataFrame, policies: list[str], params: SelectParams) -> dict[str, Any]:
    """The best of `policies`, the figures of each with 95% intervals, and the reasons in words."""
    values = scores(rows.filter(pl.col("policy").is_in(policies)), params)
    lengths = dict(
        rows.sort("policy", "prompt_id").group_by("policy").agg(pl.col("tokens").mean()).iter_rows()
    )
    table = {
        name: figures(values[name], values["t0"], params) | {"length": lengths[name]} for name in policies
    }
    by = "gain" if isinstance(params.length, LengthRegression) else "reward"
    leader = max(policies, key=lambda name: (table[name][by], -policies.index(name)))
    best, reasons = leader, told(leader, table[leader], params)
    if params.require_gain and leader != "t0" and not table[leader]["gain_low"] > 0:
        best = "t0"
        reasons.append("the recipe requires a gain clear of 0, so t0 stays")
    return {
        "best": best,
        "rule": rule(params),
        "prompts": values["t0"].height,
        "policies": table,
        "reasons": reasons,
    }


def rule(params: SelectParams) -> str:
    """The rule in words."""
    match params.length:
        case LengthRegression():
            words = "highest gain over t0 at equal length, by a regression on the difference of characters"
        case LengthPenalty():
            words = f"highest mean of reward - {params.length.per_character} * characters"
        case _:
            words = "highest mean reward"
    return words + (", with a gain over t0 clear of 0" if params.require_gain else "")


def told(name: str, own: dict[str, Any], params: SelectParams) -> list[str]:
    """Why this policy leads, and how sure that is."""
    regression = isinstance(params.length, LengthRegression)
    where = " at equal length" if regression else ""
    if name == "t0":
        return [f"no policy has a gain over t0{where}"] if regression else [leads(name, own)]
    reasons = [f"{name} has the highest gain over t0 at equal length" if regression else leads(name, own)]
    clear = own["gain_low"] > 0
    reasons.append(
        f"its gain over t0{where} is {own['gain']:.4f}, 95% interval {own['gain_low']:.4f} to "
        f"{own['gain_high']:.4f}, which {'excludes' if clear else 'includes'} 0"
    )
    if own.get("beyond_what_was_seen"):
        reasons.append(
            "all its answers are longer, or all shorter, than those of t0: no equal length was seen"
        )
    return reasons


def leads(name: str, own: dict[str, Any]) -> str:
    """The first reason where means are compared."""
    return f"{name} has the highest mean score, {own['reward']:.4f}"


def same_files(policy: Path, best: Path) -> None:
    """Make `best` a folder with the files of `policy`.

    A file that DVC keeps read-only is a link into its cache, and so becomes another link: nothing is written.
    One that may be written is copied, for whoever edits one of the two folders must not change the other.
    """
    shutil.copytree(policy, best, copy_function=linked_or_copied, dirs_exist_ok=True)


def linked_or_copied(source: str, target: str) -> None:
    """Link a file that nobody may write, where the file system can; copy any other."""
    if not Path(source).stat().st_mode & WRITABLE:
        try:
            os.link(os.path.realpath(source), target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copy2(source, target)


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
    same_files(policies / chosen["best"], best)


if __name__ == "__main__":
    edge.run("select", main)
