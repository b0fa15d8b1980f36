"""Filling: what is stored is not computed, what is missing is computed once, and nothing is lost silently."""

import json
import logging
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import filling
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.filling import compute_into, fill, open_store
from pipeline.store import RowStore
from tests.smoke_project import ROOT
from tests.toy_work import Squares


@pytest.fixture
def toy(own_state, tmp_path) -> Squares:
    return Squares(tmp_path / "notes")


def set_to(monkeypatch, **values) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"PAIRMILL_{name.upper()}", str(value))
    execution.cache_clear()


def values(work, numbers, launch=compute_into) -> list[float]:
    return fill(work, numbers, launch)["value"].to_list()


def shards(state) -> list:
    return sorted((state / "store").glob("score/*/*.parquet"))


def test_a_row_is_computed_once_however_often_it_is_asked_for(toy):
    assert values(toy, [3, 1, 3, 2, 1]) == [9, 1, 9, 4, 1]
    assert toy.computed() == [1, 2, 3]
    assert values(toy, [2, 4, 3]) == [4, 16, 9]
    assert toy.computed() == [1, 2, 3, 4]


def test_where_all_is_stored_no_engine_is_started(toy):
    values(toy, [1, 2])
    assert values(toy, [2, 1, 1], launch=None) == [4, 1, 1]
    assert fill(toy, [], launch=None).rows() == []


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(7)), before=st.integers(0, 7), rows=st.integers(1, 8), backwards=st.booleans()
)
def test_no_order_and_no_shard_size_changes_a_value(tmp_path_factory, order, before, rows, backwards):
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        set_to(patch, state=folder, shard_rows=rows)
        work = Squares(folder / "notes", backwards=backwards)
        values(work, range(before))
        assert values(work, order) == [number**2 for number in order]
        assert work.computed() == list(range(7))
    execution.cache_clear()


def test_a_full_shard_is_written_at_once_and_the_rest_at_the_end(toy, own_state, monkeypatch):
    set_to(monkeypatch, shard_rows=3)
    written = []

    def compute(asks):
        for answer in toy.compute(asks):
            written.append(len(shards(own_state)))
            yield answer

    store = open_store()
    job = toy.job(range(8))
    filling.compute_with(compute, store, job, lambda rows: None)
    assert written == [0, 0, 0, 1, 1, 1, 2, 2]
    assert len(shards(own_state)) == 3


def test_a_shard_is_written_by_the_first_row_that_comes_after_the_time(toy, own_state, monkeypatch):
    """The engine's start does not count, and a row that comes late does not start a shard of its own."""
    set_to(monkeypatch, shard_seconds=10)
    now = 0.0
    monkeypatch.setattr(filling.time, "monotonic", lambda: now)
    written = []

    def compute(asks):
        nonlocal now
        for i, at in enumerate((100.0, 105.0, 109.0, 110.0, 150.0, 159.0)):
            now = at
            yield i, (1.0,)
            written.append(len(shards(own_state)))

    filling.compute_with(compute, open_store(), toy.job(range(6)), lambda rows: None)
    assert written == [0, 0, 0, 1, 1, 1]
    assert len(shards(own_state)) == 2


def test_an_exception_loses_nothing_that_was_computed(own_state, tmp_path):
    work = Squares(tmp_path / "notes", bug=7)
    with pytest.raises(ZeroDivisionError):
        values(work, range(10))
    assert work.stored(range(10)) == set(range(7))
    mended = Squares(tmp_path / "again")
    assert values(mended, range(10)) == [number**2 for number in range(10)]
    assert mended.computed() == [7, 8, 9]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([0, 1], "the toy engine answered 2 of 3 rows"),
        ([0, 1, 1], "the toy engine answered row 1 a second time"),
        ([0, 1, 3], "the toy engine answered row 3 of 3"),
        ([0, 1, -1], "the toy engine answered row -1 of 3"),
    ],
)
def test_an_engine_that_does_not_answer_each_row_once_is_an_error(toy, answers, said):
    class Careless(Squares):
        def start(self):
            return lambda asks: ((i, (25.0,)) for i in answers)

    work = Careless(toy.notes)
    with pytest.raises(RuntimeError, match=said):
        values(work, [5, 6, 7])
    assert work.stored([5, 6, 7]) == {5, 6}


