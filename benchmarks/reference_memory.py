"""Memory of DPO with the reference's log-probabilities at hand, against TRL with two models in memory.

Ours does what the stages do: it computes the log-probabilities of all pairs, frees the reference, and trains.
The peer is TRL's DPOTrainer with a frozen `ref_model` that reads every batch again. Both train the same
policy on the same token rows in the same order, each in a process of its own, whose largest resident set
counts, Python and its libraries included. Their losses must be the same at every step.

    python -m benchmarks.reference_memory [--rows N] [--repeats N] [--model FOLDER]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import polars as pl
from trl import DPOConfig, DPOTrainer

from benchmarks.measure import Result, flags, tell
from pipeline.chat import Chat
from pipeline.engines.fitting import Job, lengths_of
from pipeline.engines.reference import referenced
from pipeline.engines.repeatable import given_tokens, labelled_positions_only, quiet
from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.trainers import train_dpo
from pipeline.engines.weights import load_language_model, load_tokenizer
from pipeline.objectives import Dpo, LossTerm
from pipeline.packing import TOKENS
from pipeline.training import Run, TrainingParams

ROWS = 24
SAMPLES = Path("data/samples/dibt_10k/data/train-00000-of-00001.parquet")
ANSWER = 64
"""Longest answer in tokens, without its end of turn."""
TOLERANCE = 1e-4
MICRO_BATCH = 2
OBJECTIVE = Dpo(
    kind="dpo",
    beta=0.1,
    loss=(LossTerm(name="sigmoid", weight=1.0),),
    label_smoothing=0.0,
    divergence="reverse_kl",
)
TRAINING = TrainingParams(
    learning_rate=5e-6,
    epochs=1.0,
    global_batch=8,
    schedule="cosine",
    warmup_ratio=0.0,
    weight_decay=0.0,
    max_grad_norm=1.0,
    precision="float32",
    seed=1,
    max_length=1024,
    optimizer="adamw_torch",
    train_layers="all",
    lora=None,
)


def pairs(model: Path, count: int) -> pl.DataFrame:
    """Token rows of `count` pairs: prompts of the sample data, two other texts as answers."""
    chat = Chat.load(model)
    texts = islice(cycle(pl.read_parquet(SAMPLES)["prompt"].to_list()), 3 * count)
    ids = [chat.encode_plain(text)[:ANSWER] for text in texts]
    end = [chat.end_of_turn]
    columns = {
        "prompt_ids": ids[::3],
        "chosen_ids": [[*answer, *end] for answer in ids[1::3]],
        "rejected_ids": [[*answer, *end] for answer in ids[2::3]],
    }
    return pl.DataFrame(columns, dict.fromkeys(columns, TOKENS))


def run_in(folder: Path) -> Run:
    """Where a side writes."""
    places = folder / "model", folder / "curves", folder / "checkpoints"
    return Run(*places, micro_batch=MICRO_BATCH, title="dpo", save_every_seconds=3600)


def ours(model: Path, rows: pl.DataFrame, run: Run) -> None:
    """One model at a time."""
    train_dpo(model, referenced(model, rows, "float32"), TRAINING, OBJECTIVE, run)


def theirs(model: Path, rows: pl.DataFrame, run: Run) -> None:
    """TRL with two models, cut and ordered as ours."""

    kind: Any = given_tokens(DPOTrainer)

    class TwoModels(kind):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given, ref_model=load_language_model(model))

    job = Job.start("dpo", rows, TRAINING, run)
    with quiet(), labelled_positions_only():
        arguments = DPOConfig(**job.arguments(), beta=OBJECTIVE.beta, max_length=None)
        policy, tokenizer = load_language_model(model), load_tokenizer(model)
        job.train(TwoModels, policy, tokenizer, arguments, rows, lengths_of(rows), base=model)


def side(name: str, model: Path, count: int, folder: Path) -> None:
    """Train on one side, in this process, and say what it took."""
    {"ours": ours, "theirs": theirs}[name](model, pairs(model, count), run_in(folder))
    losses = pl.read_csv(folder / "curves" / "loss.tsv", separator="\t")["loss"].to_list()
    told = {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "losses": losses}
    sys.stdout.write(json.dumps(told) + "\n")


def measured(name: str, model: Path, count: int) -> dict[str, Any]:
    """What a side says, from a process of its own with a row store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = ("--side", name, "--model", str(model), "--rows", str(count), "--out", folder)
        command = [sys.executable, "-m", "benchmarks.reference_memory", *words]
        own = os.environ | {"PAIRMILL_STATE": f"{folder}/state"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=own)
    return json.loads(done.stdout.splitlines()[-1])


def compared(model: Path, count: int, repeats: int, *, tiny: bool) -> Result:
    """The result on one model."""
    turns = [{name: measured(name, model, count) for name in ("ours", "theirs")} for _ in range(repeats)]
    gap = max(
        abs(a - b) for turn in turns for a, b in zip(*(turn[name]["losses"] for name in turn), strict=True)
    )
    assert gap <= TOLERANCE, f"losses differ by up to {gap:.3g}, expected at most {TOLERANCE:g}"
    mine, other = (statistics.median(turn[name]["mib"] for turn in turns) for name in ("ours", "theirs"))
    weights = 4 * load_language_model(model).num_parameters() / 2**20
    return Result(
        name="reference_memory",
        ours=mine,
        peer=other,
        ratio=other / mine,
        unit="MiB",
        peer_is="TRL DPOTrainer with a ref_model",
        input={"rows": count, "bytes": 4 * int(lengths_of(pairs(model, count)).sum())},
        equality=f"the loss of every step within {TOLERANCE:g} (largest difference {gap:.1g})",
        runs=repeats,
        notes={
            "saved_mib": round(other - mine),
            "reference_mib": round(weights, 1),
            "epochs": TRAINING.epochs,
            "micro_batch": MICRO_BATCH,
            "model": "tiny random" if tiny else json.loads((model / "config.json").read_text())["model_type"],
        },
    )


def command_line() -> argparse.Namespace:
    """The flags of a benchmark, and those by which it calls itself."""
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument("--model", type=Path, help="a language model; a tiny random one if not given")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Train on both sides in turns, compare, tell."""
    words = command_line()
    if words.side:
        side(words.side, words.model, words.rows, words.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = words.model or Path(folder) / "model"
        if words.model is None:
            tiny_random(model, "smollm2")
        result = compared(model, words.rows, words.repeats, tiny=words.model is None)
    tell(result)


if __name__ == "__main__":
    main()
