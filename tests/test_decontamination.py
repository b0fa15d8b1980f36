"""Which prompts hold a benchmark item, against a plain definition and planted cases."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.decontamination import Decontaminate, matches
from pipeline.schemas import BENCHMARKS

LONG = "A train leaves the old station at nine and reaches the harbour town two hours later; how far is it?"
SHORT = "What is the tallest mountain in Wales?"
GPT3 = Decontaminate(benchmarks=("bench",), ngram=13, min_words=4)


def benchmark(*texts: str) -> pl.DataFrame:
    rows = [
        {"source": "bench", "file": "f", "row": i, "item": 0, "id": f"item{i}", "text": text}
        for i, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=BENCHMARKS.schema)


def found(
    prompts: list[str], items: pl.DataFrame, how: Decontaminate = GPT3
) -> dict[str, tuple[float, float, str]]:
    ids = pl.Series([str(i) for i in range(len(prompts))], dtype=pl.String)
    rows = matches(ids, pl.Series(prompts, dtype=pl.String), items, how)
    return {row[0]: row[1:] for row in rows.iter_rows()}


@pytest.mark.parametrize(
    "prompt",
    [
        LONG,
        LONG.upper().replace(" ", "  \n"),
        f"Please solve this for me. {LONG} Explain.",
        "He said: " + " ".join(LONG.split()[:14]),
    ],
)
def test_a_long_item_is_found_by_a_run_of_its_words(prompt):
    assert set(found([prompt], benchmark(LONG))) == {"0"}


@pytest.mark.parametrize(
    "prompt",
    [SHORT, "\u201cwhat is the TALLEST mountain -- in wales\u201d", f"Quick question: {SHORT} Thanks"],
)
def test_a_short_item_is_found_whole_wherever_it_stands(prompt):
    assert found([prompt], benchmark(LONG, SHORT)) == {
        "0": (7.0, 7.0, 'bench/item1: "what is the tallest mountain in wales"')
    }


@pytest.mark.parametrize(
    "prompt",
    [
        "What is the tallest mountain in England?",
        "the tallest mountain in Wales",
        " ".join(LONG.split()[:12]),
        "What is the tallest big mountain in Wales?",
        "",
        "?!",
    ],
)
def test_less_than_a_run_or_than_the_whole_short_item_is_clean(prompt):
    assert found([prompt], benchmark(LONG, SHORT)) == {}


def test_items_below_min_words_are_ignored_and_at_min_words_are_not():
    items = benchmark("Tell me more", "Tell me a joke")
    assert set(found(["tell me more", "tell me a joke"], items)) == {"1"}


def test_the_evidence_is_the_longest_run_with_the_words_needed():
    value, threshold, detail = found([f"{SHORT} {LONG}"], benchmark(SHORT, LONG))["0"]
    assert (value, threshold) == (20.0, 13.0)
    assert detail.startswith('bench/item1: "a train leaves the old station')
    assert detail.endswith('"')


def test_a_run_does_not_reach_from_one_prompt_into_the_next():
    words = LONG.split()
    assert found([" ".join(words[:10]), " ".join(words[10:])], benchmark(LONG)) == {}


def test_no_items_and_no_prompts_match_nothing():
    assert found([LONG], benchmark()) == {}
    assert found([], benchmark(LONG)) == {}


def test_min_words_above_ngram_is_a_mistake():
    with pytest.raises(ValidationError, match="min_words <= ngram"):
        Decontaminate(benchmarks=("bench",), ngram=5, min_words=6)


WORDS = st.lists(st.sampled_from("abc"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=5))
def test_contaminated_is_what_the_definition_says(prompts, items):
    how = Decontaminate(benchmarks=("bench",), ngram=5, min_words=3)

    def holds(prompt: list[str], item: list[str]) -> bool:
        def grams(words: list[str], n: int) -> set[tuple[str, ...]]:
            return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

        return len(item) >= 3 and bool(grams(prompt, min(5, len(item))) & grams(item, min(5, len(item))))

    expected = {str(i) for i, prompt in enumerate(prompts) if any(holds(prompt, item) for item in items)}
    assert (
        set(found([" ".join(p) for p in prompts], benchmark(*(" ".join(i) for i in items)), how)) == expected
    )
