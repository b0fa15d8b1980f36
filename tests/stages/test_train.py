"""DPO of an iteration: which policy it starts from, which it is measured against, and its ledger."""

import sys
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.ids import content_id, pair_id
from pipeline.ledger import Ledger
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
    words = ["train", "t2", "pairs", "models/t1", "models/t0", "models/t2", "curves/t2", "training/t2"]
    monkeypatch.setattr(sys, "argv", words)
    asked = []
    monkeypatch.setattr(train, "optimise", lambda *arguments: asked.append(arguments))
    train.main()
    ((stage, rows, policy, against, params, *outs),) = asked
    assert (stage, rows.height) == ("train@t2", 6)
    assert set(ORIGIN_KEY) <= set(rows.columns), "the ledger of what does not fit needs a place for each pair"
    assert (policy.as_posix(), against.as_posix()) == expected
    assert params.objective.beta == 0.1
    assert [out.as_posix() for out in outs] == ["models/t2", "curves/t2", "training/t2"]


def test_every_pair_has_a_place_of_its_own_in_the_ledger(tmp_path):
    rows, ledger = train.with_place(pairs()), Ledger("train@t2", "pairs")
    ledger.drop(rows.with_columns(reason=pl.lit("longer than the window")), id_column="pair_id")
    counts = ledger.close(6, 0, tmp_path)
    assert counts["by_source"] == {"t2": {"longer than the window": 6}}
