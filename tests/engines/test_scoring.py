"""Scores: a function of the row alone, read at its true last token, refused where they mean nothing."""

import ctypes
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from itertools import chain, combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.engines.inference import PASS, load_classifier, token_batches
from pipeline.engines.scoring import label_probabilities, log_probs, reward_scorer
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError

torch.set_num_threads(1)
EXECUTION: dict[str, Any] = {"dtype": "float32", "batch_tokens": 200, "threads": 1}
LABELS = (40, 41)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    tiny_random(folder)
    return folder


@pytest.fixture(scope="module")
def reward(causal, tmp_path_factory):
    """A reward model whose pad token is its end of turn, as in SmolLM2."""
    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(0)
    network = AutoModelForSequenceClassification.from_pretrained(causal, num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        network.score.weight.mul_(50)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sequences(causal):
    end = json.loads((causal / "config.json").read_text(encoding="utf-8"))["pad_token_id"]
    rng = np.random.default_rng(1)
    return [[*rng.integers(3, 500, rng.integers(1, 60)).tolist(), end] for _ in range(30)]


def in_order(pairs, count: int) -> list:
    found = dict(pairs)
    assert sorted(found) == list(range(count))
    return [found[i] for i in range(count)]


def alone_batched_and_shuffled(measure, rows: list):
    """The values of all rows scored one at a time, together, and in another order and batch size."""
    order = np.random.default_rng(2).permutation(len(rows)).tolist()
    alone = [measure([row], 200)[0] for row in rows]
    together = measure(rows, 10**6)
    shuffled = measure([rows[i] for i in order], 150)
    return alone, together, [shuffled[order.index(i)] for i in range(len(rows))]


def test_a_reward_is_the_same_alone_in_a_batch_and_shuffled(reward, sequences):
    def measure(rows, batch_tokens):
        scorer = reward_scorer(reward, dtype="float32", batch_tokens=batch_tokens, threads=1)
        return in_order(scorer(rows), len(rows))

    alone, together, shuffled = alone_batched_and_shuffled(measure, sequences)
    assert np.allclose(alone, together, rtol=0, atol=1e-4)
    assert np.allclose(alone, shuffled, rtol=0, atol=1e-4)
    assert np.std(alone) > 0.01


def test_a_reward_is_read_at_the_end_of_turn_even_if_that_is_the_pad_token(reward, sequences):
    network = AutoModelForSequenceClassification.from_pretrained(reward, dtype=torch.float32)
    with torch.inference_mode():
        expected = [
            network.score(network.model(torch.tensor([s])).last_hidden_state)[0, -1, 0] for s in sequences
        ]
        head = [network(torch.tensor([s])).logits.item() for s in sequences]
    found = in_order(reward_scorer(reward, **EXECUTION)(sequences), len(sequences))
    assert np.allclose(found, expected, rtol=0, atol=1e-4)
    assert not np.allclose(found, head, rtol=0, atol=1e-3), (
        "the trap is set: the plain head skips the end of turn"
    )


def test_another_kind_of_model_is_no_reward_model(causal, reward, tmp_path):
    with pytest.raises(UserError, match="SequenceClassification"):
        list(reward_scorer(causal, **EXECUTION)([[1, 2]]))
    with pytest.raises(UserError, match="CausalLM"):
        list(label_probabilities(reward, [[1, 2]], LABELS, **EXECUTION))
    two = AutoModelForSequenceClassification.from_pretrained(causal, num_labels=2, dtype=torch.float32)
    two.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="num_labels 1"):
        list(reward_scorer(tmp_path, **EXECUTION)([[1, 2]]))


def test_a_classifier_without_trained_head_is_refused(causal, reward, tmp_path):
    shutil.copytree(causal, tmp_path, dirs_exist_ok=True)
    shutil.copy(reward / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"score\.weight"):
        list(reward_scorer(tmp_path, **EXECUTION)([[1, 2]]))


