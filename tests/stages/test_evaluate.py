"""Policies on the validation prompts: paired answers, a fair half against oneself, and KL as defined."""

import numpy as np
import polars as pl
import pytest

from pipeline import tables
from pipeline.chat import Chat
from pipeline.engines.cached import log_probs
from pipeline.engines.evaluation import EvaluateParams, answers, evaluated
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.planning import planning
from pipeline.report.policies import policy_facts
from pipeline.schemas import EVALUATIONS, LEDGER
from pipeline.tables import check
from tests.judge_recipes import judge_params
from tests.stages.answers import slice_of

PROMPTS = slice_of(*(f"Question {i}?" for i in range(12)))
PARAMS = EvaluateParams(
    engine="fake", dtype="float32", temperature=0.7, max_new_tokens=20, max_length=1024, seed=3
)
WARM = PARAMS.model_copy(update={"temperature": 1.0})


@pytest.fixture
def policies(tiny_model, tmp_path):
    tiny_random(tmp_path / "t1", "smollm2", seed=1)
    return {"t0": tiny_model, "t1": tmp_path / "t1"}


def evaluation(policies, name: str, kind: str = "bt", prompts=PROMPTS, params=PARAMS) -> pl.DataFrame:
    baseline = answers(PROMPTS, "t0", policies["t0"], params)
    found = evaluated(
        answers(prompts, name, policies[name], params),
        baseline,
        model=policies[name],
        pi0=policies["t0"],
        judge_model=policies["t0"],
        judge=judge_params(kind),
        preference_model=policies["t0"],
        params=params,
    )
    check(EVALUATIONS, found.rows)
    assert found.lost.is_empty()
    assert found.asked == found.kept == 2 * PROMPTS.height
    return found.rows


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
    rows, chat = evaluation(policies, "t1", params=WARM), Chat.load(policies["t1"])
    finished = rows.filter(finish_reason="stop")
    prompts = [chat.prompt_ids(prompt) for prompt in finished["prompt"]]
    texts = [chat.response_ids(text) for text in finished["response"]]
    own, other = (
        log_probs(policies[name], prompts, texts, engine="fake", dtype="float32") for name in ("t1", "t0")
    )
    assert finished["kl"].to_list() == pytest.approx((np.array(own) - np.array(other)).tolist())
    assert finished["kl_tokens"].to_list() == [len(ids) for ids in texts]


def test_kl_is_that_of_answers_at_temperature_1_whatever_is_compared(policies, own_state):
    cool, warm = (evaluation(policies, "t1", params=params) for params in (PARAMS, WARM))
    assert cool["response"].to_list() != warm["response"].to_list()
    assert cool.select("kl", "kl_tokens").equals(warm.select("kl", "kl_tokens"))


def test_where_answers_are_compared_at_temperature_1_no_other_is_sampled(policies, own_state):
    with planning() as plan:
        evaluated(
            answers(PROMPTS, "t1", policies["t1"], WARM),
            answers(PROMPTS, "t0", policies["t0"], WARM),
            **dict.fromkeys(("pi0", "judge_model", "preference_model"), policies["t0"]),
            model=policies["t1"],
            judge=judge_params("bt"),
            params=WARM,
        )
    assert [fill.cells.kind for fill in plan.fills].count("sample") == 2


def test_the_order_of_the_prompts_changes_nothing(policies, own_state):
    forward, backward = evaluation(policies, "t1"), evaluation(policies, "t1", prompts=PROMPTS.reverse())
    assert forward.sort("prompt_id").equals(backward.sort("prompt_id"))


def test_an_answer_that_leaves_no_room_beside_pi0s_has_no_preference_and_with_such_a_judge_no_reward(
    policies, own_state, tmp_path
):
    model = policies["t0"]
    rows = answers(PROMPTS, "t1", policies["t1"], PARAMS)
    first = pl.col("prompt_id") == rows["prompt_id"][0]
    rows = rows.with_columns(response=pl.when(first).then(pl.lit("because " * 2000)).otherwise("response"))
    baseline = answers(PROMPTS, "t0", model, PARAMS)
    settings = {"model": model, "pi0": model, "judge_model": model, "preference_model": model}
    for kind, unjudged in (("bt", 0), ("pairwise", 1)):
        told = evaluated(rows, baseline, judge=judge_params(kind), params=PARAMS, **settings)
        check(EVALUATIONS, told.rows)
        assert told.rows["preference"].is_null().to_list() == [True] + [False] * 11
        assert told.rows["reward"].null_count() == told.rows["win"].null_count() == unjudged
        folder = tmp_path / kind
        assert told.ledger("evaluate@t1").close(told.asked, told.kept, folder)["in"] == 24
        lost = tables.read(LEDGER, folder / "ledger.parquet").select("source", "row", "item", "id", "reason")
        prompt, reason = rows["prompt_id"][0], "answers longer than the window"
        assert lost.rows() == [("t1", 0, item, prompt, reason) for item in ([0, 1] if unjudged else [1])]
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
