"""The demonstrations of fine-tuning: drops by name, earlier sources first."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.errors import UserError
from pipeline.ids import content_id
from pipeline.params import parse
from pipeline.schemas import DEMONSTRATIONS, LEDGER, SFT_MIX
from pipeline.stages.sft_mix import SftMixParams, main, mix
from tests.stages.preference_rows import BENCHMARK_SEARCH, assistant, benchmark, inputs, system, user

ITEM = "Name the largest moon of the planet Saturn"


def section(**changes: object) -> dict:
    return {
        "sources": [{"name": "a", "cap": None}, {"name": "b", "cap": None}],
        "near_dedup": {"threshold": 0.7, "shingle": 2},
        "decontaminate": {"benchmarks": ["bench"], **BENCHMARK_SEARCH},
        "max_characters": 200,
        "seed": 1,
    } | changes


def row(number: int, question: str, answer: str, source: str = "a") -> dict:
    messages = [*user(question), *assistant(answer)]
    origin = {"source": source, "file": "f", "row": number, "item": 0}
    return origin | {"id": content_id(question, answer), "messages": messages}


def mixed_rows(*rows: dict, **changes: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(demonstrations, ledger rows)."""
    recipe = parse("sft_mix", SftMixParams, section(**changes))
    frame = pl.DataFrame(rows, schema=DEMONSTRATIONS.schema)
    with TemporaryDirectory() as name:
        out = Path(name) / "out"
        found = inputs("demonstrations", frame, recipe.names, Path(name))
        mix(found, benchmark(ITEM), recipe, out)
        kept = tables.read(SFT_MIX, out / "demonstrations.parquet")
        drops = tables.read(LEDGER, out / "ledger.parquet")
    assert len(rows) == kept.height + drops.height
    return kept, drops


ROWS = [
    row(0, "What is a verb in a sentence", "A word for what happens there."),
    row(1, "what is a VERB, in a sentence?", "a word for what happens there", "b"),
    row(2, "What is a verb in a sentence", "A word for what happens there.", "b"),
    row(3, "x" * 200, "y"),
    row(4, f"So: {ITEM}", "Titan"),
    row(5, "Repeat my words please", ITEM),
]


def test_each_reason_once_and_the_earlier_source_stays():
    kept, drops = mixed_rows(*ROWS)
    assert sorted(kept["row"]) == [0, 5]
    assert drops.sort("row").select("row", "reason", "value", "threshold").rows() == [
        (1, "near-duplicate", 1.0, 0.7),
        (2, "exact duplicate", None, None),
        (3, "too long", 202.0, 200.0),
        (4, "benchmark contamination", 1.0, 0.8),
    ]


def test_demonstrations_under_one_long_system_prompt_are_one_only_where_the_question_is_near():
    asked = ["Name a colour please", "Why is it so cold", "why is it so cold?!"]
    rows = [row(i, one, "Yes.") for i, one in enumerate(asked)]
    for one in rows:
        one["messages"] = system(" ".join(f"word{i}" for i in range(30))) + one["messages"]
    kept, drops = mixed_rows(*rows, max_characters=None)
    assert kept["row"].to_list() == [0, 1]
    assert drops.select("row", "reason", "value").rows() == [(2, "near-duplicate", 1.0)]


def test_a_cap_takes_the_lowest_hashes_whatever_the_order():
    rows = [row(i, f"ask{i} for{i} this{i}", f"answer{i}") for i in range(20)]
    sources = [{"name": "a", "cap": 4}]
    kept, drops = mixed_rows(*rows, sources=sources)
    assert set(drops["reason"]) == {"over the source's cap"}
    assert set(mixed_rows(*rows[::-1], sources=sources)[0]["id"]) == set(kept["id"])
    assert kept.height == 4


def test_nothing_left_is_a_mistake_with_the_counts():
    with pytest.raises(UserError, match=r"sft_mix: .*'too long': 1"):
        mixed_rows(ROWS[3])


def test_the_stage_writes_demonstrations_and_their_account(tmp_path, monkeypatch):
    frame = pl.DataFrame(ROWS, schema=DEMONSTRATIONS.schema)
    for source in ("a", "b"):
        tables.write(
            DEMONSTRATIONS,
            frame.filter(source=source),
            tmp_path / f"demonstrations/{source}/demonstrations.parquet",
        )
    body = section(decontaminate={"benchmarks": [], **BENCHMARK_SEARCH})
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({"sft_mix": body}, file)
    monkeypatch.setenv("PAIRMILL_PARAMS", str(tmp_path / "params.yaml"))
    folders = [str(tmp_path / name) for name in ("demonstrations", "benchmarks", "out")]
    monkeypatch.setattr(sys, "argv", ["sft_mix", *folders])
    main()
    assert tables.read(SFT_MIX, tmp_path / "out/demonstrations.parquet").height == 3
    assert (tmp_path / "out/counts.json").exists()
