"""The prompted judge: both orders, answers from the row store, and nothing invented whatever happens."""

import asyncio
import importlib.util
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from pipeline.chat import Chat
from pipeline.comparing import Compared, Unjudged
from pipeline.engines import chat_endpoint, openai_server
from pipeline.engines.chat_endpoint import ReplyWork
from pipeline.engines.prompting import (
    Prices,
    PromptedComparer,
    PromptedParams,
)
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.judge_account import Account, shortened
from pipeline.models import Completion
from pipeline.params import parse
from pipeline.planning import planning
from tests.completion_server import Changed, Dropped, Garbled, Hanging, Status, completion_server
from tests.smoke_project import ROOT

NOWHERE = Path("no/such/folder")
AT_ONCE = {"retry-after-ms": "1"}
PROMPT = [{"role": "user", "content": "What is the capital of Spain?"}]
ANSWERS = re.compile(r"\[RESPONSE A\]\n(.*)\n\n\[RESPONSE B\]\n(.*)\n\n\[TASK\]", re.DOTALL)


def questions(count: int) -> list:
    """The first answer is longer for odd numbers, as long for 0, 4, 8 ..., else shorter."""
    return [
        ([{"role": "user", "content": f"Question {i}?"}], "x" * (5 + (i % 2) - (i % 4 == 2)), "y" * 5)
        for i in range(count)
    ]


def longer(messages) -> str:
    """The reply of a judge that likes the longer answer."""
    first, second = ANSWERS.search(messages[-1]["content"]).groups()
    verdict = "tie" if len(first) == len(second) else "AB"[len(second) > len(first)]
    return f"One of them is longer.\nVerdict: {verdict}"


def params(**changed) -> PromptedParams:
    section = {
        "engine": "chat",
        "dtype": "float32",
        "endpoint": "judge-1",
        "template": str(ROOT / "recipes/templates/pair.txt"),
        "max_length": 4000,
        "max_new_tokens": 300,
        "request": {},
        "prices": None,
        "max_unparsable": 0.0,
    }
    return parse("judge.prompted", PromptedParams, section | changed)


