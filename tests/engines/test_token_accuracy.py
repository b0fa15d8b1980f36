"""Token accuracy counts labels: it is what a plain pass of the model gives, in whatever pieces they come."""

from pathlib import Path

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.engines.repeatable import Shuffle
from tests.engines.tiny_runs import curve, params, rows, run_in, train

ONE_STEP = params(global_batch=20, epochs=1.0, warmup_ratio=0.0)


def documents(count: int = 20) -> pl.DataFrame:
    """Rows of one document each."""
    blocks = rows("sft", count)
    return blocks.with_columns(seq_lengths=pl.concat_list(pl.col("input_ids").list.len().cast(pl.Int32)))


def counted(model: Path, blocks: pl.DataFrame) -> tuple[int, int]:
    """Labels that the model finds most likely, and all labels, row by row."""
    network, right, asked = AutoModelForCausalLM.from_pretrained(model), 0, 0
    for ids, labels, _ in blocks.iter_rows():
        with torch.inference_mode():
            likely = network(torch.tensor([ids])).logits[0, :-1].argmax(dim=-1).tolist()
        own = [(found, label) for found, label in zip(likely, labels[1:], strict=True) if label != -100]
        right, asked = right + sum(found == label for found, label in own), asked + len(own)
    return right, asked


@pytest.fixture
def taught(tiny_model, tmp_path) -> Path:
    """A model that has learned some of the rows."""
    run = run_in(tmp_path / "taught")
    train("sft", tiny_model, run, params(epochs=12.0, learning_rate=2e-2), documents())
    return run.out


def test_it_is_the_share_of_labels_that_a_plain_pass_finds_most_likely(taught, tmp_path):
    run = run_in(tmp_path)
    train("sft", taught, run, ONE_STEP, documents())
    right, asked = counted(taught, documents())
    assert 0 < right < asked
    assert curve(run, "token_accuracy") == [pytest.approx(right / asked, abs=1e-12)]


def test_the_micro_batch_does_not_change_it(taught, tmp_path):
    found = []
    for size in (1, 3, 20):
        run = run_in(tmp_path / f"{size}", micro_batch=size)
        train("sft", taught, run, ONE_STEP, documents())
        found.append(curve(run, "token_accuracy"))
    assert found[0] == found[1] == found[2]


def test_a_point_counts_the_steps_since_the_last_one(taught, tmp_path):
    run, blocks, settings = run_in(tmp_path), documents(), params(global_batch=10, learning_rate=1e-9)
    train("sft", taught, run, settings, blocks)
    order = Shuffle(blocks["input_ids"].list.len().to_numpy(), 10, settings.seed)
    steps = [counted(taught, blocks[rows]) for rows in order.steps()]
    values = curve(run, "token_accuracy")
    assert len(values) == 4 and values[0] != values[1]
    assert values[:2] == [pytest.approx(right / asked, abs=1e-12) for right, asked in steps]
