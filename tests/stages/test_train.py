"""DPO of an iteration: which policy it starts from, which it is measured against, and its ledger."""

import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.errors import UserError
from pipeline.ids import content_id, pair_id
from pipeline.ledger import Ledger
from pipeline.params import parse
from pipeline.planning import planning
from pipeline.schemas import ORIGIN_KEY, PAIRS
from pipeline.stages import train
from tests.stages.preference_rows import assistant, user

ROOT = Path(__file__).parents[2]


def pairs() -> pl.DataFrame:
    rows = []
    for i in range(6):
        prompt, chosen, rejected = user(f"{i}?"), assistant("good"), assistant("bad")
        rows.append(
            {
                "prompt_id": content_id(i),
                "pair_id": pair_id(prompt, chosen, rejected),
                "iteration": "t2",
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "chosen_id": content_id(i, 1),
                "rejected_id": content_id(i, 0),
                "chosen_score": 1.0,
                "rejected_score": 0.0,
                "margin": 1.0,
                "judge": "bt",
            }
        )
    return pl.DataFrame(rows, schema=PAIRS.schema)


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
    recipe = YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())
    recipe["train"] |= {"start": start, "reference": reference}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(recipe, file)
    tables.write(PAIRS, pairs(), tmp_path / "pairs" / "pairs.parquet")
    outs = ["models/t2", "checkpoints/t2", "curves/t2", "training/t2"]
    monkeypatch.setattr(sys, "argv", ["train", "t2", "pairs", "models/t1", "models/t0", *outs])
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
    assert [out.as_posix() for out in (places[0], kept.folder, *places[1:])] == outs
    assert kept.parts == (0.5,)


@pytest.mark.parametrize("parts", [[0.0], [1.0], [0.5, 0.25], [0.5, 0.5]])
def test_parts_of_a_run_lie_within_it_and_rise(parts):
    recipe = YAML(typ="safe").load((ROOT / "recipes" / "smoke.yaml").read_text())
    with pytest.raises(UserError, match=r"train.*checkpoints"):
        parse("train", train.TrainParams, recipe["train"] | {"checkpoints": parts})


def test_what_a_run_asks_of_the_store_can_be_planned(own_state, tmp_path, tiny_model):
    shutil.copyfile(ROOT / "recipes" / "smoke.yaml", tmp_path / "params.yaml")
    tables.write(PAIRS, pairs(), tmp_path / "pairs" / "pairs.parquet")
    with planning() as plan:
        train.referenced("t2", tmp_path / "pairs", tiny_model, tiny_model)
    (fill,) = plan.fills
    assert (fill.cells.kind, len(fill.asked), len(fill.missing)) == ("log_probs", 12, 12)
    assert not (own_state / "store").exists() and sorted(p.name for p in tmp_path.iterdir()) == [
        *("pairs", "params.yaml")
    ]


def test_every_pair_has_a_place_of_its_own_in_the_ledger(tmp_path):
    rows, ledger = train.with_place(pairs()), Ledger("train@t2", "pairs")
    ledger.drop(rows.with_columns(reason=pl.lit("longer than the window")), id_column="pair_id")
    counts = ledger.close(6, 0, tmp_path)
    assert counts["by_source"] == {"t2": {"longer than the window": 6}}