def test_a_score_that_is_no_number_is_refused(reward, tmp_path):
    network = AutoModelForSequenceClassification.from_pretrained(reward, dtype=torch.float32)
    with torch.no_grad():
        network.score.weight[0, 0] = math.nan
    network.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="finite"):
        list(reward_scorer(tmp_path, **EXECUTION)([[1, 2]]))


def test_label_probabilities_are_the_softmax_of_two_logits_at_the_last_position(causal, sequences):
    network = AutoModelForCausalLM.from_pretrained(causal, dtype=torch.float32)
    with torch.inference_mode():
        logits = [network(torch.tensor([s])).logits[0, -1, list(LABELS)].double() for s in sequences]

    def measure(rows, batch_tokens):
        found = label_probabilities(
            causal, rows, LABELS, dtype="float32", batch_tokens=batch_tokens, threads=1
        )
        return in_order(found, len(rows))

    expected = [pair.softmax(-1)[0].item() for pair in logits]
    for values in alone_batched_and_shuffled(measure, sequences):
        assert np.allclose(values, expected, rtol=0, atol=1e-4)
    assert np.std(expected) > 1e-3


def test_huge_logits_give_probabilities_and_not_nan(causal, sequences, tmp_path):
    tiny_random(tmp_path, "llama3")
    network = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        network.lm_head.weight.mul_(1e5)
    network.save_pretrained(tmp_path)
    found = in_order(label_probabilities(tmp_path, sequences, LABELS, **EXECUTION), len(sequences))
    assert {round(p) for p in found} == {0, 1}
    assert all(0 <= p <= 1 for p in found)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_no_probability(causal, tmp_path, value):
    network = AutoModelForCausalLM.from_pretrained(causal, dtype=torch.float32)
    shutil.copytree(causal, tmp_path, dirs_exist_ok=True)
    with torch.no_grad():
        network.lm_head.weight = torch.nn.Parameter(network.lm_head.weight.clone())
        network.lm_head.weight[LABELS[0]] = value
        network.config.tie_word_embeddings = False
        # One input of the layer decides: the others must not turn an infinity into a number that is none.
        network.lm_head.weight[LABELS[0], 1:] = 0
    network.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected finite logits, found a difference of"):
        list(label_probabilities(tmp_path, [[1, 2]], LABELS, **EXECUTION))


