"""Pairs from judged candidates, and a named reason, with what was measured, for each prompt without one."""

import json
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tables
from pipeline.engines import exploring
from pipeline.errors import UserError
from pipeline.exploration import Known, covariance, whitening
from pipeline.ids import pair_id, prompt_id
from pipeline.pair_rules import Uncertainty
from pipeline.pairing import paired
from pipeline.planning import planning
from pipeline.schemas import CANDIDATES, HISTORY, JUDGMENTS, LEDGER, PAIRS
from pipeline.stages import pair
from pipeline.tables import check
from tests.pair_rules import PAPER, pair_params
from tests.stages.answer_pools import Row, pool, said_by, texts_of
from tests.test_pair_strategies import ALL


def pairs_and_reasons(*rows: Row, **keys) -> tuple[list[tuple[str, str]], dict[str, str]]:
    candidates, judgments = pool(*rows)
    made = paired(candidates, judgments, "t1", pair_params(**keys))
    check(PAIRS, made.pairs)
    return texts_of(made.pairs, candidates), dict(made.dropped.select("prompt_id", "reason").iter_rows())


def test_the_best_and_the_worst_answer_become_a_pair():
    assert pairs_and_reasons(("p", "mid", 1.0), ("p", "good", 2.0), ("p", "bad", -1.0)) == (
        [("good", "bad")],
        {},
    )


def test_a_pair_has_the_ids_of_its_texts_and_the_scores_that_ordered_it():
    candidates, judgments = pool(("p", "good", 2.0), ("p", "bad!", -1.0))
    said = [{"role": "user", "content": "p"}]
    candidates = candidates.with_columns(prompt_id=pl.lit(prompt_id(said)))
    params = pair_params(length={"rule": "penalty", "per_character": 0.5})
    (row,) = paired(candidates, judgments, "t1", params).pairs.iter_rows(named=True)
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in ("good", "bad!"))
    assert row == {
        "prompt_id": prompt_id(said),
        "pair_id": pair_id(said, chosen, rejected),
        "iteration": "t1",
        "chosen_id": "p000",
        "rejected_id": "p001",
        "chosen_ended": True,
        "rejected_ended": True,
        "chosen_score": 0.0,
        "rejected_score": -3.0,
        "margin": 3.0,
        "judge": "bt",
    }


def test_a_pair_says_which_of_its_answers_were_cut_at_the_limit():
    candidates, judgments = pool(
        *(("p" + i, text, score) for i in "abcd" for text, score in (("good", 1.0), ("bad", 0.0)))
    )
    cut = pl.Series([["stop", "length"][i >> side & 1] for i in range(4) for side in (0, 1)])
    made = paired(candidates.with_columns(finish_reason=cut), judgments, "t1", pair_params())
    ended = made.pairs.select("prompt_id", "chosen_ended", "rejected_ended").rows()
    assert ended == [("pa", True, True), ("pb", False, True), ("pc", True, False), ("pd", False, False)]


LONG = "x" * 5000
PENALTY = {"rule": "penalty", "per_character": 0.001}


def test_the_length_penalty_selects_and_orders():
    # The reference orders by the raw reward after selecting by the penalised one: "chosen" can be worse.
    rows = (("p", "short text", 1.0), ("p", LONG, 2.0))
    assert pairs_and_reasons(*rows, length=PENALTY)[0] == [("short text", LONG)]
    assert pairs_and_reasons(*rows)[0] == [(LONG, "short text")]


def test_a_residual_takes_out_what_length_tells_and_nothing_else():
    # Scores are length / 10 but for one answer, which is better than its length.
    rows = [("p", "x" * size, size / 10) for size in (10, 20, 40)] + [("p", "y" * 12, 3.0)]
    residual = pairs_and_reasons(*rows, length={"rule": "residual"})[0]
    assert [chosen for chosen, _ in residual] == ["y" * 12]
    assert pairs_and_reasons(*rows)[0] == [("x" * 40, "x" * 10)]
    same = [("p", text, score) for text, score in (("aa", 1.0), ("bb", 3.0), ("cc", 2.0))]
    assert pairs_and_reasons(*same, length={"rule": "residual"})[0] == [("bb", "aa")]


def test_scores_that_are_nothing_but_length_tie_after_the_residual():
    rows = [("p", "x" * size, 0.1 * size + 0.3) for size in (10, 21, 43, 97)]
    assert pairs_and_reasons(*rows, length={"rule": "residual"}) == ([], {"p": "tie"})


