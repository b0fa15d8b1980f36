"""Blocks of demonstrations: every document is in a block or in the ledger, and only answers are trained."""

import polars as pl
import pytest

from pipeline.chat import Chat
from pipeline.ids import content_id
from pipeline.ledger import Ledger
from pipeline.schemas import BLOCKS, SFT_MIX
from pipeline.stages.pack import PackParams, packed
from pipeline.tables import check
from tests.stages.preference_rows import assistant, user

TEXTS = {"short": "yes", "middle": "because it is so, " * 5, "long": "and so on and so on " * 40}


def demonstrations() -> pl.DataFrame:
    rows = [
        {
            "source": "s",
            "file": "f",
            "row": i,
            "item": 0,
            "id": content_id(name),
            "messages": user(f"{name}?") + assistant(text),
        }
        for i, (name, text) in enumerate(TEXTS.items())
    ]
    return pl.DataFrame(rows, schema=SFT_MIX.schema)


@pytest.fixture
def chat(tiny_model) -> Chat:
    return Chat.load(tiny_model)


def blocks_and_counts(chat: Chat, folder, overflow: str, block: int = 128):
    rows, ledger = demonstrations(), Ledger("pack", "demonstrations")
    blocks = packed(rows, chat, PackParams(block=block, overflow=overflow), ledger)
    check(BLOCKS, blocks)
    assert blocks["input_ids"].list.len().max() <= block
    lost = sum(frame.height for frame in ledger.drops)
    return blocks, ledger.close(rows.height, rows.height - lost, folder)


def documents(blocks: pl.DataFrame) -> int:
    return int(blocks["seq_lengths"].list.len().sum())


def test_a_document_over_the_block_is_dropped_by_name(chat, tmp_path):
    blocks, counts = blocks_and_counts(chat, tmp_path, "drop")
    assert counts["dropped"] == {"too_long": 1}
    assert documents(blocks) == 2


def test_truncation_keeps_the_beginning_of_every_document(chat, tmp_path):
    blocks, counts = blocks_and_counts(chat, tmp_path, "truncate")
    assert counts["dropped"] == {}
    assert documents(blocks) == 3
    opening = chat.conversation(demonstrations()["messages"][2].to_list())[0][:128]
    assert opening in blocks["input_ids"].to_list()


def test_splitting_keeps_every_token(chat, tmp_path):
    blocks, counts = blocks_and_counts(chat, tmp_path, "split")
    lengths = [len(chat.conversation(messages)[0]) for messages in demonstrations()["messages"]]
    assert counts["dropped"] == {}
    assert blocks["input_ids"].list.len().sum() == sum(lengths)


def test_only_what_an_assistant_wrote_is_trained(chat, tmp_path):
    blocks, _ = blocks_and_counts(chat, tmp_path, "drop")
    ids, labels = (blocks[name].explode() for name in ("input_ids", "labels"))
    trained = labels.filter(labels != -100)
    assert trained.equals(ids.filter(labels != -100).rename("labels"))
    assert sorted(chat.decode(trained.to_list())) == sorted(TEXTS["short"] + TEXTS["middle"])
