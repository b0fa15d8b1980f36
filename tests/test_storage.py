"""A file is written whole or not at all, and what goes wrong is one line, never taken for damage."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from fsspec import get_filesystem_class
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import UserError
from pipeline.storage import Storage, stamp
from pipeline.store import RowStore
from tests.smoke_project import ROOT, environment
from tests.test_store import CELLS, keys, rows, shard_files, texts


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that all may enter, and a process that is not allowed everything."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    if os.getuid() == 0:
        os.seteuid(0)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def become_nobody() -> None:
    """Give up the rights of root, if they are there."""
    if os.getuid() == 0:
        os.seteuid(65534)


def test_a_file_reads_as_it_was_written_and_nothing_stands_beside_it(tmp_path):
    storage = Storage(tmp_path)
    storage.write("a/b/file", b"one")
    storage.write("a/b/file", b"two")
    assert storage.read("a/b/file") == b"two"
    assert storage.read("a/b/file", 1) == b"wo"
    assert storage.files("a/b") == {"a/b/file": 3}
    assert storage.folders("a") == ["a/b"]


def test_what_is_not_there_is_no_error(tmp_path):
    storage = Storage(tmp_path / "none")
    assert storage.read("a") is None
    assert storage.files("a") == {}
    assert storage.folders("") == []
    storage.remove("a")
    storage.set_aside("a", "b")


def test_the_last_file_takes_its_folder_with_it(tmp_path):
    storage = Storage(tmp_path)
    storage.write("a/one", b"1")
    storage.write("a/two", b"2")
    storage.remove("a/one")
    assert storage.folders("") == ["a"]
    storage.remove("a/two")
    assert storage.folders("") == []


@pytest.mark.parametrize("mask", [0o002, 0o022])
def test_files_and_folders_have_the_rights_that_the_user_gives_to_new_ones(tmp_path, mask):
    before = os.umask(mask)
    try:
        Storage(tmp_path / "s").write("a/file", b"1")
    finally:
        os.umask(before)
    for path, most in ((tmp_path / "s" / "a", 0o777), (tmp_path / "s" / "a" / "file", 0o666)):
        assert stat.S_IMODE(path.stat().st_mode) == most & ~mask


class Strict(MemoryFileSystem):
    """A file system that knows no options, and hands them on to something that refuses them."""

    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def __init__(self, **options: object) -> None:
        assert not options
        super().__init__()


def test_a_file_system_gets_no_option_that_it_may_not_know(monkeypatch):
    monkeypatch.setitem(sys.modules[get_filesystem_class.__module__]._registry, "sftp", Strict)
    Storage("sftp://host/store").write("a/file", b"1")
    assert Storage("sftp://host/store").read("a/file") == b"1"


def test_names_sort_by_the_time_that_they_begin_with():
    times = [0, 1, 9, 10, 255, 256, 10**18, 1_763_754_000 * 10**9, 2**63]
    assert sorted(map(stamp, reversed(times))) == [stamp(time) for time in times]


FULL = """
import resource, sys
from pipeline.errors import UserError
from pipeline.storage import Storage
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    Storage(sys.argv[1]).write("a/file", bytes(10_000))
except UserError as error:
    print(error)
"""


def test_a_file_for_which_there_is_no_room_leaves_nothing(tmp_path):
    words = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert f"the row store {tmp_path}: expected to write a/file" in line
    assert "File too large" in line
    assert "PAIRMILL_STORE" in line
    assert list((tmp_path / "a").iterdir()) == []


def test_a_shard_that_may_not_be_read_is_an_error_and_stays_where_it_is(unprivileged):
    row_store = RowStore(unprivileged)
    row_store.append(CELLS, rows([("a", "1")]))
    (shard,) = shard_files(unprivileged)
    shard.chmod(0)
    become_nobody()
    for ask in (row_store.missing, row_store.values):
        with pytest.raises(UserError, match=r"expected to read .*Permission denied"):
            ask(CELLS, keys("a"))
    assert shard.exists()


def test_a_folder_that_may_not_be_listed_is_not_taken_for_an_empty_one(unprivileged):
    row_store = RowStore(unprivileged)
    row_store.append(CELLS, rows([("a", "1")]))
    (unprivileged / CELLS.name).chmod(0)
    become_nobody()
    with pytest.raises(UserError, match=r"expected to list .*Permission denied"):
        row_store.missing(CELLS, keys("a"))


def test_a_folder_that_may_not_be_written_is_told_before_anything_is_computed(unprivileged):
    unprivileged.chmod(0o555)
    become_nobody()
    with pytest.raises(UserError, match=r"expected to write .*Permission denied"):
        RowStore(unprivileged).describe(CELLS)


def test_who_may_read_but_not_write_reads(unprivileged):
    RowStore(unprivileged).append(CELLS, rows([("a", "1")]))
    assert texts(RowStore(unprivileged), "a") == {"a": "1"}  # what is imported late may be root's own
    (unprivileged / CELLS.name).chmod(0o555)
    become_nobody()
    assert texts(RowStore(unprivileged), "a") == {"a": "1"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nosuch://bucket/store", "expected a folder or a URL of file, .* found nosuch"),
        ("simplecache::s3://bucket/store", "found simplecache"),
        ("ftp://host/store", "a file appears whole or not at all, found ftp"),
        ("{}/file/store", "Not a directory"),
    ],
)
def test_a_place_that_is_none_is_one_line(tmp_path, url, told):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(UserError, match=told) as error:
        RowStore(url.format(tmp_path)).missing(CELLS, keys("a"))
    assert "\n" not in str(error.value)
