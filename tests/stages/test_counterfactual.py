"""What other pair rules would have given, counted by hand on a small pool and compared with `pair` on any."""

import json
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tables
from pipeline.counterfactuals import counterfactuals, rank_agreement
from pipeline.exploration import Known
from pipeline.pair_rules import CounterfactualParams
from pipeline.pairing import paired
from pipeline.params import parse
from pipeline.schemas import CANDIDATES, COUNTERFACTUALS, JUDGMENTS, PAIRS
from pipeline.stages import counterfactual
from tests.pair_rules import PAPER, pair_params
from tests.stages.answer_pools import pool, said_by

OTHERS = {
    "strategies": [
        {"name": "best_second"},
        {"name": "best_worst"},
        {"name": "margin_band", "low": 0.5, "high": 2.0},
        {"name": "top_k_pairs", "k": 2},
    ],
    "lengths": [{"rule": "none"}, {"rule": "penalty", "per_character": 1.0}],
}
ROWS = (
    ("p", "aaaa", 9.0),
    ("p", "bb", 8.0),
    ("p", "c", 1.0),
    ("q", "aa", 3.0),
    ("q", "bb", 2.0),
    ("r", "a", 1.0),
)


def found(rows=ROWS, **keys: object) -> pl.DataFrame:
    others = parse("counterfactual", CounterfactualParams, OTHERS)
    rule = pair_params(**keys)
    made = counterfactuals(*pool(*rows), paired(*pool(*rows), "t1", rule).pairs, rule, others)
    tables.check(COUNTERFACTUALS, made)
    return made


def test_each_rule_has_its_yield_margin_lengths_and_overlap_with_the_recipes():
    columns = ("strategy", "length", "paired", "pairs", "margin", "length_gap", "longer_chosen", "overlap")
    assert found().select(columns).rows() == [
        ("best_worst", "none", 2, 2, 4.5, 1.5, 0.75, 1.0),
        ("best_second", "none", 2, 2, 1.0, 1.0, 0.75, 0.5),
        ("margin_band, low 0.5, high 2.0", "none", 2, 2, 1.0, 1.0, 0.75, 0.5),
        (
            "top_k_pairs, k 2",
            "none",
            2,
            3,
            pytest.approx(16 / 3),
            pytest.approx(4 / 3),
            pytest.approx(2.5 / 3),
            pytest.approx(2 / 3),
        ),
        ("best_worst", "penalty, per_character 1.0", 2, 2, 3.5, 0.5, 0.75, 0.5),
    ]
    assert found()["prompts"].to_list() == [3] * 5
    assert found()["agreement"].null_count() == 5, "one judge agrees with itself"


def test_a_rule_that_gives_no_pair_has_no_means():
    (row,) = found(min_margin=2.0)[1:2].iter_rows(named=True)
    assert (row["paired"], row["pairs"]) == (0, 0)
    assert {row[name] for name in COUNTERFACTUALS.nullable} == {None}


def test_uncertainty_is_told_by_the_pairs_it_made_and_not_with_other_length_rules():
    others = parse("counterfactual", CounterfactualParams, OTHERS)
    rule = pair_params("uncertainty", ridge=1.0, eta=1.0, budget=50.0, max_length=64, dtype="float32")
    seen = Known(np.array([[0.0], [1.0], [5.0], [0.0], [1.0], [0.0]]), np.eye(1))
    pairs = paired(*pool(*ROWS), "t1", rule, seen).pairs
    made = counterfactuals(*pool(*ROWS), pairs, rule, others)
    assert made["strategy"].to_list()[0].startswith("uncertainty, ridge 1.0")
    assert made.height == 1 + len(OTHERS["strategies"])
    assert made.select("pairs", "margin", "length_gap", "overlap").row(0) == (2, 4.5, 1.5, 1.0)
    assert made["overlap"].to_list()[2] == 1.0, "here the best and the worst are the pairs"


def test_judges_agree_on_pairs_and_on_ranks():
    candidates, first = pool(*ROWS)
    said = pl.concat([first, said_by("pairwise", candidates, [0.5, 0.6, 0.1, 0.2, 0.9, 0.5])])
    rule = pair_params(judges={"rule": "named", "judge": "bt"})
    others = parse("counterfactual", CounterfactualParams, OTHERS)
    made = counterfactuals(candidates, said, paired(candidates, said, "t1", rule).pairs, rule, others)
    assert made["agreement"].to_list()[:2] == [0.5, 0.0]  # (a, c) of p, not (a, b), and not q
    (ranks,) = rank_agreement(candidates, said, rule)
    # Of p's three pairs two are ordered alike, q's one is not: (2 - 2) / 4.
    assert ranks == {"judges": ["bt", "pairwise"], "tau_b": 0.0, "prompts": 2}
    assert rank_agreement(candidates, first, rule) == []


answer = st.tuples(
    st.sampled_from("pqrs"), st.sampled_from(["a", "b", "cc", "dddd"]), st.sampled_from([0.0, 1.0, 2.5])
)


@given(st.lists(answer, min_size=1, max_size=16))
@settings(deadline=None, max_examples=40)
def test_a_rule_is_counted_as_the_stage_pair_would_make_it(rows):
    for row, strategy in zip(
        found(rows)[1:4].iter_rows(named=True), ("best_second", "margin_band", "top_k_pairs"), strict=True
    ):
        keys = next(one for one in OTHERS["strategies"] if one["name"] == strategy)
        own = {key: value for key, value in keys.items() if key != "name"}
        pairs = paired(*pool(*rows), "t1", pair_params(strategy, **own)).pairs
        assert row["strategy"].startswith(strategy)
        assert (row["pairs"], row["paired"]) == (pairs.height, pairs["prompt_id"].n_unique())
        assert row["margin"] == (pytest.approx(pairs["margin"].mean()) if pairs.height else None)


def test_the_stage_writes_a_table_and_the_same_as_json(tmp_path, monkeypatch):
    recipe = {"pair": PAPER, "counterfactual": OTHERS}
    (tmp_path / "params.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    candidates, judgments = pool(*ROWS)
    tables.write(CANDIDATES, candidates, tmp_path / "generate" / "candidates.parquet")
    tables.write(JUDGMENTS, judgments, tmp_path / "judge" / "judgments.parquet")
    monkeypatch.chdir(tmp_path)
    pairs = paired(candidates, judgments, "t1", pair_params()).pairs
    tables.write(PAIRS, pairs, tmp_path / "pair" / "pairs.parquet")
    monkeypatch.setattr(sys, "argv", ["counterfactual", "t1", "generate", "judge", "pair", "out"])
    counterfactual.main()
    table = tables.read(COUNTERFACTUALS, tmp_path / "out" / "counterfactual.parquet")
    account = json.loads((tmp_path / "out" / "counterfactual.json").read_text(encoding="utf-8"))
    assert table.equals(found())
    assert account["rules"] == table.drop("number").to_dicts()
    assert (account["judges"], account["candidates"], account["decided_by"]) == (["bt"], 6, "one")
