"""The row store: the first value of a key for every reader, damage costs a shard, a kill costs no more."""

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import shards, store
from pipeline.cells import VALUES, Cells
from pipeline.execution import MOST_ROWS
from pipeline.store import RowStore
from tests.smoke_project import ROOT, environment

CELLS = Cells("sample", (("weights", "w1"),))
NUMBERS = Cells("score", (("weights", "w1"),))


def rows(values: Iterable[tuple[str, str]]) -> pl.DataFrame:
    """Samples of some keys and texts."""
    return pl.DataFrame([(key, text, len(text), "stop") for key, text in values], CELLS.schema, orient="row")


def keys(names: Iterable[str]) -> pl.Series:
    return pl.Series("key", list(names), pl.String)


def texts(row_store: RowStore, names: Iterable[str]) -> dict[str, str]:
    """What the store has of some keys."""
    return dict(row_store.values(CELLS, keys(names)).select("key", "text").iter_rows())


def shard_files(folder: Path) -> list[Path]:
    """The shards below a folder, the oldest first."""
    return sorted(folder.rglob("*.parquet"))


def run(program: str, *words: object) -> subprocess.Popen[str]:
    """Start a program in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE)


def test_what_is_stored_is_no_longer_missing_and_reads_as_it_was_written(tmp_path):
    row_store = RowStore(tmp_path / "not" / "there" / "yet")
    assert row_store.missing(CELLS, keys("cab")).to_list() == ["c", "a", "b"]
    written = pl.DataFrame(
        [("a", "one\n", 1, "stop"), ("b", "", 0, "length"), ("c", "ünï \U0001f9ea\0", 5, "stop")],
        CELLS.schema,
        orient="row",
    )
    row_store.append(CELLS, written)
    assert row_store.missing(CELLS, keys("cadabd")).to_list() == ["d"]
    assert row_store.values(CELLS, keys(["a", "x", "b", "c"])).equals(written)


@pytest.mark.parametrize("kind", VALUES)
def test_every_kind_of_value_comes_back_bit_by_bit(tmp_path, kind):
    cells = Cells(kind, ())
    extremes = {pl.String: ["", "a\0\n"], pl.Int64: [0, 2**40], pl.Float64: [-0.1 + 1e-17, 5e-324]}
    extremes[pl.List(pl.Float32)] = [[1e-45, -0.1], []]
    values = {name: extremes[dtype] for name, dtype in VALUES[kind].items()}
    frame = pl.DataFrame({"key": ["k", "l"]} | values, cells.schema)
    RowStore(tmp_path).append(cells, frame)
    assert RowStore(tmp_path).values(cells, keys("kl")).equals(frame)


def test_values_come_once_per_key_in_the_order_of_the_asks(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows(zip("abc", "123", strict=True)))
    assert row_store.values(CELLS, keys("cacxb"))["key"].to_list() == ["c", "a", "b"]


def test_sets_of_cells_know_nothing_of_each_other(tmp_path):
    row_store, other = RowStore(tmp_path), Cells("sample", (("weights", "w2"),))
    row_store.append(CELLS, rows([("a", "of w1")]))
    assert row_store.missing(other, keys("a")).to_list() == ["a"]
    assert row_store.values(other, keys("a")).is_empty()


def test_nothing_is_written_for_no_rows(tmp_path):
    RowStore(tmp_path / "s").append(CELLS, rows([]))
    assert not (tmp_path / "s").exists()


def test_a_set_says_beside_its_shards_what_computes_it(tmp_path):
    RowStore(tmp_path).describe(CELLS)
    assert (tmp_path / CELLS.name / "identity.json").read_text(encoding="utf-8") == CELLS.description


def test_a_shard_is_named_by_its_time_and_the_digest_of_its_bytes(tmp_path):
    before = time.time_ns()
    RowStore(tmp_path).append(CELLS, rows([("a", "1")]))
    (shard,) = shard_files(tmp_path)
    assert before <= int(shard.stem[:16], 16) <= time.time_ns()
    assert shard.stem[17:] == shards.digest(shard.read_bytes())
    assert {path.name for path in shard.parent.iterdir()} == {shard.name, "identity.json"}


SHARDS = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.text(max_size=5)), max_size=6), max_size=5
)


@settings(max_examples=40, deadline=None)
@given(written=SHARDS, asked=st.lists(st.sampled_from("abcdefghij")))
def test_whatever_the_shards_a_reader_gets_the_first_value_of_each_key(tmp_path_factory, written, asked):
    row_store, first = RowStore(tmp_path_factory.mktemp("s")), {}
    for shard in written:
        row_store.append(CELLS, rows(shard))
        for key, text in shard:
            first.setdefault(key, text)
    assert row_store.missing(CELLS, keys(asked)).to_list() == [
        key for key in dict.fromkeys(asked) if key not in first
    ]
    found = row_store.values(CELLS, keys(asked))
    assert list(found.select("key", "text").iter_rows()) == [
        (key, first[key]) for key in dict.fromkeys(asked) if key in first
    ]


@settings(max_examples=25, deadline=None)
@given(order=st.permutations("abcdefgh"), cuts=st.sets(st.integers(1, 7)))
def test_the_order_of_completion_and_the_cuts_between_shards_change_no_value(tmp_path_factory, order, cuts):
    row_store = RowStore(tmp_path_factory.mktemp("s"))
    bounds = [0, *sorted(cuts), len(order)]
    for start, end in itertools.pairwise(bounds):
        row_store.append(CELLS, rows((key, f"text {key}") for key in order[start:end]))
    assert texts(row_store, "abcdefgh") == {key: f"text {key}" for key in "abcdefgh"}
    assert row_store.missing(CELLS, keys(order)).is_empty()


@pytest.mark.parametrize("kind", VALUES)
def test_one_short_read_finds_the_keys_of_the_largest_shard(kind):
    cells = Cells(kind, ())
    names = [os.urandom(16).hex() for _ in range(MOST_ROWS)]
    of_type = {pl.String: [name * 20 for name in names], pl.Int64: 400, pl.Float64: 0.5}
    of_type[pl.List(pl.Float32)] = [[0.5] * 64] * len(names)
    values = {name: of_type[dtype] for name, dtype in VALUES[kind].items()}
    content = shards.encoded(pl.DataFrame({"key": names}).with_columns(**lit(values)), cells.schema)
    assert shards.keys(content[-shards.TAIL_BYTES :], len(content)).to_list() == names


def lit(values: dict[str, Any]) -> dict[str, pl.Expr]:
    """Columns of one value, or of one for each row."""
    return {name: pl.lit(pl.Series(v) if isinstance(v, list) else v) for name, v in values.items()}


def test_shards_of_more_rows_than_one_read_of_the_end_holds_are_read_whole(tmp_path):
    names = [os.urandom(16).hex() for _ in range(20_000)]
    RowStore(tmp_path).append(NUMBERS, pl.DataFrame({"key": names, "value": [0.5] * len(names)}))
    (shard,) = shard_files(tmp_path)
    assert shard.stat().st_size > 2 * shards.TAIL_BYTES
    assert RowStore(tmp_path).missing(NUMBERS, keys([*names, "new"])).to_list() == ["new"]


# Damage.


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_first(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def flip_middle(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 16]) + content[half + 1 :]


DAMAGES = {
    "empty": lambda _: b"",
    "cut": cut,
    "one byte short": lambda content: content[:-1],
    "one byte long": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "no parquet": lambda _: b"no parquet at all",
    "flipped at the start": flip_first,
    "flipped in the middle": flip_middle,
    "end missing": lambda content: content[:-100] + bytes(100),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_shard_is_set_aside_by_name_and_costs_its_own_rows_alone(tmp_path, caplog, damage):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1"), ("b", "2")]))
    row_store.append(CELLS, rows([("c", "3")]))
    shard, other = shard_files(tmp_path)
    shard.write_bytes(damage(shard.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert texts(row_store, "abc") == {"c": "3"}
    assert str(shard) in caplog.text
    assert shard_files(tmp_path) == [other]
    assert shard.with_suffix(".damaged").exists()
    assert row_store.missing(CELLS, keys("abc")).to_list() == ["a", "b"]
    row_store.append(CELLS, rows([("a", "1"), ("b", "2")]))
    assert texts(row_store, "abc") == {"a": "1", "b": "2", "c": "3"}


def test_wherever_a_bit_is_flipped_no_other_value_is_read(tmp_path):
    row_store, texts_of = RowStore(tmp_path), {"a": "first", "b": "second"}
    row_store.append(CELLS, rows(texts_of.items()))
    (shard,) = shard_files(tmp_path)
    right = shard.read_bytes()
    for place in range(len(right)):
        shard.write_bytes(right[:place] + bytes([right[place] ^ 1 << place % 8]) + right[place + 1 :])
        row_store.missing(CELLS, keys("ab"))
        assert texts(row_store, "ab") == {}, f"byte {place}"
        assert row_store.missing(CELLS, keys("ab")).to_list() == ["a", "b"], f"byte {place}"
    shard.write_bytes(right)
    assert texts(row_store, "ab") == texts_of


def test_a_lookup_sees_that_keys_are_damaged(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("aaaa", "1"), ("bbbb", "2")]))
    (shard,) = shard_files(tmp_path)
    content = shard.read_bytes()
    assert content.count(b"aaaa") == 1
    shard.write_bytes(content.replace(b"aaaa", b"cccc"))
    assert row_store.missing(CELLS, keys(["aaaa", "bbbb", "cccc"])).to_list() == ["aaaa", "bbbb", "cccc"]


def test_a_shard_that_reads_but_says_something_else_is_damaged(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "right")]))
    row_store.append(CELLS, rows([("a", "wrong")]))
    right, wrong = shard_files(tmp_path)
    wrong.replace(right)
    assert texts(row_store, "a") == {}


def test_a_shard_of_another_kind_is_damaged_though_its_digest_is_right(tmp_path, caplog):
    row_store = RowStore(tmp_path)
    content = shards.encoded(pl.DataFrame({"key": ["a"], "value": [0.5]}), NUMBERS.schema)
    folder = tmp_path / CELLS.name
    folder.mkdir(parents=True)
    (folder / shards.name(time.time_ns(), content)).write_bytes(content)
    assert texts(row_store, "a") == {}
    assert row_store.missing(CELLS, keys("a")).to_list() == ["a"]
    assert "is damaged" in caplog.text


def test_where_the_first_shard_of_a_key_is_damaged_the_next_one_counts(tmp_path):
    row_store = RowStore(tmp_path)
    for text in ("first", "second", "third"):
        row_store.append(CELLS, rows([("a", text), (text, text)]))
    shard_files(tmp_path)[0].write_bytes(b"")
    assert texts(row_store, ["third", "a"]) == {"a": "second", "third": "third"}


def test_a_damaged_text_is_found_by_who_reads_it_and_then_missing_for_all(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows((f"{i:032x}", os.urandom(100).hex()) for i in range(2000)))
    (shard,) = shard_files(tmp_path)
    shard.write_bytes(flip_first(shard.read_bytes()))
    asked = keys([f"{7:032x}"])
    assert row_store.missing(CELLS, asked).is_empty()  # only the keys at its end were read
    assert row_store.values(CELLS, asked).is_empty()
    assert row_store.missing(CELLS, asked).len() == 1


def test_two_readers_may_set_a_shard_aside_at_once(tmp_path):
    one, two = RowStore(tmp_path), RowStore(tmp_path)
    one.append(CELLS, rows([("a", "1")]))
    (shard,) = shard_files(tmp_path)
    shard.write_bytes(b"")
    path = shard.relative_to(tmp_path).as_posix()
    one.storage.set_aside(path, "elsewhere")
    two.storage.set_aside(path, "elsewhere")
    assert texts(two, "a") == {}


class Vanishing(RowStore):
    """A store of which a shard is replaced when it is about to be read: what `keep` does."""

    def replace_on_read(self, path: str, name: str, content: bytes) -> None:
        read = self.storage.read

        def replaced(asked: str, start: int = 0) -> bytes | None:
            if asked == path and self.storage.files(Path(path).parent.as_posix()).get(path):
                self.storage.write(f"{Path(path).parent.as_posix()}/{name}", content)
                self.storage.remove(path)
            return read(asked, start)

        self.storage.read = replaced


@pytest.mark.parametrize("ask", [RowStore.values, RowStore.missing])
def test_a_shard_that_is_rewritten_while_it_is_read_loses_no_row(tmp_path, caplog, ask):
    row_store = Vanishing(tmp_path)
    row_store.append(CELLS, rows([("a", "1"), ("b", "2")]))
    (shard,) = shard_files(tmp_path)
    content = shards.encoded(rows([("a", "1")]), CELLS.schema)
    new = shards.name(shards.written(shard.name), content)
    row_store.replace_on_read(shard.relative_to(tmp_path).as_posix(), new, content)
    answer = ask(row_store, CELLS, keys("ab"))
    assert answer.to_list() == ["b"] if ask is RowStore.missing else answer["text"].to_list() == ["1"]
    assert not caplog.records


# Several writers.


def test_the_value_that_was_there_first_stays_though_others_come_from_slow_clocks(tmp_path, monkeypatch):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "first")]))
    before = row_store.values(CELLS, keys("ab"))
    hour = 3600 * 10**9
    for ago in (hour, 2 * hour, -hour, 0):
        now = time.time_ns() - ago
        monkeypatch.setattr(store.time, "time_ns", lambda now=now: now)
        row_store.append(CELLS, rows([("a", f"from {ago} before"), ("b", "later")]))
        monkeypatch.undo()
        assert row_store.values(CELLS, keys("a")).equals(before)
    assert len(shard_files(tmp_path)) == 5


def test_a_writer_lists_its_set_now_and_then_and_not_for_each_shard(tmp_path, monkeypatch):
    row_store, other = RowStore(tmp_path), RowStore(tmp_path)
    listed: list[str] = []
    files = row_store.storage.files
    monkeypatch.setattr(row_store.storage, "files", lambda folder: listed.append(folder) or files(folder))
    clock = time.monotonic()
    monkeypatch.setattr(store.time, "monotonic", lambda: clock)
    for i in range(5):
        row_store.append(CELLS, rows([(f"{i}", "mine")]))
    assert listed == [CELLS.name]
    row_store.append(NUMBERS, pl.DataFrame({"key": ["a"], "value": [0.5]}))
    assert listed == [CELLS.name, NUMBERS.name]
    ahead = time.time_ns() + 3600 * 10**9
    with monkeypatch.context() as patch:
        patch.setattr(store.time, "time_ns", lambda: ahead)
        other.append(CELLS, rows([("b", "ahead")]))
    clock += store.LISTED_SECONDS + 1
    row_store.append(CELLS, rows([("b", "later")]))
    assert listed.count(CELLS.name) == 2
    assert texts(row_store, "b") == {"b": "ahead"}


WRITER = """
import sys
from pathlib import Path
import polars as pl
from pipeline.cells import Cells
from pipeline.store import RowStore
cells, store = Cells("sample", (("weights", "w1"),)), RowStore(sys.argv[1])
name, count = sys.argv[2], int(sys.argv[3])
for i in range(count):
    keys = [f"{key:032x}" for key in range(i * 3, i * 3 + 5)]
    rows = [(key, f"{name} {key} " * 500, 1, "stop") for key in keys]
    store.append(cells, pl.DataFrame(rows, cells.schema, orient="row"))
    print(i, flush=True)
