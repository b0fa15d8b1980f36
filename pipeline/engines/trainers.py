"""Training with TRL: supervised fine-tuning, reward models and DPO, on rows that are already tokens.

The functions write a model folder, its curves, and nothing else. The same call gives the same
bytes (on one machine, with one number of threads, processes and one micro batch), also when it was
killed meanwhile and called again. TRL never sees text: the one chat renderer has made the rows.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.engines.fitting import Job, fit_dpo, fit_reward, fit_sft, lengths_of
from pipeline.engines.head import fit_head, save_head
from pipeline.engines.launching import world_size
from pipeline.errors import UserError
from pipeline.objectives import REFERENCE_LOGPS, Dpo, Preferring
from pipeline.training import RewardLoss, Run, TrainingParams


def train_sft(base: Path, blocks: pl.DataFrame, params: TrainingParams, run: Run) -> None:
    """Fine-tune the causal model `base` on packed rows (`packing.pack`), or on rows of one document each.

    blocks: input_ids, labels (-100 = no loss), seq_lengths (documents of the row), all List(Int32).
    The loss is the mean over all labels of an optimiser step. Documents of a row do not see each other.
    """
    lengths = checked(blocks, ("input_ids", "labels", "seq_lengths"), params, run)
    packed = blocks.select(pl.col("seq_lengths").list.sum()).to_series().to_numpy()
    assert (packed == lengths).all(), "seq_lengths do not add up to the length of the row"
    assert (blocks["labels"].list.len().to_numpy() == lengths).all(), "labels and input_ids differ in length"
    Job.start("sft", blocks, params, run).launch(fit_sft, blocks, base)


def train_reward(
    base: Path, pairs: pl.DataFrame, params: TrainingParams, reward: RewardLoss, run: Run
) -> None:
    """Train a Bradley-Terry reward model: a sequence classifier with one output on top of `base`.

    pairs: chosen_ids, rejected_ids (prompt and answer, List(Int32)), and perhaps margin (Float64), by which
    the chosen one should win.
    The saved model pads with a special token that ends no row, and so does its tokenizer.
    """
    columns = ("chosen_ids", "rejected_ids", *(["margin"] if "margin" in pairs.columns else []))
    pairs = pairs.select(columns)
    checked(pairs, columns, params, run)
    Job.start("reward", pairs, params, run, reward.model_dump()).launch(fit_reward, pairs, base, reward)


def train_head(
    base: Path,
    pairs: pl.DataFrame,
    sides: tuple[np.ndarray, np.ndarray],
    params: TrainingParams,
    reward: RewardLoss,
    run: Run,
) -> None:
    """`train_reward` with `train_layers: head`, where the states of both sides are known (engines/states.py).

    In float32 the saved weights are those of `train_reward` but for rounding. In bfloat16 the states are, and
    the head is trained in float32 on them.
    """
    weights = trained_head(base, pairs, sides, params, reward, run)
    save_head(base, pairs, weights, params.seed, run.out)


def trained_head(
    base: Path,
    pairs: pl.DataFrame,
    sides: tuple[np.ndarray, np.ndarray],
    params: TrainingParams,
    reward: RewardLoss,
    run: Run,
) -> np.ndarray:
    """The weights of the score head that `train_head` would save, (1, width); writes the curves alone."""
    assert params.train_layers == "head", "states are those of a backbone that stays as it is"
    columns = ("chosen_ids", "rejected_ids", *(["margin"] if "margin" in pairs.columns else []))
    pairs = pairs.select(columns)
    checked(pairs, columns, params, run)
    assert all(len(side) == pairs.height for side in sides), "a side has a state per pair"
    return fit_head(base, pairs, sides, params, reward, run)


def train_dpo(
    policy: Path, pairs: pl.DataFrame, params: TrainingParams, objective: Preferring, run: Run
) -> None:
    """Train `policy` to prefer chosen over rejected answers, by DPO or one of its relatives.

    pairs: prompt_ids, chosen_ids, rejected_ids (answers with their end of turn), List(Int32), and for an
    objective with a reference model what `reference.referenced` adds: training holds one model.
    """
    columns = ("prompt_ids", "chosen_ids", "rejected_ids", *(REFERENCE_LOGPS if objective.reference else ()))
    pairs = pairs.select(columns)
    checked(pairs, columns, params, run)
    run = sorted_together(run, params, objective)
    Job.start("dpo", pairs, params, run, objective.model_dump()).launch(fit_dpo, pairs, policy, objective)


def sorted_together(run: Run, params: TrainingParams, objective: Preferring) -> Run:
    """The run with the micro batch that the objective needs; UserError where its processes cannot have it."""
    rows = objective.sorted_rows if isinstance(objective, Dpo) else None
    if rows is None:
        return run
    share, rest = divmod(params.global_batch, world_size(run))
    if rest or share % rows:
        raise UserError(
            f"{run.title}: expected a number of training processes that leaves each a multiple of the {rows} "
            f"rows that its objective sorts together, of a global_batch of {params.global_batch}, found "
            f"{world_size(run)}; change processes in exec.yaml"
        )
    return replace(run, micro_batch=rows)


def checked(rows: pl.DataFrame, columns: tuple[str, ...], params: TrainingParams, run: Run) -> np.ndarray:
    """The length of each row in tokens, after checking what TRL would filter or cut in silence.

    UserError if there are no rows; AssertionError where the stage handed over rows it should not have.
    """
    if rows.is_empty():
        raise UserError(
            f"{run.title}: expected at least one row to train on, found none; look into the ledgers of the "
            "stages before for what was dropped and why"
        )
    assert not any(rows[name].null_count() for name in columns), "missing values"
    ids = [name for name in columns if name.endswith("_ids")]
    assert all((rows[name].list.len() > 0).all() for name in ids), "empty rows"
    lengths = lengths_of(rows)
    over = int((lengths > params.max_length).sum())
    assert over == 0, (
        f"{over} rows are longer than max_length {params.max_length}; the stage must handle them"
    )
    return lengths
