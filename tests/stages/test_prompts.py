"""Prompt slices: disjoint by cluster, and no prompt moves when prompts, slices or their caps change."""

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
from pipeline.ids import prompt_id
from pipeline.params import parse
from pipeline.schemas import LEDGER, PREFERENCES, PROMPTS, SLICE
from pipeline.stages.prompts import NO_SLICE, PromptsParams, deal_slices, find_prompts, main, slice_names
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

ITEM = "Name the largest moon of the planet Saturn"


def section(**changes: object) -> dict:
    return {
        "sources": ["a", "b"],
        "slices": 2,
        "slice_share": 0.4,
        "per_slice": 40,
        "validation_share": 0.2,
        "validation": 20,
        "near_dedup": {"threshold": 0.7, "shingle": 2},
        "decontaminate": {"benchmarks": ["bench"], **BENCHMARK_SEARCH},
        "max_characters": 200,
        "single_turn_only": False,
        "seed": 1,
    } | changes


def row(number: int, prompt: list[dict[str, str]] | str, source: str = "a") -> dict:
    messages = user(prompt) if isinstance(prompt, str) else prompt
    origin = {"source": source, "file": "f", "row": number, "item": 0}
    return origin | {"prompt_id": prompt_id(messages), "prompt": messages}


def frame(rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=PROMPTS.schema)


def slices_and_drops(rows: list[dict], **changes: object) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """(slices by name, ledger rows but for prompts beyond the last slice)."""
    recipe = parse("prompts", PromptsParams, section(**changes))
    with TemporaryDirectory() as name:
        out = Path(name) / "out"
        found = inputs("prompts", frame(rows), recipe.names, Path(name))
        deal_slices(found, benchmark(ITEM), recipe, out)
        slices = {part: tables.read(SLICE, out / f"{part}.parquet") for part in slice_names(recipe)}
        drops = tables.read(LEDGER, out / "ledger.parquet")
    assert len(rows) == drops.height + sum(part.height for part in slices.values())
    return slices, drops.filter(pl.col("reason") != NO_SLICE)


def places(slices: dict[str, pl.DataFrame]) -> dict[str, str]:
    return {prompt: name for name, part in slices.items() for prompt in part["prompt_id"]}


def questions(first: int, last: int, source: str = "a") -> list[dict]:
    return [row(i, f"tell{i} me{i} about{i} topic{i}", source) for i in range(first, last)]


def test_each_prompt_is_in_one_slice_and_the_slices_are_named_by_iteration():
    slices, drops = slices_and_drops(questions(0, 200), per_slice=200, validation=200)
    assert list(slices) == ["validation", "t1", "t2"]
    # Of 200, validation takes 0.2; of the rest t1 0.4 and t2 half of the 0.6 that t1 leaves.
    assert [part.height for part in slices.values()] == pytest.approx([40, 64, 48], abs=18)
    assert sum(part.height for part in slices.values()) == len(places(slices)) < 200
    assert drops.is_empty()


def test_a_prompt_beyond_the_last_slice_is_in_the_ledger_with_its_place():
    with TemporaryDirectory() as name:
        recipe, out = parse("prompts", PromptsParams, section()), Path(name) / "out"
        found = inputs("prompts", frame(questions(0, 60)), recipe.names, Path(name))
        deal_slices(found, benchmark(ITEM), recipe, out)
        drops = tables.read(LEDGER, out / "ledger.parquet")
    assert set(drops["reason"]) == {NO_SLICE}
    (end,) = set(drops["threshold"])
    assert end == pytest.approx(0.7)
    assert drops["value"].is_between(end, 1).all()


def test_more_slices_leave_the_others_as_they_are_also_where_they_are_full():
    for changes in ({}, {"per_slice": 6, "validation": 5}):
        before, _ = slices_and_drops(questions(0, 120), **changes)
        after, _ = slices_and_drops(questions(0, 120), slices=4, **changes)
        assert list(after) == ["validation", "t1", "t2", "t3", "t4"]
        assert all(after[name].equals(part) for name, part in before.items())


def test_added_prompts_and_a_source_added_at_the_end_move_nothing():
    before = places(slices_and_drops(questions(0, 40))[0])
    after = places(slices_and_drops(questions(0, 50) + questions(30, 70, "b"))[0])
    assert {prompt: after[prompt] for prompt in before} == before


def test_another_seed_deals_anew_and_the_same_one_deals_the_same():
    first, again, other = (
        places(slices_and_drops(questions(0, 60), per_slice=60, validation=60, seed=seed)[0])
        for seed in (1, 1, 2)
    )
    assert first == again
    moved = [prompt for prompt in first.keys() & other.keys() if first[prompt] != other[prompt]]
    assert len(moved) > 10


