"""How a job is cut for several workers: the asks of a group stay together, and each is in one chunk.

Chunks are large at first, so that an engine gets long queues, and small at last, so that workers end at
about the same time.
"""

import math
from collections.abc import Hashable, Sequence

from pipeline.filling import Job
from pipeline.store import RowStore

SHARE = 2
"""A chunk takes one part in this many of what an even share of the remaining asks would be."""
SMALLEST = 8
"""The last chunks are not smaller than the whole job by so many times the number of workers."""


def chunks(groups: Sequence[Hashable | None], workers: int) -> list[list[int]]:
    """The indices of `groups` in chunks for so many workers, in order of the first appearance of groups.

    groups: the group of each ask; an ask whose group is None stands alone. A chunk ends before the group
    that would overfill it, but has at least one.
    """
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(("alone", i) if group is None else ("group", group), []).append(i)
    left, floor = len(groups), math.ceil(len(groups) / (SMALLEST * workers))
    found: list[list[int]] = []
    room = 0
    for group in members.values():
        if not found or len(found[-1]) + len(group) > room:
            room = max(math.ceil(left / (SHARE * workers)), floor)
            found.append([])
        found[-1] += group
        left -= len(group)
    return found


def split(job: Job, workers: int) -> list[Job]:
    """A job as smaller ones for so many workers; together they have each ask of it once."""
    return [job.part(chunk) for chunk in chunks([job.work.group(ask) for ask in job.asks], workers)]


def unanswered(store: RowStore, job: Job) -> Job | None:
    """What of a job the store does not have, such as the rest of a worker that died; None: nothing."""
    missing = set(store.missing(job.cells, job.column()))
    left = [i for i, key in enumerate(job.keys) if key in missing]
    return job.part(left) if left else None