@pytest.mark.parametrize(
    ("rows", "keys", "line"),
    [
        ([("p", "a", 1.0), ("p", "b", 1.0)], {}, ("tie", 0.0, 0.0, "p000 p001")),
        ([("p", "same", 1.0), ("p", "same", 3.0)], {}, ("identical answers", 1.0, 2.0, "candidates: 2")),
        ([("p", "a", 1.0)], {}, ("one answer", 1.0, 2.0, "candidates: 1")),
        (
            [("p", "a", 1.0), ("p", "b", 1.25)],
            {"min_margin": 0.5},
            ("below the margin", 0.25, 0.5, "p001 p000"),
        ),
        (
            [("p", "a", 1.0), ("p", "b", 1.25)],
            {"noise": {"bt": 0.2}},
            ("within the noise of the judge", 0.25, 0.4, "p001 p000"),
        ),
        (
            [("p", "a", 1.0), ("p", "b", 2.0), ("p", "b", 2.0)],
            {"length": {"rule": "residual"}},
            ("too few answers for a residual", 2.0, 3.0, "candidates: 3"),
        ),
    ],
)
def test_a_prompt_without_information_is_dropped_by_name_with_what_was_measured(rows, keys, line):
    made = paired(*pool(*rows), "t1", pair_params(**keys))
    assert made.pairs.is_empty() and made.asked == 1
    assert made.dropped.select("reason", "value", "threshold", "detail").rows() == [line]


def test_a_margin_of_the_noise_itself_is_a_pair():
    rows = (("p", "a", 1.0), ("p", "b", 1.5))
    assert pairs_and_reasons(*rows, noise={"bt": 0.25}, min_margin=0.5)[0] == [("b", "a")]


def test_a_text_that_was_sampled_twice_is_one_answer_of_its_first_candidate():
    rows = (("p", "a", 1.0), ("p", "b", 2.0), ("p", "b", 7.0), ("p", "c", 5.0))
    made = paired(*pool(*rows), "t1", pair_params())
    assert made.pairs.select("chosen_id", "rejected_id", "margin").rows() == [("p003", "p000", 4.0)]
    assert pairs_and_reasons(*rows, strategy="best_second")[0] == [("c", "b")]


def test_with_several_pairs_per_prompt_each_proposed_pair_is_a_pair_or_a_line():
    rows = [
        ("p", "a", 3.0),
        ("p", "b", 3.0),
        ("p", "c", 1.0),
        ("q", "a", 1.0),
        ("r", "a", 2.0),
        ("r", "b", 1.0),
    ]
    made = paired(*pool(*rows), "t1", pair_params("top_k_pairs", k=3))
    check(PAIRS, made.pairs)
    assert made.pairs.group_by("prompt_id").len().sort("prompt_id").rows() == [("p", 2), ("r", 1)]
    assert made.dropped.select("prompt_id", "row", "item", "reason").rows() == [
        ("q", 1, 0, "one answer"),
        ("p", 0, 2, "tie"),
    ]
    assert made.asked == 5


def test_a_prompt_that_was_not_judged_is_dropped_by_name():
    candidates, judgments = pool(*((prompt, text, 1.0 + i) for prompt in "pq" for i, text in enumerate("ab")))
    made = paired(candidates, judgments.filter(prompt_id="q"), "t1", pair_params())
    assert made.pairs["prompt_id"].to_list() == ["q"]
    assert made.dropped.select("prompt_id", "reason", "detail").rows() == [("p", "not judged", "by bt")]


def test_a_prompt_of_which_one_answer_alone_has_no_judgment_is_a_fault():
    candidates, judgments = pool(("p", "a", 1.0), ("p", "b", 2.0), ("p", "c", 3.0))
    with pytest.raises(AssertionError, match="a candidate of a judged prompt has no judgment by bt"):
        paired(candidates, judgments.head(2), "t1", pair_params())


