"""Calls beside each other: the answers in order, one core for each, and nothing of it left behind."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from pipeline.engines.cores import WORTH, beside_each_other

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def seen(number: int) -> tuple[int, str, int]:
    return number, threading.current_thread().name, torch.get_num_threads()


def test_answers_come_in_the_order_of_calls_also_where_later_ones_end_first() -> None:
    later = threading.Event()

    def first() -> int:
        assert later.wait(30), "no call ran beside the first"
        return 0

    def others(number: int) -> int:
        later.set()
        return number

    calls = [first, *[partial(others, number) for number in range(1, 9)]]
    assert list(beside_each_other(calls, CPU)) == list(range(9))


def test_each_call_has_one_thread_and_none_is_the_caller_s() -> None:
    found = list(beside_each_other([partial(seen, number) for number in range(3 * WORTH)], CPU))
    assert [number for number, _, _ in found] == list(range(3 * WORTH))
    assert threading.current_thread().name not in {name for _, name, _ in found}
    assert {threads for _, _, threads in found} == {1}


@pytest.mark.parametrize(
    ("count", "device"), [(3 * WORTH - 1, "cpu"), (3 * WORTH, "cuda"), (1, "cpu"), (0, "cpu")]
)
def test_few_calls_and_those_of_a_gpu_run_where_they_are_asked_for(count: int, device: str) -> None:
    found = list(beside_each_other([partial(seen, i) for i in range(count)], torch.device(device)))
    assert found == [(i, threading.current_thread().name, 3) for i in range(count)]


def test_one_thread_reads_alone() -> None:
    torch.set_num_threads(1)
    found = list(beside_each_other([partial(seen, i) for i in range(9)], CPU))
    assert found == [(i, threading.current_thread().name, 1) for i in range(9)]


def test_threads_are_as_before_when_all_is_answered() -> None:
    list(beside_each_other([partial(seen, i) for i in range(9)], CPU))
    assert torch.get_num_threads() == 3
    later: list[int] = []
    # One that begins now takes the number that was set last, by whichever thread.
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


def test_an_error_of_one_call_reaches_the_caller_and_the_rest_is_not_begun() -> None:
    begun: list[int] = []

    def failing(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise ValueError("number 0")
        assert stopped.wait(30)
        return number

    stopped = threading.Event()
    answers = beside_each_other([partial(failing, i) for i in range(50)], CPU)
    threading.Timer(0.5, stopped.set).start()
    with pytest.raises(ValueError, match="number 0"):
        next(answers)
    assert len(begun) < 50
    assert torch.get_num_threads() == 3


def test_whoever_wants_no_more_answers_stops_the_rest() -> None:
    begun: list[int] = []
    go = threading.Event()

    def one(number: int) -> int:
        begun.append(number)
        assert number == 0 or go.wait(30)
        return number

    answers = beside_each_other([partial(one, i) for i in range(50)], CPU)
    assert next(answers) == 0
    threading.Timer(0.5, go.set).start()
    answers.close()
    assert len(begun) < 50
