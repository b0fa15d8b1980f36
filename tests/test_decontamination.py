"""Which prompts hold a benchmark item, against a plain definition and planted cases."""

import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import words
from pipeline.benchmark_items import BenchmarkItems
from pipeline.decontamination import Decontaminate, matches
from pipeline.overlaps import runs
from pipeline.schemas import BENCHMARKS

LONG = "A train leaves the old station at nine and reaches the harbour town two hours later; how far is it?"
SHORT = "What is the tallest mountain in Wales?"
TINY = "Who are you?"
RULE = Decontaminate(benchmarks=("bench",), ngram=13, min_words=4, coverage=0.6, max_items=3, max_prompts=2)
EVERY = 10**6


def benchmark(*texts: str, source: str = "bench") -> pl.DataFrame:
    rows = [
        {"source": source, "file": "f", "row": i, "item": 0, "id": f"item{i}", "text": text}
        for i, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=BENCHMARKS.schema)


def found(
    prompts: list[str], items: pl.DataFrame, how: Decontaminate = RULE
) -> dict[str, tuple[float, float, str]]:
    ids = pl.Series([str(i) for i in range(len(prompts))], dtype=pl.String)
    rows = matches(ids, pl.Series(prompts, dtype=pl.String), items, how)
    return {row[0]: row[1:] for row in rows.iter_rows()}


def changed(**keys: object) -> Decontaminate:
    return Decontaminate.model_validate(RULE.model_dump() | keys)


@pytest.mark.parametrize(
    "prompt",
    [
        LONG,
        LONG.upper().replace(" ", "  \n"),
        LONG.replace(" ", "\u00a0").replace("?", "\u203d"),
        f"Please solve this for me. {LONG} Explain.",
        "He said: " + " ".join(LONG.split()[:14]),
    ],
)
def test_a_long_item_is_found_by_runs_of_its_words(prompt):
    assert set(found([prompt], benchmark(LONG))) == {"0"}


@pytest.mark.parametrize(
    "prompt",
    [
        SHORT,
        "\u201cwhat is the TALLEST mountain -- in wales\u201d",
        f"Quick question: {SHORT} Thanks",
        "Can you tell me what is the tallest mountain in Wales?",
    ],
)
def test_a_short_item_is_found_whole_wherever_a_sentence_ends_with_it(prompt):
    assert found([prompt], benchmark(LONG, SHORT)) == {
        "0": (1.0, 0.6, 'bench/item1: 7 of 7 words: "what is the tallest mountain in wales"')
    }


@pytest.mark.parametrize(
    "prompt",
    [
        "What is the tallest mountain in England?",
        "What is the tallest mountain in Wales that has a café?",
        "the tallest mountain in Wales",
        " ".join(LONG.split()[:12]),
        "What is the tallest big mountain in Wales?",
        "",
        "?!",
    ],
)
def test_another_question_and_a_part_of_an_item_are_clean(prompt):
    assert found([prompt], benchmark(LONG, SHORT)) == {}


def test_an_item_that_is_the_beginning_of_a_sentence_is_found_inside_one():
    items = benchmark("The main purpose of the petals is to")
    assert set(found(["I know the main purpose of the petals is to attract bees."], items)) == {"0"}


def test_a_tiny_item_is_found_only_as_a_sentence_of_its_own():
    prompts = [TINY, "Hello! Who are you? I am Tom.", "I wonder who are you", "Who are you talking to?"]
    assert set(found(prompts, benchmark(TINY))) == {"0", "1"}


def test_every_turn_of_a_prompt_is_searched():
    assert set(found([f"Hello\nHello to you.\n{SHORT}\nIt is Snowdon.\nThanks"], benchmark(SHORT))) == {"0"}


def test_the_coverage_is_the_part_of_the_item_that_a_prompt_must_have():
    words_of = LONG.split()
    prompts = [" ".join(words_of[:number]) for number in (13, 14, 15, 20)]
    parts = found(prompts, benchmark(LONG), changed(max_prompts=9))
    assert {key: row[0] for key, row in parts.items()} == {"0": 0.65, "1": 0.7, "2": 0.75, "3": 1.0}
    assert set(found(prompts, benchmark(LONG), changed(max_prompts=9, coverage=0.75))) == {"2", "3"}


def test_the_evidence_names_the_item_in_every_benchmark_and_quotes_the_longest_run():
    items = pl.concat([benchmark(SHORT, LONG), benchmark(LONG.upper(), source="copy")])
    value, threshold, detail = found([f"{SHORT} {LONG}"], items)["0"]
    assert (value, threshold) == (1.0, 0.6)
    assert detail.startswith('bench/item1, copy/item0: 20 of 20 words: "a train leaves the old station')
    assert detail.endswith('"')


HEADER = "You will be given a definition of a task first and then some input of the task to be solved. "
FILLINGS = [
    "Name the colour of a ripe tomato.",
    "Turn the sentence around.",
    "Count the birds that sing.",
    "Spell the word harbour aloud.",
    "Find a rhyme for window pane.",
]


