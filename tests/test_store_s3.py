"""The promises of the row store on an object store: the S3 API of a server on this machine."""

import importlib.util
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pipeline import shards
from pipeline.errors import UserError
from pipeline.store import RowStore
from pipeline.upkeep import keep, stats
from tests.ports import free_port
from tests.test_store import CELLS, keys, rows, run, texts

s3fs = pytest.importorskip("s3fs", reason="extra s3 is not installed")
pytestmark = pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="moto is not installed")

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3 server, in a process of its own: vLLM looks at every object of every module that
    this one has imported, and those of Flask, on which the server is built, refuse that."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            yield answering(address, running)
        finally:
            running.terminate()


def answering(address: str, running: "subprocess.Popen[bytes]") -> str:
    """The address, once a server answers there."""
    for _ in range(600):
        assert running.poll() is None, "the S3 server has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1):
            return address
        time.sleep(0.1)
    raise AssertionError("the S3 server does not answer")


@pytest.fixture
def bucket(endpoint, monkeypatch) -> Iterator[str]:
    """The URL of a new bucket, with the environment that leads there."""
    for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"b{time.time_ns()}"
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


def objects(row_store: RowStore) -> list[str]:
    """The files of the set, by name."""
    return [path.rpartition("/")[2] for path in row_store.storage.files(CELLS.name)]


def test_the_first_value_of_each_key_comes_back_from_a_bucket(bucket):
    row_store = RowStore(f"{bucket}/a/store")
    assert row_store.missing(CELLS, keys("ab")).to_list() == ["a", "b"]
    row_store.append(CELLS, rows([("a", "1"), ("b", "2")]))
    row_store.append(CELLS, rows([("b", "other"), ("c", "ü")]))
    assert row_store.missing(CELLS, keys("dcba")).to_list() == ["d"]
    assert texts(row_store, "dcba") == {"a": "1", "b": "2", "c": "ü"}


def test_a_shard_is_one_upload_and_leaves_nothing_beside_it(bucket):
    row_store = RowStore(bucket)
    row_store.append(CELLS, rows([("a", "1")]))
    shard, identity = objects(row_store)
    assert shard.endswith(".parquet")
    assert identity == "identity.json"
    versions = row_store.storage.fs.call_s3("list_multipart_uploads", Bucket=bucket.removeprefix("s3://"))
    assert not versions.get("Uploads")


WRITER = """
import sys
from tests.test_store import *
RowStore(sys.argv[1]).append(CELLS, rows([(sys.argv[2], sys.argv[2])]))
"""


def test_what_another_machine_has_uploaded_is_seen_at_once(bucket):
    one = RowStore(bucket)
    two = pickle.loads(pickle.dumps(one))
    one.append(CELLS, rows([("a", "a")]))
    assert one.missing(CELLS, keys("abc")).to_list() == ["b", "c"]
    two.append(CELLS, rows([("b", "b")]))
    assert one.missing(CELLS, keys("abc")).to_list() == ["c"]
    writer = run(WRITER, bucket, "c")
    assert writer.wait() == 0
    writer.stdout.close()
    assert texts(one, "abc") == {"a": "a", "b": "b", "c": "c"}


@pytest.mark.slow
def test_several_processes_write_into_one_bucket(bucket):
    writers = [run(WRITER, bucket, name) for name in "abcd"]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    assert texts(RowStore(bucket), "abcd") == {name: name for name in "abcd"}


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda content: content[:99], lambda content: content[:-9] + b"\1" + content[-8:]],
)
def test_a_damaged_object_is_set_aside_and_its_rows_are_missing(bucket, caplog, damage):
    row_store = RowStore(bucket)
    row_store.append(CELLS, rows([("a", "1")]))
    row_store.append(CELLS, rows([("b", "2")]))
    path, other, _ = row_store.storage.files(CELLS.name)
    full = row_store.storage.full(path)
    row_store.storage.fs.pipe_file(full, damage(row_store.storage.fs.cat_file(full)))
    with caplog.at_level(logging.WARNING):
        assert texts(row_store, "ab") == {"b": "2"}
    assert full in caplog.text
    assert row_store.missing(CELLS, keys("ab")).to_list() == ["a"]
    assert objects(row_store)[:2] == [
        path.rpartition("/")[2].replace("parquet", "damaged"),
        other.rpartition("/")[2],
    ]


def test_a_large_shard_is_uploaded_and_looked_up_by_its_end(bucket, monkeypatch):
    row_store, names = RowStore(bucket), [os.urandom(16).hex() for _ in range(1000)]
    row_store.append(CELLS, rows((name, os.urandom(500).hex()) for name in names))
    starts = []
    read = row_store.storage.read
    monkeypatch.setattr(
        row_store.storage, "read", lambda path, start=0: starts.append(start) or read(path, start)
    )
    assert row_store.missing(CELLS, keys([*names, "new"])).to_list() == ["new"]
    (size,) = (size for path, size in row_store.storage.files(CELLS.name).items() if path.endswith("t"))
    assert starts == [size - shards.TAIL_BYTES]


def test_upkeep_counts_and_removes_objects(bucket):
    row_store = RowStore(bucket)
    row_store.append(CELLS, rows([("a", "1"), ("b", "2")]))
    (told,) = stats(row_store)
    assert (told.name, told.shards, told.rows) == (CELLS.name, 1, 2)
    assert told.identity == {"kind": "sample", "weights": "w1"}
    keep(row_store, {CELLS.name: keys("b")}, older_than_seconds=0, dry_run=False)
    assert texts(row_store, "ab") == {"b": "2"}
    assert len(objects(row_store)) == 2
    keep(row_store, {}, older_than_seconds=0, dry_run=False)
    assert stats(row_store) == []
    assert row_store.storage.fs.find(bucket) == []


def test_a_bucket_that_is_not_there_is_told_before_anything_is_computed(bucket):
    row_store = RowStore("s3://no-such-bucket-of-ours/store")
    assert row_store.missing(CELLS, keys("a")).to_list() == ["a"]
    with pytest.raises(UserError, match=r"s3://no-such-bucket-of-ours/store.*write.*bucket does not exist"):
        row_store.describe(CELLS)


def test_a_server_that_does_not_answer_is_one_line_and_no_damage(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError) as told:
        RowStore(f"{bucket}/other").missing(CELLS, keys("a"))
    assert "127.0.0.1:9" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_user_who_may_not_read_is_told_so(bucket, monkeypatch):
    row_store = RowStore(bucket)
    row_store.append(CELLS, rows([("a", "1")]))

    def refused(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(row_store.storage.fs, "cat_file", refused)
    with pytest.raises(UserError, match="Access Denied"):
        row_store.values(CELLS, keys("a"))
    assert objects(row_store)[0].endswith(".parquet")


OTHER_NAME = """
import sys
from tests.test_store import *
print(RowStore(sys.argv[1]).missing(CELLS, keys("ab")).to_list())
"""


def test_the_endpoint_may_be_told_to_fsspec_alone(bucket, endpoint, monkeypatch):
    RowStore(bucket).append(CELLS, rows([("a", "1")]))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", endpoint)
    reader = run(OTHER_NAME, bucket)
    assert reader.stdout.read() == "['b']\n"
    reader.stdout.close()
    assert reader.wait() == 0
