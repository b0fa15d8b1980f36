"""Token counts are those of the renderer's plain text, whatever the batches, the threads and repetitions."""

import os
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import tokenizing
from pipeline.chat import Chat
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.token_lengths import lengths_by
from pipeline.tokenizing import plain_tokenizer


def token_lengths(texts, folder):
    return lengths_by(plain_tokenizer(folder), texts)


@pytest.fixture(scope="module", params=("smollm2", "llama3"))
def folder(request, tmp_path_factory):
    model = tmp_path_factory.mktemp("model") / request.param
    tiny_random(model, request.param)
    return model


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.none() | st.text(max_size=80), max_size=12))
@example(texts=["", None, "a<|im_end|>b", "<|begin_of_text|>", "a<|im_end|>b", " 12\n"])
def test_a_count_is_that_of_the_renderers_plain_text(folder, texts):
    chat = Chat.load(folder)
    counts = token_lengths(pl.Series("given", texts, pl.String), folder)
    expected = [None if text is None else len(chat.encode_plain(text)) for text in texts]
    assert counts.to_list() == expected
    assert (counts.name, counts.dtype) == ("given", pl.Int64)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_neither_batches_nor_threads_change_a_count(folder, monkeypatch, threads):
    texts = pl.Series("text", ["word " * (i % 40) for i in range(100)])
    whole = token_lengths(texts, folder)
    monkeypatch.setattr(tokenizing, "BATCH_CHARACTERS", 50)
    monkeypatch.setenv("PAIRMILL_THREADS", threads)
    execution.cache_clear()
    assert token_lengths(texts, folder).equals(whole)
    execution.cache_clear()


@given(lengths=st.lists(st.integers(0, 30), max_size=20), limit=st.integers(1, 40))
def test_batches_cover_every_text_once_within_the_limit(lengths, limit):
    parts = [lengths[part] for part in tokenizing.batches(lengths, limit)]
    assert [length for part in parts for length in part] == lengths
    assert all(len(part) == 1 or sum(part) <= limit for part in parts)
    assert all(parts)


def test_the_environment_is_as_before(folder, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    token_lengths(pl.Series(["a"]), folder)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    monkeypatch.setenv("PAIRMILL_THREADS", "2")
    execution.cache_clear()
    before = dict(os.environ)
    token_lengths(pl.Series(["a"]), folder)
    execution.cache_clear()
    assert dict(os.environ) == before


def test_a_folder_without_a_readable_tokenizer_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="found none"):
        token_lengths(pl.Series(["a"]), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="expected a tokenizer of the tokenizers library"):
        token_lengths(pl.Series(["a"]), tmp_path)


def test_counting_imports_neither_torch_nor_transformers(folder):
    program = (
        "import sys; from pathlib import Path; import polars as pl; "
        "from pipeline.token_lengths import lengths_by; "
        "from pipeline.tokenizing import plain_tokenizer; "
        f"lengths_by(plain_tokenizer(Path({str(folder)!r})), pl.Series(['x'])); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
