"""Chunks: each ask is in one, samples of a prompt are together, and sizes suit the workers."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunks import chunks, split, unanswered
from pipeline.filling import compute_into, open_store
from tests.toy_work import Squares

GROUPS = st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=60)


@given(groups=GROUPS, workers=st.integers(1, 9))
def test_chunks_are_a_partition_and_none_is_empty(groups, workers):
    found = chunks(groups, workers)
    assert sorted(i for chunk in found for i in chunk) == list(range(len(groups)))
    assert all(found)


@given(groups=GROUPS, workers=st.integers(1, 9))
def test_a_group_is_in_one_chunk_and_side_by_side(groups, workers):
    found = chunks(groups, workers)
    for group in set(groups) - {None}:
        (chunk,) = [chunk for chunk in found if any(groups[i] == group for i in chunk)]
        places = [place for place, i in enumerate(chunk) if groups[i] == group]
        assert places == list(range(places[0], places[0] + len(places)))


@given(rows=st.integers(1, 3000), workers=st.integers(1, 9))
def test_sizes_fall_and_the_last_ones_are_small(rows, workers):
    sizes = [len(chunk) for chunk in chunks([None] * rows, workers)]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert sizes[0] <= -(-rows // (2 * workers))
    assert sizes[-1] <= -(-rows // (8 * workers))
    assert len(sizes) <= 8 * workers


def test_large_jobs_are_a_few_large_chunks_for_each_worker():
    sizes = [len(chunk) for chunk in chunks([i // 8 for i in range(480_000)], 8)]
    assert sizes[0] == 30_000
    assert len(sizes) < 8 * 5


def test_a_group_larger_than_a_chunk_stays_whole():
    assert chunks([0] * 50 + [1, 1], 4) == [list(range(50)), [50, 51]]


def test_a_job_is_split_with_its_keys(tmp_path):
    work = Squares(tmp_path)
    numbers = [5, 9, 4, 8, 6]
    parts = split(work.job(numbers), 1)
    assert [list(part.asks) for part in parts] == [[5, 4, 6], [9, 8]]
    assert all(list(part.keys) == work.keys(part.asks) for part in parts)


def test_what_is_left_of_a_job_is_what_the_store_does_not_have(own_state, tmp_path):
    work, store = Squares(tmp_path / "notes"), open_store()
    job = work.job([1, 2, 3, 4])
    compute_into(store, job.part([3, 1]))
    rest = unanswered(store, job)
    assert rest is not None
    assert (rest.asks, rest.keys) == ([1, 3], work.keys([1, 3]))
    compute_into(store, rest)
    assert unanswered(store, job) is None
