"""Score answers with a reward model: our batches by length against transformers' pipeline, one row at a time.

The peer is how the code of the paper scores: `pipeline("text-classification", function_to_apply="none",
batch_size=1)` on the rendered conversation. Ours reads a prompt once for all its answers and sorts these by
length into batches of a token budget, one for each core. Rows are those of a loop: several answers to a
prompt, of lengths that differ as answers do. Both read the same text and give the same rewards in float32,
also where another type of numbers is timed; tokens are those of the rows, whoever reads them how often. The
clock covers the tokenizer on both sides.

    python -m benchmarks.scoring [--rows N] [--repeats N] [--model FOLDER] [--dtype DTYPE]
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers import pipeline as hf_pipeline
from transformers.utils import logging

from benchmarks.measure import Result, flags, medians, tell
from pipeline.chat import TOKENIZER_FILES, Chat, Messages
from pipeline.engines.scoring import reward_scorer
from pipeline.engines.tiny_models import tiny_random
from pipeline.rendering import scored_sequences

ROWS = 160
ANSWERS = 8
"""To each prompt, as in the paper."""
LONGEST = 24
"""Sentences of the longest answer."""
WINDOW = 1024
BATCH_TOKENS = 4096
"""The token budget of a batch, which is the default of the execution settings."""
SAMPLES = Path("data/samples/dibt_10k/data/train-00000-of-00001.parquet")
TOLERANCE = 1e-4

Row = tuple[Messages, str]


def rows_of(count: int) -> list[Row]:
    """(prompt, answer) from the sample data; an answer has from one to LONGEST sentences."""
    texts = pl.read_parquet(SAMPLES)["prompt"].to_list()
    said = cycle(texts)
    prompts = [[{"role": "user", "content": text}] for text in islice(cycle(texts), -(-count // ANSWERS))]
    # Most answers are short and a few long: the square spreads lengths as sampled answers have them.
    sizes = [1 + (i * 7 % ANSWERS) ** 2 * LONGEST // ANSWERS**2 for i in range(count)]
    return [(prompts[i // ANSWERS], " ".join(islice(said, sizes[i]))) for i in range(count)]


def reward_model(base: Path | None, folder: Path) -> Path:
    """A classifier with a random head on `base`, or on a tiny random model.

    Its pad token ends no answer, so that transformers' head reads where ours does.
    """
    tiny = base is None
    if base is None:
        base = folder / "base"
        tiny_random(base, "smollm2", seed=0)
    torch.manual_seed(0)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    if tiny:  # so that rewards are of the size of 1, against which the tolerance is small
        network.score.weight.data.mul_(50)
    chat = Chat.load(base)
    network.config.pad_token_id = next(
        token for token in chat.tokenizer.all_special_ids if token not in chat.stop_ids
    )
    out = folder / "reward"
    network.save_pretrained(out)
    for name in TOKENIZER_FILES:
        if (base / name).exists():
            shutil.copy(base / name, out)
    return out


class Peer:
    """transformers' text classification, a row at a time."""

    def __init__(self, model: Path, chat: Chat, dtype: str) -> None:
        self.chat = chat
        tokenizer = AutoTokenizer.from_pretrained(model)
        network: Any = AutoModelForSequenceClassification.from_pretrained(model, dtype=getattr(torch, dtype))
        self.classify: Any = hf_pipeline("text-classification", model=network.eval(), tokenizer=tokenizer)

    def __call__(self, rows: Sequence[Row]) -> list[float]:
        """The reward of each row."""
        end = self.chat.tokenizer.convert_ids_to_tokens(self.chat.end_of_turn)
        texts = [self.chat.text(prompt, add_generation_prompt=True) + answer + end for prompt, answer in rows]
        settings = {"function_to_apply": "none", "batch_size": 1, "truncation": True, "max_length": WINDOW}
        return [row["score"] for row in self.classify(texts, **settings)]


def main() -> None:
    """Load the model twice, compare rewards, time, tell."""
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument("--model", type=Path, help="a language model; a tiny random one if not given")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    words = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model = reward_model(words.model, Path(folder))
        result = measured(model, words.rows, words.repeats, words.dtype, tiny=words.model is None)
    tell(result)


def measured(model: Path, rows: int, repeats: int, dtype: str, *, tiny: bool) -> Result:
    """The result on one model."""
    chat, asked = Chat.load(model), rows_of(rows)
    sequences = scored_sequences(chat, asked, max_length=WINDOW)
    gap = largest_gap(model, chat, asked)
    scorer, peer = (
        reward_scorer(model, dtype=dtype, batch_tokens=BATCH_TOKENS, threads=0),
        Peer(model, chat, dtype),
    )

    def ours() -> None:
        assert len([*scorer(scored_sequences(chat, asked, max_length=WINDOW))]) == rows

    def one_by_one() -> None:
        assert len(peer(asked)) == rows

    list(scorer(sequences[:1]))  # loads the model, as the peer has done
    fast, slow = medians(repeats, ours, one_by_one)
    tokens = sum(map(len, sequences))
    return Result(
        name="scoring",
        ours=tokens / fast,
        peer=tokens / slow,
        ratio=slow / fast,
        unit="tokens/s",
        peer_is="transformers text-classification, batch size 1",
        input={"rows": rows, "bytes": 4 * tokens},
        equality=f"all {rows} rewards within {TOLERANCE:g} in float32 (largest difference {gap:.1g})",
        runs=repeats,
        notes={
            "answers": ANSWERS,
            "row_tokens": f"{min(map(len, sequences))} to {max(map(len, sequences))}",
            "dtype": dtype,
            "model": "tiny random" if tiny else json.loads((model / "config.json").read_text())["model_type"],
        },
    )


def largest_gap(model: Path, chat: Chat, rows: Sequence[Row]) -> float:
    """How far the rewards of the two sides lie apart in float32; AssertionError beyond TOLERANCE."""
    scorer = reward_scorer(model, dtype="float32", batch_tokens=BATCH_TOKENS, threads=0)
    mine = [value for _, value in sorted(scorer(scored_sequences(chat, rows, max_length=WINDOW)))]
    theirs = Peer(model, chat, "float32")(rows)
    gap = float(np.abs(np.array(mine) - np.array(theirs)).max())
    assert gap <= TOLERANCE, f"rewards differ by up to {gap:.3g} in float32, expected at most {TOLERANCE:g}"
    return gap


if __name__ == "__main__":
    main()
