"""Table 5 and the gate of a mix: sums that add up, and a threshold that is crossed for certain or not."""

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import profiles
from pipeline.errors import UserError
from pipeline.profile_text import complaint, text
from pipeline.profiles import SIDES, Profile, profile
from pipeline.read_sets import ReadSet
from tests.stages.mix_folders import PAPER

SCHEMA = {
    "test": pl.Boolean,
    "source": pl.Categorical,
    "prompt_id": pl.UInt64,
    "prompt_tokens": pl.UInt32,
    "chosen_tokens": pl.UInt32,
    "rejected_tokens": pl.UInt32,
    "chosen_chars": pl.UInt32,
    "rejected_chars": pl.UInt32,
    "chosen_first": pl.Boolean,
    "chosen_by": pl.Categorical,
    "rejected_by": pl.Categorical,
}


def pair(prompt: int, chosen: int = 8, rejected: int = 4, *, test=False, source="a") -> tuple:
    return (test, source, prompt, 3, chosen, rejected, chosen, rejected, prompt % 4 < 2, None, None)


def made(rows: list[tuple], gate: float | None = 0.7, **sets: ReadSet) -> Profile:
    return profile("demo", pl.DataFrame(rows, schema=SCHEMA, orient="row"), sets, gate)


def test_table_5_counts_prompts_once_and_means_tokens_over_pairs():
    whole = made([pair(1, 8, 4), pair(1, 2, 4), pair(2, 5, 1, source="b", test=True)]).rows("whole")
    assert [(row.source, row.prompts, row.pairs) for row in whole] == [("a", 1, 2), ("b", 1, 1), (None, 2, 3)]
    assert [row.mean("chosen") for row in whole] == [5.0, 5.0, 5.0]
    assert [row.mean("rejected") for row in whole] == [4.0, 1.0, 3.0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            pair,
            st.integers(0, 6),
            st.integers(1, 50),
            st.integers(1, 50),
            test=st.booleans(),
            source=st.sampled_from("abc"),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_sources_add_up_to_the_total_and_sides_to_the_whole(rows):
    found = made(rows)
    columns = ("pairs", *(f"{side}_tokens" for side in SIDES))
    parts = [part for part in ("whole", "train", "test") if found.rows(part)]
    for part in parts:
        *sources, total = found.rows(part)
        assert total == found.total(part)
        for column in columns:
            assert sum(getattr(row, column) for row in sources) == getattr(total, column)
        assert max(row.prompts for row in sources) <= total.prompts <= sum(row.prompts for row in sources)
    for column in columns:
        sides = sum(getattr(found.total(part), column) for part in parts[1:])
        assert sides == getattr(found.total("whole"), column)
    assert found.total("whole").pairs == len(rows)
    assert found.total("whole").prompts == len({row[2] for row in rows})


def test_a_few_pairs_do_not_fail_a_gate_and_many_do():
    assert made([pair(i) for i in range(4)]).failures() == []
    failed = made([pair(i) for i in range(100)]).failures()
    assert {one.name for one in failed} == {"longer wins", "longer or shorter by source"}


def test_a_mix_at_its_gate_passes():
    rows = [pair(i) if i % 10 < 7 else pair(i, 4, 8) for i in range(1000)]
    assert made(rows, gate=0.7).failures() == []
    assert made(rows, gate=0.65).failures() != []


def test_the_shorter_answer_that_always_wins_fails_too():
    failed = made([pair(i, 4, 8) for i in range(100)]).failures()
    assert "longer wins" in {one.name for one in failed}


def test_what_is_learned_has_no_opposite():
    # Each half of the prompts has the habit that the other has not: what is learned is always wrong.
    rows = [pair(i) if i % 2 else pair(i, 4, 8) for i in range(100)]
    assert made(rows).failures() == []


def test_the_test_side_alone_can_fail_a_gate():
    train = [pair(i) if i % 4 < 2 else pair(i, 4, 8) for i in range(100)]
    failed = made([*train, *[pair(200 + i, test=True) for i in range(100)]]).failures()
    assert {(one.name, one.side) for one in failed} == {("longer wins", "test")}


def test_a_mix_without_a_gate_passes_whatever_it_is():
    found = made([pair(i) for i in range(100)], gate=None)
    assert found.failures() == []
    assert "No gate" in text(found)


def test_a_profile_is_read_back_as_it_was(tmp_path):
    found = made([pair(i, test=i > 5) for i in range(9)], a=ReadSet(rows=9, upstream_rows=9, paper=PAPER))
    profiles.write(tmp_path, found)
    assert profiles.read(tmp_path) == found
    with pytest.raises(UserError, match="dvc repro profile@other"):
        profiles.read(tmp_path / "other")


def test_the_text_sets_the_papers_figures_below_ours_where_the_whole_set_was_read():
    sets = {"a": ReadSet(rows=9, upstream_rows=9, paper=PAPER)}
    rows = [pair(i) for i in range(9)]
    cells = [
        line.split("|")[1:-1] for line in text(made(rows, a=sets["a"])).splitlines() if "(paper)" in line
    ]
    assert [[cell.strip() for cell in line] for line in cells] == [
        ["(paper)", "", "", "80", "90", "10.5", "20.0", "15.0"]
    ]
    part = replace(sets["a"], rows=8)
    assert "(paper)" not in text(made(rows, a=part))
    assert "| Human " in text(made(rows, a=part))


def test_a_complaint_is_one_line_with_each_failing_baseline_and_what_mends_it():
    rows = [pair(i, source="long") for i in range(100)] + [
        pair(200 + i, 4, 4, source="even") for i in range(9)
    ]
    words = complaint(made(rows), "kept/here.md")
    assert "\n" not in words
    for part in (
        "longer wins on train: 95.9%",
        "70.0%",
        "clearest in long",
        "profile.gates.demo",
        "kept/here.md",
    ):
        assert part in words
    assert "cap" in words
