"""How good a policy is on the validation prompts: reward, win rate, length and KL to pi_0.

One answer per prompt, sampled at the recipe's temperature with the prompt's own seed, so that all
policies answer under the same conditions and differences are paired by prompt.
"""

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.chat import Chat
from pipeline.engines.cached import Dtype, ScorerEngine, log_probs, sample
from pipeline.engines.judging import JudgeParams, compared, comparer, rewards
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.sampling_plan import Samples, Temperature, planned, prompt_tokens, requests
from pipeline.schemas import EVALUATIONS


class EvaluateParams(Params):
    """How validation answers are sampled and compared."""

    engine: ScorerEngine
    dtype: Dtype
    temperature: Temperature
    max_new_tokens: int = Field(gt=0)
    max_length: int = Field(ge=32)
    """Window of the preference model that compares an answer with pi_0's."""
    seed: int


def answers(prompts: pl.DataFrame, policy: str, model: Path, params: EvaluateParams) -> pl.DataFrame:
    """One answer per prompt: policy, prompt_id, prompt, response, tokens, finish_reason."""
    prompts = prompts.sort("prompt_id")
    samples = Samples(policy="current", temperature=params.temperature, count=1)
    plan = planned(prompts["prompt_id"], [samples], params.seed)
    asked = requests(plan, prompt_tokens(prompts["prompt"], Chat.load(model)))
    done = sample(
        model, asked, engine=params.engine, dtype=params.dtype, max_new_tokens=params.max_new_tokens
    )
    named = prompts.select(pl.lit(policy).alias("policy"), "prompt_id", "prompt")
    return named.hstack(done.rename({"text": "response"}))


def kl_terms(rows: pl.DataFrame, model: Path, pi0: Path, params: EvaluateParams) -> list[float]:
    """log pi(y|x) - log pi_0(y|x) of each answer, in nats: its mean estimates KL(pi || pi_0) without bias."""
    chat = Chat.load(model)
    prompts = [chat.prompt_ids(prompt) for prompt in rows["prompt"]]
    texts = [
        chat.response_ids(text) if end == "stop" else chat.encode_plain(text) or [chat.end_of_turn]
        for text, end in rows.select("response", "finish_reason").iter_rows()
    ]
    policy, reference = (
        np.array(log_probs(folder, prompts, texts, engine=params.engine, dtype=params.dtype))
        for folder in (model, pi0)
    )
    return (policy - reference).tolist()


def evaluated(
    rows: pl.DataFrame,
    baseline: pl.DataFrame,
    *,
    model: Path,
    pi0: Path,
    judge_model: Path,
    judge: JudgeParams,
    preference_model: Path,
    params: EvaluateParams,
) -> pl.DataFrame:
    """The evaluations of `rows` (schemas.EVALUATIONS) against `baseline`, pi_0's answers to these prompts.

    An answer without a judgment stays, with null as its reward: length and KL are measured all the same.
    Who compares policies by reward does so on the prompts on which each of them has one. UserError where no
    answer has a reward.
    """
    assert rows["prompt_id"].equals(baseline["prompt_id"]), "the baseline answers other prompts"
    games = list(zip(rows["prompt"], rows["response"], baseline["response"], strict=True))
    settings = {"max_length": params.max_length, "engine": params.engine, "dtype": params.dtype}
    preferred = compared(
        preference_model, Chat.load(preference_model), games, wording="trained", **settings
    ).judgments
    own = absolute_scores(rows, baseline, judge_model, judge)
    other = absolute_scores(baseline, baseline, judge_model, judge)
    if rows.height and own.count(None) == rows.height:
        raise UserError(
            f"the judge {judge.kind}: expected a judgment of at least one validation answer, found none of "
            f"{rows.height}; raise max_length of judge, or of judge.prompted, in params.yaml"
        )
    kl = [0.0] * rows.height if model == pi0 else kl_terms(rows, model, pi0, params)
    return rows.with_columns(
        reward=pl.Series(own, dtype=pl.Float64),
        win=pl.Series(
            [
                None if a is None or b is None else 0.5 + 0.5 * float(np.sign(a - b))
                for a, b in zip(own, other, strict=True)
            ],
            dtype=pl.Float64,
        ),
        preference=pl.Series(preferred, dtype=pl.Float64),
        kl=pl.Series(kl, dtype=pl.Float64),
    ).select(list(EVALUATIONS.columns))


def absolute_scores(
    rows: pl.DataFrame, baseline: pl.DataFrame, model: Path, judge: JudgeParams
) -> list[float | None]:
    """The reward of each answer; a judge of two gives none, so there it is the probability to beat pi_0's,
    and None where it gave no judgment."""
    if judge.rewards:
        asked = rows.select("prompt", "response").iter_rows()
        return [*rewards(model, Chat.load(model), asked, judge)]
    games = list(zip(rows["prompt"], rows["response"], baseline["response"], strict=True))
    return comparer(model, judge)(games).judgments


def summary(rows: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Per policy: mean reward, win rate, preference, tokens, KL, and the share cut at the limit.

    Each mean is over the answers that have the value; `unjudged` and `uncompared` count those that have no
    reward and no preference.
    """
    means = rows.sort("policy", "prompt_id").group_by("policy", maintain_order=True)
    table = means.agg(
        pl.col("reward", "win", "preference", "kl").mean(),
        pl.col("tokens").mean(),
        unfinished=(pl.col("finish_reason") == "length").mean(),
        prompts=pl.len(),
        unjudged=pl.col("reward").null_count(),
        uncompared=pl.col("preference").null_count(),
    )
    return {row.pop("policy"): row for row in table.iter_rows(named=True)}