def test_a_near_duplicate_from_a_later_source_does_not_take_the_place_of_an_earlier_one():
    originals = questions(0, 40)
    shouted = [row(i, r["prompt"][0]["content"].upper() + "!!", "b") for i, r in enumerate(originals)]
    before = places(slices_and_drops(originals)[0])
    slices, drops = slices_and_drops(originals + shouted)
    assert places(slices) == before
    assert drops.group_by("source", "reason").len().rows() == [("b", "near-duplicate", 40)]
    assert set(drops["detail"]) == {f"near a/f row {i} item 0" for i in range(40)}


def test_a_full_slice_keeps_the_lowest_hashes_and_smaller_caps_keep_a_part_of_them():
    large, _ = slices_and_drops(questions(0, 200))
    small, drops = slices_and_drops(questions(0, 200), per_slice=20, validation=10)
    assert [part.height for part in small.values()] == [10, 20, 20]
    assert set(drops["reason"]) == {"slice is full"}
    assert set(drops["threshold"]) == {10.0, 20.0}
    assert drops["value"].min() == 11.0
    for name, part in small.items():
        assert set(part["prompt_id"]) <= set(large[name]["prompt_id"])


def test_the_reasons_of_single_prompts():
    turns = [*user("Hello there"), *assistant("Hi"), *user("More of that")]
    system = [{"role": "system", "content": "Be brief"}, *user("What is a noun anyway")]
    special = [
        row(100, turns),
        row(101, system),
        row(102, "x" * 201),
        row(103, f"Well: {ITEM}"),
        row(104, system),
    ]
    drops = slices_and_drops(questions(0, 60) + special, single_turn_only=True)[1]
    assert drops.sort("row").select("row", "reason", "value", "threshold").rows() == [
        (100, "more than one turn", 3.0, 1.0),
        (102, "too long", 201.0, 200.0),
        (103, "benchmark contamination", 1.0, 0.8),
        (104, "exact duplicate", None, None),
    ]
    assert "more than one turn" not in set(slices_and_drops(questions(0, 60) + special)[1]["reason"])


LONG = " ".join(f"word{i}" for i in range(30))


def test_questions_under_one_long_system_prompt_all_stay_in_one_slice_and_near_ones_are_one():
    asked = ["Name a colour please", "Why is it so cold", "Who are you really", "why is it so cold?!"]
    prompts = [row(100 + i, system(LONG) + user(one)) for i, one in enumerate(asked)]
    slices, drops = slices_and_drops(questions(0, 40) + prompts, max_characters=None)
    assert set(drops["reason"]) == {"near-duplicate"}
    assert set(drops["row"]) < {101, 103}
    assert shared_home(slices, prompts, 3)


def test_continuations_of_a_conversation_share_its_slice():
    first = "Why does the quick brown fox jump over the lazy dog?"
    prompts = [row(100, first)]
    for i in range(8):
        answer = assistant(" ".join(f"answer{i}x{k}" for k in range(20)))
        prompts.append(row(101 + i, user(first) + answer + user(f"And more{i}?")))
    for changes in ({}, {"near_dedup": None}):
        slices, drops = slices_and_drops(questions(0, 40) + prompts, max_characters=None, **changes)
        assert drops.is_empty()
        assert shared_home(slices, prompts, 9)


def shared_home(slices: dict[str, pl.DataFrame], prompts: list[dict], count: int) -> bool:
    """Whether `count` of the prompts stayed, all in one slice and one cluster."""
    ids = {one["prompt_id"] for one in prompts}
    homes = [part.filter(pl.col("prompt_id").is_in(ids)) for part in slices.values()]
    found = [home for home in homes if home.height]
    return len(found) == 1 and found[0].height == count and found[0]["cluster_id"].n_unique() == 1


def test_a_source_with_tables_of_two_kinds_names_both_folders(tmp_path):
    tables.write(PROMPTS, frame(questions(0, 1)), tmp_path / "prompts/a/prompts.parquet")
    pairs = preferences(preference(0, "q", "y", "n"))
    tables.write(PREFERENCES, pairs, tmp_path / "preferences/a/preferences.parquet")
    with pytest.raises(UserError, match=r"prompts/a and .*preferences/a; .*remove the folder"):
        find_prompts(tmp_path / "preferences", tmp_path / "prompts", "a")


