"""What other pair rules would have given, from the same judged candidates and with no model.

Each alternative changes one thing of the recipe's `pair`, its strategy or its length rule. All else stays, so
two rows of the table differ by what their names say.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from pipeline.answer_pool import Pool, answer_pool
from pipeline.pair_rules import CounterfactualParams, MeanOfJudges, NoLength, PairParams, Uncertainty, told
from pipeline.pair_strategies import all_pairs
from pipeline.pairing import ENDS, ends, sifted
from pipeline.schemas import COUNTERFACTUALS


def alternatives(params: PairParams, others: CounterfactualParams) -> Iterator[PairParams]:
    """The recipe's rule, then the others, each once; `uncertainty`, which takes a model, as it is alone."""
    lengths = () if isinstance(params.strategy, Uncertainty) else others.lengths
    rules = [
        params,
        *(params.model_copy(update={"strategy": one}) for one in others.strategies),
        *(params.model_copy(update={"length": one}) for one in lengths),
    ]
    names: dict[tuple[str, str], PairParams] = {}
    for rule in rules:
        names.setdefault((told(rule.strategy), told(rule.length)), rule)
    yield from names.values()


def counterfactuals(
    candidates: pl.DataFrame,
    judgments: pl.DataFrame,
    pairs: pl.DataFrame,
    params: PairParams,
    others: CounterfactualParams,
) -> pl.DataFrame:
    """A row for each alternative (schemas.COUNTERFACTUALS), the recipe's own first.

    `candidates` have the columns answer_pool.READS.
    `pairs` (schemas.PAIRS) are what the recipe's rule has made, which is taken as it is.
    """
    pools: dict[str, Pool] = {}
    rows: list[dict[str, Any]] = []
    chosen = pl.DataFrame()
    for number, rule in enumerate(alternatives(params, others)):
        length = told(rule.length)
        if length not in pools:
            pools[length] = answer_pool(candidates, judgments, rule)
        pool = pools[length]
        kept = sifted(pool, rule).kept if number else positions_of(pairs, pool, candidates["candidate_id"])
        named = ends(candidates.select("candidate_id"), pool, kept)
        ids = pl.DataFrame({end: own["candidate_id"] for end, own in named.items()})
        chosen = chosen if number else ids
        shared = ids.join(chosen, on=list(ENDS), how="semi").height
        rows.append(
            {
                "number": number,
                "strategy": told(rule.strategy),
                "length": length,
                "prompts": candidates["prompt_id"].n_unique(),
                **figures(pool, kept),
                "overlap": shared / ids.height if ids.height else None,
                "agreement": agreement(ids, judgments),
            }
        )
    return pl.DataFrame(rows, schema=COUNTERFACTUALS.schema)


def positions_of(pairs: pl.DataFrame, pool: Pool, candidates: pl.Series) -> pl.DataFrame:
    """`Sifted.kept` of pairs that were made of this pool; `candidates` are the ids by row."""
    places = candidates.gather(pool.rows).to_frame("candidate_id").with_row_index("place")
    found = pairs.select("margin", *(f"{end}_id" for end in ENDS), prompt="prompt_id")
    for end in ENDS:
        named = places.rename({"candidate_id": f"{end}_id", "place": end})
        found = found.join(named, on=f"{end}_id", how="inner", validate="m:1", maintain_order="left")
    assert found.height == pairs.height, "the pairs are of other candidates"
    return found


def figures(pool: Pool, kept: pl.DataFrame) -> dict[str, float | int | None]:
    """Yield, margin and lengths of pairs."""
    longer, shorter = (pool.characters[kept[end].to_numpy()] for end in ENDS)
    gap = longer - shorter
    means = {
        "margin": kept["margin"].to_numpy(),
        "length_gap": gap,
        "longer_chosen": 0.5 + 0.5 * np.sign(gap),
    }
    return {
        "paired": kept["prompt"].n_unique(),
        "pairs": kept.height,
        **{name: float(np.mean(values)) if kept.height else None for name, values in means.items()},
    }


def agreement(ids: pl.DataFrame, judgments: pl.DataFrame) -> float | None:
    """The share of pairs whose chosen answer every judge scores higher, of those that all have judged.

    None of one judge, and of no such pairs.
    """
    judges = judgments["judge"].unique().sort()
    if len(judges) < 2:
        return None
    rows = ids
    for number, judge in enumerate(judges):
        own = judgments.filter(pl.col("judge") == judge)
        for end in ENDS:
            said = own.select(pl.col("candidate_id").alias(end), pl.col("score").alias(f"{end}{number}"))
            rows = rows.join(said, on=end, how="inner", maintain_order="left")
    better = [pl.col(f"chosen{number}") > pl.col(f"rejected{number}") for number in range(len(judges))]
    return rows.select(pl.all_horizontal(better).mean()).item() if rows.height else None


def rank_agreement(
    candidates: pl.DataFrame, judgments: pl.DataFrame, params: PairParams
) -> list[dict[str, Any]]:
    """For every two judges Kendall's tau-b over all pairs of distinct answers to one prompt, and the prompts.

    Over prompts that all judges have judged. `tau_b` is None where one of the two finds nothing but ties.
    """
    if judgments["judge"].n_unique() < 2:
        return []
    plain = {"judges": MeanOfJudges(rule="mean"), "length": NoLength(rule="none"), "noise": {}}
    pool = answer_pool(candidates, judgments, params.model_copy(update=plain))
    found = []
    for one, other in combinations(sorted(pool.by_judge), 2):
        alike = 0.0
        decided = np.zeros(2)
        for _, better, worse in all_pairs(pool):
            a, b = (
                np.sign(pool.by_judge[judge][better] - pool.by_judge[judge][worse]) for judge in (one, other)
            )
            alike += float(np.sum(a * b))
            decided += np.abs(a).sum(), np.abs(b).sum()
        scale = float(np.sqrt(decided.prod()))
        found.append(
            {
                "judges": [one, other],
                "tau_b": alike / scale if scale else None,
                "prompts": len(pool.starts) - 1,
            }
        )
    return found
