"""Policies on the validation prompts: paired answers, a fair half against oneself, and KL as defined."""

import numpy as np
import polars as pl
import pytest

from pipeline.chat import Chat
from pipeline.engines.cached import log_probs
from pipeline.engines.evaluation import EvaluateParams, answers, evaluated, summary
from pipeline.engines.tiny_models import tiny_random
from pipeline.schemas import EVALUATIONS
from pipeline.tables import check
from tests.judge_recipes import judge_params
from tests.stages.answers import slice_of

PROMPTS = slice_of(*(f"Question {i}?" for i in range(12)))
PARAMS = EvaluateParams(
    engine="fake", dtype="float32", temperature=0.7, max_new_tokens=20, max_length=1024, seed=3
)


@pytest.fixture
def policies(tiny_model, tmp_path):
    tiny_random(tmp_path / "t1", "smollm2", seed=1)
    return {"t0": tiny_model, "t1": tmp_path / "t1"}


def evaluation(policies, name: str, kind: str = "bt", prompts=PROMPTS) -> pl.DataFrame:
    baseline = answers(PROMPTS, "t0", policies["t0"], PARAMS)
    rows = evaluated(
        answers(prompts, name, policies[name], PARAMS),
        baseline,
        model=policies[name],
        pi0=policies["t0"],
        judge_model=policies["t0"],
        judge=judge_params(kind),
        preference_model=policies["t0"],
        params=PARAMS,
    )
    check(EVALUATIONS, rows)
    return rows


@pytest.mark.parametrize("kind", ["bt", "pairwise", "prompted", "cascade"])
def test_pi0_against_itself_is_a_draw_without_divergence(policies, own_state, kind):
    rows = evaluation(policies, "t0", kind)
    assert set(rows["win"]) == {0.5}
    assert set(rows["kl"]) == {0.0}
    # Both orders show the same answer twice: whatever the judge thinks of first places cancels.
    assert rows["preference"].to_list() == pytest.approx([0.5] * PROMPTS.height)


def test_a_win_is_a_higher_reward_at_the_same_prompt(policies, own_state):
    rows, baseline = evaluation(policies, "t1"), evaluation(policies, "t0")
    both = rows.join(baseline, on="prompt_id", validate="1:1")
    expected = (both["reward"] > both["reward_right"]) + 0.5 * (both["reward"] == both["reward_right"])
    assert both["win"].to_list() == expected.to_list()
    assert 0 < both["win"].mean() < 1


def test_kl_is_the_log_ratio_of_the_answer(policies, own_state):
    rows, chat = evaluation(policies, "t1"), Chat.load(policies["t1"])
    finished = rows.filter(finish_reason="stop")
    prompts = [chat.prompt_ids(prompt) for prompt in finished["prompt"]]
    texts = [chat.response_ids(text) for text in finished["response"]]
    own, other = (
        log_probs(policies[name], prompts, texts, engine="fake", dtype="float32") for name in ("t1", "t0")
    )
    assert finished["kl"].to_list() == pytest.approx((np.array(own) - np.array(other)).tolist())


def test_the_order_of_the_prompts_changes_nothing(policies, own_state):
    forward, backward = evaluation(policies, "t1"), evaluation(policies, "t1", prompts=PROMPTS.reverse())
    assert forward.sort("prompt_id").equals(backward.sort("prompt_id"))


def test_the_summary_gives_means_by_policy(policies, own_state):
    rows = pl.concat([evaluation(policies, "t0"), evaluation(policies, "t1")])
    table = summary(rows)
    assert list(table) == ["t0", "t1"]
    own = rows.filter(policy="t1")
    assert table["t1"]["reward"] == pytest.approx(own["reward"].mean())
    assert table["t1"]["unfinished"] == pytest.approx((own["finish_reason"] == "length").mean())
    assert table["t1"]["prompts"] == PROMPTS.height
