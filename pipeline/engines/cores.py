"""Independent passes of a model beside each other, one core for each.

On a CPU the threads of one operation wait for each other at its end, a thousand times in a pass. Threads that
each read a batch of their own wait for nobody, and what a batch needs stays in the cache of its core.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

WORTH = 2
"""Calls for each core from which on it pays: with fewer, cores are idle while the last ones are answered."""

CHANGING_ROPE = ("dynamic", "longrope")

Answer = TypeVar("Answer")


def independent(network: Any) -> bool:
    """Whether passes of this model gain by running at once, and may: on a CPU, where none changes the model.

    Rotary embeddings of some kinds are replaced within a pass, by the length of what it reads.
    """
    rope = getattr(network.config, "rope_parameters", None) or {}
    return network.device.type == "cpu" and rope.get("rope_type") not in CHANGING_ROPE


def beside_each_other(calls: Sequence[Callable[[], Answer]], *, at_once: bool) -> Iterator[Answer]:
    """The answers in the order of `calls`, which must not depend on each other.

    If not `at_once`, for one thread and for few calls they are called one by one, each with all threads.
    """
    import torch

    threads = torch.get_num_threads()
    if not at_once or threads == 1 or len(calls) < WORTH * threads:
        for call in calls:
            yield call()
        return
    # The number of threads holds for the thread that sets it and for those that begin later.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield from pool.map(lambda call: call(), calls)
        finally:
            pool.shutdown()
            torch.set_num_threads(threads)
