"""Whether a source's raw rows are all of a published set: only then the paper's figures stand beside ours."""

import pytest

from pipeline import read_sets
from pipeline.errors import UserError
from pipeline.read_sets import ReadSet, read_set
from pipeline.source_params import RawFile, Source
from pipeline.upstream import Upstream
from tests.stages.mix_folders import PAPER

OWLS = Upstream(
    name="birds/owls",
    licence="MIT",
    redistributable=True,
    files=("train.jsonl",),
    columns=("text",),
    rows=100,
    rows_from="its card",
    paper=PAPER,
)


def source(origin: str) -> Source:
    return Source(
        adapter="a",
        kind="preferences",
        origin=origin,
        files=(RawFile(path="train.jsonl", sha256=None),),
        licence="MIT",
        redistributable=True,
        rules={},
        max_bad_fraction=0.0,
    )


def test_all_rows_of_a_published_set_are_compared_with_the_paper():
    found = read_set(source("hub:birds/owls@abc"), [OWLS], 100)
    assert (found.name, found.whole, found.compared) == ("birds/owls", True, PAPER)


def test_a_part_of_a_set_is_not_compared_but_its_annotator_is_known():
    found = read_set(source("hub:birds/owls@abc"), [OWLS], 99)
    assert (found.whole, found.compared) == (False, None)
    assert found.paper == PAPER


def test_local_rows_are_no_published_set_even_if_as_many():
    assert read_set(source("path:data/owls"), [OWLS], 100) == ReadSet(rows=100)
    assert not ReadSet(rows=100).whole


def test_what_is_written_is_read_back(tmp_path):
    for found in (read_set(source("hub:birds/owls@abc"), [OWLS], 100), ReadSet(rows=3)):
        read_sets.write(tmp_path, found)
        assert read_sets.read(tmp_path) == found


def test_a_source_that_was_not_standardized_is_named(tmp_path):
    with pytest.raises(UserError, match="dvc repro standardize@owls"):
        read_sets.read(tmp_path / "owls")
