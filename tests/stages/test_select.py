"""The rule for the best policy: mean, length, ties, and the demand for a clear gain; and models/best."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline import tables
from pipeline.errors import UserError
from pipeline.length_control import LengthRegression
from pipeline.pair_rules import LengthPenalty, NoLength
from pipeline.schemas import EVALUATIONS
from pipeline.stages.select import SelectParams, linked_or_copied, main, same_files, verdict
from pipeline.tables import check
from tests.smoke_project import must
from tests.stages.preference_rows import user

PLAIN = SelectParams(length=NoLength(rule="none"), require_gain=False, seed=1)
REGRESSION = LengthRegression(rule="regression")
NOISE = np.random.default_rng(0).normal(size=40)


def evaluations(rewards: dict[str, np.ndarray], lengths: dict[str, Any] | None = None) -> pl.DataFrame:
    """`lengths` in characters: one for all answers of a policy, or one for each."""
    rows = [
        {
            "policy": policy,
            "prompt_id": f"p{i:02}",
            "prompt": user(f"{i}?"),
            "response": "x" * int(np.broadcast_to((lengths or {}).get(policy, 10), len(values))[i]),
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
    assert best(rewards, lengths, length=LengthPenalty(rule="penalty", per_character=0.01)) == "t0"


def test_a_policy_that_only_writes_more_has_no_gain_at_equal_length():
    drawn = np.random.default_rng(3)
    base, longer = np.full(40, 500), 500 + drawn.integers(-20, 400, 40)
    # t1's whole gain is its length, at 0.01 a character; t2 is a little better and no longer.
    rewards = {"t0": NOISE, "t1": NOISE + 0.01 * (longer - base), "t2": NOISE + 0.2}
    lengths = {"t0": base, "t1": longer, "t2": base}
    assert best(rewards, lengths) == "t1"
    assert best(rewards, lengths, length=REGRESSION) == "t2"
    made = verdict(
        evaluations(rewards, lengths), ["t0", "t1", "t2"], PLAIN.model_copy(update={"length": REGRESSION})
    )
    assert made["policies"]["t1"]["gain"] == pytest.approx(0, abs=1e-9)
    assert made["policies"]["t1"]["reward_per_character"] == pytest.approx(0.01)
    assert not made["policies"]["t1"]["beyond_what_was_seen"]
    assert "at equal length" in made["rule"]
    assert made["reasons"][0] == "t2 has the highest gain over t0 at equal length"


def test_a_gain_at_a_length_that_was_not_seen_is_said_to_be():
    made = verdict(
        evaluations({"t0": NOISE, "t1": NOISE + 1}, {"t1": 100}),
        ["t0", "t1"],
        PLAIN.model_copy(update={"length": REGRESSION}),
    )
    assert made["policies"]["t1"]["beyond_what_was_seen"]
    assert any("no equal length was seen" in reason for reason in made["reasons"])


def test_without_a_gain_at_equal_length_pi0_stays():
    assert best({"t0": NOISE, "t1": NOISE - 1}, length=REGRESSION) == "t0"


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


def test_files_that_nobody_may_write_are_linked_and_others_copied(tmp_path):
    policy = tmp_path / "t1"
    (policy / "more").mkdir(parents=True)
    for name, mode in (("model", 0o444), ("more/tokens", 0o444), ("config", 0o644)):
        (policy / name).write_text(name)
        (policy / name).chmod(mode)
    same_files(policy, tmp_path / "best")
    for name, linked in (("model", True), ("more/tokens", True), ("config", False)):
        assert (tmp_path / "best" / name).read_text() == name
        assert (tmp_path / "best" / name).samefile(policy / name) == linked


def test_where_no_link_can_be_made_a_file_is_copied(tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    (tmp_path / "model").write_text("weights")
    (tmp_path / "model").chmod(0o444)
    monkeypatch.setattr(os, "link", refused)
    linked_or_copied(str(tmp_path / "model"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "weights"
    assert not (tmp_path / "copy").samefile(tmp_path / "model")


TWO_STAGES = """\
stages:
  train:
    cmd: >-
      mkdir -p models/policies/t0 models/policies/t1 && cp old models/policies/t0/model &&
      cp new models/policies/t1/model
    outs: [models/policies]
  select:
    cmd: {python} -m pipeline.stages.select baselines iterations models/policies chosen models/best
    deps: [models/policies]
    outs: [chosen, models/best]
"""


def test_a_push_carries_the_best_policy_once(tmp_path, monkeypatch):
    project, remote = tmp_path / "project", tmp_path / "remote"
    project.mkdir()
    for name in ("old", "new"):
        (project / name).write_text(f"the {name} weights")
    rows = evaluations({"t0": NOISE, "t1": NOISE + 1})
    for folder, policy in (("baselines", "t0"), ("iterations/t1/evaluate", "t1")):
        tables.write(EVALUATIONS, rows.filter(policy=policy), project / folder / "evaluations.parquet")
    select = json.dumps(PLAIN.model_dump())
    (project / "params.yaml").write_text(f"select: {select}\niterations: {{t1: {{prev: t0}}}}\n")
    (project / "dvc.yaml").write_text(TWO_STAGES.format(python=sys.executable))
    own = {"PYTHONPATH": str(Path(__file__).parents[2])}
    for words in (
        ["init", "-q", "--no-scm"],
        ["config", "cache.type", "hardlink,copy"],
        ["remote", "add", "-q", "--default", "store", str(remote)],
        ["repro", "-q"],
        ["push", "-q"],
    ):
        must(project, "dvc", *words, env=own)
    best, policy = project / "models" / "best" / "model", project / "models" / "policies" / "t1" / "model"
    assert best.read_text() == "the new weights"
    assert best.samefile(policy), "one file on the disk, whatever the number of folders"
    pushed = [path for path in (remote / "files").rglob("*") if path.is_file()]
    # Two models and the verdict; and a listing for each of policies, best and chosen.
    assert sorted(path.suffix for path in pushed) == ["", "", "", ".dir", ".dir", ".dir"]
    assert [path.read_text() for path in pushed].count("the new weights") == 1
    must(project, "dvc", "repro", "-q", env=own)
    assert json.loads(must(project, "dvc", "status", "--json", env=own)) == {}


def test_the_stage_reads_the_policies_of_the_recipe(tmp_path, monkeypatch):
    rows = evaluations({"t0": NOISE, "t1": NOISE + 1})
    for folder, policy in (("baselines", "t0"), ("iterations/t1/evaluate", "t1")):
        tables.write(EVALUATIONS, rows.filter(policy=policy), tmp_path / folder / "evaluations.parquet")
    for name in ("t0", "t1"):
        (tmp_path / "policies" / name).mkdir(parents=True)
        (tmp_path / "policies" / name / "model").write_text(name)
    body = json.dumps({"select": PLAIN.model_dump(), "iterations": {"t1": {"prev": "t0"}}})
    (tmp_path / "params.yaml").write_text(body)
    monkeypatch.setenv("PAIRMILL_PARAMS", str(tmp_path / "params.yaml"))
    folders = [str(tmp_path / name) for name in ("baselines", "iterations", "policies", "out", "best")]
    monkeypatch.setattr(sys, "argv", ["select", *folders])
    main()
    assert (tmp_path / "best" / "model").read_text() == "t1"
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["best"] == "t1"
