"""Upkeep tells what is in a store, and removes what nobody wants, and never anything else."""

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import shards, store
from pipeline.cells import Cells
from pipeline.store import RowStore
from pipeline.upkeep import keep, stats
from tests.test_store import CELLS, keys, rows, run, shard_files, texts

OTHER = Cells("sample", (("weights", "w2"),))
DAY = 86_400


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def append_before(row_store: RowStore, cells: Cells, seconds: float, *pairs: tuple[str, str]) -> None:
    """Append a shard as if some time ago."""
    now = time.time_ns() - int(seconds * 1e9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.time, "time_ns", lambda: now)
        row_store.append(cells, rows(pairs))


def test_stats_count_what_is_in_each_set(tmp_path):
    row_store = RowStore(tmp_path)
    assert stats(row_store) == []
    append_before(row_store, CELLS, DAY, ("a", "1"), ("b", "2"))
    append_before(row_store, CELLS, 0, ("c", "3"))
    append_before(row_store, OTHER, 0, ("a", "4"))
    folder = tmp_path / CELLS.name
    (folder / "0000000000000001-x.damaged").write_bytes(b"")
    (folder / "0000000000000001-x.partial").write_bytes(b"")
    one, two = sorted(stats(row_store), key=lambda found: found.identity["weights"])
    assert (one.name, one.shards, one.rows, one.damaged, one.partial) == (CELLS.name, 2, 3, 1, 1)
    assert one.identity == {"kind": "sample", "weights": "w1"}
    assert one.bytes == sum(path.stat().st_size for path in shard_files(folder))
    assert datetime.now(UTC) - timedelta(minutes=5) < one.newest <= datetime.now(UTC)
    assert (two.name, two.shards, two.rows, two.damaged, two.partial) == (OTHER.name, 1, 1, 0, 0)