def jury(*rows: tuple[str, str, float, float]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A pool with the scores of `bt` and of `pairwise`."""
    candidates, first = pool(*((prompt, text, score) for prompt, text, score, _ in rows))
    return candidates, pl.concat([first, said_by("pairwise", candidates, [score for *_, score in rows])])


#: bt: a > b > c, and far apart; pairwise: c > a > b.
JURY = jury(("p", "a", 900.0, 0.6), ("p", "b", 300.0, 0.1), ("p", "c", 0.0, 0.7))


def test_each_way_to_join_judges_takes_its_own_pair():
    def taken(**rule: str):
        made = paired(*JURY, "t1", pair_params(judges=rule))
        ends = [
            (row["chosen_id"], row["rejected_id"], row["judge"]) for row in made.pairs.iter_rows(named=True)
        ]
        return ends or made.dropped["reason"].to_list()

    assert taken(rule="named", judge="bt") == [("p000", "p002", "bt")]
    assert taken(rule="named", judge="pairwise") == [("p002", "p001", "pairwise")]
    # Standardised: bt 1.34, -0.27, -1.07 and pairwise 0.51, -1.40, 0.89; a mean of raw scores would be bt's.
    assert taken(rule="mean") == [("p000", "p001", "bt+pairwise")]
    assert taken(rule="agreement") == [("p000", "p001", "bt+pairwise")]


def test_judges_that_must_agree_and_do_not_are_named():
    said = jury(("p", "a", 1.0, 0.4), ("p", "b", 0.9, 0.2), ("p", "c", 0.0, 0.5))
    assert paired(*said, "t1", pair_params(judges={"rule": "mean"})).pairs.height == 1
    apart = jury(("p", "a", 2.0, 0.1), ("p", "b", 0.0, 0.2), ("p", "c", 1.9, 0.11))
    made = paired(*apart, "t1", pair_params(judges={"rule": "agreement"}))
    (line,) = made.dropped.select("reason", "threshold").rows()
    assert line == ("the judges disagree", 0.0) and made.dropped["value"][0] < 0


def test_a_mean_of_judges_is_over_the_prompt_alone():
    other = jury(
        ("p", "a", 900.0, 0.6),
        ("p", "b", 300.0, 0.1),
        ("p", "c", 0.0, 0.7),
        ("q", "a", -5e6, 1.0),
        ("q", "b", 9e6, 0.0),
    )
    rule = pair_params(judges={"rule": "mean"})
    alone, among = (paired(*said, "t1", rule).pairs.filter(prompt_id="p") for said in (JURY, other))
    assert alone.equals(among)


def test_the_noise_of_several_judges_is_in_their_standard_deviations():
    # Two answers are one standard deviation off their mean each, whatever the scale: margin 2, noise 2 * 0.3.
    said = jury(("p", "a", 10.0, 0.6), ("p", "b", 0.0, 0.4))
    rule = {"judges": {"rule": "mean"}}
    assert paired(*said, "t1", pair_params(**rule, noise={"bt": 1.0, "pairwise": 0.04})).pairs.height == 1
    made = paired(*said, "t1", pair_params(**rule, noise={"bt": 4.0, "pairwise": 0.14}))
    assert made.dropped.select("reason", "value", "threshold").rows() == [
        ("within the noise of the judge", pytest.approx(2.0), pytest.approx(0.8 + 1.4))
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "expected judgments of one judge, found those of ['bt', 'pairwise']"),
        ({"judges": {"rule": "named", "judge": "prompted"}}, "one of ['bt', 'pairwise'], found 'prompted'"),
        ({"judges": {"rule": "mean"}, "noise": {"bt": 0.1}}, "pair.noise: expected the noise of each judge"),
    ],
)
def test_judges_that_are_not_there_are_told(keys, said):
    with pytest.raises(UserError) as told:
        paired(*JURY, "t1", pair_params(**keys))
    assert said in str(told.value)


def test_no_judgment_at_all_is_told():
    candidates, judgments = pool(("p", "a", 1.0), ("p", "b", 2.0))
    with pytest.raises(UserError, match="expected judgments of one judge, found those of \\[\\]"):
        paired(candidates, judgments.clear(), "t1", pair_params())


def test_one_judge_is_not_several():
    with pytest.raises(UserError, match="expected judgments of several judges, found those of \\['bt'\\]"):
        paired(*pool(("p", "a", 1.0), ("p", "b", 2.0)), "t1", pair_params(judges={"rule": "mean"}))


answer = st.tuples(
    st.sampled_from("pqrs"), st.sampled_from(["a", "b", "cc", "dddd", ""]), st.sampled_from([0.0, 1.0, 2.5])
)


@given(
    st.lists(answer, min_size=1, max_size=20),
    st.sampled_from(sorted(ALL)),
    st.sampled_from([{"rule": "none"}, {"rule": "residual"}, {"rule": "penalty", "per_character": 0.4}]),
)
@settings(deadline=None, max_examples=120)
def test_every_prompt_is_pairs_or_lines_of_the_ledger_and_pairs_are_ordered_by_their_scores(
    rows, name, length
):
    made = paired(*pool(*rows), "t1", pair_params(name, length=length, **ALL[name]))
    check(PAIRS, made.pairs)
    assert made.asked == made.pairs.height + made.dropped.height
    told = {*made.pairs["prompt_id"], *made.dropped["prompt_id"]}
    assert told == {prompt for prompt, _, _ in rows}
    if name != "top_k_pairs":
        assert made.asked == len(told)
    assert made.pairs.filter(pl.col("chosen_score") - pl.col("rejected_score") != pl.col("margin")).is_empty()
    candidates, judgments = pool(*rows)
    again = paired(candidates, judgments.reverse(), "t1", pair_params(name, length=length, **ALL[name]))
    assert again.pairs.equals(made.pairs)


def test_candidates_in_another_order_than_that_of_their_table_are_a_bug_that_is_told():
    candidates, judgments = pool(("p", "a", 1.0), ("q", "b", 2.0))
    with pytest.raises(AssertionError, match="order of their table"):
        paired(candidates.reverse(), judgments, "t1", pair_params())


def run(folder, monkeypatch, rows: list[Row], **keys):
    """The stage on `rows`; gives its folder."""
    recipe = {"pair": PAPER | keys}
    (folder / "params.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    candidates, judgments = pool(*rows)
    tables.write(CANDIDATES, candidates, folder / "generate" / "candidates.parquet")
    lax = tables.Table(
        name="judgments",
        made_by="judge",
        columns=JUDGMENTS.columns,
        key=JUDGMENTS.key,
        nullable=JUDGMENTS.nullable,
    )
    tables.write(lax, judgments, folder / "judge" / "judgments.parquet")
    monkeypatch.chdir(folder)  # where params.yaml is
    monkeypatch.setattr(
        sys,
        "argv",
        ["pair", "t1", *(str(folder / name) for name in ("generate", "judge", "history", "model", "out"))],
    )
    pair.main()
    return folder / "out"


def test_the_stage_writes_pairs_and_an_account_that_adds_up(tmp_path, monkeypatch):
    rows = [("p", "a", 3.0), ("p", "b", 2.0), ("p", "c", 2.0), ("q", "a", 1.0)]
    out = run(tmp_path, monkeypatch, rows, strategy={"name": "top_k_pairs", "k": 3})
    counts = json.loads((out / "counts.json").read_text(encoding="utf-8"))
    assert (counts["in"], counts["kept"], counts["dropped"]) == (4, 2, {"one answer": 1, "tie": 1})
    assert tables.read(PAIRS, out / "pairs.parquet").height == 2
    assert tables.read(LEDGER, out / "ledger.parquet").select("id", "row", "item").rows() == [
        ("p", 0, 2),
        ("q", 1, 0),
    ]


def test_no_pair_at_all_is_an_error_that_counts_the_reasons(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"found none of 1 prompts \(\{'tie': 1\}\); lower pair.min_margin"):
        run(tmp_path, monkeypatch, [("p", "a", 1.0), ("p", "b", 1.0)])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_an_error_that_names_candidate_and_file(tmp_path, monkeypatch, score):
    with pytest.raises(UserError) as told:
        run(tmp_path, monkeypatch, [("p", "a", 1.0), ("p", "b", score), ("p", "c", 2.0)])
    said = str(told.value)
    assert said.startswith(f"{tmp_path / 'judge' / 'judgments.parquet'}: expected a finite score")
    assert f"found {score} of candidate p001 by bt (1 of 3 scores)" in said


EXPLORE = {"ridge": 1.0, "eta": 1.0, "budget": 5.0}
WORDS = {"max_length": 256, "dtype": "float32"}


def known(*features: tuple[float, float], history: tuple[tuple[float, float], ...] = ()) -> Known:
    rows = np.array(history, np.float64).reshape(-1, 2)
    return Known(np.array(features), whitening(covariance(rows, 1.0)))


def test_uncertainty_takes_the_two_answers_that_earlier_pairs_tell_least_of():
    rows = [("p", "a", 1.0), ("p", "b", 0.5), ("p", "c", 0.2), ("p", "far", -9.0)]
    rule = pair_params("uncertainty", **EXPLORE, **WORDS)
    features = ((0.0, 0.0), (2.0, 0.0), (0.0, 1.5), (50.0, 50.0))

    def chosen(**history) -> list[tuple[str, str]]:
        candidates, judgments = pool(*rows)
        made = paired(candidates, judgments, "t1", rule, known(*features, **history)).pairs
        return texts_of(made, candidates)

    assert chosen() == [("b", "c")]
    assert chosen(history=((2.0, 0.0), (2.0, 0.0), (0.1, -0.1))) == [("b", "c")]
    assert chosen(history=((2.0, -1.5), (2.0, -1.5))) == [("a", "b")]


def test_a_prompt_with_one_answer_within_the_budget_has_no_pair():
    rows = [("p", "a", 9.0), ("p", "b", 1.0), ("q", "a", 1.0), ("q", "b", 0.5)]
    rule = pair_params("uncertainty", **EXPLORE, **WORDS)
    made = paired(*pool(*rows), "t1", rule, known((0, 0), (1, 0), (0, 0), (1, 0)))
    assert made.pairs["prompt_id"].to_list() == ["q"]
    (lost,) = made.dropped.select("prompt_id", "reason", "value", "threshold").rows()
    assert lost == ("p", "one answer within the budget of KL", pytest.approx(8 + np.log1p(np.exp(-8))), 5.0)


def test_the_stage_reads_states_and_earlier_pairs_for_uncertainty_alone(
    tmp_path, own_state, tiny_model, monkeypatch
):
    rows = [(prompt, text, i / 10) for prompt in "pq" for i, text in enumerate(["one", "two or three", "4"])]
    (tmp_path / "model").symlink_to(tiny_model)
    said = [{"role": "user", "content": "p"}]
    old = {
        **{"source": "t0", "file": "f", "row": 0, "item": 0, "since": "t0", "prompt_id": "p", "pair_id": "x"},
        **{"chosen_id": "c", "rejected_id": "r", "prompt": said},
        **{side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")},
        **{"chosen_ended": True, "rejected_ended": True},
    }
    run(tmp_path, monkeypatch, rows)
    assert not (own_state / "store" / "state").exists(), "best_worst asks no model"
    tables.write(
        HISTORY, pl.DataFrame([old], schema=HISTORY.schema), tmp_path / "history" / "history.parquet"
    )
    strategy = {"name": "uncertainty", **EXPLORE, **WORDS}
    out = run(tmp_path, monkeypatch, rows, strategy=strategy)
    made = tables.read(PAIRS, out / "pairs.parquet")
    assert made["prompt_id"].to_list() == ["p", "q"]
    candidates, judgments = pool(*rows)
    history = tables.read(HISTORY, tmp_path / "history" / "history.parquet")
    rule = pair_params("uncertainty", **EXPLORE, **WORDS)
    assert isinstance(rule.strategy, Uncertainty)
    seen = exploring.known(candidates, history, tiny_model, rule.strategy)
    assert seen.features.shape[0] == candidates.height
    assert paired(candidates, judgments, "t1", rule, seen).pairs.equals(made)
    asked = filled(own_state)
    assert asked == 6 + 2, "each candidate and both sides of the earlier pair, once"
    with planning() as plan:
        pair.made("t1", tmp_path / "generate", tmp_path / "judge", tmp_path / "history", tiny_model)
    (fill,) = plan.fills
    assert (fill.cells.kind, len(fill.asked), len(fill.missing)) == ("state", 8, 0)


def test_a_plan_of_uncertainty_asks_for_all_states_and_computes_none(
    tmp_path, own_state, tiny_model, monkeypatch
):
    rows = [("p", "one", 1.0), ("p", "two", 0.5)]
    run(tmp_path, monkeypatch, rows)
    strategy = {"name": "uncertainty", **EXPLORE, **WORDS}
    (tmp_path / "params.yaml").write_text(json.dumps({"pair": PAPER | {"strategy": strategy}}))
    tables.write(HISTORY, HISTORY.empty(), tmp_path / "history" / "history.parquet")
    with planning() as plan:
        pair.made("t1", tmp_path / "generate", tmp_path / "judge", tmp_path / "history", tiny_model)
    (fill,) = plan.fills
    assert (fill.cells.kind, len(fill.missing)) == ("state", 2)
    assert filled(own_state) == 0


def filled(state) -> int:
    """Rows that engines have computed."""
    path = state / "cells.jsonl"
    return sum(json.loads(line)["rows"] for line in path.read_text().splitlines()) if path.exists() else 0
