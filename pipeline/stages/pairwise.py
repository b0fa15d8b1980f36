"""Train the pairwise preference model: read a prompt and two answers, write A or B (paper, section 2.1).

Which answer stands first is decided by a hash of the pair, so the labels are balanced and repeat.
Examples are packed into blocks; the loss is on the label token alone.

    python -m pipeline.stages.pairwise MIX PASSED BASE OUT CURVES TRAINING
"""

import polars as pl
from pydantic import Field, model_validator

from pipeline import ab, edge, tables
from pipeline.chat import Chat
from pipeline.engines.trainers import train_sft
from pipeline.errors import UserError
from pipeline.judge_cards import judge_card, write_card
from pipeline.ledger import Ledger
from pipeline.packing import pack
from pipeline.params import Params, load
from pipeline.preference_training import capped, demand_gate
from pipeline.rendering import IDS
from pipeline.schemas import MIX
from pipeline.training import TrainingParams
from pipeline.training_runs import training_run


class PairwiseParams(Params):
    """Which mix, how much of it, how long an example may be; training.max_length is the block."""

    mix: str
    max_pairs: int | None = Field(gt=0)
    max_example: int = Field(ge=64)
    training: TrainingParams

    @model_validator(mode="after")
    def example_fits_a_block(self) -> "PairwiseParams":
        """The longest example must fit the block that it is packed into."""
        if self.max_example > self.training.max_length:
            raise ValueError(
                f"max_example: expected at most training.max_length = {self.training.max_length}, "
                f"found {self.max_example}"
            )
        return self


def examples(pairs: pl.DataFrame, chat: Chat, max_example: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Token rows (id, input_ids, labels) of the A/B questions, and the pairs that do not fit."""
    rows, lost = [], []
    for row in pairs.iter_rows(named=True):
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        swapped = ab.swapped(row["pair_id"])
        first, second = (rejected, chosen) if swapped else (chosen, rejected)
        ids, labels = ab.example_ids(chat, row["prompt"], first, second, label="B" if swapped else "A")
        if len(ids) > max_example:
            lost.append((row["pair_id"], "longer than the window", float(len(ids)), float(max_example)))
        else:
            rows.append((row["pair_id"], ids, labels))
    schema = {"pair_id": pl.String, "reason": pl.String, "value": pl.Float64, "threshold": pl.Float64}
    kept = pl.DataFrame(rows, schema={"id": pl.String, "input_ids": IDS, "labels": IDS}, orient="row")
    return kept, pl.DataFrame(lost, schema=schema, orient="row")


def main() -> None:
    """Read the train split of the mix, write the preference model."""
    mix, passed, base, out, curves, folder = edge.arguments(
        "MIX", "PASSED", "BASE", "OUT", "CURVES", "TRAINING"
    )
    params = load("pairwise", PairwiseParams)
    demand_gate(passed)
    pairs = capped(tables.read(MIX, mix / "train.parquet"), params.max_pairs)
    documents, lost = examples(pairs, Chat.load(base), params.max_example)
    if documents.is_empty():
        raise UserError(
            f"pairwise: expected examples of at most {params.max_example} tokens, found none among "
            f"{pairs.height}; raise pairwise.max_example in params.yaml"
        )
    ledger = Ledger("pairwise", "pairs")
    ledger.drop(
        lost.join(pairs, on="pair_id", how="left", validate="1:1", maintain_order="left"), id_column="pair_id"
    )
    ledger.close(pairs.height, documents.height, folder)
    blocks, over = pack(documents, block=params.training.max_length, overflow="drop")
    assert over.is_empty(), "pairwise: an example does not fit a block; params should have refused this"
    run = training_run("pairwise", out, curves, models=[base], rows=blocks, params=params)
    train_sft(base, blocks, params.training, run)
    trained = pairs.join(documents, left_on="pair_id", right_on="id", how="semi")
    write_card(out, judge_card("pairwise", params, trained, base))


if __name__ == "__main__":
    edge.run("pairwise", main)
