"""The account of packing: documents and tokens add up, and the labels are those that training predicts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.packing_account import PackingAccount
from pipeline.pieces import cut
from tests.test_pieces import OVERFLOWS, conversations, labels_of


@settings(deadline=None)
@given(documents=conversations, block=st.integers(2, 40), overflow=st.sampled_from(OVERFLOWS))
def test_the_account_adds_up_over_parts_and_counts_predicted_labels(documents, block, overflow):
    account = PackingAccount(block, overflow)
    trained = 0
    for part in (documents[:3], documents[3:]):
        labels, starts = labels_of(part)
        pieces = cut(labels, starts, block, overflow)
        account.add(labels, starts, pieces)
        for first, length in zip(pieces.first.tolist(), pieces.length.tolist(), strict=True):
            trained += int((labels[first + 1 : first + length] >= 0).sum())
    figures = account.figures()
    assert account.documents.read == len(documents)
    assert account.tokens.read == sum(sum(turn) for turns in documents for turn in turns)
    assert account.tokens.trained == trained
    assert figures["fill"] is None


@pytest.mark.parametrize(
    ("overflow", "documents", "tokens", "pieces"),
    [
        ("drop", (2, 1, 1, 0, 0), (20, 5, 15, 0, 3), 1),
        ("split", (2, 2, 0, 0, 1), (20, 20, 0, 0, 12), 3),
        ("truncate", (2, 2, 0, 1, 0), (20, 10, 0, 10, 6), 2),
        ("truncate_answer", (2, 2, 0, 1, 0), (20, 14, 0, 6, 7), 2),
    ],
)
def test_what_is_cut_split_or_dropped_is_counted(overflow, documents, tokens, pieces):
    labels, starts = labels_of([[(2, 3), (3, 7)], [(2, 3)]])
    account = PackingAccount(9, overflow)
    account.add(labels, starts, cut(labels, starts, 9, overflow))
    account.blocks = 3
    told = account.figures()
    assert tuple(told["documents"].values()) == documents
    assert tuple(told["tokens"].values()) == tokens
    assert told["pieces"] == pieces
    assert told["fill"] == pytest.approx(tokens[1] / 27, abs=1e-6)


def test_lost_tokens_are_noticed():
    account = PackingAccount(9, "drop")
    account.add(*(given := labels_of([[(2, 3)]])), cut(*given, 9, "drop"))
    account.tokens.kept -= 1
    with pytest.raises(AssertionError, match="tokens do not add up"):
        account.figures()
    assert np.array_equal(given[1], [0, 5])
