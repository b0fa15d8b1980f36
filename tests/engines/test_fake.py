"""The fake engines: legal values, from their inputs alone, without torch."""

import shutil
import subprocess
import sys

import pytest

from pipeline.engines.fake import fake_label_probabilities, fake_log_probs, fake_sampler, fake_scorer
from pipeline.models import SampleRequest, model_identity


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path / "model"


REQUESTS = [SampleRequest((i % 7, 2, 3), (0.0, 0.7, 1.0)[i % 3], i) for i in range(200)]


def test_samples_depend_on_the_request_alone(model):
    sampler = fake_sampler(model)
    forward = dict(sampler(REQUESTS, max_new_tokens=20))
    backward = dict(sampler(REQUESTS[::-1], max_new_tokens=20))
    assert forward == {len(REQUESTS) - 1 - i: done for i, done in backward.items()}
    assert len({done.text for done in forward.values()}) > 100


def test_some_answers_stop_and_some_reach_the_limit(model):
    done = [answer for _, answer in fake_sampler(model)(REQUESTS, max_new_tokens=20)]
    assert {answer.finish_reason for answer in done} == {"stop", "length"}
    for answer in done:
        assert answer.text
        assert answer.tokens == len(answer.text.split()) + (answer.finish_reason == "stop")
        assert (answer.finish_reason == "length") <= (answer.tokens == 20)


def test_temperature_zero_ignores_the_seed(model):
    asked = [SampleRequest((1, 2), 0.0, seed) for seed in range(5)]
    assert len({answer.text for _, answer in fake_sampler(model)(asked, max_new_tokens=20)}) == 1


def test_another_model_writes_something_else(model, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{ }", encoding="utf-8")
    assert list(fake_sampler(model)(REQUESTS, max_new_tokens=9)) != list(
        fake_sampler(other)(REQUESTS, max_new_tokens=9)
    )


def test_models_of_one_identity_answer_alike_whatever_their_cards_say(model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "README.md").write_text("another card", encoding="utf-8")
    assert model_identity(model) == model_identity(other)
    own, copied = (list(fake_sampler(folder)(REQUESTS, max_new_tokens=9)) for folder in (model, other))
    assert own == copied
    own, copied = (list(fake_log_probs(folder, [[1]], [[5, 6]])) for folder in (model, other))
    assert own == copied


def test_the_scorer_prefers_the_varied_and_then_the_shorter_answer(model):
    scores = dict(fake_scorer(model)([[1, 2, 3, 4], [1, 2, 2, 2], [1, 2, 2]]))
    assert scores[0] > scores[2] > scores[1]


def test_probabilities_are_legal_and_depend_on_the_question_alone():
    questions = [[i, i + 1] for i in range(300)]
    found = dict(fake_label_probabilities(questions))
    assert all(0 < p < 1 for p in found.values())
    assert dict(fake_label_probabilities(questions[5:6]))[0] == found[5]
    assert 0.4 < sum(found.values()) / 300 < 0.6


def test_log_probabilities_fall_with_every_token(model):
    rows = list(fake_log_probs(model, [[1], [1]], [[5] * 3, [5] * 9]))
    assert [i for i, _ in rows] == [0, 1]
    assert all(-2 * n <= value <= -n for (_, value), n in zip(rows, (3, 9), strict=True))


def test_the_inference_modules_are_imported_without_torch():
    nouns = ["ab", "chat", "store", "models"]
    engines = [f"engines.{name}" for name in ("decoding", "fake", "inference", "sampling", "scoring")]
    imports = ", ".join(f"pipeline.{name}" for name in nouns + engines)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
