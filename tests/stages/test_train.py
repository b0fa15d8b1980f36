"""The policy of an iteration: what it starts from, is measured against and trained on, and its ledger."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.chat import Chat
from pipeline.engines import policy
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.ids import content_id, pair_id
from pipeline.params import parse
from pipeline.planning import planning
from pipeline.schemas import HISTORY, ORIGIN_KEY
from pipeline.stages import train
from tests.stages.preference_rows import assistant, user

ROOT = Path(__file__).parents[2]
SIMPO = {"kind": "simpo", "beta": 2.0, "margin": 1.0}
ORPO = {"kind": "orpo", "weight": 0.1}
RAFT = {"kind": "raft"}
OUTS = ["models/t2", "checkpoints/t2", "curves/t2", "training/t2"]


def recipe() -> dict:
    return YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())


def pairs(*numbers: int, iteration: str = "t2", bad: str = "bad", cut: tuple[str, ...] = ()) -> pl.DataFrame:
    """Gathered pairs of an iteration, named by numbers; the same number is the same pair. The sides in `cut`
    did not end."""
    rows = []
    for i in numbers or range(6):
        prompt, chosen, rejected = user(f"{i}?"), assistant("good"), assistant(bad)
        rows.append(
            {
                **{"source": iteration, "file": "pairs.parquet", "row": i, "item": 0, "since": iteration},
                "prompt_id": content_id(i),
                "pair_id": pair_id(prompt, chosen, rejected),
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "chosen_id": content_id(i, 1),
                "rejected_id": content_id(i, bad),
                "chosen_ended": "chosen" not in cut,
                "rejected_ended": "rejected" not in cut,
            }
        )
    return pl.DataFrame(rows, schema=HISTORY.schema)


def inputs(folder: Path, own: pl.DataFrame, **changes) -> None:
    """The recipe and the pairs that the stage reads."""
    body = recipe()
    body["train"] |= changes
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(body, file)
    tables.write(HISTORY, own, folder / "pairs" / "history.parquet")


@pytest.fixture
def trained(own_state, tmp_path, tiny_model, monkeypatch) -> Callable:
    """Runs the stage up to the trainer; gives the name of the trainer, its rows, and the counts."""
    tiny_random(tmp_path / "other", "smollm2", seed=9)

    def run(own: pl.DataFrame, **changes):
        inputs(tmp_path, own, **changes)
        words = ["t2", "pairs", "other", str(tiny_model)]
        monkeypatch.setattr(sys, "argv", ["train", *words, *OUTS])
        handed: list = []
        monkeypatch.setattr(policy, "train_dpo", lambda model, rows, *_: handed.extend(["dpo", rows]))
        monkeypatch.setattr(policy, "train_sft", lambda model, rows, *_: handed.extend(["sft", rows]))
        train.main()
        return *handed, json.loads((tmp_path / "training" / "t2" / "counts.json").read_text())

    return run


@pytest.mark.parametrize(
    ("start", "reference", "expected"),
    [
        ("previous", "pi0", ("models/t1", "models/t0")),
        ("pi0", "pi0", ("models/t0", "models/t0")),
        ("previous", "previous", ("models/t1", "models/t1")),
        ("pi0", "previous", ("models/t0", "models/t1")),
    ],
)
def test_start_and_reference_are_what_the_recipe_says(
    own_state, tmp_path, monkeypatch, start, reference, expected
):
    inputs(tmp_path, pairs(), start=start, reference=reference)
    words = ["t2", "pairs", "models/t1", "models/t0"]
    monkeypatch.setattr(sys, "argv", ["train", *words, *OUTS])
    asked = []
    monkeypatch.setattr(train, "optimise", lambda *arguments: asked.append(arguments))
    train.main()
    ((run, *places, kept),) = asked
    assert (run.stage, run.pairs.height) == ("train@t2", 6)
    assert set(ORIGIN_KEY) <= set(run.pairs.columns), (
        "the ledger of what does not fit needs a place for each pair"
    )
    assert (run.policy.as_posix(), run.reference.as_posix()) == expected
    assert run.params.objective.beta == 0.1
    assert [out.as_posix() for out in (places[0], kept.folder, *places[1:])] == OUTS
    assert kept.parts == (0.5,)


@pytest.mark.parametrize("parts", [[0.0], [1.0], [0.5, 0.25], [0.5, 0.5]])
def test_parts_of_a_run_lie_within_it_and_rise(parts):
    with pytest.raises(UserError, match=r"train.*checkpoints"):
        parse("train", train.TrainParams, recipe()["train"] | {"checkpoints": parts})


@pytest.mark.parametrize("objective", [None, SIMPO, ORPO, RAFT])
def test_what_a_run_asks_of_the_store_can_be_planned(own_state, tmp_path, tiny_model, objective):
    inputs(tmp_path, pairs(*range(8)), **({"objective": objective} if objective else {}))
    with planning() as plan:
        train.referenced("t2", tmp_path / "pairs", tiny_model, tiny_model)
    asked = [(fill.cells.kind, len(fill.asked), len(fill.missing)) for fill in plan.fills]
    assert asked == ([] if objective else [("log_probs", 16, 16)])
    assert not (own_state / "store").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs", "params.yaml"]


def test_another_reference_model_gives_other_log_probabilities_of_the_same_rows(trained):
    _, pi0, _ = trained(pairs(), reference="pi0")
    _, previous, _ = trained(pairs(), reference="previous")
    tokens = ["prompt_ids", "chosen_ids", "rejected_ids"]
    assert pi0.select(tokens).equals(previous.select(tokens))
    assert (pi0["ref_chosen_logps"] != previous["ref_chosen_logps"]).all()


@pytest.mark.parametrize("objective", [{}, {"objective": RAFT}], ids=["dpo", "raft"])
def test_an_answer_that_was_cut_teaches_no_end_of_turn(trained, tiny_model, objective):
    own = pl.concat([pairs(0), pairs(1, iteration="t1", cut=("chosen",)), pairs(2, cut=("rejected",))])
    kind, rows, _ = trained(own, **objective)
    chat = Chat.load(tiny_model)

    def whole(text: str, *cut: int) -> set[tuple[int, ...]]:
        """The sequences of the three pairs' answers, which have this text; those in `cut` go on."""
        ends = {i: [] if i in cut else [chat.end_of_turn] for i in range(3)}
        return {(*chat.prompt_ids(user(f"{i}?")), *chat.encode_plain(text), *ends[i]) for i in ends}

    if kind == "sft":
        assert set(map(tuple, rows["input_ids"])) == whole("good", 1)
        return
    for side, expected in (("chosen", whole("good", 1)), ("rejected", whole("bad", 2))):
        assert (
            set(map(tuple, rows.select(pl.concat_list("prompt_ids", f"{side}_ids")).to_series())) == expected
        )


