"""What the control says of the policies: paired with t0, and held against the judge's opinion."""

import polars as pl
import pytest

from pipeline.report.controls import control_facts, shared_sources
from pipeline.report.inputs import Folders, Recipe


def rows(judge: list[float | None], control: list[float]) -> pl.DataFrame:
    """t1 against a t0 to which both give 0."""
    t1 = {"policy": "t1", "prompt_id": [f"p{i}" for i in range(len(judge))], "reward": control}
    told = pl.DataFrame(t1).with_columns(judge=pl.Series(judge, dtype=pl.Float64))
    return pl.concat([told, told.with_columns(policy=pl.lit("t0"), reward=0.0, judge=pl.lit(0.0))])


def test_agreement_is_about_the_same_answer_and_leaves_out_who_sees_none_better():
    told = control_facts(rows([1.0, -1.0, 2.0, 0.0, None, 3.0], [0.5, -9.0, -0.1, 1.0, 1.0, 0.0]), "t1")
    assert told.agreement.mean == pytest.approx(2 / 3)
    assert told.gain.mean == pytest.approx((0.5 - 9.0 - 0.1 + 1 + 1) / 6)
    assert told.reward.mean == told.gain.mean


def test_the_order_of_rows_is_no_opinion():
    table = rows([1.0, -1.0, 2.0], [0.5, -9.0, -0.1])
    assert control_facts(table, "t1") == control_facts(table.reverse(), "t1")


def test_sources_of_both_training_sets_are_named(tmp_path):
    for mix, sources in (("one", ["a", "b"]), ("two", ["b", "c"]), ("three", ["c"])):
        (tmp_path / mix).mkdir()
        pl.DataFrame({"source": sources}).write_parquet(tmp_path / mix / "train.parquet")
    folders = Folders(**(dict.fromkeys(Folders.__dataclass_fields__, tmp_path)))

    def shared(control: str) -> list[str]:
        rewards = {"reward": "one", "second": "two", "third": "three"}
        return shared_sources(
            folders, Recipe(kinds={}, mixes=(), rewards=rewards, control=control, iterations=())
        )

    assert (shared("second"), shared("third")) == (["b"], [])
