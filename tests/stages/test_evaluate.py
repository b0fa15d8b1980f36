"""Policies on the validation prompts: paired answers, a fair half against oneself, and KL as defined."""

import numpy as np
import polars as pl
import pytest

from pipeline.chat import Chat
from pipeline.engines.cached import log_probs
from pipeline.engines.evaluation import EvaluateParams, answers, evaluated, summary
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.report.policies import policy_facts
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


def test_an_answer_that_leaves_no_room_beside_pi0s_has_no_preference_and_with_such_a_judge_no_reward(
    policies, own_state
):
    model = policies["t0"]
    rows = answers(PROMPTS, "t1", policies["t1"], PARAMS)
    first = pl.col("prompt_id") == rows["prompt_id"][0]
    rows = rows.with_columns(response=pl.when(first).then(pl.lit("because " * 2000)).otherwise("response"))
    baseline = answers(PROMPTS, "t0", model, PARAMS)
    settings = {"model": model, "pi0": model, "judge_model": model, "preference_model": model}
    for kind, unjudged in (("bt", 0), ("pairwise", 1)):
        found = evaluated(rows, baseline, judge=judge_params(kind), params=PARAMS, **settings)
        check(EVALUATIONS, found)
        assert found["preference"].is_null().to_list() == [True] + [False] * 11
        assert found["reward"].null_count() == found["win"].null_count() == unjudged
        told = summary(found)["t1"]
        assert (told["unjudged"], told["uncompared"], told["prompts"]) == (unjudged, 1, 12)
    alone = rows.filter(first), baseline.filter(first)
    with pytest.raises(UserError, match="a judgment of at least one validation answer, found none of 1"):
        evaluated(*alone, judge=judge_params("pairwise"), params=PARAMS, **settings)


def test_the_report_takes_a_gain_from_the_prompts_on_which_both_have_a_reward(policies, own_state):
    rows = pl.concat([evaluation(policies, name) for name in ("t0", "t1")])
    lost = pl.col("prompt_id").is_in(rows["prompt_id"].unique().sort().head(3).implode())
    gone = lost & (pl.col("policy") == "t0")
    one = policy_facts(rows.with_columns(reward=pl.when(~gone).then("reward")), "t1")
    assert one.gain == policy_facts(rows.filter(~lost), "t1").gain
    assert one.prompts == 12
