"""The texts of pairs, from the candidates that they name."""

import pytest

from pipeline.pair_texts import READS, with_texts
from tests.published_project import candidates_of, pairs_of


def test_each_side_has_the_text_of_its_candidate_and_the_prompt_is_theirs():
    candidates = candidates_of("t1")
    said = with_texts(pairs_of("t1"), candidates.select(READS).reverse())
    assert said.select(pairs_of("t1").columns).equals(pairs_of("t1")), "the pairs stay as they are"
    texts = {row["candidate_id"]: (row["prompt"], row["response"]) for row in candidates.to_dicts()}
    for row in said.iter_rows(named=True):
        for side in ("chosen", "rejected"):
            ((message,), (prompt, text)) = row[side], texts[row[f"{side}_id"]]
            assert (row["prompt"], message) == (prompt, {"role": "assistant", "content": text})


def test_an_answer_that_is_not_among_the_candidates_is_a_bug_that_is_told():
    with pytest.raises(AssertionError, match="6 answers of pairs are not among the candidates"):
        with_texts(pairs_of("t1"), candidates_of("t1").filter(sample=0))
