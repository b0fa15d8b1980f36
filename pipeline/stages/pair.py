"""Make one preference pair per prompt from the judgments of its candidates.

`best_worst` takes the best and the worst answer (paper, Algorithm 2), `best_random` the best and a
random other, `random` two random ones. The score that selects *and* orders is
r - length_penalty * characters (paper, equation 9). Candidates of one text are one candidate;
prompts whose answers tie, are identical, or differ by less than `min_margin` are dropped by name:
the same response carries no information. So are prompts that the judge gave no judgment.

    python -m pipeline.stages.pair ITERATION CANDIDATES JUDGMENTS OUT
"""

from typing import Literal

import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.errors import UserError
from pipeline.ids import pair_id, seed_for
from pipeline.ledger import Ledger
from pipeline.params import Params, load
from pipeline.schemas import CANDIDATES, JUDGMENTS, PAIRS


class PairParams(Params):
    """How two of a prompt's candidates become chosen and rejected."""

    strategy: Literal["best_worst", "best_random", "random"]
    length_penalty: float = Field(ge=0)
    min_margin: float = Field(ge=0)
    seed: int


def scored(candidates: pl.DataFrame, judgments: pl.DataFrame, params: PairParams) -> pl.DataFrame:
    """Distinct candidates with their penalised `score`, best first within a prompt; none of a prompt that
    was not judged."""
    rows = candidates.join(
        judgments, on=["candidate_id", "prompt_id"], how="left", validate="1:1", maintain_order="left"
    )
    rows = rows.filter(~pl.col("score").is_null().all().over("prompt_id"))
    assert rows["score"].null_count() == 0, "a candidate of a judged prompt has no judgment"
    penalty = params.length_penalty * pl.col("response").str.len_chars()
    rows = rows.with_columns(score=pl.col("score") - penalty)
    order = ["prompt_id", "score", "candidate_id"]
    ranked = rows.sort(order, descending=[False, True, False])
    return ranked.unique(["prompt_id", "response"], keep="first", maintain_order=True)


def two_of(group: pl.DataFrame, params: PairParams) -> tuple[int, int]:
    """Positions of chosen and rejected among a prompt's candidates, which stand best first."""
    n, seed = group.height, seed_for(params.seed, group["prompt_id"][0])
    match params.strategy:
        case "best_worst":
            return 0, n - 1
        case "best_random":
            return 0, 1 + seed % (n - 1)
        case "random":
            first, step = seed % n, 1 + (seed // n) % (n - 1)
            second = (first + step) % n
            return min(first, second), max(first, second)


def selected(rows: pl.DataFrame, iteration: str, params: PairParams) -> tuple[list[dict], list[dict]]:
    """Pairs, and for each prompt without one the reason, value and threshold."""
    pairs, drops = [], []
    for (prompt,), group in rows.group_by("prompt_id", maintain_order=True):
        if group.height < 2:
            drops.append(
                {
                    "prompt_id": prompt,
                    "reason": "fewer than two distinct answers",
                    "value": float(group.height),
                }
            )
            continue
        best, worst = (group.row(i, named=True) for i in two_of(group, params))
        margin = best["score"] - worst["score"]
        if margin <= 0 or margin < params.min_margin:
            reason = "tie" if margin <= 0 else "below the margin"
            drops.append(
                {"prompt_id": prompt, "reason": reason, "value": margin, "threshold": params.min_margin}
            )
            continue
        pairs.append(as_pair(best, worst, iteration, margin))
    return pairs, drops


def as_pair(best: dict, worst: dict, iteration: str, margin: float) -> dict:
    """One row of PAIRS."""
    chosen, rejected = ([{"role": "assistant", "content": row["response"]}] for row in (best, worst))
    return {
        "prompt_id": best["prompt_id"],
        "pair_id": pair_id(best["prompt"], chosen, rejected),
        "iteration": iteration,
        "prompt": best["prompt"],
        "chosen": chosen,
        "rejected": rejected,
        "chosen_id": best["candidate_id"],
        "rejected_id": worst["candidate_id"],
        "chosen_score": best["score"],
        "rejected_score": worst["score"],
        "margin": margin,
        "judge": best["judge"],
    }


def paired(
    candidates: pl.DataFrame, judgments: pl.DataFrame, iteration: str, params: PairParams, ledger: Ledger
) -> pl.DataFrame:
    """The pairs of an iteration (schemas.PAIRS); every prompt is a pair or a line of the ledger."""
    rows = scored(candidates, judgments, params)
    pairs, drops = selected(rows, iteration, params)
    prompts = candidates["prompt_id"].unique().sort()
    unjudged = prompts.filter(~prompts.is_in(judgments["prompt_id"].implode()))
    drops += [{"prompt_id": prompt, "reason": "not judged"} for prompt in unjudged]
    schema = {"prompt_id": pl.String, "reason": pl.String, "value": pl.Float64, "threshold": pl.Float64}
    number = pl.DataFrame({"prompt_id": prompts}).with_row_index("row").cast({"row": pl.Int64})
    lost = pl.DataFrame(drops, schema=schema).join(number, on="prompt_id", how="left", maintain_order="left")
    origin = {"source": pl.lit(iteration), "file": pl.lit("candidates.parquet"), "item": pl.lit(0, pl.Int64)}
    ledger.drop(lost.with_columns(**origin), id_column="prompt_id")
    return pl.DataFrame(pairs, schema=PAIRS.schema)


def main() -> None:
    """Read candidates and judgments, write pairs and the ledger."""
    iteration, candidates, judgments, out = edge.arguments("ITERATION", "CANDIDATES", "JUDGMENTS", "OUT")
    params = load("pair", PairParams)
    rows = tables.read(CANDIDATES, candidates / "candidates.parquet")
    ledger = Ledger(f"pair@{iteration}", "prompts")
    pairs = paired(
        rows, tables.read(JUDGMENTS, judgments / "judgments.parquet"), str(iteration), params, ledger
    )
    if pairs.is_empty():
        reasons = dict(pl.concat(ledger.drops).group_by("reason").len().sort("reason").iter_rows())
        raise UserError(
            f"pair@{iteration}: expected at least one pair, found none of {rows['prompt_id'].n_unique()} "
            f"prompts ({reasons}); lower pair.min_margin or sample more in params.yaml"
        )
    tables.write(PAIRS, pairs, out / "pairs.parquet")
    ledger.close(rows["prompt_id"].n_unique(), pairs.height, out)


if __name__ == "__main__":
    edge.run("pair", main)
