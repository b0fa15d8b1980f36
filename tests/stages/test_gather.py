"""What an iteration trains on: its own pairs and the earlier ones of the recipe, with their texts."""

import json
import sys

import polars as pl
import pytest

from pipeline import history, tables
from pipeline.errors import UserError
from pipeline.pair_texts import with_texts
from pipeline.schemas import CANDIDATES, LEDGER, ORIGIN_KEY, PAIRS
from pipeline.stages import gather
from tests.published_project import candidates_of, pairs_of


@pytest.fixture
def gathered(tmp_path, monkeypatch):
    """Runs the stage on pairs of t2 after those before; gives what is trained on, and the counts."""
    monkeypatch.chdir(tmp_path)

    def run(data: str, before: pl.DataFrame, pairs: pl.DataFrame | None = None):
        (tmp_path / "params.yaml").write_text(f"gather: {{pairs: {data}}}")
        tables.write(CANDIDATES, candidates_of("t2"), tmp_path / "generate" / "candidates.parquet")
        tables.write(PAIRS, pairs_of("t2") if pairs is None else pairs, tmp_path / "pair" / "pairs.parquet")
        history.write(tmp_path / "before", before)
        monkeypatch.setattr(sys, "argv", ["gather", "t2", "generate", "pair", "before", "out"])
        gather.main()
        return history.read(tmp_path / "out"), json.loads((tmp_path / "out" / "counts.json").read_text())

    return run


def told(iteration: str) -> pl.DataFrame:
    """The pairs of an iteration as history."""
    return history.of_iteration(with_texts(pairs_of(iteration).sort(PAIRS.key), candidates_of(iteration)))


def offline(pairs: pl.DataFrame) -> pl.DataFrame:
    """The same pairs as pairs of a mix."""
    return pairs.with_columns(since=pl.lit(history.OFFLINE))


def test_pairs_have_the_texts_of_their_answers(gathered):
    rows, _ = gathered("current", told("t1").clear())
    said = {(c[0]["content"], r[0]["content"]) for c, r in rows.select("chosen", "rejected").iter_rows()}
    assert said == {("a good answer of t2", "bad")}
    assert rows.sort("pair_id").equals(told("t2").sort("pair_id"))
    assert rows["rejected_ended"].to_list().count(False) == 2


@pytest.mark.parametrize(("data", "since"), [("current", {"t2"}), ("cumulative", {"t1", "t2"})])
def test_earlier_pairs_are_trained_on_again_where_the_recipe_says_so(gathered, data, since, tmp_path):
    rows, counts = gathered(data, told("t1"))
    assert set(rows["since"]) == since
    assert rows.height == counts["in"] == counts["kept"] == 6 * len(since)
    assert json.loads((tmp_path / "out" / "parts.json").read_text()) == dict.fromkeys(since, 6)


@pytest.mark.parametrize("data", ["current", "cumulative"])
def test_pairs_of_a_mix_are_trained_on_in_every_iteration(gathered, data):
    rows, _ = gathered(data, offline(told("t1")))
    assert dict(rows.group_by("since").len().iter_rows()) == {"offline": 6, "t2": 6}


def test_a_pair_that_was_there_before_is_trained_on_once_and_told(gathered, tmp_path):
    rows, counts = gathered("current", offline(told("t2").head(2)))
    assert (rows.height, counts["in"], counts["kept"]) == (6, 8, 6)
    assert counts["dropped"] == {"the same pair again": 2}
    ledger = tables.read(LEDGER, tmp_path / "out" / "ledger.parquet")
    assert ledger.select("source", "file").unique().rows() == [("t2", "pairs.parquet")]
    assert ledger.select(ORIGIN_KEY).n_unique() == 2, "each has a place of its own"


def test_an_answer_that_is_in_no_pair_changes_no_byte(gathered, tmp_path):
    gathered("current", told("t1"))
    before = (tmp_path / "out" / "history.parquet").read_bytes()
    chosen = candidates_of("t2").with_columns(candidate_id=pl.col("candidate_id") + "x", response=pl.lit("?"))
    more = pl.concat([candidates_of("t2"), chosen])
    tables.write(CANDIDATES, more, tmp_path / "generate" / "candidates.parquet")
    gather.main()
    assert (tmp_path / "out" / "history.parquet").read_bytes() == before


def test_an_unknown_word_for_the_data_is_told(gathered):
    with pytest.raises(UserError, match=r"gather\.pairs"):
        gathered("all", told("t1"))