def damaging(state, times: int):
    """A launcher after which the newest shard is damaged, the first `times` times."""
    left = times

    def launch(store, job, advance):
        nonlocal left
        compute_into(store, job, advance)
        if left:
            left -= 1
            shards(state)[-1].write_bytes(b"damaged")

    return launch


def test_rows_of_a_shard_that_turns_out_damaged_are_computed_again(toy, own_state, caplog):
    assert values(toy, range(3), damaging(own_state, 1)) == [0, 1, 4]
    assert toy.computed() == [0, 0, 1, 1, 2, 2]
    assert "is damaged" in caplog.text


def test_a_store_that_keeps_nothing_is_told_in_the_end(toy, own_state):
    with pytest.raises(UserError, match="found 2 of 2 rows missing or damaged; check its disk"):
        values(toy, [1, 2], damaging(own_state, 99))
    assert len(toy.computed()) == 2 * filling.ROUNDS


def test_a_launcher_that_computes_nothing_is_told_in_the_end(toy):
    with pytest.raises(UserError, match="found 2 of 3 rows missing"):
        values(
            toy,
            [1, 2, 3],
            lambda store, job, advance: compute_into(store, job.part([0])) if 1 in job.asks else None,
        )


def test_a_store_that_cannot_be_written_is_told_before_an_engine_starts(toy, own_state, monkeypatch):
    own_state.mkdir()
    (own_state / "file").touch()
    set_to(monkeypatch, store=own_state / "file" / "store")
    with pytest.raises(UserError):
        values(toy, [1])
    assert toy.lines() == []


def test_what_was_computed_is_recorded_with_its_rate(toy, own_state, monkeypatch):
    set_to(monkeypatch, workers=3)
    now = 0.0
    monkeypatch.setattr(filling.time, "monotonic", lambda: now)

    def launch(store, job, advance):
        nonlocal now
        now = 5.0
        compute_into(store, job, advance)
        now = 8.0

    values(toy, [1, 1, 2, 3], launch)
    values(toy, [1, 2], launch)
    (line,) = (own_state / "cells.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found.pop("ended").endswith("Z")
    assert found == {
        "kind": "score",
        "cells": toy.cells.name,
        "engine": "toy",
        "dtype": "float32",
        "model": "models/toy",
        "rows": 3,
        "tokens": 3,
        "seconds": 8.0,
        "first_row_seconds": 5.0,
        "launcher": "local",
        "workers": 3,
    }


def test_what_is_stored_and_what_is_not_is_logged(toy, caplog):
    values(toy, [1, 2])
    caplog.clear()
    with caplog.at_level(logging.INFO):
        values(toy, [1, 2, 3, 3])
    assert "score: 2 of 3 rows are stored" in caplog.text


KILLED = """
import sys
from pathlib import Path
from pipeline.filling import compute_into, fill
from tests.toy_work import Squares

fill(Squares(Path(sys.argv[1]), poison=8), range(20), compute_into)
"""


def test_a_kill_loses_less_than_one_shard(toy, own_state, monkeypatch):
    set_to(monkeypatch, shard_rows=3)
    command = [sys.executable, "-c", KILLED, str(toy.notes)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert toy.computed() == list(range(8))
    assert toy.stored(range(20)) == set(range(6))


def test_an_interrupt_while_a_shard_is_written_loses_nothing(toy, own_state, monkeypatch):
    set_to(monkeypatch, shard_rows=3)
    append, interrupted = RowStore.append, []

    def interrupt_once(*arguments):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        append(*arguments)

    monkeypatch.setattr(RowStore, "append", interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        values(toy, range(9))
    assert toy.stored(range(9)) == set(toy.computed()) == {0, 1, 2}
