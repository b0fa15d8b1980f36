"""How good a policy is on the validation prompts: reward, win rate, length and KL to pi_0.

One answer per prompt, sampled at the recipe's temperature with the prompt's own seed, so that all
policies answer under the same conditions and differences are paired by prompt.

KL(pi || pi_0) is estimated by the mean over prompts of log pi(y|x) - log pi_0(y|x), with y sampled from pi at
temperature 1, up to `max_new_tokens`: unbiased for the KL of what pi says up to there, and below 0 by chance
where the two are near. Answers at another temperature come from another distribution than the one whose
log-probabilities these are; their mean would estimate no divergence.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.chat import Chat
from pipeline.comparing import Unjudged
from pipeline.engines.cached import Dtype, ScorerEngine, log_probs, sample
from pipeline.engines.judging import JudgeParams, compared, comparer, rewards
from pipeline.errors import UserError
from pipeline.ledger import Ledger
from pipeline.params import Params
from pipeline.sampling_plan import Samples, Temperature, planned, prompt_tokens, requests
from pipeline.schemas import EVALUATIONS

KL_TEMPERATURE = 1.0
"""At it, samples have the distribution whose log-probabilities the engines measure."""


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


def kl_terms(rows: pl.DataFrame, model: Path, pi0: Path, params: EvaluateParams) -> pl.DataFrame:
    """`kl` and `kl_tokens` (schemas.EVALUATIONS) of each prompt of `rows`, the answers of the policy."""
    if model == pi0:
        return rows.select(kl=pl.lit(0.0), kl_tokens=pl.col("tokens").clip(1))
    if params.temperature != KL_TEMPERATURE:
        warm = params.model_copy(update={"temperature": KL_TEMPERATURE})
        rows = answers(rows, rows["policy"][0], model, warm)
    chat = Chat.load(model)
    prompts = [chat.prompt_ids(prompt) for prompt in rows["prompt"]]
    texts = [
        chat.response_ids(text, ended=end == "stop")
        for text, end in rows.select("response", "finish_reason").iter_rows()
    ]
    policy, reference = (
        np.array(log_probs(folder, prompts, texts, engine=params.engine, dtype=params.dtype))
        for folder in (model, pi0)
    )
    return pl.DataFrame({"kl": policy - reference, "kl_tokens": [len(ids) for ids in texts]})


class Evaluated(NamedTuple):
    """What became of the answers of a policy."""

    rows: pl.DataFrame
    """The evaluations (schemas.EVALUATIONS)."""
    lost: pl.DataFrame
    """What was not judged: the ledger's origin columns, prompt_id, reason and detail."""

    def ledger(self, stage: str) -> Ledger:
        """The account: two judgments are asked of each answer, its reward (item 0) and the preference."""
        ledger = Ledger(stage, "judgments")
        ledger.drop(self.lost, id_column="prompt_id")
        return ledger

    @property
    def asked(self) -> int:
        """Judgments that were wanted."""
        return 2 * self.rows.height

    @property
    def kept(self) -> int:
        """Judgments that there are."""
        return self.rows["reward"].count() + self.rows["preference"].count()


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
) -> Evaluated:
    """The evaluations of `rows` against `baseline`, pi_0's answers to these prompts.

    An answer without a judgment stays, with null as its reward: length and KL are measured all the same.
    Who compares policies by reward does so on the prompts on which each of them has one. UserError where no
    answer has a reward.
    """
    assert rows["prompt_id"].equals(baseline["prompt_id"]), "the baseline answers other prompts"
    games = list(zip(rows["prompt"], rows["response"], baseline["response"], strict=True))
    settings = {"max_length": params.max_length, "engine": params.engine, "dtype": params.dtype}
    preferred = compared(preference_model, Chat.load(preference_model), games, wording="trained", **settings)
    own, silent = absolute_scores(rows, baseline, judge_model, judge)
    other, _ = absolute_scores(baseline, baseline, judge_model, judge)
    if rows.height and own.count(None) == rows.height:
        raise UserError(
            f"the judge {judge.kind}: expected a judgment of at least one validation answer, found none of "
            f"{rows.height}; raise max_length of judge, or of judge.prompted, in params.yaml"
        )
    table = rows.hstack(kl_terms(rows, model, pi0, params)).with_columns(
        reward=pl.Series(own, dtype=pl.Float64),
        win=pl.Series(
            [
                None if a is None or b is None else 0.5 + 0.5 * float(np.sign(a - b))
                for a, b in zip(own, other, strict=True)
            ],
            dtype=pl.Float64,
        ),
        preference=pl.Series(preferred.judgments, dtype=pl.Float64),
    )
    return Evaluated(table.select(list(EVALUATIONS.columns)), unjudged(rows, silent, preferred.unjudged))


def unjudged(rows: pl.DataFrame, *lost: Sequence[Unjudged]) -> pl.DataFrame:
    """The questions without a judgment, by the ledger's columns; those of one judge after the other's."""
    told = [
        {"row": one.index, "item": item, "reason": one.reason, "detail": one.text}
        for item, every in enumerate(lost)
        for one in every
    ]
    schema = {"row": pl.Int64, "item": pl.Int64, "reason": pl.String, "detail": pl.String}
    found = pl.DataFrame(told, schema=schema)
    own = rows.select("prompt_id", source="policy")[found["row"]]
    return own.hstack(found).with_columns(file=pl.lit("validation.parquet"))


def absolute_scores(
    rows: pl.DataFrame, baseline: pl.DataFrame, model: Path, judge: JudgeParams
) -> tuple[list[float | None], tuple[Unjudged, ...]]:
    """The reward of each answer, and the questions without a judgment.

    A judge of two gives no reward, so there it is the probability to beat pi_0's; None without a judgment.
    """
    if judge.rewards:
        asked = rows.select("prompt", "response").iter_rows()
        return [*rewards(model, Chat.load(model), asked, judge)], ()
    games = list(zip(rows["prompt"], rows["response"], baseline["response"], strict=True))
    found = comparer(model, judge)(games)
    return found.judgments, found.unjudged
