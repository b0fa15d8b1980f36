"""How each policy answers the validation prompts: reward, gain over pi_0, win rate, length and KL."""

from dataclasses import dataclass

import polars as pl

from pipeline import tables
from pipeline.ids import seed_for
from pipeline.intervals import Interval, bootstrap_mean, bootstrap_ratio, paired_difference
from pipeline.report.inputs import PI0, Folders, Recipe
from pipeline.report.iterations import IterationFacts
from pipeline.report.mixes import mean
from pipeline.schemas import EVALUATIONS


@dataclass(frozen=True, kw_only=True)
class PolicyFacts:
    """The figures of a policy: length in tokens, KL in nats; `gain` and `longer` are paired with t0."""

    name: str
    prompts: int
    reward: Interval
    gain: Interval
    win: Interval
    preference: Interval
    length: Interval
    longer: Interval
    words: float
    unfinished: float
    kl: Interval
    """Per answer, in nats: the mean log-ratio of answers sampled at temperature 1."""
    kl_per_token: Interval
    """The sum of these log-ratios over that of the answers' tokens."""


def evaluations(folders: Folders, recipe: Recipe) -> pl.DataFrame:
    """The evaluations of all policies of the recipe."""
    paths = [folders.baselines, *(folders.iterations / t / "evaluate" for t in recipe.iterations)]
    rows = pl.concat([tables.read(EVALUATIONS, path / "evaluations.parquet") for path in paths])
    return rows.filter(pl.col("policy").is_in(recipe.policies)).sort("policy", "prompt_id")


def policy_facts(rows: pl.DataFrame, name: str) -> PolicyFacts:
    """The figures of one policy; all intervals of a policy come from its own seed."""
    own, pi0 = (rows.filter(pl.col("policy") == policy) for policy in (name, PI0))
    both = own.join(pi0, on="prompt_id", how="inner", suffix="_0", validate="1:1").sort("prompt_id")

    def interval(column: str) -> Interval:
        return bootstrap_mean(own[column].drop_nulls().to_numpy(), seed_for("policy", name, column))

    def gain(column: str) -> Interval:
        known = both.drop_nulls([column, f"{column}_0"])
        before, after = known[f"{column}_0"].to_numpy(), known[column].to_numpy()
        return paired_difference(after, before, seed_for("gain", name, column))

    return PolicyFacts(
        name=name,
        prompts=own.height,
        reward=interval("reward"),
        gain=gain("reward"),
        win=interval("win"),
        preference=interval("preference"),
        length=interval("tokens"),
        longer=gain("tokens"),
        words=mean(own["response"].str.count_matches(r"\S+")),
        unfinished=mean((own["finish_reason"] == "length").cast(pl.Float64)),
        kl=interval("kl"),
        kl_per_token=bootstrap_ratio(own["kl"], own["kl_tokens"], seed_for("policy", name, "kl_per_token")),
    )


def policies(rows: pl.DataFrame, recipe: Recipe) -> list[PolicyFacts]:
    """The figures of every policy in `rows` (schemas.EVALUATIONS), in the order of the pipeline."""
    present = set(rows["policy"])
    return [policy_facts(rows, name) for name in recipe.policies if name in present]


def policy_rows(facts: list[PolicyFacts], iterations: list[IterationFacts]) -> pl.DataFrame:
    """One row per policy for reports/iterations.csv; a baseline has no candidates and pairs."""
    made = {one.name: one for one in iterations}
    rows = []
    for one in facts:
        iteration = made.get(one.name)
        row: dict[str, object] = {"policy": one.name, "prompts": one.prompts}
        for column, interval in (
            ("reward", one.reward),
            ("gain", one.gain),
            ("win_rate", one.win),
            ("preference", one.preference),
            ("length", one.length),
            ("kl", one.kl),
            ("kl_per_token", one.kl_per_token),
        ):
            row |= {column: interval.mean, f"{column}_low": interval.low, f"{column}_high": interval.high}
        row |= {
            "words": one.words,
            "unfinished": one.unfinished,
            "candidates": iteration.candidates if iteration else None,
            "pairs": iteration.pairs if iteration else None,
            "margin": iteration.margin if iteration else None,
        }
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col(pl.Float64).round(6).fill_nan(None)
    )