def test_an_empty_slice_is_a_mistake_with_the_counts():
    with pytest.raises(UserError, match=r"prompts: .*the slice .*dvc repro prompts"):
        slices_and_drops(questions(0, 2))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from("pqrs"), min_size=1, max_size=5).map(" ".join), min_size=8, max_size=40
    ),
    st.randoms(use_true_random=False),
)
def test_slices_share_no_cluster_and_do_not_depend_on_order(texts, chooser):
    rows = [row(i, text, "ab"[i % 2]) for i, text in enumerate(texts)]
    try:
        slices, _ = slices_and_drops(rows, slices=1, near_dedup={"threshold": 0.5, "shingle": 1})
    except UserError:
        return
    clusters = pl.concat(list(slices.values()))["cluster_id"]
    assert clusters.n_unique() == len(clusters)
    chooser.shuffle(rows)
    again, _ = slices_and_drops(rows, slices=1, near_dedup={"threshold": 0.5, "shingle": 1})
    assert places(again) == places(slices)


WORDS = st.lists(st.sampled_from("pqrstuvw"), min_size=1, max_size=5).map(" ".join)
ALIKE = {"threshold": 0.5, "shingle": 1}


def related(one: str, texts: set[str]) -> set[str]:
    """The texts that chains of near-duplicates connect with this one."""
    found, open_ends = {one}, [set(one.split())]
    while open_ends:
        words = open_ends.pop()
        near = {t for t in texts - found if len(words & set(t.split())) >= 0.5 * len(words | set(t.split()))}
        found |= near
        open_ends += [set(text.split()) for text in near]
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sets(WORDS, min_size=10, max_size=25),
    st.sets(WORDS, min_size=1, max_size=12),
    st.sampled_from(["a", "b"]),
    st.sampled_from([40, 3]),
)
def test_an_added_prompt_moves_none_but_its_relatives_and_of_a_later_source_not_even_these(
    old, new, source, cap
):
    shared: dict = {"near_dedup": ALIKE, "per_slice": cap, "validation": cap, "slices": 1}
    rows = [row(i, text) for i, text in enumerate(sorted(old))]
    added = [row(100 + i, text, source) for i, text in enumerate(sorted(new - old))]
    try:
        before, after = (slices_and_drops(each, **shared)[0] for each in (rows, rows + added))
    except UserError:
        return
    homes, text = places(after), {one["prompt_id"]: one["prompt"][0]["content"] for one in rows}
    for prompt, home in places(before).items():
        if source == "b" or not related(text[prompt], old | new) & (new - old):
            assert homes.get(prompt, home) == home
            lost = prompt not in homes
            # None is lost but to a prompt of the same slice, or to a near-duplicate that joins two.
            joined = related(text[prompt], old | new) != related(text[prompt], old)
            assert not lost or joined or after[home].height == cap


@settings(max_examples=40, deadline=None)
@given(st.sets(WORDS, min_size=10, max_size=30), st.integers(1, 4), st.sampled_from([40, 2]))
def test_any_number_of_slices_more_leaves_the_files_as_they_are(texts, more, cap):
    rows = [row(i, text) for i, text in enumerate(sorted(texts))]
    shared: dict = {"near_dedup": ALIKE, "per_slice": cap, "validation": cap}
    try:
        before, after = (slices_and_drops(rows, slices=n, **shared)[0] for n in (1, 1 + more))
    except UserError:
        return
    assert all(after[name].equals(part) for name, part in before.items())


def test_the_stage_reads_prompts_and_preferences_and_writes_every_slice(tmp_path, monkeypatch):
    tables.write(PROMPTS, frame(questions(0, 60)), tmp_path / "prompts/a/prompts.parquet")
    pairs = preferences(
        *(preference(i, f"ask{i // 2} why{i // 2} not{i // 2}", f"y{i}", "n", "b") for i in range(40))
    )
    tables.write(PREFERENCES, pairs, tmp_path / "preferences/b/preferences.parquet")
    (tmp_path / "params.yaml").touch()
    body = section(decontaminate={"benchmarks": [], **BENCHMARK_SEARCH})
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({"prompts": body}, file)
    monkeypatch.setenv("PAIRMILL_PARAMS", str(tmp_path / "params.yaml"))
    folders = [str(tmp_path / name) for name in ("preferences", "prompts", "benchmarks", "out")]
    monkeypatch.setattr(sys, "argv", ["prompts", *folders])
    main()
    kept = [
        tables.read(SLICE, tmp_path / f"out/{name}.parquet").height for name in ("validation", "t1", "t2")
    ]
    beyond = tables.read(LEDGER, tmp_path / "out/ledger.parquet")
    assert sum(kept) + beyond.filter(reason=NO_SLICE).height == 80
    body["sources"] = ["a", "missing"]
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({"prompts": body}, file)
    with pytest.raises(UserError, match=r"'missing'.*dvc repro standardize@missing"):
        main()