@pytest.fixture
def setting(own_state, monkeypatch):
    """Sets execution settings by name, beside a row store of the test's own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_API_KEY", "JUDGE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(chat_endpoint, "PAUSE", 0.01)

    def put(**values) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PAIRMILL_{name.upper()}", str(value))
        execution.cache_clear()

    return put


@pytest.fixture
def endpoint(setting):
    with completion_server(None, "unlisted") as server:
        server.reply = longer
        setting(judge_url=server.url, judge_concurrency=8)
        yield server


class Said(NamedTuple):
    """What a judge says of all questions at once."""

    compared: Compared
    unjudged: tuple[Unjudged, ...]
    account: Account


def compared(asked: list, how: PromptedParams, model: Path = NOWHERE) -> Said:
    compare = PromptedComparer(model, how)
    return Said(compare(asked), tuple(compare.unjudged), compare.account)


def error(asked: list, model: Path = NOWHERE, **changed) -> str:
    """What the user is told."""
    with pytest.raises(UserError) as raised:
        compared(asked, params(**changed), model)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_each_question_is_asked_in_both_orders_and_a_tie_is_a_half(endpoint):
    endpoint.gather = 8
    found = compared(questions(8), params())
    assert found.compared.first_better.tolist() == [0.5, 1, 0, 1, 0.5, 1, 0, 1]
    assert found.compared.disagreement.tolist() == [0.0] * 8
    assert (found.unjudged, len(endpoint.bodies), endpoint.most_open) == ((), 16, 8)


def test_a_judge_of_places_says_nothing_and_its_orders_disagree(endpoint):
    endpoint.reply = lambda messages: "Verdict: A"
    found = compared(questions(3), params()).compared
    assert (found.first_better.tolist(), found.disagreement.tolist()) == ([0.5] * 3, [1.0] * 3)
    shown = f"[RESPONSE A]\n{questions(1)[0][1]}"
    endpoint.reply = lambda messages: f"Verdict: {'A' if shown in messages[0]['content'] else 'tie'}"
    found = compared(questions(1), params(max_new_tokens=9)).compared
    assert (found.first_better.tolist(), found.disagreement.tolist()) == ([0.75], [0.5])


def test_asking_twice_costs_nothing_and_says_the_same(endpoint):
    first = compared(questions(6), params())
    endpoint.reply = lambda messages: "Verdict: tie"
    again = compared(questions(8), params())
    assert len(endpoint.bodies) == 16
    assert again.compared.first_better[:6].tolist() == first.compared.first_better.tolist()
    assert compared(questions(6), params()).account == first.account


@pytest.mark.parametrize(
    "change", [{"endpoint": "judge-2"}, {"max_new_tokens": 299}, {"request": {"seed": 1}}]
)
def test_another_model_or_request_is_another_judge_but_prices_and_limits_are_not(endpoint, change):
    compared(questions(2), params())
    prices = {"currency": "EUR", "prompt": 1.0, "completion": 1.0}
    compared(questions(2), params(prices=prices, max_unparsable=0.5, max_length=3999))
    assert len(endpoint.bodies) == 4
    compared(questions(2), params(**change))
    assert len(endpoint.bodies) == 8


def test_only_a_change_of_what_is_asked_asks_again(endpoint, tmp_path):
    template = (ROOT / "recipes/templates/pair.txt").read_text(encoding="utf-8")
    own = tmp_path / "own.txt"
    for text, bodies in ((template, 4), (f"\n{template}\n\n", 4), (f"Listen. {template}", 8)):
        own.write_text(text, encoding="utf-8")
        compared(questions(2), params(template=str(own)))
        assert len(endpoint.bodies) == bodies


def test_a_request_holds_the_messages_and_what_the_recipe_says(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-policy")
    monkeypatch.setenv("JUDGE_API_KEY", "sk-judge")
    request = {"max_tokens": None, "max_completion_tokens": 50, "top_k": 1}
    compared(questions(1), params(request=request))
    assert set(endpoint.keys) == {"Bearer sk-judge"}
    for body in endpoint.bodies:
        ((message,),) = [body.pop("messages")]
        assert message["role"] == "user"
        assert body == {"model": "judge-1", "temperature": 0, "max_completion_tokens": 50, "top_k": 1}
    with pytest.raises(
        UserError, match=r"judge\.prompted\.request: expected fields other than .* found messages, n"
    ):
        params(request={"n": 2, "messages": []})
    for wrong in ({"engine": "vllm"}, {"endpoint": None}):
        with pytest.raises(UserError, match=r"judge\.prompted: expected the name of a model as endpoint"):
            params(**wrong)


def test_an_unparsable_answer_leaves_its_question_without_a_judgment(endpoint):
    def reply(messages):
        text = messages[0]["content"]
        return (
            "A or\nB. Long reasons." * 50
            if "Question 2?" in text and "B]\nyyyyy" in text
            else longer(messages)
        )

    endpoint.reply = reply
    found = compared(questions(4), params(max_unparsable=0.25))
    assert np.isnan(found.compared.first_better).tolist() == [False, False, True, False]
    assert np.isnan(found.compared.disagreement).tolist() == [False, False, True, False]
    (lost,) = found.unjudged
    assert (lost.index, lost.reason) == (2, "no closing line")
    assert "\n" not in lost.text
    assert len(lost.text) <= 160
    assert (found.account.questions, found.account.judged, found.account.unparsable) == (4, 3, 1)
    assert len(endpoint.bodies) == 8


def test_too_many_of_them_are_told_with_two_examples_and_stay_stored(endpoint):
    endpoint.reply = lambda messages: f"Both fine. {len(messages[0]['content'])}"
    text = error(questions(5), max_unparsable=0.9)
    assert "judge-1: expected at most 90.0% of 5 questions without a judgment, found 5" in text
    assert "question 0, no closing line: 'Both fine. " in text
    assert "question 1, no closing line: 'Both fine. " in text
    assert "question 2" not in text
    assert "pair.txt" in text
    error(questions(5))
    assert len(endpoint.bodies) == 10


def test_calls_of_one_judge_share_an_account_and_a_limit(endpoint):
    endpoint.reply = lambda messages: "?" if "Question 5?" in messages[0]["content"] else longer(messages)
    compare = PromptedComparer(NOWHERE, params(max_unparsable=0.2))
    compare(questions(5))
    assert np.isnan(compare(questions(6)[5:]).first_better).all()  # the only one of its call, one of six
    assert [(lost.index, lost.text) for lost in compare.unjudged] == [(5, "?")]
    assert (compare.account.questions, compare.account.judged, compare.account.requests) == (6, 5, 12)
    with pytest.raises(UserError, match=r"found 2 \(question 5, .* question 6, "):
        compare(questions(6)[5:])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda answer: answer["choices"][0].update(finish_reason="length"), "answer cut at the token limit"),
        (
            lambda answer: answer["choices"][0].update(finish_reason="content_filter"),
            "refused (content_filter)",
        ),
        (lambda answer: answer["choices"][0]["message"].update(content=None), "no closing line"),
    ],
)
def test_an_answer_that_was_cut_or_withheld_is_no_judgment(endpoint, change, reason):
    endpoint.fault = lambda place, tries: Changed(change) if place == 0 else None
    (lost,) = compared(questions(1), params(max_unparsable=1.0)).unjudged
    assert lost.reason == reason


def test_a_refused_question_is_the_judges_answer_and_any_other_bad_request_is_an_error(endpoint):
    filtered = {"error": {"message": "not this one", "code": "content_filter"}}
    endpoint.fault = lambda place, tries: Status(400, body=filtered) if place == 0 else None
    (lost,) = compared(questions(2), params(max_unparsable=0.5)).unjudged
    assert lost.reason == "refused (content_filter)"
    assert "not this one" in lost.text
    endpoint.fault = lambda place, tries: Status(400, message="no such field")
    assert re.search("status 400 .*no such field", error(questions(3), request={"top_q": 1}))


def test_answers_that_leave_no_room_are_not_asked_and_not_the_judges_fault(endpoint):
    asked = [*questions(1), (PROMPT, "long " * 900, "short")]
    found = compared(asked, params())
    assert [(lost.index, lost.reason) for lost in found.unjudged] == [(1, "answers longer than the window")]
    assert (found.account.too_long, found.account.unparsable, len(endpoint.bodies)) == (1, 0, 2)
    assert compared([], params()).compared.first_better.tolist() == []
    endpoint.reply = lambda messages: "?" if "Question 1?" in messages[0]["content"] else longer(messages)
    told = error([asked[1], *questions(2)], endpoint="judge-2", max_unparsable=0.4)
    assert "of 2 questions without a judgment, found 1 (question 2, no closing line: '?')" in told


def test_the_account_counts_each_request_once_with_tokens_retries_and_cost(endpoint):
    endpoint.fault = lambda place, tries: Status(503, AT_ONCE) if place == 0 and tries < 2 else None
    same = [(PROMPT, "Madrid.", "Madrid.")] * 3  # in either order the same question
    account = compared([*questions(1), *same], params()).account
    read = {repr(b): sum(len(turn["content"].split()) for turn in b["messages"]) for b in endpoint.bodies}
    assert account == Account(4, 4, 0, 0, 3, sum(read.values()), 3 * 7, 0, 2)
    prices = Prices(currency="EUR", prompt=2.0, completion=10.0)
    assert account.cost(prices) == pytest.approx((sum(read.values()) * 2 + 21 * 10) / 1e6)
    assert account + Account(1, requests=2) == Account(5, 4, 0, 0, 5, sum(read.values()), 21, 0, 2)
    endpoint.fault = lambda place, tries: Changed(lambda answer: answer.pop("usage"))
    account = compared(questions(1), params(endpoint="other")).account
    assert (account.requests, account.uncounted, account.prompt_tokens) == (2, 2, 0)


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (Status(429, {"Retry-After": "0.01"}), 2),
        (Status(500, AT_ONCE), 3),
        (Dropped(), 1),
        (Garbled(b"<html>"), 1),
        (Garbled(b'{"choices": [{"mess'), 2),
    ],
)
def test_a_request_that_fails_for_a_while_is_sent_again_and_counted(endpoint, fault, tries):
    endpoint.fault = lambda place, before: fault if place % 4 == 0 and before < tries else None
    found = compared(questions(4), params())
    assert found.compared.first_better.tolist() == [0.5, 1, 0, 1]
    assert (found.account.requests, found.account.retries) == (8, 2 * tries)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Garbled(b"<html>"), "chat completions API, found another.*judge_url in exec.yaml"),
        (Garbled(b'{"choices": ['), "found another .*EOF"),
        (Garbled(b'{"choices": []}'), "found another .choices: "),
        (Status(401, message="who are you"), "401 .*who are you.*JUDGE_API_KEY"),
        (Status(404, message="no such model"), "404 .*no such model.*judge_url"),
        (Status(429, AT_ONCE), r"429 .*judge_concurrency in exec.yaml \(2 tries\)"),
        (Hanging(), "an answer within 1 s, found none after 2 tries; lower judge_concurrency"),
    ],
)
def test_what_came_before_a_lasting_fault_is_kept_and_only_the_rest_asked_again(
    endpoint, setting, monkeypatch, fault, told
):
    monkeypatch.setattr(openai_server, "RETRIES", 1)
    setting(judge_concurrency=1, judge_seconds=1)
    endpoint.fault = lambda place, tries: fault if place == 5 else None
    text = error(questions(4))
    assert text.startswith(f"{endpoint.url}/: expected ")
    assert re.search(told, text), text
    assert text.endswith("; 5 of 8 answers came before, only the others are asked for again")
    endpoint.bodies.clear()
    endpoint.fault = lambda place, tries: None
    assert compared(questions(4), params()).compared.first_better.tolist() == [0.5, 1, 0, 1]
    assert len(endpoint.bodies) == 3


def test_an_absent_endpoint_is_told_with_its_setting(setting, monkeypatch):
    monkeypatch.setattr(openai_server, "RETRIES", 0)
    setting(judge_url="http://127.0.0.1:9/v1")
    assert re.search(r"127\.0\.0\.1:9.* found none .*set judge_url in exec\.yaml", error(questions(1)))


def test_each_try_waits_for_its_turn_those_sent_again_included(endpoint, setting, monkeypatch):
    setting(judge_requests_per_minute=1200)
    waited, paced = [], chat_endpoint.paced

    def noting(per_minute):
        wait = paced(per_minute)

        async def noted(request):
            waited.append(per_minute)
            await wait(request)

        return noted

    monkeypatch.setattr(chat_endpoint, "paced", noting)
    endpoint.fault = lambda place, tries: Status(503, AT_ONCE) if place < 4 and tries == 0 else None
    compared(questions(4), params())
    assert waited == [1200] * 12


def test_turns_come_at_even_distances_and_are_not_saved_up(monkeypatch):
    now, begun = 100.0, []

    async def sleep(seconds):
        begun.append(now + seconds)

    monkeypatch.setattr(chat_endpoint, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(chat_endpoint, "asyncio", SimpleNamespace(sleep=sleep))
    wait = chat_endpoint.paced(1200)
    for at in (100.0, 100.0, 100.02, 110.0, 110.0):
        now = at
        asyncio.run(wait(None))
    assert begun == pytest.approx([100.0, 100.05, 100.1, 110.0, 110.05])


def test_a_plan_asks_nobody_and_has_no_judgment_that_counts_as_lost(endpoint):
    compared(questions(1), params())
    with planning() as plan:
        found = compared(questions(3), params())
    assert np.isnan(found.compared.first_better).tolist() == [False, True, True]
    assert (found.unjudged, len(plan.fills[0].missing), len(endpoint.bodies)) == ((), 4, 2)


def test_by_a_template_for_one_answer_the_higher_rating_is_better_and_each_is_asked_once(endpoint):
    endpoint.reply = lambda messages: f"Fair.\nScore: {messages[0]['content'].count('!')}"
    template = str(ROOT / "recipes/templates/single.txt")
    marks = [(1, 10), (10, 9), (9, 9), (1, 9)]
    asked = [(PROMPT, "!" * first, "!" * second) for first, second in marks]
    found = compared(asked, params(template=template))
    assert found.compared.first_better.tolist() == [0.0, 1.0, 0.5, 0.0]
    assert found.compared.disagreement.tolist() == [0.0] * 4
    assert (found.account.requests, found.account.judged, len(endpoint.bodies)) == (3, 4, 3)


def test_a_rating_off_the_scale_leaves_all_questions_about_that_answer_without_a_judgment(endpoint):
    endpoint.reply = lambda messages: f"Score: {messages[0]['content'].count('!')}"
    template = str(ROOT / "recipes/templates/single.txt")
    asked = [(PROMPT, "!" * first, "!" * second) for first, second in [(11, 2), (2, 3), (3, 0)]]
    found = compared(asked, params(template=template, max_unparsable=0.7))
    assert np.isnan(found.compared.first_better).tolist() == [True, False, True]
    assert np.isnan(found.compared.disagreement).tolist() == [True, False, True]
    assert [(lost.index, lost.text) for lost in found.unjudged] == [(0, "Score: 11"), (2, "Score: 0")]


def test_the_fake_judge_needs_no_model_and_answers_from_the_question_alone(setting):
    found = compared(questions(40), params(engine="fake", endpoint=None))
    assert found.unjudged == ()
    assert set(found.compared.first_better.tolist()) >= {0.0, 0.5, 1.0}
    backward = compared(questions(40)[::-1], params(engine="fake", endpoint=None))
    assert backward.compared.first_better.tolist() == found.compared.first_better.tolist()[::-1]


def test_a_local_model_is_asked_greedily_through_its_own_template(tiny_model, setting):
    asked = []

    def sampler(requests, *, max_new_tokens):
        for i, request in enumerate(requests):
            asked.append((request, max_new_tokens))
            yield i, Completion("Reasons.\n\nVerdict: A", 6, "stop")

    with completion_server(sampler, tiny_model.name) as server:
        setting(openai_url=server.url)
        local = params(engine="openai", endpoint=None)
        found = compared(questions(2), local, tiny_model)
        compared(questions(2), local, tiny_model)
    assert found.compared.first_better.tolist() == [0.5, 0.5]
    assert len(asked) == 4
    assert {(request.temperature, request.seed, limit) for request, limit in asked} == {(0.0, 0, 300)}
    assert found.account.prompt_tokens == sum(len(request.prompt_ids) for request, _ in asked)
    assert found.account.completion_tokens == 24
    chat = Chat.load(tiny_model)
    assert all("[RESPONSE B]" in chat.tokenizer.decode(request.prompt_ids) for request, _ in asked)
    assert compared([(PROMPT, "x " * 4000, "y")], local, tiny_model).account.too_long == 1


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_a_random_model_babbles_and_nothing_is_made_of_it(tiny_model, setting):
    settings = {"engine": "transformers", "endpoint": None, "max_length": 900, "max_new_tokens": 5}
    found = compared(questions(2), params(**settings, max_unparsable=1.0), tiny_model)
    assert np.isnan(found.compared.first_better).all()
    assert [lost.index for lost in found.unjudged] == [0, 1]
    assert re.search("found 2 .question 0, ", error(questions(2), tiny_model, **settings))


def test_a_long_answer_is_shown_by_its_beginning_and_its_end():
    shown = shortened("begin\n" + "x" * 500 + "\nVerdict: A or B")
    assert len(shown) == 160
    assert shown.startswith("begin x")
    assert shown.endswith("x Verdict: A or B")
    assert shortened("a\n b") == "a b"


def test_work_of_an_endpoint_names_its_model_and_its_request():
    work = ReplyWork("judge-1", '{"temperature": 0}', "chat", ("Verdict: A",))
    identity = {"model": "judge-1", "engine": "chat", "request": '{"temperature": 0}'}
    assert pickle.loads(pickle.dumps(work)) == work  # it travels to workers
    assert (dict(work.cells.identity), work.on_device, str(work.model)) == (identity, False, "judge-1")
