"""Ids name content; seeds follow from them."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ids import content_id, digest_folder, pair_id, prompt_id, seed_for

HI = [{"role": "user", "content": "Hi"}]


def test_an_id_is_the_same_in_every_process():
    assert content_id("a", 1, [2.5, None]) == "97b734cdfc441ef9"
    assert prompt_id(HI) == prompt_id([{"content": "Hi", "role": "user"}])


def test_role_content_and_boundaries_all_count():
    ids = {
        prompt_id(HI),
        prompt_id([{"role": "system", "content": "Hi"}]),
        prompt_id([{"role": "user", "content": "Hi "}]),
        prompt_id([{"role": "user", "content": "H"}, {"role": "user", "content": "i"}]),
        content_id("ab", "c"),
        content_id("a", "bc"),
    }
    assert len(ids) == 6


def test_a_pair_and_its_reverse_are_two_pairs():
    good, bad = ([{"role": "assistant", "content": text}] for text in ("yes", "no"))
    assert pair_id(HI, good, bad) != pair_id(HI, bad, good)


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
