"""Calls beside each other: the answers in order, one core for each, and nothing of it left behind."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.engines.cores import WORTH, beside_each_other, independent


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
    assert list(beside_each_other(calls, at_once=True)) == list(range(9))


def test_each_call_has_one_thread_and_none_is_the_caller_s() -> None:
    found = list(beside_each_other([partial(seen, number) for number in range(3 * WORTH)], at_once=True))
    assert [number for number, _, _ in found] == list(range(3 * WORTH))
    assert threading.current_thread().name not in {name for _, name, _ in found}
    assert {threads for _, _, threads in found} == {1}


@pytest.mark.parametrize(
    ("count", "at_once"), [(3 * WORTH - 1, True), (3 * WORTH, False), (1, True), (0, True)]
)
def test_few_calls_and_those_not_to_be_made_at_once_run_where_they_are_asked_for(
    count: int, at_once: bool
) -> None:
    found = list(beside_each_other([partial(seen, i) for i in range(count)], at_once=at_once))
    assert found == [(i, threading.current_thread().name, 3) for i in range(count)]


def test_one_thread_reads_alone() -> None:
    torch.set_num_threads(1)
    found = list(beside_each_other([partial(seen, i) for i in range(9)], at_once=True))
    assert found == [(i, threading.current_thread().name, 1) for i in range(9)]


def test_threads_are_as_before_when_all_is_answered() -> None:
    list(beside_each_other([partial(seen, i) for i in range(9)], at_once=True))
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
    answers = beside_each_other([partial(failing, i) for i in range(50)], at_once=True)
    threading.Timer(3.0, stopped.set).start()
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

    answers = beside_each_other([partial(one, i) for i in range(50)], at_once=True)
    assert next(answers) == 0
    threading.Timer(3.0, go.set).start()
    answers.close()
    assert len(begun) < 50


SIZES = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 4, "max_position_embeddings": 64}
LONG = {
    **{"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16},
    **{"short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
}


@pytest.mark.parametrize(("rope", "expected"), [(None, True), (LONG, False)], ids=["plain", "longrope"])
def test_a_model_that_a_pass_changes_reads_one_batch_at_a_time(rope: dict | None, expected: bool) -> None:
    """Such as of the Phi-3 family, whose embeddings are others beyond a length."""
    changes = {"rope_parameters": rope} if rope else {}
    assert independent(LlamaForCausalLM(LlamaConfig(**SIZES, **changes))) == expected
