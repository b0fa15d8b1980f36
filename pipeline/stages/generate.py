"""Sample candidates for the prompts of an iteration: from the policy of the one before, and from a variant.

n answers per prompt at the recipe's temperatures (paper, section 3.2: half at 1.0, half at 0.7, no
top-k or top-p), each by the current policy or by the variant that the iteration's row names: an earlier
policy or a checkpoint that its training kept. Each model renders a prompt with its own chat template.
What a prompt does not get is in the ledger: all samples of a prompt over the window, empty answers
and, where the recipe says `unfinished: drop`, answers cut at the limit. `generation.json` counts them.

    python -m pipeline.stages.generate ITERATION PROMPTS POLICY VARIANT OUT
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, model_validator

from pipeline import edge, tables
from pipeline.chat import Chat
from pipeline.engines.cached import Dtype, SamplerEngine, sample
from pipeline.errors import UserError
from pipeline.generation import account
from pipeline.id_columns import text_ids
from pipeline.ledger import Ledger, write_json
from pipeline.params import Params, load
from pipeline.sampling_plan import Role, Samples, planned, prompt_tokens, requests
from pipeline.schemas import CANDIDATES, ORIGIN_KEY, SLICE


class GenerateParams(Params):
    """Which engine samples, how many answers by whom at which temperatures, and how long they may be."""

    engine: SamplerEngine
    dtype: Dtype
    samples: tuple[Samples, ...] = Field(min_length=1)
    max_prompt_tokens: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    unfinished: Literal["keep", "drop"]
    seed: int

    @model_validator(mode="after")
    def each_once(self) -> "GenerateParams":
        """Two entries alike would draw the same samples twice; a server has one model."""
        asked = [(wanted.policy, wanted.temperature) for wanted in self.samples]
        if len(set(asked)) != len(asked):
            raise ValueError(f"samples: expected each policy and temperature once, found {asked}")
        if self.engine == "openai" and len({role for role, _ in asked}) > 1:
            raise ValueError(
                "samples: expected one policy with the engine openai, whose server has one model"
            )
        return self


@dataclass(frozen=True)
class Generated:
    """What the stage makes of the prompts of an iteration."""

    candidates: pl.DataFrame
    """Rows of schemas.CANDIDATES."""
    ledger: Ledger
    """The samples that are no candidates."""
    account: dict[str, Any]
    """The content of generation.json; `asked` is prompts x n."""
    asked: int


def made(iteration: str, prompts: Path, policy: Path, variant: Path) -> Generated:
    """Everything that the stage writes; answers come from the row store or are sampled into it."""
    params = load("generate", GenerateParams)
    return generated(iteration, tables.read(SLICE, prompts), {"current": policy, "variant": variant}, params)


def generated(
    iteration: str, prompts: pl.DataFrame, models: Mapping[Role, Path], params: GenerateParams
) -> Generated:
    """The candidates for `prompts` (schemas.SLICE), with the ledger and the account."""
    ledger = Ledger(f"generate@{iteration}", "candidates")
    plan = planned(prompts["prompt_id"], params.samples, params.seed).with_columns(
        policy=pl.col("role").replace_strict({role: name_of(model) for role, model in models.items()})
    )
    parts = []
    for role in dict.fromkeys(wanted.policy for wanted in params.samples):
        answers, too_long = answered(plan.filter(role=role), prompts, models[role], params)
        ledger.drop(from_prompts(too_long, prompts, plan), id_column="prompt_id")
        parts.append(answers)
    answers = pl.concat(parts)
    answers = answers.with_columns(prompts.select("prompt_id", "prompt")[answers["place"]])
    identity = pl.concat_str("prompt_id", "policy", "seed", "response", separator="\n")
    reasons = {"empty answer": pl.col("response").str.strip_chars() == ""}
    if params.unfinished == "drop":
        reasons["answer cut at the limit"] = pl.col("finish_reason") == "length"
    answers = answers.with_columns(
        candidate_id=text_ids(identity),
        response_id=text_ids(pl.col("response")),
        characters=pl.col("response").str.len_chars().cast(pl.Int64),
    )
    kept, lost = tables.sift(answers, reasons)
    sized = lost.with_columns(value=pl.col("tokens"), threshold=pl.lit(params.max_new_tokens))
    ledger.drop(from_prompts(sized, prompts, plan), id_column="candidate_id")
    done = account(plan, answers, kept, ledger)
    return Generated(kept.select(list(CANDIDATES.columns)), ledger, done, plan.height)


def answered(
    plan: pl.DataFrame, prompts: pl.DataFrame, model: Path, params: GenerateParams
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The part of a plan that one model answers, with the answers, and the part whose prompts do not fit."""
    demand_room(model, params)
    tokens = prompt_tokens(prompts["prompt"], Chat.load(model))
    lengths = pl.Series([float(len(ids)) for ids in tokens], dtype=pl.Float64)
    sized = plan.with_columns(value=lengths[plan["place"]], threshold=pl.lit(float(params.max_prompt_tokens)))
    fits = pl.col("value") <= pl.col("threshold")
    asked, too_long = sized.filter(fits).drop("value", "threshold"), sized.filter(~fits)
    answers = sample(
        model,
        requests(asked, tokens),
        engine=params.engine,
        dtype=params.dtype,
        max_new_tokens=params.max_new_tokens,
    )
    answers = asked.hstack(answers.rename({"text": "response"}))
    return answers, too_long.with_columns(reason=pl.lit("prompt longer than the window"))


def demand_room(model: Path, params: GenerateParams) -> None:
    """UserError where the longest prompt and answer of the recipe are beyond the model's positions."""
    path, asked = model / "config.json", params.max_prompt_tokens + params.max_new_tokens
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    positions = found.get("max_position_embeddings")
    if positions is not None and asked > positions:
        raise UserError(
            f"params.yaml: generate: expected max_prompt_tokens + max_new_tokens of at most {positions}, the "
            f"positions of {model}, found {asked}; lower one of them"
        )


def from_prompts(rows: pl.DataFrame, prompts: pl.DataFrame, plan: pl.DataFrame) -> pl.DataFrame:
    """Rows of a plan with the origin of their prompts; each sample counts as an item of its own."""
    n = plan.height // max(prompts.height, 1)
    origin = prompts.select("prompt_id", *ORIGIN_KEY)[rows["place"]]
    return rows.with_columns(origin).with_columns(item=pl.col("item") * n + pl.col("sample"))


def name_of(model: Path) -> str:
    """The folder of a model below models/, such as policies/t1; elsewhere the name of the folder."""
    parts = model.parts
    return "/".join(parts[parts.index("models") + 1 :]) if "models" in parts[:-1] else model.name


def write(done: Generated, out: Path) -> None:
    """The candidates, the ledger of what is missing among them, and the account, as files in `out`."""
    tables.write(CANDIDATES, done.candidates, out / "candidates.parquet")
    done.ledger.close(done.asked, done.candidates.height, out)
    write_json(out / "generation.json", done.account)


def main() -> None:
    """Read the slice of this iteration, write what is made of it."""
    iteration, *inputs, out = edge.arguments("ITERATION", "PROMPTS", "POLICY", "VARIANT", "OUT")
    write(made(str(iteration), *inputs), out)


if __name__ == "__main__":
    edge.run("generate", main)
