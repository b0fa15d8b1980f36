"""Sampling against a naive loop without cache, batch or padding."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.chat import Chat
from pipeline.engines import decoding
from pipeline.engines.decoding import Decoding, choose, uniform
from pipeline.engines.inference import load_causal
from pipeline.engines.sampling import transformers_sampler
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.models import SampleRequest

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model whose distribution is not nearly uniform: weights ten times the usual."""
    folder = tmp_path_factory.mktemp("model")
    tiny_random(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    network.save_pretrained(folder)
    return folder


def naive(network, request: SampleRequest, stop_ids, max_new_tokens: int) -> list[int]:
    """Each token from the whole sequence alone."""
    ids = list(request.prompt_ids)
    while True:
        with torch.inference_mode():
            logits = network(torch.tensor([ids]), use_cache=False).logits[:, -1]
        place = len(ids) - len(request.prompt_ids)
        ids += choose(logits, [request.temperature], [uniform(request.seed, place)])
        answer = ids[len(request.prompt_ids) :]
        if answer[-1] in stop_ids or len(answer) == max_new_tokens:
            return answer


def requests(count: int) -> list[SampleRequest]:
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(3, 500, rng.integers(1, 40)).tolist()) for _ in range(count // 2)]
    return [SampleRequest(prompts[i % len(prompts)], (0.0, 0.7, 1.0)[i % 3], i) for i in range(count)]


@pytest.mark.parametrize(("slots", "spare"), [(1, 128), (3, 1), (8, 4), (40, 128)])
def test_a_row_does_not_depend_on_its_batch(tiny, monkeypatch, slots, spare):
    # Few spare columns force the buffer to be shifted; many stop tokens make rows come and go.
    monkeypatch.setattr(decoding, "SPARE_COLUMNS", spare)
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 60)
    network, stops = load_causal(tiny, "float32", 1), frozenset(range(0, 515, 15))
    asked = requests(40)
    found = dict(Decoding(network, stops, asked, 25, slots).run())
    plain = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    assert found == {i: naive(plain, request, stops, 25) for i, request in enumerate(asked)}
    assert {len(answer) == 25 for answer in found.values()} == {True, False}


def test_the_sampler_gives_text_tokens_and_reason(tiny):
    chat = Chat.load(tiny)
    prompt = tuple(chat.prompt_ids([{"role": "user", "content": "Hello"}]))
    asked = [SampleRequest(prompt, 1.0, seed) for seed in range(60)]
    sampler = transformers_sampler(tiny, dtype="float32", batch=16, threads=1)
    done = dict(sampler(asked, max_new_tokens=40))
    network = load_causal(tiny, "float32", 1)
    assert sorted(done) == list(range(60))
    for i, request in enumerate(asked[:8]):
        ids = naive(network, request, chat.stop_ids, 40)
        stopped = ids[-1] in chat.stop_ids
        assert done[i].text == chat.decode(ids[:-1] if stopped else ids)
        assert (done[i].tokens, done[i].finish_reason) == (len(ids), "stop" if stopped else "length")
    assert len({answer.text for answer in done.values()}) == 60


@pytest.mark.parametrize("template", ["smollm2", "llama3"])
def test_sampling_stops_on_the_end_of_turn_that_training_teaches(template, tmp_path):
    """Also where the tokenizer's end of text is another token, as in the family of Llama 3."""
    tiny_random(tmp_path, template)
    chat, network = Chat.load(tmp_path), load_causal(tmp_path, "float32", 1)
    assert (chat.tokenizer.eos_token_id == chat.end_of_turn) == (template == "smollm2")
    asked = [SampleRequest((5, 6, 7), 1.0, seed) for seed in range(150)]
    sampler = transformers_sampler(tmp_path, dtype="float32", batch=100, threads=1)
    done = [answer for _, answer in sorted(sampler(asked, max_new_tokens=30))]
    answers = [naive(network, request, chat.stop_ids, 30) for request in asked]
    assert [answer.tokens for answer in done] == list(map(len, answers))
    ended = {ids[-1] for ids, answer in zip(answers, done, strict=True) if answer.finish_reason == "stop"}
    assert chat.end_of_turn in ended <= set(chat.stop_ids)
    # The token that a training answer ends with.
    assert chat.response_ids("Yes.")[-1] == chat.end_of_turn


def test_temperature_zero_ignores_the_seed_and_takes_the_likeliest(tiny):
    sampler = transformers_sampler(tiny, dtype="float32", batch=4, threads=1)
    texts = {
        done.text for _, done in sampler([SampleRequest((9, 8), 0.0, s) for s in range(4)], max_new_tokens=9)
    }
    assert len(texts) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_type_of_numbers_runs(tiny, dtype):
    sampler = transformers_sampler(tiny, dtype=dtype, batch=4, threads=1)
    assert len(list(sampler(requests(9), max_new_tokens=3))) == 9


def test_draws_follow_the_distribution_exactly():
    logits = torch.randn(1, 700, generator=torch.Generator().manual_seed(0)) * 2
    count = 20000
    noise = [(k + 0.5) / count for k in range(count)]
    drawn = choose(logits.expand(count, -1), [0.7] * count, noise)
    expected = (logits[0].double() / 0.7).softmax(-1) * count
    found = torch.bincount(torch.tensor(drawn), minlength=700)
    assert (found - expected).abs().max() <= 1.5


@pytest.mark.parametrize("noise", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("possible", [0, 255, 256, 511, 512, 599])
def test_an_impossible_token_is_never_drawn(noise, possible):
    logits = torch.full((1, 600), -torch.inf)
    logits[0, possible] = 0
    assert choose(logits, [1.0], [noise]) == [possible]


def test_noise_is_uniform_and_differs_by_seed_and_place():
    noise = np.array([[uniform(seed, place) for place in range(100)] for seed in range(100)])
    assert len(np.unique(noise)) == noise.size
    counts, _ = np.histogram(noise, bins=20, range=(0, 1))
    assert np.abs(counts - 500).max() < 100
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.04
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.04


def test_an_answer_that_may_not_fit_the_positions_is_refused(tiny):
    sampler = transformers_sampler(tiny, dtype="float32", batch=4, threads=1)
    with pytest.raises(UserError, match="1024 positions"):
        list(sampler([SampleRequest((5,) * 1000, 1.0, 0)], max_new_tokens=25))
    assert len(list(sampler([SampleRequest((5,) * 1000, 1.0, 0)], max_new_tokens=24))) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_damaged_model_is_refused(tiny, tmp_path, temperature):
    network = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with torch.no_grad():
        network.lm_head.weight[7, 0] = torch.nan
    network.save_pretrained(tmp_path)
    Chat.load(tiny).tokenizer.save_pretrained(tmp_path)
    sampler = transformers_sampler(tmp_path, dtype="float32", batch=4, threads=1)
    with pytest.raises(UserError, match=f"{tmp_path}: expected finite logits"):
        list(sampler([SampleRequest((5, 6), temperature, 0)], max_new_tokens=3))


def test_nothing_is_loaded_for_nothing(tmp_path):
    sampler = transformers_sampler(tmp_path / "absent", dtype="float32", batch=4, threads=1)
    assert list(sampler([], max_new_tokens=5)) == []
    with pytest.raises(UserError, match=r"config\.json"):
        list(sampler([SampleRequest((1,), 1.0, 0)], max_new_tokens=5))
