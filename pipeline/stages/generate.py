"""Sample candidates for the prompts of an iteration from the policy of the one before.

n answers per prompt at the recipe's temperatures (paper, section 3.2: half at 1.0, half at 0.7, no
top-k or top-p). A prompt that leaves no room in the window is dropped by name; an answer cut at
the limit is kept with finish_reason "length", and an empty one is dropped.

    python -m pipeline.stages.generate ITERATION PROMPTS POLICY OUT
"""

from pathlib import Path

import polars as pl
from pydantic import Field

from pipeline import edge, tables
from pipeline.chat import Chat
from pipeline.engines.cached import Dtype, Engine, sample
from pipeline.ids import content_id
from pipeline.ledger import Ledger
from pipeline.params import Params, load
from pipeline.sampling_plan import Temperature, requests
from pipeline.schemas import CANDIDATES, SLICE


class GenerateParams(Params):
    """Which engine samples, how many answers at which temperatures, and how long they may be."""

    engine: Engine
    dtype: Dtype
    samples: tuple[Temperature, ...] = Field(min_length=1)
    max_prompt_tokens: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    seed: int


def candidates(prompts: pl.DataFrame, policy: Path, params: GenerateParams, ledger: Ledger) -> pl.DataFrame:
    """The candidates of `prompts` (schemas.CANDIDATES); prompts and answers left out are in the ledger."""
    chat = Chat.load(policy)
    lengths = pl.Series(
        "value", [float(len(chat.prompt_ids(p))) for p in prompts["prompt"]], dtype=pl.Float64
    )
    sized = prompts.with_columns(lengths, threshold=pl.lit(float(params.max_prompt_tokens)))
    fits = pl.col("value") <= pl.col("threshold")
    plan, asked = requests(sized.filter(fits), chat, params.samples, params.seed)
    n = sum(wanted.count for wanted in params.samples)
    too_long = sized.filter(~fits).with_columns(reason=pl.lit("prompt longer than the window"))
    ledger.drop(per_sample(too_long, n), id_column="prompt_id")
    done = sample(
        policy, asked, engine=params.engine, dtype=params.dtype, max_new_tokens=params.max_new_tokens
    )
    rows = plan.with_columns(
        response=pl.Series([answer.text for answer in done], dtype=pl.String),
        tokens=pl.Series([answer.tokens for answer in done], dtype=pl.Int64),
        finish_reason=pl.Series([answer.finish_reason for answer in done], dtype=pl.String),
        candidate_id=pl.Series(
            [
                content_id(identity, request.seed, answer.text)
                for identity, request, answer in zip(plan["prompt_id"], asked, done, strict=True)
            ],
            dtype=pl.String,
        ),
    )
    empty = pl.col("response").str.strip_chars() == ""
    origin = prompts.select("prompt_id", "source", "file", "row", "item")
    lost = rows.filter(empty).join(origin, on="prompt_id", how="left", validate="m:1", maintain_order="left")
    ledger.drop(
        lost.with_columns(item=pl.col("item") * n + pl.col("sample"), reason=pl.lit("empty answer")),
        id_column="candidate_id",
    )
    return rows.filter(~empty).select(list(CANDIDATES.columns))


def per_sample(prompts: pl.DataFrame, n: int) -> pl.DataFrame:
    """Each prompt n times, with the item number that each of its samples would have had."""
    repeated = prompts.select(pl.all().repeat_by(n).explode()) if prompts.height else prompts
    sample_number = pl.int_range(pl.len(), dtype=pl.Int64) % n
    return repeated.with_columns(item=pl.col("item") * n + sample_number)


def main() -> None:
    """Read the slice of this iteration, write its candidates and the ledger."""
    iteration, prompts, policy, out = edge.arguments("ITERATION", "PROMPTS", "POLICY", "OUT")
    params = load("generate", GenerateParams)
    asked = tables.read(SLICE, prompts)
    ledger = Ledger(f"generate@{iteration}", "candidates")
    rows = candidates(asked, policy, params, ledger)
    tables.write(CANDIDATES, rows, out / "candidates.parquet")
    ledger.close(asked.height * sum(wanted.count for wanted in params.samples), rows.height, out)


if __name__ == "__main__":
    edge.run("generate", main)
