"""Best and worst of each prompt's answers: our tables against JSON Lines, `datasets` and a loop with numpy.

Both sides start from files and end with a file. Ours reads the Parquet tables of candidates and judgments and
writes pairs and ledger, as stage `pair` does; the peer loads JSON Lines of prompt, eight responses and eight
rewards with a cold cache, takes argmax and argmin prompt by prompt, leaves out ties, and writes Parquet.
Answers have the lengths that were measured on the reference's own data (1,680 characters in the mean, with a
deviation of 480); each text is drawn from a pool of everyday words.

Ours reads no text: pairs name candidates, whose table has an id of each text and its length in columns of
their own. The peer's file holds the texts, because one JSON line holds all of a prompt. Our stage `gather`
looks up the texts of what is trained on, once, as the next step; "with texts" in the row is how fast both are
together, from the same files to the table that training reads.

The peer stops where the pairs are told. The reference's script also writes each prompt with the chat
template, in the same loop, which ours leaves to training, and which would make the peer slower by an eighth.

    python -m benchmarks.pairs [--rows PROMPTS] [--repeats N]
"""

import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl

from benchmarks.measure import WORDS, Result, flags, medians, tell
from pipeline import history, tables
from pipeline.answer_pool import READS
from pipeline.id_columns import conversation_ids, text_ids
from pipeline.ledger import Ledger
from pipeline.pair_rules import PairParams
from pipeline.pair_texts import told_pairs
from pipeline.pairing import paired
from pipeline.params import parse
from pipeline.schemas import CANDIDATES, JUDGMENTS, PAIRS
from pipeline.scores import read_judgments

PROMPTS = 20_000
ANSWERS = 8
CHARACTERS = (1680, 480)
"""Mean and deviation of an answer's length."""
PROMPT_CHARACTERS = (300, 80)
RULE = {
    "strategy": {"name": "best_worst"},
    "length": {"rule": "none"},
    "judges": {"rule": "one"},
    "min_margin": 0.0,
    "noise": {},
    "seed": 1,
}


def texts(draw: random.Random, pool: str, count: int, lengths: tuple[int, int]) -> list[str]:
    """Pieces of the pool."""
    found = []
    for _ in range(count):
        size = max(20, round(draw.gauss(*lengths)))
        start = draw.randrange(len(pool) - size)
        found.append(pool[start : start + size])
    return found


def write_inputs(folder: Path, prompts: int) -> int:
    """The same answers and rewards in both forms, 1 prompt in 50 with eight equal rewards; gives the bytes of
    the JSON Lines."""
    draw = random.Random(5)
    pool = " ".join(draw.choices(WORDS, k=1_000_000))
    asked = texts(draw, pool, prompts, PROMPT_CHARACTERS)
    answers = texts(draw, pool, prompts * ANSWERS, CHARACTERS)
    rewards = np.random.default_rng(5).normal(size=(prompts, ANSWERS))
    rewards[::50] = 1.0
    rows = pl.DataFrame({"content": asked}).select(
        prompt=pl.concat_list(pl.struct(role=pl.lit("user"), content="content")),
    )
    rows = rows.with_columns(prompt_id=conversation_ids(pl.col("prompt"))).select(
        pl.all().repeat_by(ANSWERS).explode()
    )
    write_tables(folder, rows.with_columns(response=pl.Series(answers)), rewards.ravel())
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as file:
        for i, prompt in enumerate(asked):
            own = answers[i * ANSWERS : (i + 1) * ANSWERS]
            said = [{"role": "user", "content": prompt}]
            row = {"prompt": said, "responses": own, "rewards": rewards[i].tolist()}
            file.write(json.dumps(row) + "\n")
    return (folder / "answers.jsonl").stat().st_size


def write_tables(folder: Path, rows: pl.DataFrame, rewards: np.ndarray) -> None:
    """Candidates and judgments."""
    number = pl.int_range(pl.len(), dtype=pl.Int64)
    candidates = rows.with_columns(
        candidate_id=text_ids(pl.concat_str("prompt_id", number.cast(pl.String))),
        response_id=text_ids(pl.col("response")),
        characters=pl.col("response").str.len_chars().cast(pl.Int64),
        policy=pl.lit("policies/t0"),
        sample=number % ANSWERS,
        temperature=pl.lit(1.0),
        tokens=pl.col("response").str.len_chars().cast(pl.Int64) // 4,
        finish_reason=pl.lit("stop"),
    ).select(list(CANDIDATES.columns))
    judgments = candidates.select(
        "candidate_id",
        "prompt_id",
        judge=pl.lit("bt"),
        score=pl.Series(rewards),
        disagreement=pl.lit(None, pl.Float64),
        comparisons=pl.lit(0, pl.Int64),
    )
    tables.write(CANDIDATES, candidates, folder / "candidates.parquet")
    tables.write(JUDGMENTS, judgments, folder / "judgments.parquet")