def test_stats_change_nothing_though_a_shard_is_broken(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1")]))
    (shard,) = shard_files(tmp_path)
    shard.write_bytes(b"broken")
    before = files(tmp_path)
    (found,) = stats(row_store)
    assert (found.shards, found.rows, found.damaged) == (1, 0, 1)
    assert files(tmp_path) == before


def test_broken_bytes_that_ask_for_any_amount_of_memory_are_damage(tmp_path, monkeypatch):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1")]))

    def greedy(*_):
        raise MemoryError

    monkeypatch.setattr(shards.pq, "read_metadata", greedy)
    (found,) = stats(row_store)
    assert (found.rows, found.damaged) == (0, 1)


def test_a_set_that_is_not_named_goes_whole_and_the_others_stay(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1")]))
    row_store.append(OTHER, rows([("a", "2"), ("b", "3")]))
    size = sum(path.stat().st_size for path in shard_files(tmp_path / OTHER.name))
    (removed,) = keep(row_store, {CELLS.name: None}, older_than_seconds=0, dry_run=False)
    assert (removed.rows, removed.bytes, removed.why) == (2, size, "set is not wanted")
    assert [found.name for found in stats(row_store)] == [CELLS.name]
    assert not (tmp_path / OTHER.name).exists()
    assert texts(row_store, "a") == {"a": "1"}


def test_rows_that_nobody_wants_go_and_the_rest_of_their_shard_stays_as_old_as_it_was(tmp_path):
    row_store = RowStore(tmp_path)
    append_before(row_store, CELLS, DAY, ("a", "1"), ("b", "2"), ("c", "3"))
    append_before(row_store, CELLS, DAY / 2, ("d", "4"))
    append_before(row_store, CELLS, DAY / 3, ("e", "5"))
    first, gone, whole = shard_files(tmp_path)
    wanted = {CELLS.name: keys(["e", "a", "c", "not stored"])}
    removed = keep(row_store, wanted, older_than_seconds=0, dry_run=False)
    assert [(item.path.rpartition("/")[2], item.rows, item.why) for item in removed] == [
        (first.name, 1, "some rows are not wanted"),
        (gone.name, 1, "no row is wanted"),
    ]
    rewritten, still = shard_files(tmp_path)
    assert still == whole
    assert shards.written(rewritten.name) == shards.written(first.name)
    assert texts(row_store, "abcde") == {"a": "1", "c": "3", "e": "5"}
    assert removed[1].bytes > 0
    assert keep(row_store, wanted, older_than_seconds=0, dry_run=False) == []


def test_a_dry_run_says_the_same_and_changes_nothing(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1"), ("b", "2")]))
    row_store.append(OTHER, rows([("a", "2")]))
    before = files(tmp_path)
    would = keep(row_store, {CELLS.name: keys("a")}, older_than_seconds=0, dry_run=True)
    assert files(tmp_path) == before
    assert would == keep(row_store, {CELLS.name: keys("a")}, older_than_seconds=0, dry_run=False)
    assert len(would) == 2


def test_what_is_younger_than_the_age_is_never_touched(tmp_path):
    row_store = RowStore(tmp_path)
    for cells in (CELLS, OTHER):
        append_before(row_store, cells, DAY, ("a", "old"), ("b", "old"))
        append_before(row_store, cells, 60, ("c", "young"))
        (tmp_path / cells.name / f"{time.time_ns():016x}-1.partial").write_bytes(b"at work")
        (tmp_path / cells.name / f"{time.time_ns():016x}-1.damaged").write_bytes(b"just now")
    keep(row_store, {CELLS.name: keys("a")}, older_than_seconds=3600, dry_run=False)
    assert texts(row_store, "abc") == {"a": "old", "c": "young"}
    assert row_store.values(OTHER, keys("abc"))["text"].to_list() == ["young"]
    for cells in (CELLS, OTHER):
        left = {path.suffix for path in (tmp_path / cells.name).iterdir()}
        assert left == {".parquet", ".partial", ".damaged", ".json"}


def test_what_was_set_aside_or_left_by_a_killed_writer_goes_in_time(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1")]))
    for end in ("damaged", "partial"):
        (tmp_path / CELLS.name / f"{time.time_ns() - DAY * 10**9:016x}-1.{end}").write_bytes(b"12")
    removed = keep(row_store, {CELLS.name: None}, older_than_seconds=3600, dry_run=False)
    assert [(item.why, item.bytes) for item in removed] == [("damaged", 2), ("partial", 2)]
    assert {path.suffix for path in (tmp_path / CELLS.name).iterdir()} == {".parquet", ".json"}


def test_a_file_of_somebody_else_stays(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1")]))
    for path in (tmp_path / "notes.txt", tmp_path / CELLS.name / "notes.txt"):
        path.write_text("mine", encoding="utf-8")
    keep(row_store, {}, older_than_seconds=0, dry_run=False)
    assert files(tmp_path).keys() == {
        "notes.txt",
        f"{CELLS.name}/notes.txt",
        f"{CELLS.name}/identity.json",
    }


@pytest.mark.parametrize("place", [9, -9])
def test_a_damaged_shard_is_not_rewritten_as_if_it_were_whole_and_a_dry_run_leaves_it(tmp_path, place):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1" * 50), ("b", "2" * 50)]))
    (shard,) = shard_files(tmp_path)
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)
    before = files(tmp_path)
    would = keep(row_store, {CELLS.name: keys("a")}, older_than_seconds=0, dry_run=True)
    assert files(tmp_path) == before
    assert [(item.why, item.rows, item.bytes) for item in would] == [("damaged", 0, len(content))]
    assert keep(row_store, {CELLS.name: keys("a")}, older_than_seconds=0, dry_run=False) == would
    assert files(tmp_path).keys() == {f"{CELLS.name}/identity.json"}


def test_a_damaged_shard_that_is_young_is_set_aside_and_stays(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1")]))
    (shard,) = shard_files(tmp_path)
    shard.write_bytes(b"broken")
    for dry_run in (True, False):
        assert keep(row_store, {CELLS.name: keys("a")}, older_than_seconds=3600, dry_run=dry_run) == []
    assert shard.with_suffix(".damaged").read_bytes() == b"broken"


def test_what_a_writer_is_at_work_on_stays_whatever_is_to_be_removed(tmp_path):
    row_store = RowStore(tmp_path)
    for cells in (CELLS, OTHER):
        row_store.append(cells, rows([("a", "1")]))
        for minutes in (5, 70):
            began = time.time_ns() - minutes * 60 * 10**9
            (tmp_path / cells.name / f"{began:016x}-{minutes}.partial").touch()
    keep(row_store, {CELLS.name: keys("a")}, older_than_seconds=0, dry_run=False)
    left = [path.rpartition("-")[2] for path in files(tmp_path) if path.endswith(".partial")]
    assert left == ["5.partial", "5.partial"]


@settings(max_examples=30, deadline=None)
@given(
    written=st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=4),
    wanted=st.sets(st.sampled_from("abcdefg")),
)
def test_exactly_the_wanted_rows_stay_with_the_values_they_had(tmp_path_factory, written, wanted):
    row_store = RowStore(tmp_path_factory.mktemp("s"))
    for number, names in enumerate(written):
        row_store.append(CELLS, rows((name, f"{name}{number}") for name in names))
    before = texts(row_store, "abcdefg")
    keep(row_store, {CELLS.name: keys(sorted(wanted))}, older_than_seconds=0, dry_run=False)
    assert texts(row_store, "abcdefg") == {key: text for key, text in before.items() if key in wanted}


KILLED = """
import os, signal, sys
from tests.test_upkeep import *
row_store, left = RowStore(sys.argv[1]), int(sys.argv[2])
def counting(act):
    def acting(*words):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return act(*words)
    return acting
row_store.storage.fs.rm_file = counting(row_store.storage.fs.rm_file)
row_store.storage.move = counting(row_store.storage.move)
keep(row_store, {CELLS.name: keys("ace")}, older_than_seconds=0, dry_run=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 2, 3, 5, 7])
def test_a_kill_at_any_step_loses_no_wanted_row_and_the_next_run_ends_it(tmp_path, steps):
    row_store = RowStore(tmp_path)
    for pair in ("ab", "cd", "ef"):
        row_store.append(CELLS, rows((name, name * 9) for name in pair))
    row_store.append(OTHER, rows([("a", "unwanted")]))
    killed = run(KILLED, tmp_path, steps)
    killed.stdout.close()
    assert killed.wait() == -signal.SIGKILL
    assert texts(row_store, "ace") == {name: name * 9 for name in "ace"}
    keep(row_store, {CELLS.name: keys("ace")}, older_than_seconds=0, dry_run=False)
    assert texts(row_store, "abcdef") == {name: name * 9 for name in "ace"}
    assert len(shard_files(tmp_path)) == 3
    assert list((tmp_path / "sample").iterdir()) == [tmp_path / CELLS.name]
