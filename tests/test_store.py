"""The row store: nothing is computed twice, damage costs a shard, and a kill costs no more."""

import logging
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.store import RowStore, fill


def squares(computed: list[int], keys):
    """A compute function that says which indices it was asked for."""

    def compute(missing):
        computed.extend(missing)
        for i in missing:
            yield i, {"square": int(keys[i]) ** 2}

    return compute


def test_a_row_is_computed_once_however_often_it_is_asked_for(tmp_path):
    store, computed = RowStore(tmp_path / "s"), []
    keys = ["3", "1", "3", "2", "1"]
    values = fill(store, keys, squares(computed, keys), shard_rows=2)
    assert values == [{"square": int(key) ** 2} for key in keys]
    assert computed == [0, 1, 3]
    keys, computed = ["2", "4", "3"], []
    values = fill(store, keys, squares(computed, keys), shard_rows=2)
    assert [value["square"] for value in values] == [4, 16, 9]
    assert computed == [1]


def test_appending_the_same_rows_twice_is_one_shard(tmp_path):
    store = RowStore(tmp_path)
    store.append({"a": 1, "b": [2.5, None, "é"]})
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    store.append({"b": [2.5, None, "é"], "a": 1})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert len(first) == 1
    assert store.get(["b", "a", "absent"]) == {"a": 1, "b": [2.5, None, "é"]}


def test_an_empty_shard_is_never_written(tmp_path):
    RowStore(tmp_path / "s").append({})
    assert not (tmp_path / "s").exists()
    assert RowStore(tmp_path / "s").get(["a"]) == {}


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [cut, lambda _: b"", lambda _: b"no parquet at all"])
def test_a_damaged_shard_is_set_aside_and_its_rows_computed_again(tmp_path, caplog, damage):
    store = RowStore(tmp_path)
    store.append({"1": {"square": 1}})
    (shard,) = tmp_path.glob("*.parquet")
    store.append({"2": {"square": 4}})
    shard.write_bytes(damage(shard.read_bytes()))
    with caplog.at_level(logging.WARNING):
        values = fill(store, ["1", "2"], squares(computed := [], ["1", "2"]), shard_rows=9)
    assert values == [{"square": 1}, {"square": 4}]
    assert computed == [0]
    assert shard.with_suffix(".damaged").exists()
    assert str(shard) in caplog.text


def test_a_shard_that_reads_but_says_something_else_is_damaged(tmp_path):
    store = RowStore(tmp_path)
    store.append({"a": "right"})
    (right,) = tmp_path.glob("*.parquet")
    store.append({"a": "wrong"})
    (wrong,) = set(tmp_path.glob("*.parquet")) - {right}
    wrong.replace(right)
    assert store.get(["a"]) == {}


def test_an_exception_loses_nothing_that_was_computed(tmp_path):
    store, keys = RowStore(tmp_path), [str(i) for i in range(10)]

    def failing(missing):
        for i in missing:
            if i == 7:
                raise RuntimeError("out of memory")
            yield i, {"square": i**2}

    with pytest.raises(RuntimeError, match="out of memory"):
        fill(store, keys, failing, shard_rows=3)
    assert sorted(store.get(keys)) == [str(i) for i in range(7)]
    fill(store, keys, squares(computed := [], keys), shard_rows=3)
    assert computed == [7, 8, 9]


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.store import RowStore, fill

def compute(missing):
    for i in missing:
        if i == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        yield i, i

fill(RowStore(Path(sys.argv[1])), [str(i) for i in range(20)], compute, shard_rows=3)
"""


def test_a_kill_loses_less_than_one_shard(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == -signal.SIGKILL
    assert sorted(RowStore(tmp_path).get([str(i) for i in range(20)])) == [str(i) for i in range(6)]


def test_all_writers_of_a_key_read_the_same_value(tmp_path):
    store = RowStore(tmp_path)

    def compute_while_another_writes(value):
        def compute(missing):
            store.append({"k": f"the other one's {value}"})
            yield 0, value

        return compute

    # Whichever shard has the first name, the writer gets what every later reader gets.
    for name in "abcd":
        store = RowStore(tmp_path / name)
        first = fill(store, ["k"], compute_while_another_writes(name), shard_rows=1)
        assert first == fill(store, ["k"], squares([], []), shard_rows=1)


def test_a_value_is_the_same_the_first_time_as_every_other(tmp_path):
    store = RowStore(tmp_path)
    first = fill(store, ["k"], lambda _: [(0, ("text", 3))], shard_rows=1)
    assert first == fill(store, ["k"], squares([], []), shard_rows=1) == [["text", 3]]


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(7)), shard_rows=st.integers(1, 8))
def test_the_order_of_keys_and_of_completion_changes_no_value(tmp_path_factory, order, shard_rows):
    keys = [str(i) for i in order]
    store = RowStore(tmp_path_factory.mktemp("s"))
    values = fill(
        store, keys, lambda missing: [(i, keys[i]) for i in reversed(missing)], shard_rows=shard_rows
    )
    assert values == keys
    assert store.get(sorted(keys)) == {key: key for key in keys}
