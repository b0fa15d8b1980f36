"""The streamed mix on Parquet files against the same rules in plain Python."""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tables
from pipeline.errors import UserError
from pipeline.params import parse
from pipeline.schemas import BENCHMARKS, LEDGER, MIX
from pipeline.stages.mix import MixParams, mix
from tests.stages.mix_reference import Reference
from tests.stages.preference_rows import (
    BENCHMARK_SEARCH,
    assistant,
    inputs,
    preference,
    preferences,
    system,
    user,
)


def sentence(topic: str) -> str:
    return " ".join(f"{topic}{number}" for number in range(12))


def variants(topic: str) -> list[str]:
    """A text and near-duplicates of it: other case and punctuation, another last or first word.

    The last two are near the first two, but not near each other: where the others are absent, they are apart.
    """
    text = sentence(topic)
    (first, rest), (start, last) = text.split(" ", 1), text.rsplit(" ", 1)
    return [text, text.upper().replace(" ", ", "), f"{start} not{last}", f"not{first} {rest}"]


PROMPTS = [text for topic in "abcdefghijklmn" for text in variants(topic)]
CONVERSATIONS = [
    *(system(sentence("s")) + user(last) for last in ("say one", "say two", "SAY two!")),
    *(user("Hi") + assistant("Yes?") + user(last) for last in ("say one", "who are you")),
    *(
        user(text) + assistant(sentence(answer)) + user(last)
        for text in variants("a")[:2]
        for answer in "kl"
        for last in ("why", "how come")
    ),
]
ANSWERS = [text for topic in "xyz" for text in variants(topic)]


def drawn_pairs(chooser: Random) -> list[dict]:
    """Pairs that often repeat, resemble or contradict each other."""
    pairs: list[dict] = []
    while len(pairs) < 60:
        chosen, rejected = chooser.choice(ANSWERS), chooser.choice(ANSWERS)
        prompts = chooser.choice([PROMPTS, PROMPTS[:8], CONVERSATIONS])
        if chosen != rejected:
            scores = (
                (None, None) if chooser.random() < 0.1 else (chooser.randint(1, 5), chooser.randint(1, 3))
            )
            source = chooser.choice("abc")
            pairs.append(
                preference(len(pairs), chooser.choice(prompts), chosen, rejected, source, scores=scores)
            )
    return pairs


AMOUNTS = st.sampled_from([(None, None), (None, None), (8, None), (None, 1.0), (None, 0.5)])
MARGINS = st.sampled_from([None, None, 0.5, {"drop": 0.3}])
RECIPES = st.fixed_dictionaries(
    {
        "sources": st.tuples(*(st.tuples(AMOUNTS, MARGINS) for _ in "abc")),
        "near_dedup": st.sampled_from([*2 * [{"threshold": 0.8, "shingle": 1}], None]),
        "max_characters": st.sampled_from([1000, 1000, 90]),
        "max_pairs_per_prompt": st.sampled_from([None, 2]),
        "conflicts": st.sampled_from(["drop_both", "keep_first", "keep_both"]),
        "order": st.permutations(["a", "b", "c"]),
    }
)


def recipe_of(drawn: dict) -> MixParams:
    amounts = [amount for amount, _ in drawn["sources"]]
    alone = sum(weight is not None for _, weight in amounts) == 1  # One weight alone is a mistake.
    sources = [
        {"name": name, "cap": cap, "weight": None if alone else weight, "min_margin": margin}
        for name, ((cap, weight), margin) in zip(drawn["order"], drawn["sources"], strict=True)
    ]
    body = {key: value for key, value in drawn.items() if key != "order"} | {
        "sources": sources,
        "decontaminate": {"benchmarks": [], **BENCHMARK_SEARCH},
        "split": {"test_fraction": 0.4, "seed": 3},
    }
    return parse("mixes.m", MixParams, body)


def streamed(rows: list[dict], recipe: MixParams) -> tuple[dict, dict] | None:
    """({row: fate}, {row: cluster_id of a row that stays}); None where a side is empty."""
    with TemporaryDirectory() as name:
        out = Path(name) / "out"
        found = inputs("preferences", preferences(*rows), recipe.names, Path(name))
        try:
            mix("m", found, BENCHMARKS.empty(), recipe, out)
        except UserError:
            return None
        sides = {side: tables.read(MIX, out / f"{side}.parquet") for side in ("train", "test")}
        ledger = tables.read(LEDGER, out / "ledger.parquet")
    fates = {row: (side, None) for side, frame in sides.items() for row in frame["row"]}
    said = pl.col("detail").str.extract(r"row (\d+)").cast(pl.Int64)
    fates |= {row: (reason, other) for row, reason, other in ledger.select("row", "reason", said).iter_rows()}
    kept = pl.concat(list(sides.values()))
    assert kept.select("prompt", "chosen", "rejected").rows() == [
        (rows[row]["prompt"], rows[row]["chosen"], rows[row]["rejected"]) for row in kept["row"]
    ]
    return fates, dict(kept.select("row", "cluster_id").iter_rows())


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=True), RECIPES)
def test_every_pair_has_the_fate_that_the_plain_rules_give_it(chooser, drawn):
    rows, recipe = drawn_pairs(chooser), recipe_of(drawn)
    found = streamed(rows, recipe)
    if found is None:
        return
    expected = Reference(rows, recipe)
    assert found[0] == expected.fate
    assert found[1] == {row["row"]: row["family"] for row in expected.left}