def ours(folder: Path) -> Path:
    """As stage `pair`: from tables to tables."""
    candidates = tables.columns(CANDIDATES, folder / "candidates.parquet", READS)
    judgments = read_judgments(folder / "judgments.parquet")
    found = paired(candidates, judgments, "t1", parse("pair", PairParams, RULE))
    tables.write(PAIRS, found.pairs, folder / "ours" / "pairs.parquet")
    ledger = Ledger("pair@t1", "pairs")
    ledger.drop(found.dropped, id_column="prompt_id")
    ledger.close(found.asked, found.pairs.height, folder / "ours")
    return folder / "ours" / "pairs.parquet"


def ours_with_texts(folder: Path) -> None:
    """The same, and then as stage `gather`: the table that training reads."""
    pairs = ours(folder).parent
    history.write(folder / "gathered", history.of_iteration(told_pairs(folder, pairs)))


def loaded(folder: Path) -> datasets.Dataset:
    """The JSON Lines, with a cold cache."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    rows = datasets.load_dataset(
        "json", data_files=str(folder / "answers.jsonl"), split="train", cache_dir=str(folder / "cache")
    )
    assert isinstance(rows, datasets.Dataset)
    return rows


def chosen(rows: datasets.Dataset) -> datasets.Dataset:
    """Best and worst of each row, as one writes it with a loop."""
    made: dict[str, list[Any]] = {"prompt": [], "chosen": [], "rejected": [], "margin": []}
    for row in rows:
        assert isinstance(row, dict)
        best, worst = int(np.argmax(row["rewards"])), int(np.argmin(row["rewards"]))
        margin = row["rewards"][best] - row["rewards"][worst]
        if margin > 0:
            made["prompt"].append(row["prompt"])
            made["chosen"].append([{"role": "assistant", "content": row["responses"][best]}])
            made["rejected"].append([{"role": "assistant", "content": row["responses"][worst]}])
            made["margin"].append(margin)
    return datasets.Dataset.from_dict(made)


def peer(folder: Path) -> Path:
    """From JSON Lines to Parquet."""
    chosen(loaded(folder)).to_parquet(folder / "peer.parquet")
    return folder / "peer.parquet"


def processor_seconds(run: Callable[[], Any]) -> float:
    """The time of all cores in one call, which tells more than the clock does where others use them, too."""
    started = time.process_time()
    run()
    return time.process_time() - started


def compared(folder: Path) -> int:
    """The number of pairs, which both sides must give alike: prompt, chosen, rejected and margin."""
    columns = ("prompt", "chosen", "rejected", "margin")
    order = pl.col("prompt").list.first().struct.field("content")
    mine = told_pairs(folder, ours(folder).parent).select(columns).sort(order)
    theirs = pl.read_parquet(peer(folder)).select(columns).sort(order)
    theirs = theirs.select(pl.col(name).cast(kind) for name, kind in mine.schema.items())
    assert mine.equals(theirs), "the two sides differ"
    return mine.height


def main() -> None:
    """Make both forms of the input, compare, time, tell."""
    words = flags(__doc__ or "", rows=PROMPTS).parse_args()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_inputs(folder, words.rows)
        pairs = compared(folder)
        mine, theirs = medians(words.repeats, lambda: ours(folder), lambda: peer(folder))
        cores = [processor_seconds(partial(side, folder)) for side in (ours, peer)]
        rows = tables.columns(CANDIDATES, folder / "candidates.parquet", READS)
        judgments = read_judgments(folder / "judgments.parquet")
        texts, theirs_beside = medians(words.repeats, lambda: ours_with_texts(folder), lambda: peer(folder))
        theirs_in, rule = loaded(folder), parse("pair", PairParams, RULE)
        step, loop = medians(
            words.repeats, lambda: paired(rows, judgments, "t1", rule), lambda: chosen(theirs_in)
        )
        tell(
            Result(
                name="pairs",
                ours=words.rows / mine,
                peer=words.rows / theirs,
                ratio=theirs / mine,
                unit="prompts/s",
                peer_is=f"datasets {datasets.__version__} and a loop with numpy, JSON Lines to Parquet",
                input={"rows": words.rows, "bytes": size},
                equality=f"prompt, chosen, rejected and margin of all {pairs} pairs",
                runs=words.repeats,
                notes={
                    "load": [round(value, 1) for value in os.getloadavg()],
                    "seconds of cores, ours": round(cores[0], 2),
                    "seconds of cores, peer": round(cores[1], 2),
                    "without files, ours prompts/s": round(words.rows / step),
                    "without files, peer prompts/s": round(words.rows / loop),
                    "without files, ratio": round(loop / step, 1),
                    "with texts, ours prompts/s": round(words.rows / texts),
                    "with texts, ratio": round(theirs_beside / texts, 1),
                },
            )
        )


if __name__ == "__main__":
    main()
