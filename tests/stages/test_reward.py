"""The rows of the reward model: prompt and answer together, capped by id, over-long ones in the ledger."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.chat import Chat
from pipeline.engines.states import states
from pipeline.params import read_file
from pipeline.planning import planning
from pipeline.preference_training import capped
from pipeline.schemas import MIX
from pipeline.stages import reward
from tests.stages.preference_rows import preference, preferences

ROOT = Path(__file__).parents[2]
PAIRS = preferences(
    *(preference(i, f"Question {i}?", f"good {i}", f"bad {i}", scores=(1.0 + i, 0.5)) for i in range(9)),
    preference(9, "long?", "and on " * 900, "short", scores=(3.0, 0.5)),
)


@pytest.fixture
def trained(own_state, tmp_path, tiny_model, monkeypatch):
    """Runs the stage up to the trainer; gives the rows that the trainer is handed and the counts."""

    def run(**changes):
        recipe = YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())
        recipe["rewards"]["reward"] |= changes
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(recipe, file)
        mix = PAIRS.with_columns(cluster_id=pl.col("prompt_id")).select(list(MIX.columns))
        tables.write(MIX, mix, tmp_path / "mix" / "train.parquet")
        (tmp_path / "passed.json").touch()
        inputs, outs = (
            ["mix", "passed.json", str(tiny_model)],
            ["models/reward", "curves/reward", "training/reward"],
        )
        monkeypatch.setattr(sys, "argv", ["reward", "reward", *inputs, *outs])
        handed = []

        def train(base, rows, params, loss, run):
            handed.append(rows)
            run.out.mkdir(parents=True)

        monkeypatch.setattr(reward, "train_reward", train)
        reward.main()
        return handed[0], json.loads((tmp_path / "training" / "reward" / "counts.json").read_text())

    return run


def test_a_row_is_the_prompt_with_each_answer(trained, tiny_model):
    rows, counts = trained(max_pairs=None)
    chat = Chat.load(tiny_model)
    expected = {
        (*chat.prompt_ids(pair["prompt"]), *chat.response_ids(pair["chosen"][0]["content"]))
        for pair in PAIRS.head(9).iter_rows(named=True)
    }
    assert {tuple(ids) for ids in rows["chosen_ids"]} == expected
    assert rows.columns == ["chosen_ids", "rejected_ids"]
    assert (counts["in"], counts["kept"]) == (10, 9)
    assert counts["dropped"] == {"answer longer than the window": 1}
    assert "| a | 9 |" in Path("models/reward/README.md").read_text()


def test_a_long_prompt_is_cut_from_the_left_and_no_answer_loses_a_token(trained, tiny_model):
    chat, limit = Chat.load(tiny_model), 40
    training = read_file(ROOT / "recipes" / "smoke.yaml")["rewards"]["reward"]["training"] | {
        "max_length": limit
    }
    rows, counts = trained(max_pairs=None, overflow="truncate_prompt", training=training)
    assert (counts["kept"], rows.height) == (9, 9)
    whole = {}
    for pair in PAIRS.head(9).iter_rows(named=True):
        answers = [chat.response_ids(pair[side][0]["content"]) for side in ("chosen", "rejected")]
        whole[tuple(answers[0])] = chat.prompt_ids(pair["prompt"]), *answers
    for chosen, rejected in rows.select("chosen_ids", "rejected_ids").iter_rows():
        ((prompt, good, bad),) = (w for end, w in whole.items() if tuple(chosen[-len(end) :]) == end)
        kept = chosen[: -len(good)]
        assert 0 < len(kept) < len(prompt)
        assert kept == rejected[: -len(bad)] == prompt[-len(kept) :]
        assert rejected[-len(bad) :] == bad
        assert max(len(chosen), len(rejected)) == limit


def test_margins_are_those_of_the_pairs_that_are_trained_on(trained, tiny_model):
    """Nine of the ten pairs fit; the higher its number, the clearer a pair was scored."""
    loss = {"center": None, "margin": 4.5, "label_smoothing": 0.0}
    rows, _ = trained(max_pairs=None, loss=loss)
    assert rows.columns == ["chosen_ids", "rejected_ids", "margin"]
    chat = Chat.load(tiny_model)
    found = {
        chat.decode(ids)[-20:]: margin for ids, margin in rows.select("chosen_ids", "margin").iter_rows()
    }
    for number in range(9):
        ((text, margin),) = ((t, m) for t, m in found.items() if f"good {number}" in t)
        assert margin == pytest.approx(number / 2 + 0.25), text


def test_a_cap_is_not_a_drop(trained):
    rows, counts = trained(max_pairs=4)
    assert counts["in"] == rows.height + sum(counts["dropped"].values()) == 4


def test_a_cap_takes_the_lowest_ids_and_only_grows():
    few, more = (
        capped(PAIRS.sample(fraction=1, shuffle=True, seed=n), n)["pair_id"].to_list() for n in (3, 7)
    )
    assert few == more[:3] == sorted(PAIRS["pair_id"])[:3]
    assert capped(PAIRS, None).height == PAIRS.height


def test_a_head_alone_is_trained_on_states_of_the_same_rows(trained, tiny_model, monkeypatch):
    handed = []

    def train(base, rows, sides, params, loss, run):
        handed.append((rows, sides))
        run.out.mkdir(parents=True)

    monkeypatch.setattr(reward, "train_head", train)
    head = read_file(ROOT / "recipes" / "smoke.yaml")["rewards"]["reward"]["training"] | {
        "train_layers": "head"
    }
    with pytest.raises(IndexError):  # the trainer of the whole model is handed nothing
        trained(max_pairs=None, training=head)
    ((rows, (chosen, rejected)),) = handed
    assert (rows.height, len(chosen), len(rejected)) == (9, 9, 9)
    assert chosen == pytest.approx(states(tiny_model, rows["chosen_ids"].to_list(), dtype="float32"))
    with planning() as plan:
        reward.stated("reward", Path("mix"), Path("passed.json"), tiny_model)
    assert [(fill.cells.kind, len(fill.asked), len(fill.missing)) for fill in plan.fills] == [
        ("state", 18, 0)
    ]


def test_a_model_that_is_trained_whole_asks_no_states(trained, tiny_model):
    trained(max_pairs=None)
    with planning() as plan:
        reward.stated("reward", Path("mix"), Path("passed.json"), tiny_model)
    assert plan.fills == []
