"""One pair per prompt from judged candidates, and a named reason for each prompt without one."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger import Ledger
from pipeline.schemas import CANDIDATES, JUDGMENTS, PAIRS
from pipeline.stages.pair import PairParams, paired
from pipeline.tables import check

BEST_WORST = PairParams(strategy="best_worst", length_penalty=0.0, min_margin=0.0, seed=1)


def pool(*rows: tuple[str, str, float]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidates and judgments from (prompt, response, score), by two policies in turn."""
    candidates = [
        {
            "candidate_id": f"{prompt}{i}",
            "prompt_id": prompt,
            "prompt": [{"role": "user", "content": prompt}],
            "policy": f"policies/t{i % 2}",
            "sample": i,
            "temperature": 1.0,
            "response": text,
            "tokens": len(text),
            "finish_reason": "stop",
        }
        for i, (prompt, text, _) in enumerate(rows)
    ]
    scores = [
        {"candidate_id": f"{prompt}{i}", "prompt_id": prompt, "judge": "bt", "score": score, "comparisons": 0}
        for i, (prompt, _, score) in enumerate(rows)
    ]
    return pl.DataFrame(candidates, schema=CANDIDATES.schema), pl.DataFrame(scores, schema=JUDGMENTS.schema)


def pairs_and_reasons(
    *rows: tuple[str, str, float], **changes: object
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    ledger = Ledger("pair@t1", "prompts")
    made = paired(*pool(*rows), "t1", BEST_WORST.model_copy(update=changes), ledger)
    check(PAIRS, made)
    texts = [
        (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in made.iter_rows(named=True)
    ]
    dropped = pl.concat(ledger.drops)
    return texts, dict(dropped.select("id", "reason").iter_rows())


def test_the_best_and_the_worst_answer_become_a_pair():
    assert pairs_and_reasons(("p", "mid", 1.0), ("p", "good", 2.0), ("p", "bad", -1.0)) == (
        [("good", "bad")],
        {},
    )


def test_the_length_penalty_selects_and_orders():
    # The reference orders by the raw reward after selecting by the penalised one: "chosen" can be worse.
    rows = (("p", "short text", 1.0), ("p", "x" * 5000, 2.0))
    assert pairs_and_reasons(*rows, length_penalty=0.001)[0] == [("short text", "x" * 5000)]
    assert pairs_and_reasons(*rows)[0] == [("x" * 5000, "short text")]


@pytest.mark.parametrize(
    ("rows", "changes", "reason"),
    [
        ([("p", "a", 1.0), ("p", "b", 1.0)], {}, "tie"),
        ([("p", "same", 1.0), ("p", "same", 3.0)], {}, "fewer than two distinct answers"),
        ([("p", "a", 1.0), ("p", "b", 1.2)], {"min_margin": 0.5}, "below the margin"),
    ],
)
def test_a_prompt_without_information_is_dropped_by_name(rows, changes, reason):
    assert pairs_and_reasons(*rows, **changes) == ([], {"p": reason})


def test_a_prompt_that_was_not_judged_is_dropped_by_name():
    candidates, judgments = pool(*((prompt, text, 1.0 + i) for prompt in "pq" for i, text in enumerate("ab")))
    ledger = Ledger("pair@t1", "prompts")
    made = paired(candidates, judgments.filter(prompt_id="q"), "t1", BEST_WORST, ledger)
    assert made["prompt_id"].to_list() == ["q"]
    assert ledger.drops[0].select("id", "reason").rows() == [("p", "not judged")]


def test_a_prompt_of_which_one_answer_alone_has_no_judgment_is_a_fault():
    candidates, judgments = pool(("p", "a", 1.0), ("p", "b", 2.0), ("p", "c", 3.0))
    with pytest.raises(AssertionError, match="a candidate of a judged prompt has no judgment"):
        paired(candidates, judgments.head(2), "t1", BEST_WORST, Ledger("pair@t1", "prompts"))


def test_best_random_takes_any_other_answer_but_keeps_the_best():
    rows = [(f"p{i}", text, score) for i in range(40) for text, score in (("a", 3.0), ("b", 2.0), ("c", 1.0))]
    made, _ = pairs_and_reasons(*rows, strategy="best_random")
    assert {chosen for chosen, _ in made} == {"a"}
    assert {rejected for _, rejected in made} == {"b", "c"}


def test_random_orders_its_two_by_score():
    rows = [(f"p{i}", text, score) for i in range(60) for text, score in (("a", 3.0), ("b", 2.0), ("c", 1.0))]
    made, _ = pairs_and_reasons(*rows, strategy="random")
    assert set(made) == {("a", "b"), ("a", "c"), ("b", "c")}


answer = st.tuples(
    st.sampled_from("pqrs"), st.sampled_from(["a", "b", "c", "d"]), st.sampled_from([0.0, 1.0, 2.5])
)


@given(
    st.lists(answer, min_size=1, max_size=20),
    st.sampled_from(["best_worst", "best_random", "random"]),
)
@settings(deadline=None, max_examples=60)
def test_every_prompt_is_a_pair_or_a_line_of_the_ledger(rows, strategy):
    made, reasons = pairs_and_reasons(*rows, strategy=strategy)
    assert len(made) + len(reasons) == len({prompt for prompt, _, _ in rows})
    assert all(chosen != rejected for chosen, rejected in made)
