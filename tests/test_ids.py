"""Ids name content; seeds follow from them."""

import hashlib

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.id_columns import conversation_ids, text_ids, with_preference_ids
from pipeline.ids import (
    answer_id,
    content_id,
    conversation_id,
    digest_folder,
    pair_id,
    prompt_id,
    seed_for,
    text_id,
)
from pipeline.schemas import MESSAGES

HI = [{"role": "user", "content": "Hi"}]
# whatever UTF-8 can hold: all but halves of surrogate pairs
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
TURN = st.fixed_dictionaries({"role": TEXT, "content": TEXT})
ANSWER = TEXT.map(lambda text: [{"role": "assistant", "content": text}])


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_an_id_is_the_same_in_every_process():
    assert content_id("a", 1, [2.5, None]) == "97b734cdfc441ef9"
    assert prompt_id(HI) == prompt_id([{"content": "Hi", "role": "user"}])
    assert prompt_id([*HI, {"role": "assistant", "content": "né"}]) == sha("user 2\nHi\nassistant 3\nné\n")


def test_role_content_and_boundaries_all_count():
    ids = {
        prompt_id(HI),
        prompt_id([{"role": "system", "content": "Hi"}]),
        prompt_id([{"role": "user", "content": "Hi "}]),
        prompt_id([{"role": "user", "content": "H"}, {"role": "user", "content": "i"}]),
        prompt_id([{"role": "user", "content": "H"}, {"role": "user", "content": "i\nuser 1\ni"}]),
        prompt_id([{"role": "user", "content": "Hi\nuser 2\nHi"}]),
        prompt_id([*HI, *HI]),
        prompt_id([]),
        content_id("ab", "c"),
        content_id("a", "bc"),
    }
    assert len(ids) == 10


def test_a_pair_and_its_reverse_are_two_pairs():
    good, bad = ([{"role": "assistant", "content": text}] for text in ("yes", "no"))
    assert pair_id(HI, good, bad) != pair_id(HI, bad, good)


def test_a_pair_is_named_by_its_parts():
    good, bad = ([{"role": "assistant", "content": text}] for text in ("yes", "no"))
    assert (text_id("yes"), answer_id(good)) == (sha("yes"), sha("yes"))
    assert pair_id(HI, good, bad) == sha(prompt_id(HI) + sha("yes") + sha("no"))


@given(st.lists(TEXT))
@settings(deadline=None)
def test_a_column_of_texts_has_the_ids_of_its_texts(texts):
    column = pl.DataFrame({"x": texts}, schema={"x": pl.String}).select(text_ids(pl.col("x")))
    assert column.to_series().to_list() == [text_id(text) for text in texts]


@given(st.lists(st.lists(TURN, max_size=4), max_size=4))
@settings(deadline=None)
def test_a_column_of_conversations_has_the_ids_of_its_conversations(conversations):
    frame = pl.DataFrame({"x": conversations}, schema={"x": MESSAGES})
    ids = frame.select(conversation_ids(pl.col("x"))).to_series().to_list()
    assert ids == [conversation_id(messages) for messages in conversations]


@given(st.lists(st.tuples(st.lists(TURN, max_size=3), ANSWER, ANSWER), max_size=4))
@settings(deadline=None)
def test_columns_of_pairs_have_the_ids_of_their_pairs(pairs):
    schema = dict.fromkeys(("prompt", "chosen", "rejected"), MESSAGES)
    frame = with_preference_ids(pl.DataFrame(pairs, schema=schema, orient="row"))
    ids = frame.select("prompt_id", "chosen_id", "rejected_id", "pair_id").rows()
    assert ids == [(prompt_id(p), answer_id(c), answer_id(r), pair_id(p, c, r)) for p, c, r in pairs]


@given(st.text())
def test_any_text_has_an_id_and_a_seed_in_range(text):
    assert len(content_id(text)) == 16
    assert 0 <= seed_for(text) < 2**31


def test_a_folder_digest_follows_names_and_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    first = digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = digest_folder(tmp_path)
    (tmp_path / "b").write_bytes(b"2")
    assert len({first, renamed, digest_folder(tmp_path)}) == 3
