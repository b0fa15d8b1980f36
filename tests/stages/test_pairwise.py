"""Examples of the pairwise preference model: balanced labels by hash, the right letter, nothing cut."""

import sys
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import ab, tables
from pipeline.chat import Chat
from pipeline.errors import UserError
from pipeline.params import parse, read_file
from pipeline.schemas import MIX
from pipeline.stages import pairwise
from pipeline.stages.pairwise import PairwiseParams, examples
from tests.engines.tiny_runs import params as training
from tests.stages.preference_rows import preference, preferences

ROOT = Path(__file__).parents[2]
PAIRS = preferences(*(preference(i, f"Question {i}?", f"good {i}", f"bad {i}") for i in range(200)))


@pytest.fixture
def chat(tiny_model) -> Chat:
    return Chat.load(tiny_model)


def letters(chat: Chat, pairs=PAIRS) -> dict[str, str]:
    rows, lost = examples(pairs, chat, 4096)
    assert lost.is_empty()
    names = dict(zip(ab.labels(chat), "AB", strict=True))
    return {identity: names[ids[-1]] for identity, ids in rows.select("id", "input_ids").iter_rows()}


def test_the_label_is_where_the_chosen_answer_stands(chat):
    found = letters(chat)
    rows, _ = examples(PAIRS, chat, 4096)
    for row, pair in zip(rows.iter_rows(named=True), PAIRS.iter_rows(named=True), strict=True):
        text = chat.decode(row["input_ids"])
        good, bad = (text.index(pair[side][0]["content"]) for side in ("chosen", "rejected"))
        assert found[row["id"]] == ("A" if good < bad else "B")


def test_both_letters_are_equally_frequent_and_repeat(chat):
    found = letters(chat)
    assert 70 <= list(found.values()).count("A") <= 130
    assert letters(chat, PAIRS.reverse()) == found
    assert letters(chat, PAIRS.head(5)) == {pair: found[pair] for pair in PAIRS["pair_id"][:5]}


def test_the_loss_is_on_the_letter_alone(chat):
    rows, _ = examples(PAIRS.head(20), chat, 4096)
    for ids, labels in rows.select("input_ids", "labels").iter_rows():
        assert labels == [-100] * (len(ids) - 1) + [ids[-1]]


def test_a_long_example_is_given_back_with_its_length_and_never_cut(chat):
    pairs = preferences(preference(0, "short?", "a", "b"), preference(1, "long?", "and on " * 300, "b"))
    rows, lost = examples(pairs, chat, 200)
    assert rows["id"].to_list() == [pairs["pair_id"][0]]
    ((identity, reason, length, threshold),) = lost.rows()
    assert (identity, reason, threshold) == (pairs["pair_id"][1], "longer than the window", 200.0)
    assert length > 300


def test_an_example_must_fit_a_block():
    section = {
        "mix": "m",
        "max_pairs": None,
        "max_example": 128,
        "training": training(max_length=64).model_dump(),
    }
    with pytest.raises(
        UserError, match=r"pairwise: max_example: expected at most training.max_length = 64, found 128"
    ):
        parse("pairwise", PairwiseParams, section)
    section["max_example"] = 64
    assert parse("pairwise", PairwiseParams, section).max_example == 64


def test_the_card_counts_the_pairs_that_fit(own_state, tmp_path, tiny_model, monkeypatch):
    recipe = read_file(ROOT / "recipes" / "smoke.yaml")
    recipe["pairwise"] |= {"max_pairs": None, "max_example": 300}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(recipe, file)
    long = preference(0, "long?", "and on " * 300, "b")
    pairs = preferences(*(preference(i, f"Question {i}?", "good", "bad") for i in range(1, 8)), long)
    mix = pairs.with_columns(cluster_id=pl.col("prompt_id")).select(list(MIX.columns))
    tables.write(MIX, mix, tmp_path / "mix" / "train.parquet")
    (tmp_path / "passed.json").touch()
    outs = ["models/pairwise", "curves/pairwise", "training/pairwise"]
    monkeypatch.setattr(sys, "argv", ["pairwise", "mix", "passed.json", str(tiny_model), *outs])
    monkeypatch.setattr(pairwise, "train_sft", lambda base, rows, params, run: run.out.mkdir(parents=True))
    pairwise.main()
    assert "| a | 7 |" in (tmp_path / "models" / "pairwise" / "README.md").read_text()
