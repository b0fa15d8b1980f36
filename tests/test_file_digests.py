"""Digests of large files: read once, and never believed of a file that has changed."""

import json
import os

import pytest

from pipeline import file_digests
from pipeline.file_digests import file_digest
from pipeline.ids import digest_file

OLD = 1_600_000_000


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of the files that were read."""
    names: list[str] = []

    def listening(path):
        names.append(path.name)
        return digest_file(path)

    monkeypatch.setattr(file_digests, "digest_file", listening)
    return names


@pytest.fixture
def weights(own_state, tmp_path):
    return written(tmp_path / "weights", b"12345678")


def written(path, content: bytes, when: int = OLD):
    path.write_bytes(content)
    os.utime(path, (when, when))
    return path


def test_a_large_file_is_read_once(weights, reads):
    assert file_digest(weights, 4) == file_digest(weights, 4) == digest_file(weights)
    assert reads == ["weights"]


def test_a_small_file_is_read_each_time_and_not_remembered(weights, reads, own_state):
    assert file_digest(weights, 9) == file_digest(weights, 9) == digest_file(weights)
    assert reads == ["weights"] * 2
    assert not (own_state / "digests.json").exists()


def test_each_file_has_its_own(weights, tmp_path, reads):
    other = written(tmp_path / "other", b"87654321")
    for _ in range(2):
        assert file_digest(weights, 4) == digest_file(weights)
        assert file_digest(other, 4) == digest_file(other)
    assert reads == ["weights", "other"]


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_file_that_has_changed_is_read_again(weights, tmp_path, reads, change):
    file_digest(weights, 4)
    if change == "size":
        written(weights, b"123456789")
    elif change == "time":
        written(weights, b"abcdefgh", OLD + 1)
    else:
        written(tmp_path / "new", b"abcdefgh").replace(weights)
    assert file_digest(weights, 4) == digest_file(weights)
    assert reads == ["weights"] * 2


def test_a_file_that_was_just_written_is_not_remembered(weights, reads):
    weights.touch()
    file_digest(weights, 4)
    file_digest(weights, 4)
    assert reads == ["weights"] * 2


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"PATH": 3}', '{"PATH": [8, 1, 2, null]}', "\x00"])
def test_a_damaged_memory_is_ignored_and_made_anew(weights, reads, own_state, content):
    own_state.mkdir()
    memory = own_state / "digests.json"
    memory.write_text(content.replace("PATH", str(weights)))
    assert file_digest(weights, 4) == file_digest(weights, 4) == digest_file(weights)
    assert reads == ["weights"]
    assert json.loads(memory.read_text())[str(weights)][-1] == digest_file(weights)
    assert [path.name for path in own_state.iterdir()] == ["digests.json"]
