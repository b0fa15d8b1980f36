import polars as pl
import pytest

from pipeline.pair_facts import facts_by, margin_quantiles, pair_facts
from pipeline.schemas import MESSAGES

SCHEMA = {
    "source": pl.String,
    "prompt_id": pl.String,
    "prompt": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "judge": pl.String,
    "chosen_score": pl.Float64,
    "rejected_score": pl.Float64,
}


def row(chosen: str, rejected: str, source: str = "a", judge: str = "j", margin: float = 1.0) -> dict:
    answers = {"chosen": chosen, "rejected": rejected}
    return {
        "source": source,
        "prompt_id": chosen + rejected,
        "prompt": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi  there"}],
        **{name: [{"role": "assistant", "content": text}] for name, text in answers.items()},
        "judge": judge,
        "chosen_score": margin,
        "rejected_score": 0.0,
    }


def frame(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA)


def test_lengths_count_characters_and_words_of_all_messages():
    facts = pair_facts(frame(row("caf\u00e9 au\nlait", "no")))
    assert (facts.prompt_chars, facts.prompt_words) == (16, 4)
    assert (facts.chosen_chars, facts.chosen_words) == (12, 3)
    assert facts.gap_chars == 10


def test_longer_wins_counts_a_tie_as_one_half():
    facts = pair_facts(frame(row("long answer", "x"), row("ab", "cd"), row("a", "bcd"), row("abc", "d e")))
    assert facts.longer_wins_chars == (1 + 0.5 + 0 + 0.5) / 4
    assert facts.longer_wins_words == (1 + 0.5 + 0.5 + 0) / 4


def test_facts_do_not_depend_on_the_order_of_rows():
    rows = frame(*(row("x" * i, "y", source="ab"[i % 2]) for i in range(1, 30)))
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=3)
    assert facts_by(rows, "source") == facts_by(shuffled, "source")
    assert sum(facts.rows for facts in facts_by(rows, "source").values()) == 29


def test_margins_of_two_judges_are_not_mixed():
    rows = frame(*(row(str(i), "r", judge="jk"[i // 5], margin=1.0 + i) for i in range(10)))
    quantiles = margin_quantiles(rows)
    assert (quantiles["j"]["0.00"], quantiles["j"]["1.00"]) == (1.0, 5.0)
    assert quantiles["k"]["0.50"] == 8.0


def test_facts_of_no_pairs_are_refused():
    with pytest.raises(AssertionError, match="no pairs"):
        pair_facts(frame())