"""


def test_readers_beside_several_writers_see_whole_shards_and_one_value_per_key(tmp_path, caplog):
    count = 12
    writers = [run(WRITER, tmp_path, name, count) for name in "abc"]
    row_store, wanted = RowStore(tmp_path), [f"{key:032x}" for key in range(count * 3 + 2)]
    while any(writer.poll() is None for writer in writers):
        for key, text in texts(row_store, wanted).items():
            assert text in {f"{name} {key} " * 500 for name in "abc"}
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(shard_files(tmp_path)) == 3 * count
    assert texts(row_store, wanted).keys() == set(wanted)
    assert texts(row_store, wanted) == texts(RowStore(tmp_path), reversed(wanted))
    assert not caplog.records
    for writer in writers:
        writer.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 3, 6])
def test_a_killed_writer_leaves_whole_shards_and_disturbs_no_other(tmp_path, caplog, killed_after):
    other = run(WRITER, tmp_path, "other", 8)
    killed = run(WRITER, tmp_path, "killed", 10_000)
    for _ in range(killed_after):
        killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert other.wait() == 0
    row_store = RowStore(tmp_path)
    wanted = [f"{key:032x}" for key in range(8 * 3 + 2)]
    assert row_store.missing(CELLS, keys(wanted)).is_empty()
    assert texts(row_store, wanted).keys() == set(wanted)
    assert not caplog.records
    for writer in (other, killed):
        writer.stdout.close()


def test_what_a_killed_writer_has_not_finished_is_never_read(tmp_path):
    row_store = RowStore(tmp_path)
    row_store.append(CELLS, rows([("a", "1")]))
    (shard,) = shard_files(tmp_path)
    content = shards.encoded(rows([("b", "2")]), CELLS.schema)
    (shard.parent / f"{time.time_ns():016x}-{'0' * 32}.partial").write_bytes(content)
    assert row_store.missing(CELLS, keys("ab")).to_list() == ["b"]
    assert texts(row_store, "ab") == {"a": "1"}


def test_what_another_machine_has_written_is_seen_at_once(tmp_path):
    one = RowStore(tmp_path)
    assert one.missing(CELLS, keys("a")).to_list() == ["a"]
    program = (
        "import sys; from tests.test_store import *; RowStore(sys.argv[1]).append(CELLS, rows([('a', '1')]))"
    )
    writer = run(program, tmp_path)
    assert writer.wait() == 0
    writer.stdout.close()
    assert one.missing(CELLS, keys("a")).is_empty()
    assert texts(one, "a") == {"a": "1"}


@pytest.mark.parametrize("url", ["memory://rows/store", "local://{}", "{}"])
def test_any_file_system_will_do(tmp_path, url):
    row_store = RowStore(url.format(tmp_path / "s"))
    row_store.append(CELLS, rows([("a", "1")]))
    row_store.append(CELLS, rows([("a", "2"), ("b", "2")]))
    again = pickle.loads(pickle.dumps(row_store))  # so it is sent to a worker
    assert texts(again, "abc") == {"a": "1", "b": "2"}
    assert again.missing(CELLS, keys("abc")).to_list() == ["c"]
    row_store.storage.fs.rm(row_store.storage.root, recursive=True)
