"""The rule for the best policy: the mean, the penalty on length, ties, and the demand for a clear gain."""

import numpy as np
import polars as pl
import pytest

from pipeline.errors import UserError
from pipeline.schemas import EVALUATIONS
from pipeline.stages.select import SelectParams, verdict
from pipeline.tables import check
from tests.stages.preference_rows import user

PLAIN = SelectParams(length_penalty=0.0, require_gain=False, seed=1)
NOISE = np.random.default_rng(0).normal(size=40)


def evaluations(rewards: dict[str, np.ndarray], lengths: dict[str, int] | None = None) -> pl.DataFrame:
    rows = [
        {
            "policy": policy,
            "prompt_id": f"p{i:02}",
            "prompt": user(f"{i}?"),
            "response": "x" * (lengths or {}).get(policy, 10),
            "tokens": 3,
            "finish_reason": "stop",
            "reward": float(value),
            "win": 0.5,
            "preference": 0.5,
            "kl": 0.0,
            "kl_tokens": 1,
        }
        for policy, values in rewards.items()
        for i, value in enumerate(values)
    ]
    frame = pl.DataFrame(rows, schema=EVALUATIONS.schema)
    check(EVALUATIONS, frame)
    return frame


def best(rewards, lengths=None, **changes) -> str:
    rows = evaluations(rewards, lengths)
    names = sorted(rewards)
    chosen = verdict(rows, names, PLAIN.model_copy(update=changes))
    # The table's order of rows is not a reason.
    assert (
        verdict(rows.sample(fraction=1, shuffle=True, seed=3), names, PLAIN.model_copy(update=changes))
        == chosen
    )
    return chosen["best"]


def test_the_highest_mean_wins():
    assert best({"t0": NOISE, "t1": NOISE + 2, "t2": NOISE + 1}) == "t1"


def test_a_tie_goes_to_the_earlier_policy():
    assert best({"t0": NOISE, "t1": NOISE + 1, "t2": NOISE + 1}) == "t1"
    assert best({"t0": NOISE, "t1": NOISE}) == "t0"


def test_a_penalty_on_length_turns_the_verdict():
    rewards, lengths = {"t0": NOISE, "t1": NOISE + 1}, {"t0": 100, "t1": 900}
    assert best(rewards, lengths) == "t1"
    assert best(rewards, lengths, length_penalty=0.01) == "t0"


def test_a_demanded_gain_must_be_clear_of_chance():
    shaky = NOISE[::-1] + 0.05  # another order: the difference per prompt is noise
    assert best({"t0": NOISE, "t1": shaky}) == "t1"
    assert best({"t0": NOISE, "t1": shaky}, require_gain=True) == "t0"
    # The same mean gain is clear where it shows at every prompt.
    assert best({"t0": NOISE, "t1": NOISE + 0.05}, require_gain=True) == "t1"


def test_the_verdict_states_its_figures_and_reasons():
    rewards = {"t0": NOISE, "t1": NOISE + 0.5}
    made = verdict(evaluations(rewards), ["t0", "t1"], PLAIN.model_copy(update={"require_gain": True}))
    assert made["policies"]["t1"]["gain"] == pytest.approx(0.5)
    assert made["policies"]["t0"]["gain"] == 0
    assert made["policies"]["t1"]["low"] < made["policies"]["t1"]["reward"] < made["policies"]["t1"]["high"]
    assert any("excludes 0" in reason for reason in made["reasons"])
    assert "gain over t0 clear of 0" in made["rule"]


def test_what_is_left_of_a_removed_iteration_does_not_count():
    rows = evaluations({"t0": NOISE, "t1": NOISE + 1, "t2": NOISE + 9})
    assert verdict(rows, ["t0", "t1"], PLAIN)["best"] == "t1"


def test_policies_are_compared_on_the_prompts_on_which_each_has_a_reward():
    rows = evaluations({"t0": np.array([1.0, 1.0, 1.0]), "t1": np.array([2.0, 2.0, -50.0])})
    lost = (pl.col("policy") == "t0") & (pl.col("prompt_id") == "p02")
    rows = rows.with_columns(reward=pl.when(~lost).then("reward"), win=pl.when(~lost).then("win"))
    check(EVALUATIONS, rows)
    found = verdict(rows, ["t0", "t1"], PLAIN)
    assert (found["best"], found["policies"]["t1"]["gain"]) == ("t1", 1.0)
    with pytest.raises(UserError, match="found none of 3"):
        verdict(rows.with_columns(reward=pl.lit(None, pl.Float64)), ["t0", "t1"], PLAIN)
