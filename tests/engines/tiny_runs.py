"""Training runs of a second, for the tests of the trainers and of their checkpoints."""

from pathlib import Path

import numpy as np
import polars as pl

from pipeline.engines.reference import answers, trl_log_probs, with_logps
from pipeline.engines.trainers import train_dpo, train_reward, train_sft
from pipeline.objectives import Dpo, LossTerm, Preferring
from pipeline.packing import TOKENS
from pipeline.training import Lora, RewardLoss, Run, TrainingParams

END = 2  # <|im_end|> of the tiny ChatML model: its EOS and its pad token
DPO = Dpo(
    kind="dpo",
    beta=0.1,
    loss=(LossTerm(name="sigmoid", weight=1.0),),
    label_smoothing=0.0,
    divergence="reverse_kl",
)
REWARD = RewardLoss(center=None, margin=None, label_smoothing=0.0)
LORA = Lora(rank=3, alpha=6, dropout=0.1, targets="all-linear")
KINDS = ("sft", "reward", "dpo")


def params(**changes) -> TrainingParams:
    values = {
        "learning_rate": 5e-3,
        "epochs": 2.0,
        "global_batch": 8,
        "schedule": "cosine",
        "warmup_ratio": 0.2,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "precision": "float32",
        "seed": 1,
        "max_length": 64,
        "optimizer": "adamw_torch",
        "train_layers": "all",
        "lora": None,
    }
    return TrainingParams(**(values | changes))


def rows(kind: str, count: int = 20, bias: int = 0) -> pl.DataFrame:
    """Random tokens; with `bias`, that token fills every chosen answer."""
    rng = np.random.default_rng(count)

    def text(low: int, high: int) -> list[int]:
        return rng.integers(10, 500, rng.integers(low, high)).tolist()

    prompts = [text(3, 20) for _ in range(count)]
    chosen = [[*([bias] * 6 if bias else text(3, 20)), END] for _ in range(count)]
    rejected = [[*text(3, 20), END] for _ in range(count)]
    whole = [p + c for p, c in zip(prompts, chosen, strict=True)]
    columns = {
        "sft": {
            "input_ids": whole,
            "labels": [[-100] * len(p) + c for p, c in zip(prompts, chosen, strict=True)],
            "seq_lengths": [[len(p), len(c)] for p, c in zip(prompts, chosen, strict=True)],
        },
        "reward": {
            "chosen_ids": whole,
            "rejected_ids": [p + r for p, r in zip(prompts, rejected, strict=True)],
        },
        "dpo": {"prompt_ids": prompts, "chosen_ids": chosen, "rejected_ids": rejected},
    }[kind]
    return pl.DataFrame(columns, dict.fromkeys(columns, TOKENS))


def run_in(folder: Path, **changes) -> Run:
    values = {"micro_batch": 4, "title": "section", "save_every_seconds": 600}
    return Run(folder / "model", folder / "curves", folder / "checkpoints", **(values | changes))


def train(
    kind: str,
    base: Path,
    run: Run,
    settings: TrainingParams | None = None,
    data=None,
    reward: RewardLoss = REWARD,
    objective: Preferring = DPO,
) -> dict[str, bytes]:
    """Train on `rows(kind)` and give back every output file."""
    data = rows(kind) if data is None else data
    settings = settings or params()
    if kind == "sft":
        train_sft(base, data, settings, run)
    elif kind == "reward":
        train_reward(base, data, settings, reward, run)
    else:
        train_dpo(base, with_reference(base, data), settings, objective, run)
    return outputs(run)


def with_reference(reference: Path, pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with their log-probabilities under a model, as `referenced` gives them, without a store."""
    asks = answers(pairs)
    found = dict(trl_log_probs(reference, "float32", 4096)(asks))
    return with_logps(pairs, pl.Series([found[i] for i in range(len(asks))], dtype=pl.Float64))


def outputs(run: Run) -> dict[str, bytes]:
    files = [*run.out.rglob("*"), *run.curves.rglob("*")]
    return {
        path.relative_to(run.out.parent).as_posix(): path.read_bytes() for path in files if path.is_file()
    }


def curve(run: Run, name: str) -> list[float]:
    return pl.read_csv(run.curves / f"{name}.tsv", separator="\t")[name].to_list()
