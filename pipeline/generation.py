"""The account of a generation: what was asked, what was answered, and how the answers ended."""

from typing import Any

import polars as pl

from pipeline.ledger import Ledger


def account(plan: pl.DataFrame, answers: pl.DataFrame, kept: pl.DataFrame, ledger: Ledger) -> dict[str, Any]:
    """Counts of a generation, for generation.json.

    plan: a row per sample asked for (place, policy, temperature). answers: the part of it that was
    answered, with response, tokens and finish_reason; kept: the part of these that are candidates.
    `prompts`, `asked`, `kept` and `dropped` (by reason) count samples; `samples` has the `figures` of
    each policy and temperature in the order of the plan, `all` those of all together.
    """
    dropped = (
        pl.concat([rows.select("reason") for rows in ledger.drops])["reason"].value_counts().sort("reason")
    )
    groups = plan.group_by("policy", "temperature", maintain_order=True).len("asked")
    return {
        "prompts": plan["place"].n_unique(),
        "asked": plan.height,
        "kept": kept.height,
        "dropped": dict(dropped.iter_rows()),
        "samples": [
            {"policy": policy, "temperature": temperature, "asked": asked}
            | figures(answers.filter(policy=policy, temperature=temperature))
            for policy, temperature, asked in groups.iter_rows()
        ],
        "all": figures(answers),
    }


def figures(answers: pl.DataFrame) -> dict[str, int | float | None]:
    """How many answers there are and what they are like; null where there are none.

    Shares of those that ended by themselves, were cut at the limit, and have no text; their mean tokens;
    distinct texts per prompt, in the mean over the prompts.
    """
    ends, texts = answers["finish_reason"], answers["response"]
    sums = {
        "finished": (ends == "stop").sum(),
        "unfinished": (ends == "length").sum(),
        "empty": (texts.str.strip_chars() == "").sum(),
        "mean_tokens": answers["tokens"].sum(),
    }
    means = {name: int(value) / answers.height if answers.height else None for name, value in sums.items()}
    distinct = answers.select("place", "response").unique().height
    prompts = answers["place"].n_unique()
    return {
        "answers": answers.height,
        **means,
        "distinct_per_prompt": distinct / prompts if prompts else None,
    }
