"""Damaged raw files: standardize accounts for every item or stops with one line, never anything else.

The changes are seeded, so a failure repeats; `python -m tests.fuzz --seed 2` tries others.
"""

import pytest

from pipeline import sources
from tests.fuzz import fuzz

FILES = 200

pytestmark = pytest.mark.slow  # two to three seconds an adapter


@pytest.mark.parametrize("adapter", sources.names())
def test_no_damaged_file_loses_an_item_or_raises(adapter, tmp_path):
    tally = fuzz(adapter, FILES, seed=1, folder=tmp_path)
    assert tally.failures == []
    assert tally.files == FILES
    # the damage must be neither so small that nothing stops, nor so great that nothing is read
    assert tally.whole > FILES / 5
    assert len(tally.stopped) > 3
