"""Spilled tokens come back as they were, in any order, and leave no file behind."""

from itertools import chain

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pieces import offsets
from pipeline.token_spill import TokenSpill

pieces = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9), min_size=1, max_size=20)


@settings(deadline=None, max_examples=50)
@given(given=pieces, data=st.data())
def test_pieces_are_read_back_in_any_order(tmp_path_factory, given, data):
    order = np.array(data.draw(st.lists(st.integers(0, len(given) - 1), min_size=1, max_size=30)))
    with TokenSpill(tmp_path_factory.getbasetemp() / "spill") as spill:
        for part in (given[: len(given) // 2], given[len(given) // 2 :]):
            sizes = np.array([len(piece) for piece in part], np.int64)
            spill.add(np.array(list(chain.from_iterable(part)), np.int32), sizes)
        lengths = spill.lengths()
        read = spill.read(offsets(lengths)[order], lengths[order])
    assert lengths.tolist() == [len(piece) for piece in given]
    assert read.tolist() == [token for place in order.tolist() for token in given[place]]


def test_the_file_has_no_name(tmp_path):
    with TokenSpill(tmp_path / "out") as spill:
        spill.add(np.arange(5, dtype=np.int32), np.array([5]))
        assert spill.lengths().tolist() == [5]
        assert list((tmp_path / "out").iterdir()) == []
