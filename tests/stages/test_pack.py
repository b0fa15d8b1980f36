"""Blocks of demonstrations: every document is in a block or in the ledger, and only answers are trained."""

import json

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipeline.chat import Chat
from pipeline.errors import UserError
from pipeline.ids import content_id, digest_folder
from pipeline.ledger import Ledger
from pipeline.packing import NO_LOSS, TOKENS, pack
from pipeline.schemas import BLOCKS, SFT_MIX
from pipeline.stages.pack import PackParams, packed
from pipeline.tables import read, write
from tests.stages.preference_rows import assistant, user

LONG = "and so on and so on " * 40
TEXTS = {"short": "yes", "middle": "because it is so, " * 5, "long": LONG}


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
    talk = user("talk?") + assistant("yes") + user("more?") + assistant(LONG)
    rows.append(rows[0] | {"row": len(rows), "id": content_id("talk"), "messages": talk})
    return pl.DataFrame(rows, schema=SFT_MIX.schema)


@pytest.fixture
def chat(tiny_model) -> Chat:
    return Chat.load(tiny_model)


def blocks_and_counts(chat: Chat, folder, overflow: str, block: int = 128, part: int = 100):
    rows, ledger = demonstrations().sort("id"), Ledger("pack", "demonstrations")
    params = PackParams(block=block, overflow=overflow)
    account = packed(rows.iter_slices(part), chat, params, folder, ledger)
    blocks = read(BLOCKS, folder / "blocks.parquet")
    assert blocks["input_ids"].list.len().max() <= block
    return blocks, ledger.close(account.documents.read, account.documents.kept, folder)


def told(folder) -> dict:
    return json.loads((folder / "packing.json").read_text())


def documents(blocks: pl.DataFrame) -> int:
    return int(blocks["seq_lengths"].list.len().sum())


def test_a_document_over_the_block_is_dropped_by_name(chat, tmp_path):
    blocks, counts = blocks_and_counts(chat, tmp_path, "drop")
    assert counts["dropped"] == {"too_long": 2}
    assert documents(blocks) == 2


def test_a_conversation_is_cut_behind_its_last_whole_answer(chat, tmp_path):
    blocks, counts = blocks_and_counts(chat, tmp_path, "truncate", block=160)
    assert counts["dropped"] == {"answer_too_long": 1}
    talk = demonstrations().row(by_predicate=pl.col("id") == content_id("talk"), named=True)["messages"]
    kept = chat.conversation(talk[:2])[0]
    assert kept in [ids[: len(kept)] for ids in blocks["input_ids"].to_list()]
    account = told(tmp_path)
    cut = len(chat.conversation(talk)[0]) - len(kept)
    assert (account["documents"]["cut"], account["tokens"]["cut"]) == (1, cut)


def test_an_answer_may_be_cut_where_the_recipe_says_so(chat, tmp_path):
    blocks, counts = blocks_and_counts(chat, tmp_path, "truncate_answer")
    assert counts["dropped"] == {}
    assert documents(blocks) == 4
    opening = chat.conversation(demonstrations()["messages"][2].to_list())[0][:128]
    assert opening in blocks["input_ids"].to_list()
    assert told(tmp_path)["documents"]["cut"] == 2


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


@pytest.mark.parametrize("overflow", ["drop", "split", "truncate", "truncate_answer"])
def test_blocks_are_those_of_packing_all_documents_at_once(chat, tmp_path, overflow):
    rows = []
    for identity, messages in demonstrations().select("id", "messages").rows():
        ids, mask = chat.conversation(messages)
        rows.append((identity, ids, [i if own else NO_LOSS for i, own in zip(ids, mask, strict=True)]))
    schema = {"id": pl.String, "input_ids": TOKENS, "labels": TOKENS}
    expected, _ = pack(pl.DataFrame(rows, schema, orient="row"), 128, overflow)
    blocks, _ = blocks_and_counts(chat, tmp_path, overflow)
    assert blocks.drop("block").equals(expected)


def test_neither_parts_nor_chunks_change_a_byte(chat, tmp_path, monkeypatch):
    blocks_and_counts(chat, tmp_path / "a", "split")
    monkeypatch.setattr("pipeline.stages.pack.CHUNK_TOKENS", 1)
    blocks_and_counts(chat, tmp_path / "b", "split", part=1)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        *("blocks.parquet", "packing.json", "ledger.parquet", "counts.json")
    }
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b")


@pytest.mark.parametrize("overflow", ["drop", "split", "truncate", "truncate_answer"])
def test_every_token_of_a_demonstration_is_in_the_account(chat, tmp_path, overflow):
    blocks, counts = blocks_and_counts(chat, tmp_path, overflow)
    account = told(tmp_path)
    tokens = account["tokens"]
    read = sum(len(chat.conversation(messages)[0]) for messages in demonstrations()["messages"])
    assert tokens["read"] == read == tokens["kept"] + tokens["cut"] + tokens["dropped"]
    assert tokens["kept"] == blocks["input_ids"].list.len().sum()
    assert account["documents"]["kept"] == counts["kept"]
    assert account["documents"]["dropped"] == sum(counts["dropped"].values())
    assert account["pieces"] == documents(blocks)
    assert account["blocks"] == blocks.height
    assert account["fill"] == round(tokens["kept"] / (128 * blocks.height), 6)


def test_row_groups_of_blocks_are_small_enough_to_hold_two(tmp_path):
    """A block of 8192 tokens takes 64 KiB: a row group of the usual 8192 rows would take half a GiB."""
    row = {"input_ids": [1], "labels": [1], "seq_lengths": [1]}
    blocks = pl.DataFrame([{"block": i} | row for i in range(300)], schema=BLOCKS.schema)
    write(BLOCKS, blocks, tmp_path / "blocks.parquet")
    file = pq.ParquetFile(tmp_path / "blocks.parquet").metadata
    assert [file.row_group(i).num_rows for i in range(file.num_row_groups)] == [256, 44]
    assert read(BLOCKS, tmp_path / "blocks.parquet").equals(blocks)


def test_no_block_at_all_is_a_mistake_of_the_user(chat, tmp_path):
    with pytest.raises(
        UserError, match=r"at least one block, found none: 4 demonstrations.*raise pack.block"
    ):
        blocks_and_counts(chat, tmp_path, "drop", block=32)