def test_log_probabilities_are_those_of_the_response_alone(causal, sequences):
    network = AutoModelForCausalLM.from_pretrained(causal, dtype=torch.float32)
    rows = [(s[: 1 + len(s) // 3], s[1 + len(s) // 3 :]) for s in sequences]
    expected = []
    for prompt, response in rows:
        with torch.inference_mode():
            logs = network(torch.tensor([[*prompt, *response]])).logits[0].double().log_softmax(-1)
        expected.append(sum(logs[len(prompt) - 1 + k, t].item() for k, t in enumerate(response)))

    def measure(rows, batch_tokens):
        prompts, responses = zip(*rows, strict=True)
        found = log_probs(causal, prompts, responses, dtype="float32", batch_tokens=batch_tokens, threads=1)
        return [value for _, value in sorted(found)]

    for values in alone_batched_and_shuffled(measure, rows):
        assert np.allclose(values, expected, rtol=0, atol=1e-3)
    alone, together, _ = alone_batched_and_shuffled(measure, rows)
    assert np.allclose(alone, together, rtol=0, atol=1e-4)


def test_an_empty_response_has_probability_one(causal):
    assert list(log_probs(causal, [[5, 6]], [[]], **EXECUTION)) == [(0, 0.0)]


def test_a_sequence_beyond_the_positions_is_refused(causal, reward):
    long = [[5] * 1025]
    with pytest.raises(UserError, match="1024 positions"):
        list(reward_scorer(reward, **EXECUTION)(long))
    with pytest.raises(UserError, match="1024 positions"):
        list(log_probs(causal, [[5]], long, **EXECUTION))


def test_nothing_is_loaded_for_nothing(tmp_path):
    assert list(reward_scorer(tmp_path, **EXECUTION)([])) == []
    assert list(label_probabilities(tmp_path, [], LABELS, **EXECUTION)) == []
    assert list(log_probs(tmp_path, [], [], **EXECUTION)) == []


def test_batches_hold_every_row_once_within_the_token_budget():
    lengths = [7, 300, 7, 9, 50, 51, 1]
    batches = list(token_batches(lengths, 102))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert [1] in batches, "a row over the budget goes alone"
    assert all(len(batch) * max(lengths[i] for i in batch) <= 102 for batch in batches if batch != [1])


@given(
    lengths=st.lists(st.integers(1, 600), max_size=9),
    batch_tokens=st.integers(1, 1500),
    beside=st.integers(0, 200),
)
def test_no_other_division_into_batches_costs_less(
    lengths: list[int], batch_tokens: int, beside: int
) -> None:
    """Against all divisions of the rows in the order of their lengths."""
    batches = list(token_batches(lengths, batch_tokens, beside))
    order = [i for batch in batches for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    costs = []
    for cuts in powerset(range(1, len(lengths))):
        parts = [order[a:b] for a, b in pairwise([0, *cuts, len(lengths)]) if a < b]
        if all(len(part) == 1 or (lengths[part[0]] + beside) * len(part) <= batch_tokens for part in parts):
            costs.append(cost(parts, lengths))
    assert cost(batches, lengths) == min(costs)


def cost(batches: list[list[int]], lengths: list[int]) -> int:
    return sum(lengths[batch[0]] * len(batch) + PASS for batch in batches)


def powerset(values: range) -> Iterable[tuple[int, ...]]:
    return chain.from_iterable(combinations(values, size) for size in range(len(values) + 1))


def test_batches_on_several_cores_score_as_one_core_does(reward, sequences):
    names: list[str] = []
    network = load_classifier(reward, "float32", 1)
    network.base_model.register_forward_hook(lambda *_: names.append(threading.current_thread().name))

    def scored() -> list[float]:
        few: dict[str, Any] = EXECUTION | {"batch_tokens": 40}
        return in_order(reward_scorer(reward, **few, load=lambda *_: network)(sequences), len(sequences))

    alone = scored()
    assert set(names) == {threading.current_thread().name}
    torch.set_num_threads(2)
    try:
        beside = scored()
    finally:
        torch.set_num_threads(1)
    assert len(set(names)) == 3, "two more threads have read batches"
    assert np.abs(np.array(beside) - np.array(alone)).max() <= 1e-4


def test_bfloat16_is_near_float32(reward, sequences):
    near: dict[str, Any] = {"dtype": "bfloat16", "batch_tokens": 200, "threads": 1}
    exact = in_order(reward_scorer(reward, **EXECUTION)(sequences), len(sequences))
    assert np.allclose(in_order(reward_scorer(reward, **near)(sequences), len(sequences)), exact, atol=0.2)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a C library other than glibc 2.33")
def test_memory_that_a_pass_frees_is_kept_for_the_next(reward):
    """In processes of their own: what the setting changes is the whole process."""
    code = """
import ctypes, sys
from pathlib import Path
from pipeline.engines.inference import load_classifier

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.mallinfo2.restype = ctypes.c_void_p, Info
if len(sys.argv) > 1:
    load_classifier(Path(sys.argv[1]), "float32", 1)
mapped = libc.mallinfo2().hblks
tensor = libc.malloc(ctypes.c_size_t(30 << 20))
mapped = libc.mallinfo2().hblks - mapped
libc.free(ctypes.c_void_p(tensor))
print(mapped, libc.mallinfo2().fordblks >> 20)
"""

    def kept(*words: str) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        return [int(word) for word in done.stdout.split()]

    assert kept()[0] == 1, "by default glibc gives a tensor pages of its own, and takes them back"
    mapped, free = kept(str(reward))
    assert mapped == 0
    assert free >= 30
