"""The control reads the answers of every policy of the recipe, as the reward model that it is."""

import polars as pl
import pytest

from pipeline import tables
from pipeline.chat import Chat
from pipeline.engines.cached import score
from pipeline.rendering import scored_ids
from pipeline.schemas import CONTROLS, EVALUATIONS
from pipeline.stages import control
from tests.stages.preference_rows import user

RECIPE = """
iterations: {t1: {prev: t0, variant: base}}
control: {model: models/control, engine: fake, dtype: float32, max_length: 256}
"""


def evaluations(policy: str) -> pl.DataFrame:
    rows = [
        {
            "policy": policy,
            "prompt_id": f"p{i}",
            "prompt": user(f"Question {i}?"),
            "response": f"{policy} says {i}",
            "tokens": 3,
            "finish_reason": "stop",
            "reward": None,
            "win": None,
            "preference": None,
            "kl": 0.0,
            "kl_tokens": 3,
        }
        for i in range(3)
    ]
    return pl.DataFrame(rows, schema=EVALUATIONS.schema)


@pytest.fixture
def folders(own_state, tmp_path, monkeypatch):
    """Baselines, and iterations of which t1 alone is in the recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(RECIPE, encoding="utf-8")
    baselines = pl.concat([evaluations("t0"), evaluations("offline_dpo")])
    tables.write(EVALUATIONS, baselines, tmp_path / "baselines" / "evaluations.parquet")
    for name in ("t1", "t2"):
        path = tmp_path / "iterations" / name / "evaluate" / "evaluations.parquet"
        tables.write(EVALUATIONS, evaluations(name), path)
    return tmp_path / "baselines", tmp_path / "iterations"


def test_every_answer_of_the_recipes_policies_gets_its_reward_judged_before_or_not(folders, tiny_model):
    rows = control.made(*folders, tiny_model)
    tables.check(CONTROLS, rows)
    assert set(rows["policy"]) == {"t0", "offline_dpo", "t1"}
    assert rows.height == 9
    chat = Chat.load(tiny_model)
    told = rows.select("policy", i=pl.col("prompt_id").str.slice(1)).iter_rows()
    asked = [
        scored_ids(chat, user(f"Question {i}?"), f"{policy} says {i}", max_length=256) for policy, i in told
    ]
    assert rows["reward"].to_list() == score(tiny_model, asked, engine="fake", dtype="float32")
    assert len(set(rows["reward"])) > 1