def test_what_many_items_share_proves_none_of_them():
    items = benchmark(*(HEADER + filling for filling in FILLINGS))
    assert found([f"{HEADER}Draw a map of the old harbour."], items) == {}
    assert set(found([HEADER + FILLINGS[1]], items)) == {"0"}
    assert set(found([f"{HEADER}Draw a map of the old harbour."], items, changed(max_items=9))) == {"0"}


def test_a_generic_item_of_many_rows_is_not_looked_for():
    items = benchmark(*(["Which of these is true?"] * 4), "Is it true that ice floats?")
    assert set(found(["Which of these is true?", "Is it true that ice floats?"], items)) == {"1"}


def test_what_many_prompts_share_without_the_item_is_a_template():
    template = "I like to host guests at my home from time to time and I collect recipes. How do I cook {}?"
    items = benchmark(template.format("goulash"))
    dishes = ["risotto", "couscous", "pierogi", "goulash"]
    prompts = [template.format(dish) for dish in dishes]
    assert set(found(prompts, items)) == {"3"}
    assert set(found(prompts, items, changed(max_prompts=3))) == {"0", "1", "2", "3"}


def test_a_whole_item_is_found_however_many_prompts_have_it():
    prompts = [f"{SHORT} {LONG} {name}" for name in "abcdefgh"]
    assert len(found(prompts, benchmark(LONG))) == len(found(prompts, benchmark(SHORT))) == 8


def test_a_short_item_inside_the_sentences_of_many_prompts_is_a_common_phrase():
    prompts = [f"Tell me, {name}, what is the tallest mountain in Wales?" for name in "abcd"]
    assert found(prompts, benchmark(SHORT)) == {}
    assert len(found(prompts[:2], benchmark(SHORT))) == 2
    assert set(found([*prompts, SHORT], benchmark(SHORT))) == {"4"}


def test_a_run_does_not_reach_from_one_prompt_into_the_next():
    words_of = LONG.split()
    assert found([" ".join(words_of[:10]), " ".join(words_of[10:])], benchmark(LONG)) == {}


def test_an_item_that_repeats_itself_is_found_without_looking_at_every_alignment():
    item = "Add up this row of numbers: " + "0 1 " * 40 + "and then say what you found in it."
    items = benchmark(item)
    assert set(found([f"Hello! {item}", "0 1 " * 2000, "nought", item.replace("0", "7")], items)) == {"0"}
    assert runs(pl.Series(["0 1 " * 2000]), indexed(items)).height <= 4


def indexed(items: pl.DataFrame) -> BenchmarkItems:
    return BenchmarkItems.of(items, ngram=13, min_words=4, max_items=3)


def test_no_items_and_no_prompts_match_nothing():
    assert found([LONG], benchmark()) == {}
    assert found([], benchmark(LONG)) == {}
    assert found([LONG], benchmark("", "?!")) == {}


def test_min_words_above_ngram_is_a_mistake():
    with pytest.raises(ValidationError, match="min_words <= ngram"):
        changed(ngram=5, min_words=6)


def test_the_result_depends_neither_on_blocks_nor_on_the_order_of_rows(monkeypatch):
    prompts = [f"{HEADER}{filling}" for filling in FILLINGS] + [
        LONG,
        SHORT,
        f"Well, {TINY}",
        "caf\u00e9 \u4f60",
    ]
    ids = pl.Series([f"p{i}" for i in range(len(prompts))])
    texts, items = pl.Series(prompts), benchmark(LONG, SHORT, TINY, HEADER + FILLINGS[0])
    expected = matches(ids, texts, items, RULE)
    assert expected.height >= 3
    monkeypatch.setattr(words, "BLOCK_BYTES", 50)
    assert matches(ids, texts, items, RULE).equals(expected)
    assert matches(ids.reverse(), texts.reverse(), items.reverse(), RULE).equals(expected)


WORDS = st.lists(st.sampled_from("abc"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=5))
def test_with_every_condition_off_it_is_the_rule_of_any_ngram_in_common(prompts, items):
    how = changed(ngram=5, min_words=5, coverage=1e-9, max_items=EVERY, max_prompts=EVERY)

    def grams(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    long = [item for item in items if len(item) >= 5]
    expected = {
        str(i) for i, prompt in enumerate(prompts) if any(grams(prompt) & grams(item) for item in long)
    }
    assert set(found([" ".join(p) for p in prompts], benchmark(*map(" ".join, long)), how)) == expected


LETTERS = st.text(st.sampled_from("aBc é\u00df\uff21\u4f60.,\n\u2019"), max_size=30)


@settings(max_examples=150, deadline=None)
@given(LETTERS, LETTERS, LETTERS)
def test_an_item_is_found_in_any_prompt_that_has_it_as_a_line(before, item, after):
    text = f"{before}\n{item}\n{after}"
    expected = {"0"} if any(map(str.isalnum, unicodedata.normalize("NFKC", item))) else set()
    assert set(found([text], benchmark(item))) == expected
