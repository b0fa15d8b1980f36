"""A score per candidate: the reward of each answer, or its mean win probability in a round robin."""

from itertools import permutations

import pytest

from pipeline import ab
from pipeline.chat import Chat
from pipeline.engines import judging
from pipeline.engines.fake import fake_label_probabilities, fake_scorer
from pipeline.engines.judging import JudgeParams, question_sequences, scores
from pipeline.rendering import scored_ids
from pipeline.schemas import JUDGMENTS
from pipeline.tables import check
from tests.stages.answers import candidates_of
from tests.stages.preference_rows import user

ROWS = candidates_of(
    ("What is an owl?", "a bird"),
    ("What is an owl?", "a bird of the night"),
    ("What is an owl?", "no idea"),
    ("What is a bee?", "an insect"),
    ("What is a bee?", "small"),
    ("alone?", "yes"),
)


def judge(kind: str) -> JudgeParams:
    return JudgeParams(kind=kind, model="models/x", engine="fake", dtype="float32", max_length=1024)


def judged(rows, model, kind: str) -> dict[str, float]:
    done = scores(rows, model, judge(kind))
    check(JUDGMENTS, done.select(list(JUDGMENTS.columns)))
    assert set(done["judge"]) == {kind}
    return dict(zip(rows["response"], done["score"], strict=True))


def test_a_reward_reads_the_prompt_and_the_answer(tiny_model, own_state):
    chat, found = Chat.load(tiny_model), judged(ROWS, tiny_model, "bt")
    for prompt, response in ROWS.select("prompt", "response").iter_rows():
        ids = scored_ids(chat, prompt, response, max_length=1024)
        assert found[response] == dict(fake_scorer(tiny_model)([ids]))[0]


def test_every_answer_meets_every_other_of_its_prompt_in_both_orders(tiny_model, own_state):
    chat, found = Chat.load(tiny_model), judged(ROWS, tiny_model, "pairwise")
    prompt, answers = user("What is an owl?"), ["a bird", "a bird of the night", "no idea"]
    wins: dict[str, list[float]] = {answer: [] for answer in answers}
    for first, second in permutations(answers, 2):
        ids = ab.question_ids(chat, prompt, first, second, max_length=1024)
        first_wins = dict(fake_label_probabilities([ids]))[0]
        wins[first].append(first_wins)
        wins[second].append(1 - first_wins)
    for answer in answers:
        assert len(wins[answer]) == 4
        assert found[answer] == pytest.approx(sum(wins[answer]) / 4)


@pytest.mark.parametrize("wording", ["trained", "prompted"])
def test_many_questions_are_those_of_each_pair_alone_in_both_orders(tiny_model, monkeypatch, wording):
    monkeypatch.setattr(judging, "ROWS", 3)
    chat = Chat.load(tiny_model)
    two = [("short", "also short <|im_end|>"), ("[RESPONSE A]", "")]
    rows = [(user(text), *pair) for text in ("What is an owl?", "Why? " * 300) for pair in two]
    limit = 400
    expected = [
        ab.question_ids(chat, prompt, *pair, wording=wording, max_length=limit)
        for prompt, a, b in rows
        for pair in ((a, b), (b, a))
    ]
    found = list(question_sequences(chat, iter(rows), wording, limit))
    assert [list(ids) for ids in found] == expected
    assert max(map(len, found)) <= limit < len(chat.encode_plain("Why? " * 300))
    assert {ids.itemsize for ids in found} == {4}


def test_the_win_probabilities_of_a_prompt_average_to_a_half(tiny_model, own_state):
    found = judged(ROWS, tiny_model, "pairwise")
    assert sum(found[answer] for answer in ("a bird", "a bird of the night", "no idea")) == pytest.approx(1.5)
    assert found["an insect"] + found["small"] == pytest.approx(1.0)
    assert found["yes"] == 0.5, "an answer alone has no opponent"


@pytest.mark.parametrize("kind", ["bt", "pairwise"])
def test_the_order_of_the_candidates_changes_nothing(tiny_model, own_state, kind):
    assert judged(ROWS, tiny_model, kind) == judged(ROWS.reverse(), tiny_model, kind)


def test_the_real_engine_scores_every_candidate(tiny_model, own_state):
    params = judge("pairwise").model_copy(update={"engine": "transformers"})
    done = scores(ROWS, tiny_model, params)
    assert done["score"].is_between(0, 1).all()
