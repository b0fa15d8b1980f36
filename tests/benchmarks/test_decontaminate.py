"""The quality of decontamination: on the labelled set, the sample data and the fixtures of another tool."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.decontaminate import flagged, judged
from benchmarks.labelled import decontamination
from pipeline import sources
from pipeline.decontamination import Decontaminate, matches
from pipeline.items import Benchmark
from pipeline.params import load
from pipeline.raw import read
from pipeline.schemas import BENCHMARKS
from tests.sample_defects import SAMPLES, benchmark_files, holds_benchmark_item, rows_of, texts
from tests.smoke_project import ROOT

RULE = load("mixes.mix2.decontaminate", Decontaminate, ROOT / "recipes" / "paper.yaml")
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "alpaca_eval": ("benchmark", {"columns": ("instruction",)}),
    "arc": ("arc", {"with_choices": True}),
    "arena_hard": ("mt_bench", {}),
    "gsm8k": ("benchmark", {"columns": ("question",)}),
    "humaneval": ("benchmark", {"columns": ("prompt",)}),
    "mbpp": ("benchmark", {"columns": ("text",)}),
    "mmlu": ("mmlu", {"with_choices": True}),
    "mt_bench": ("mt_bench", {}),
    "reward_bench": ("benchmark", {"columns": ("prompt",)}),
    "truthfulqa": ("benchmark", {"columns": ("Question",)}),
}


@pytest.fixture(scope="module")
def labelled() -> tuple[pl.DataFrame, pl.DataFrame]:
    return decontamination.prompts(), decontamination.benchmarks()


def test_the_labelled_set_is_the_same_every_time_and_covers_every_class(labelled):
    prompts, _ = labelled
    assert prompts.equals(decontamination.prompts())
    assert prompts["text"].is_unique().all()
    counts = dict(prompts["label"].value_counts().iter_rows())
    assert set(counts) == {*decontamination.PLANTED, *decontamination.NEGATIVES}
    assert sum(counts[label] for label in decontamination.PLANTED) > 1000
    assert sum(counts[label] for label in decontamination.NEGATIVES) > 400


def test_the_rule_of_the_recipes_finds_every_class_and_few_hard_negatives(labelled):
    told = judged(labelled[0], flagged(*labelled, RULE))
    assert all(told["classes"][label]["part"] >= 0.99 for label in decontamination.PLANTED)
    assert told["negatives_flagged"] <= 0.01
    assert told["recall"] >= 0.99


@pytest.mark.parametrize("change", [{"ngram": 8}, {"coverage": 0.1}, {"max_items": 99}, {"max_prompts": 99}])
def test_a_looser_rule_flags_more_hard_negatives(labelled, change):
    loose = judged(labelled[0], flagged(*labelled, RULE.model_copy(update=change)))
    strict = judged(labelled[0], flagged(*labelled, RULE))
    assert loose["negatives_flagged"] > strict["negatives_flagged"]
    assert loose["precision"] < strict["precision"]


def test_a_stricter_rule_misses_items_that_are_cut_short(labelled):
    whole = RULE.model_copy(update={"coverage": 0.9})
    strict = judged(labelled[0], flagged(*labelled, whole))
    assert strict["classes"]["cut short"]["part"] < 0.5
    assert strict["recall"] < judged(labelled[0], flagged(*labelled, RULE))["recall"]


def sample_benchmarks() -> pl.DataFrame:
    """The items of all sample benchmarks, by their adapters."""
    found = []
    for file in benchmark_files():
        name = file.split("/")[1]
        adapter, rules = ADAPTERS[name]
        module: Any = sources.adapter(adapter)
        for row, items in module.items(read(SAMPLES, [file]), module.Rules(**rules)):
            for i, item in enumerate(items):
                assert isinstance(item, Benchmark)
                found.append((name, row.file, row.row, i, f"{row.row}.{i}", item.text))
    return pl.DataFrame(found, schema=BENCHMARKS.schema, orient="row")


def test_in_the_samples_it_finds_the_planted_items_and_nothing_else():
    benchmarks = sample_benchmarks()
    assert set(benchmarks["source"]) == set(ADAPTERS)
    planted = 0
    for path in sorted(SAMPLES.rglob("*")):
        file = path.relative_to(SAMPLES).as_posix()
        if path.is_dir() or file.startswith("benchmarks/") or path.name == "README.md":
            continue
        rows = rows_of(file)
        expected = {str(i) for i, row in enumerate(rows) if holds_benchmark_item(row)}
        prompts = pl.DataFrame(
            {"id": [str(i) for i in range(len(rows))], "text": ["\n".join(texts(row)) for row in rows]}
        )
        assert flagged(prompts, benchmarks, RULE) == expected
        planted += len(expected)
    assert planted > 10


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_fixtures_of_another_tool_are_told_apart(shared_data):
    """allenai/decon's own tests; a paraphrase and two misspelt names are beyond runs of equal words."""
    folder = shared_data / "decontamination-refs" / "decon_fixtures"
    rows = lines(folder / "reference" / "question_reference.jsonl")
    found = [("decon", "f", i, 0, str(i), row["question"]) for i, row in enumerate(rows)]
    items = pl.DataFrame(found, schema=BENCHMARKS.schema, orient="row")

    def hits(name: str) -> set[int]:
        texts_of = [row["text"] for row in lines(folder / "training" / f"{name}.jsonl")]
        ids = pl.Series([str(i) for i in range(len(texts_of))])
        return {int(place) for place in matches(ids, pl.Series(texts_of), items, RULE)["id"]}

    assert hits("clean") == set()
    assert hits("contaminated_mixed") == {0, 3}
    assert hits("contaminated_single_edit") == {0}
    assert hits("contaminated_punctuation_variation") == {0}
    assert hits("contaminated_edge_cases") == {1, 2, 3}
