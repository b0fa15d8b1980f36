"""A mix: every drop by its name, no prompt cluster on both sides, the same bytes in any order."""

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.errors import UserError
from pipeline.params import parse
from pipeline.schemas import BENCHMARKS, LEDGER, MIX, PREFERENCES
from pipeline.stages.mix import MixParams, main, mix
from tests.stages.preference_rows import (
    BENCHMARK_SEARCH,
    assistant,
    benchmark,
    inputs,
    preference,
    preferences,
    system,
    user,
)

FOX = "Why does the quick brown fox jump over the lazy dog in the morning every single day?"
ITEM = "Name the largest moon of the planet Saturn"


def section(**changes: object) -> dict:
    return {
        "sources": [
            {"name": "a", "cap": None, "weight": None, "min_margin": None},
            {"name": "b", "cap": None, "weight": None, "min_margin": None},
        ],
        "near_dedup": {"threshold": 0.7, "shingle": 2},
        "decontaminate": {"benchmarks": ["bench"], **BENCHMARK_SEARCH},
        "max_characters": 1000,
        "max_pairs_per_prompt": None,
        "conflicts": "drop_both",
        "split": {"test_fraction": 0.0, "seed": 1},
    } | changes


def result(recipe: MixParams, frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """train, test and ledger of a mix of `frame`."""
    with TemporaryDirectory() as name:
        out = Path(name) / "out"
        mix("m", inputs("preferences", frame, recipe.names, Path(name)), benchmark(ITEM), recipe, out)
        read = {"train": MIX, "test": MIX, "ledger": LEDGER}
        return {part: tables.read(table, out / f"{part}.parquet") for part, table in read.items()}


def mixed(*rows: dict, **changes: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, ledger rows) of a mix of `rows`."""
    found = result(parse("mixes.m", MixParams, section(**changes)), preferences(*rows))
    assert len(rows) == sum(frame.height for frame in found.values())
    return found["train"], found["ledger"]


def dropped(*rows: dict, **changes: object) -> dict[tuple[str, int], str]:
    drops = mixed(*rows, **changes)[1]
    return {
        (source, row): reason for source, row, reason in drops.select("source", "row", "reason").iter_rows()
    }


KEPT = preference(99, "How do plants drink?", "Through roots.", "They do not.")


def test_clean_pairs_are_all_kept():
    rows = [preference(i, f"Question number {i} of many", f"yes {i}", f"no {i}") for i in range(5)]
    assert mixed(*rows)[0].height == 5


def test_a_margin_below_the_sources_own_is_dropped_with_its_value_and_at_it_is_kept():
    sources = [
        {"name": "a", "cap": None, "weight": None, "min_margin": 1.0},
        {"name": "b", "cap": None, "weight": None, "min_margin": None},
    ]
    rows = [
        preference(0, "first", "x", "y", scores=(3.0, 2.5)),
        preference(1, "second", "x", "y", scores=(3.0, 2.0)),
        preference(2, "third", "x", "y"),
        preference(3, "fourth", "x", "y", source="b", scores=(3.0, 2.9)),
    ]
    drops = mixed(*rows, sources=sources)[1].sort("row")
    assert drops.select("row", "reason", "value", "threshold").rows() == [
        (0, "below the source's margin", 0.5, 1.0),
        (2, "no scores for the margin", None, 1.0),
    ]


def source(name: str, **changes: object) -> dict:
    return {"name": name, "cap": None, "weight": None, "min_margin": None} | changes


def test_a_margin_given_by_its_cost_is_calibrated_for_its_source_and_told_in_the_counts(tmp_path):
    margins = [0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 4.0]
    rows = [
        preference(i, f"question {i} of many", f"yes {i}", f"no {i}", scores=(value, 0.0))
        for i, value in enumerate(margins)
    ]
    other = preference(10, "another", "x", "y", source="b", scores=(0.1, 0.0))
    sources = [source("a", min_margin={"drop": 0.25}), source("b")]
    recipe = parse("mixes.m", MixParams, section(sources=sources))
    found = inputs("preferences", preferences(*rows, other), recipe.names, tmp_path)
    mix("m", found, benchmark(ITEM), recipe, tmp_path / "out")
    drops = tables.read(LEDGER, tmp_path / "out/ledger.parquet")
    assert drops.select("row", "reason", "value", "threshold").rows() == [
        (row, "below the source's margin", margins[row], 2.0) for row in (0, 1, 2)
    ]
    counts = json.loads((tmp_path / "out/counts.json").read_text())
    assert counts["margins"] == {"a": 2.0}
    assert (counts["in"], counts["kept"]) == (11, 8)


def test_characters_count_the_prompt_and_the_longer_answer():
    fits, long = preference(0, "12345", "67890", "x"), preference(1, "12345", "x", "678901")
    drops = mixed(KEPT, fits, long, max_characters=10, sources=section()["sources"])[1]
    assert drops.filter(pl.col("row") < 9).select("row", "reason", "value", "threshold").rows() == [
        (1, "too long", 11.0, 10.0)
    ]


def test_of_equal_pairs_the_first_of_the_earlier_source_stays():
    rows = [
        preference(7, FOX, "x", "y", source="b"),
        preference(5, FOX, "x", "y"),
        preference(3, FOX, "x", "y"),
    ]
    train, drops = mixed(*rows)
    assert train.select("source", "row").rows() == [("a", 3)]
    assert set(drops["reason"]) == {"exact duplicate"}
    assert set(drops["detail"]) == {"same as a/f.jsonl row 3 item 0"}
    other = [
        {"name": "b", "cap": None, "weight": None, "min_margin": None},
        {"name": "a", "cap": None, "weight": None, "min_margin": None},
    ]
    assert mixed(*rows, sources=other)[0].select("source", "row").rows() == [("b", 7)]


def test_a_pair_labelled_both_ways_is_dropped_on_both_sides_and_names_the_other():
    rows = [
        KEPT,
        preference(0, FOX, "x", "y"),
        preference(1, FOX, "y", "x", source="b"),
        preference(2, FOX, "x", "z"),
    ]
    drops = mixed(*rows)[1].sort("row")
    assert drops.select("row", "reason", "detail").rows() == [
        (0, "contradictory label", "the other way round in b/f.jsonl row 1 item 0"),
        (1, "contradictory label", "the other way round in a/f.jsonl row 0 item 0"),
    ]
    assert dropped(*rows, conflicts="keep_both") == {}


def test_the_label_that_came_first_can_be_kept():
    rows = [
        preference(5, FOX, "x", "y"),
        preference(4, FOX, "y", "x", source="b"),
    ]
    assert dropped(*rows, conflicts="keep_first") == {("b", 4): "contradictory label"}
    reversed_sources = [source("b"), source("a")]
    kept = dropped(*rows, conflicts="keep_first", sources=reversed_sources)
    assert kept == {("a", 5): "contradictory label"}


def test_near_duplicates_contradict_each_other_with_the_similarity_as_evidence():
    near = FOX.replace("brown", "red")
    long, short = "Because it likes to jump over dogs, of course.", "Nobody has ever known that."
    rows = [
        KEPT,
        preference(0, FOX, long, short),
        preference(1, near, short.upper(), long, source="b"),
        preference(2, near, short, long, source="b"),
    ]
    changes = {"near_dedup": {"threshold": 0.7, "shingle": 1}}
    drops = mixed(*rows, **changes)[1].sort("row")
    alike = 14 / 16
    reason = "contradictory label of a near-duplicate"
    assert drops.select("row", "reason", "value", "threshold", "detail").rows() == [
        (0, reason, alike, 0.7, "the other way round in b/f.jsonl row 1 item 0"),
        (1, reason, alike, 0.7, "the other way round in a/f.jsonl row 0 item 0"),
        (2, reason, alike, 0.7, "the other way round in a/f.jsonl row 0 item 0"),
    ]
    assert dropped(*rows, conflicts="keep_first", **changes) == {
        ("b", 1): reason,
        ("b", 2): reason,
    }
    assert dropped(*rows, conflicts="keep_both", **changes) == {("b", 2): "near-duplicate"}


def test_answers_that_are_near_each_other_contradict_only_as_the_very_same_texts():
    one, two = "The same words in another order", "the same words, in another order!"
    rows = [preference(0, FOX, one, two), preference(1, FOX.upper(), two, one)]
    assert dropped(*rows) == {("a", 1): "near-duplicate"}
    rows = [KEPT, preference(0, FOX, one, two), preference(1, FOX, two, one)]
    assert set(dropped(*rows).values()) == {"contradictory label"}


def test_pairs_near_in_prompt_and_both_answers_are_one_and_other_answers_are_another():
    near = FOX.replace("Why does", "why DOES,")
    rows = [
        preference(0, FOX, "Because it likes to jump over dogs.", "No idea."),
        preference(1, near, "because it likes to jump over dogs", "no idea"),
        preference(2, near, "Because foxes are simply built that way by nature.", "no idea"),
    ]
    train, drops = mixed(*rows)
    assert drops.select("row", "reason", "value", "threshold", "detail").rows() == [
        (1, "near-duplicate", 1.0, 0.7, "near a/f.jsonl row 0 item 0")
    ]
    assert train["cluster_id"].n_unique() == 1
    assert mixed(*rows, near_dedup=None)[0]["cluster_id"].n_unique() == 2


def test_a_prompt_with_a_benchmark_item_is_dropped_with_the_evidence_and_an_answer_with_it_is_not():
    rows = [
        KEPT,
        preference(0, f"Please: {ITEM.upper()}!", "Titan", "Io"),
        preference(1, "Say it", ITEM, "no"),
    ]
    drops = mixed(*rows)[1]
    assert drops.select("row", "reason", "value").rows() == [(0, "benchmark contamination", 1.0)]
    assert "largest moon" in drops["detail"][0]
    assert drops["detail"][0].startswith("bench/")


def test_caps_keep_the_same_pairs_when_others_are_added():
    def rows(n: int) -> list[dict]:
        return [preference(i, f"Question number {i} of many", f"yes {i}", f"no {i}") for i in range(n)]

    sources = [{"name": "a", "cap": 5, "weight": None, "min_margin": None}]
    few, many = (set(mixed(*rows(n), sources=sources)[0]["pair_id"]) for n in (20, 22))
    assert len(few) == len(many) == 5
    assert len(few & many) >= 3
    answers = [preference(i, FOX, f"good answer {i}", f"bad answer {i}") for i in range(6)]
    drops = mixed(*answers, max_pairs_per_prompt=2)[1]
    assert drops.sort("value").select("reason", "value", "threshold").rows() == [
        ("over the prompt's cap", float(rank), 2.0) for rank in (3, 4, 5, 6)
    ]


def test_a_source_cap_takes_prompts_of_one_and_of_many_pairs_alike_after_the_prompt_cap():
    owners = [prompt for prompt in range(400) for _ in range(1 if prompt % 2 else 6)]
    rows = [preference(i, f"Q{prompt} q{prompt}", f"yes {i}", "no") for i, prompt in enumerate(owners)]
    train = mixed(*rows, sources=[source("a", cap=100)], max_pairs_per_prompt=1)[0]
    single = sum(owners[row] % 2 for row in train["row"])
    assert 30 <= single <= 70  # Ranked by one hash, about 15 would be left.


def test_the_prompt_cap_counts_the_spellings_of_a_prompt_together_and_without_near_dedup_apart():
    prompts = [FOX, FOX.upper(), FOX + "!!"]
    rows = [preference(i, prompts[i % 3], f"good answer{i}", f"bad{i} answer") for i in range(6)]
    assert mixed(*rows, max_pairs_per_prompt=2)[0].height == 2
    assert mixed(*rows, max_pairs_per_prompt=1, near_dedup=None)[0].height == 3


LONG = " ".join(f"word{i}" for i in range(30))


def test_questions_under_one_long_system_prompt_are_other_prompts_in_one_family():
    questions = ["Name a colour please", "Why is it so cold", "why is it so cold?!"]
    rows = [preference(i, system(LONG) + user(asked), "yes", "no") for i, asked in enumerate(questions)]
    train, drops = mixed(*rows, max_pairs_per_prompt=1)
    assert drops.select("row", "reason").rows() == [(2, "near-duplicate")]
    assert train["cluster_id"].n_unique() == 1
    swapped = preference(5, system(LONG) + user(questions[0]), "no", "yes")
    assert dropped(rows[1], swapped) == {}


def test_continuations_of_a_conversation_are_one_family_and_those_of_a_greeting_are_not():
    answers = [" ".join(f"{name}{i}" for i in range(30)) for name in "pqr"]
    for first, found in ((FOX, 1), ("Hi", 4)):
        prompts = [user(first), *(user(first) + assistant(one) + user(f"And {one}?") for one in answers)]
        for some in (prompts, prompts[1:]):  # With the beginning as a prompt of its own, and without.
            rows = [preference(i, prompt, f"yes {i}", f"no {i}") for i, prompt in enumerate(some)]
            for near_dedup in (section()["near_dedup"], None):
                train = mixed(*rows, near_dedup=near_dedup)[0]
                assert train.height == len(some)
                assert train["cluster_id"].n_unique() == min(found, len(some))


def weighted_rows(a: int, b: int, c: int) -> list[dict]:
    names = "a" * a + "b" * b + "c" * c
    return [
        preference(i, f"Question{i} number{i} of{i}", f"yes {i}", f"no {i}", source=name)
        for i, name in enumerate(names)
    ]


def test_weights_bring_sources_to_their_proportion_as_the_scarcest_allows_and_leave_others_alone():
    rows = weighted_rows(a=30, b=10, c=7)
    sources = [source("a", weight=2.0), source("b", weight=0.8), source("c")]
    train, drops = mixed(*rows, sources=sources)
    assert dict(train.group_by("source").len().iter_rows()) == {"a": 25, "b": 10, "c": 7}
    assert drops.sort("value").select("source", "reason", "value", "threshold").rows() == [
        ("a", "over the source's weight", float(rank), 25.0) for rank in range(26, 31)
    ]
    more = mixed(*rows, *(row | {"row": row["row"] + 100, "file": "g"} for row in rows[:3]), sources=sources)
    assert more[0]["pair_id"].to_list() == train["pair_id"].to_list()


def test_a_weighted_source_without_pairs_left_is_told_instead_of_an_empty_mix():
    rows = [row | {"chosen_score": 1.0, "rejected_score": 1.0} for row in weighted_rows(a=5, b=2, c=0)]
    sources = [source("a", weight=1.0), source("b", weight=1.0, min_margin=2.0)]
    with pytest.raises(UserError, match=r"every source with a weight, found \{'a': 5, 'b': 0\}"):
        mixed(*rows, sources=sources)


@pytest.mark.parametrize(("weight", "told"), [(0.01, "'a': 0, 'b': 20"), (30.0, "'a': 5, 'b': 0")])
def test_weights_too_far_apart_are_told_as_such(weight, told):
    with pytest.raises(
        UserError, match=rf"expected weights that leave pairs of every source.*{told}.*nearer"
    ):
        mixed(*weighted_rows(a=5, b=20, c=0), sources=[source("a", weight=weight), source("b", weight=1.0)])


def test_a_weight_alone_has_nothing_to_be_relative_to():
    with pytest.raises(UserError, match="weights for two sources or more, found one, for a"):
        parse("mixes.m", MixParams, section(sources=[source("a", weight=1.0), source("b")]))


def test_a_mix_that_ends_empty_says_what_dropped_it():
    with pytest.raises(UserError, match=r"mix@m: .*'too long': 1.*dvc repro mix@m"):
        mixed(preference(0, FOX, "x", "y"), max_characters=3)


def test_a_source_listed_twice_is_a_mistake():
    twice = [{"name": "a", "cap": None, "weight": None, "min_margin": None}] * 2
    with pytest.raises(UserError, match="found a more than once"):
        parse("mixes.m", MixParams, section(sources=twice))


ROWS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("pqrs"), min_size=1, max_size=5).map(" ".join),
        st.sampled_from(["yes", "no", "maybe so"]),
        st.sampled_from(["yes!", "never", "no"]),
        st.sampled_from(["a", "b"]),
    ).filter(lambda row: row[1] != row[2]),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_every_row_is_kept_or_dropped_once_no_cluster_is_on_both_sides_and_order_does_not_matter(
    drawn, chooser
):
    rows = [preference(i, p, c, r, source=s) for i, (p, c, r, s) in enumerate(drawn)]
    changes = {"split": {"test_fraction": 0.5, "seed": 2}, "near_dedup": {"threshold": 0.5, "shingle": 1}}
    recipe = parse("mixes.m", MixParams, section(max_pairs_per_prompt=2, **changes))

    def outcome(frame: pl.DataFrame) -> list[list] | str:
        try:
            found = result(recipe, frame)
        except UserError as error:
            return str(error)
        accounted = pl.concat([part.select("source", "row") for part in found.values()])
        assert sorted(accounted["row"]) == list(range(len(rows)))
        train, test = found["train"], found["test"]
        assert not set(train["cluster_id"]) & set(test["cluster_id"])
        assert not set(train["prompt_id"]) & set(test["prompt_id"])
        return [part.rows() for part in found.values()]

    first = outcome(preferences(*rows))
    chooser.shuffle(rows)
    assert outcome(preferences(*rows)) == first


def built(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: pl.DataFrame) -> dict[str, str]:
    """Run the stage in `folder` and give the digests of its outs."""
    for source in ("a", "b"):
        path = folder / f"preferences/{source}/preferences.parquet"
        tables.write(PREFERENCES, rows.filter(source=source), path)
    tables.write(BENCHMARKS, benchmark(ITEM), folder / "benchmarks/bench/benchmarks.parquet")
    changes = section(split={"test_fraction": 0.3, "seed": 2})
    with (folder / "params.yaml").open("w") as file:
        YAML().dump({"mixes": {"m": changes}}, file)
    monkeypatch.setenv("PAIRMILL_PARAMS", str(folder / "params.yaml"))
    arguments = ["m", *(str(folder / name) for name in ("preferences", "benchmarks", "out"))]
    monkeypatch.setattr(sys, "argv", ["mix", *arguments])
    main()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "out").iterdir()}


def many_rows() -> pl.DataFrame:
    rows = [
        preference(i, f"Question {i % 30} about topic {i % 7}", f"yes {i}", f"no {i}", source="ab"[i % 2])
        for i in range(60)
    ]
    return preferences(*rows, preference(61, ITEM, "x", "y"), preference(62, ITEM, "y", "x", source="b"))


def test_shuffled_sources_give_the_same_bytes_and_the_account_adds_up(tmp_path, monkeypatch):
    rows = many_rows()
    first = built(tmp_path / "one", monkeypatch, rows)
    second = built(tmp_path / "two", monkeypatch, rows.sample(fraction=1, shuffle=True, seed=4))
    assert first == second
    assert set(first) == {"train.parquet", "test.parquet", "ledger.parquet", "counts.json"}
    counts = json.loads((tmp_path / "one/out/counts.json").read_text())
    assert (counts["stage"], counts["unit"], counts["in"]) == ("mix@m", "pairs", 62)
    assert counts["kept"] + sum(counts["dropped"].values()) == 62


def test_a_missing_source_names_the_mix_the_source_and_the_command(tmp_path, monkeypatch):
    tables.write(PREFERENCES, many_rows().filter(source="a"), tmp_path / "preferences/a/preferences.parquet")
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({"mixes": {"m": section()}}, file)
    monkeypatch.setenv("PAIRMILL_PARAMS", str(tmp_path / "params.yaml"))
    monkeypatch.setattr(
        sys, "argv", ["mix", "m", str(tmp_path / "preferences"), str(tmp_path), str(tmp_path / "out")]
    )
    with pytest.raises(UserError, match=r"mix 'm'.*source 'b'.*dvc repro standardize@b"):
        main()
