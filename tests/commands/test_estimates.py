"""Estimates of time: the rate of the like, the start of the engine, and None where nothing was measured."""

import json
from datetime import UTC, datetime

import pytest

from pipeline.cells import Cells
from pipeline.commands.estimates import Estimates
from pipeline.rates import record


def launch(kind="sample", engine="vllm", model="models/a", rows=101, seconds=60.0, first=10.0, workers=1):
    return {
        "kind": kind,
        "engine": engine,
        "model": model,
        "rows": rows,
        "seconds": seconds,
        "first_row_seconds": first,
        "workers": workers,
    }


def seconds(*launches, count=51, kind="sample", engine="vllm", model="models/a"):
    return Estimates(launches, {}).rows(count, kind=kind, engine=engine, model=model)


def test_the_start_of_the_engine_is_paid_once(own_state):
    assert seconds(launch()) == pytest.approx(10 + 50 / 2)
    assert seconds(launch(), count=1) == pytest.approx(10)
    assert seconds(launch(), count=0) == 0


def test_nothing_measured_is_no_estimate(own_state):
    assert seconds() is None
    assert seconds(launch(kind="score"), launch(engine="transformers")) is None


def test_the_same_model_counts_before_others_and_others_before_nothing(own_state):
    slow, fast = launch(model="models/b", seconds=110), launch()
    assert seconds(fast, slow, model="models/b") == pytest.approx(10 + 50)
    assert seconds(slow, model="models/c") == pytest.approx(10 + 50)


def test_as_many_workers_as_now_count_first(own_state):
    assert seconds(launch(), launch(workers=8, seconds=15)) == pytest.approx(35)


def test_one_odd_launch_changes_nothing(own_state):
    assert seconds(launch(), launch(seconds=10_000), launch()) == pytest.approx(35)


def test_a_launch_of_one_row_has_no_rate_but_its_time(own_state):
    assert seconds(launch(rows=1, seconds=4, first=4), count=3) == pytest.approx(4 + 2 * 4)


def test_rows_that_came_in_one_batch_took_the_time_of_the_launch(own_state):
    at_once = launch(rows=100, seconds=60, first=59.99)
    assert 100 <= seconds(at_once, count=201) <= 60 + 200 * 0.6
    assert seconds(launch(rows=1, seconds=4, first=3), count=3) == pytest.approx(3 + 2 * 4)


def test_what_is_recorded_can_be_read(own_state):
    cells = Cells("sample", ())
    for _ in range(2):
        record(cells, engine="e", dtype="d", model="models/a", rows=11, tokens=5, seconds=3.0, first=1.0)
    with (own_state / "cells.jsonl").open("a") as file:
        file.write('{"kind": "sam{}\n{"kind": "sam')  # the machine went down in the midst of a line, twice
    assert Estimates.load().rows(6, kind="sample", engine="e", model="models/a") == pytest.approx(2)


def test_a_stage_takes_as_long_as_last_time_a_new_one_as_long_as_its_like(own_state):
    now = datetime.now(UTC)
    runs = {
        name: {"stage": name, "seconds": took, "ended": now.replace(year=year).isoformat()}
        for name, took, year in (("train@t1", 9, 2025), ("train@t2", 7, 2024), ("sft", 5, 2026))
    }
    (own_state).mkdir()
    (own_state / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs.values()))
    found = Estimates.load()
    assert [found.stage(name) for name in ("train@t2", "train@t3", "sft", "reward")] == [7, 9, 5, None]