@pytest.mark.parametrize("objective", [SIMPO, ORPO, RAFT], ids=lambda objective: objective["kind"])
def test_an_objective_without_a_reference_model_computes_none(trained, own_state, objective):
    _, rows, _ = trained(pairs(), objective=objective)
    assert not [name for name in rows.columns if name.startswith("ref_")]
    assert not (own_state / "store").exists()


def test_rejection_sampling_trains_on_each_chosen_answer_once_and_on_the_answer_alone(trained, tiny_model):
    own = pl.concat([pairs(0, 1, 2), pairs(1, bad="worse", iteration="t1")])
    kind, rows, counts = trained(own, objective=RAFT)
    chat = Chat.load(tiny_model)
    expected = {(tuple(chat.prompt_ids(user(f"{i}?"))), tuple(chat.response_ids("good"))) for i in range(3)}
    assert kind == "sft"
    found = set()
    for ids, labels, lengths in rows.iter_rows():
        silent = labels.count(-100)
        assert (labels[:silent], labels[silent:], lengths) == ([-100] * silent, ids[silent:], [len(ids)])
        found.add((tuple(ids[:silent]), tuple(ids[silent:])))
    assert found == expected and rows.height == 3
    assert counts["dropped"] == {"the chosen answer of another pair, too": 1}


LONG = "and on " * 900


@pytest.mark.parametrize(
    ("objective", "kept"), [(None, 2), (SIMPO, 2), (ORPO, 2), (RAFT, 3)], ids=["dpo", "simpo", "orpo", "raft"]
)
def test_no_answer_is_cut_and_what_does_not_fit_is_told(trained, tiny_model, objective, kept):
    """Rejection sampling does not read the rejected answer, so that one may be of any length."""
    own = pl.concat([pairs(0, 1), pairs(2, bad=LONG)])
    changes = {"objective": objective} if objective else {}
    kind, rows, counts = trained(own, **changes, overflow="truncate_prompt")
    chat = Chat.load(tiny_model)
    assert (counts["in"], counts["kept"], rows.height) == (3, kept, kept)
    assert counts["dropped"] == ({} if kept == 3 else {"answer longer than the window": 1})
    answers = rows["input_ids"] if kind == "sft" else [*rows["chosen_ids"], *rows["rejected_ids"]]
    assert {ids[-1] for ids in answers} == {chat.end_of_turn}


def test_prompts_that_were_cut_to_fit_are_counted_with_their_tokens(trained, tiny_model):
    own = pairs(0, 1)
    whole = len(Chat.load(tiny_model).prompt_ids(own["prompt"][0]))
    assert trained(own, overflow="truncate_prompt")[-1]["cut"] == {"prompts": 0, "tokens": 0}
    _, rows, _ = trained(own)
    answer = max(map(len, [*rows["chosen_ids"], *rows["rejected_ids"]]))
    training = recipe()["train"]["training"] | {"max_length": whole + answer - 1}
    counts = trained(own, overflow="truncate_prompt", training=training)[-1]
    assert (counts["kept"], counts["cut"]) == (2, {"prompts": 2, "tokens": 2})


def test_a_run_in_which_nothing_fits_leaves_nothing_and_names_the_key_to_raise(trained, tmp_path):
    training = recipe()["train"]["training"] | {"max_length": 4}
    with pytest.raises(UserError, match=r"raise train\.training\.max_length in params\.yaml"):
        trained(pairs(), training=training)
    assert not (tmp_path / "training" / "t2").exists()


def test_what_is_sorted_together_is_part_of_a_step():
    sorts = {"loss": [{"name": "aot", "weight": 1.0, "rows": 3}]}
    body = recipe()["train"]
    with pytest.raises(UserError, match=r"divide training\.global_batch 8, found 3"):
        parse("train", train.TrainParams, body | {"objective": body["objective"] | sorts})
