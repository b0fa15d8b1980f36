"""Runs of one recipe under several seeds, pooled by prompt."""

import re

import polars as pl
import pytest

from pipeline import tables
from pipeline.cli import main
from pipeline.schemas import CONTROLS, EVALUATIONS
from tests.stages.preference_rows import user

KEY = ("policy", "prompt_id")


def write(folder, gains: dict[str, list[float]], control: float, tokens: int = 4) -> None:
    """A run in which each policy beats t0, whose rewards are 0, by its gains on prompts p0, p1 ..."""
    (folder / "data").mkdir(parents=True)
    (folder / "params.yaml").write_text("iterations: {t1: {}}", encoding="utf-8")
    rows = [
        {
            "policy": policy,
            "prompt_id": f"p{i}",
            "prompt": user(f"{i}?"),
            "response": "x",
            "tokens": tokens + (policy == "t1"),
            "finish_reason": "stop",
            "reward": gain,
            "win": None,
            "preference": None,
            "kl": 0.5 * (policy == "t1"),
            "kl_tokens": 3,
        }
        for policy, values in gains.items()
        for i, gain in enumerate(values)
    ]
    frame = pl.DataFrame(rows, schema=EVALUATIONS.schema)
    late = pl.col("policy") == "t1"
    for part, own in (("baselines", ~late), ("iterations/t1/evaluate", late)):
        tables.write(EVALUATIONS, frame.filter(own), folder / "data" / part / "evaluations.parquet")
    told = frame.select(*KEY, reward=pl.col("reward") * control)
    tables.write(CONTROLS, told, folder / "data" / "control" / "controls.parquet")


def told(capsys, *words: object) -> dict[str, list[str]]:
    """The cells of each printed line."""
    with pytest.raises(SystemExit) as left:
        main(["compare", *map(str, words)])
    assert left.value.code == 0
    lines = [re.split(r"\s{2,}", text.strip()) for text in capsys.readouterr().out.splitlines()]
    return {cells[0]: cells[1:] for cells in lines}


def flat(gain: float, prompts: int = 4) -> list[float]:
    return [gain] * prompts


def test_a_prompt_counts_once_however_many_runs_answer_it(tmp_path, capsys):
    base = {"t0": flat(0.0), "offline_dpo": flat(0.5)}
    write(tmp_path / "a", base | {"t1": [1.0, 3.0, 1.0, 3.0]}, control=0.1)
    write(tmp_path / "b", base | {"t1": [3.0, 1.0, 3.0, 1.0]}, control=-0.1)
    rows = told(capsys, tmp_path / "a", tmp_path / "b")
    prompts, judge, runs, control, control_runs, tokens, kl = rows["t1"]
    # The two runs cancel at every prompt: whichever prompts are drawn, the mean is 2.
    assert (prompts, judge, runs) == ("4", "+2.000 (+2.000 to +2.000)", "+2.000, +2.000")
    assert (control, control_runs) == ("+0.000 (-0.100 to +0.100)", "+0.200, -0.200")
    assert (tokens, kl) == ("+1.0 (+1.0 to +1.0)", "+0.50 (+0.50 to +0.50)")
    assert list(rows) == ["policy", "offline_dpo", "t1"]


def test_the_interval_is_over_prompts(tmp_path, capsys):
    write(tmp_path / "a", {"t0": flat(0.0), "t1": [0.0, 4.0, 0.0, 4.0]}, control=1.0)
    judge = told(capsys, tmp_path / "a")["t1"][1]
    assert judge == "+2.000 (+0.000 to +4.000)"


def test_any_policy_can_be_the_one_to_compare_with(tmp_path, capsys):
    write(tmp_path / "a", {"t0": flat(0.0), "offline_dpo": flat(0.5), "t1": flat(2.0)}, control=1.0)
    rows = told(capsys, tmp_path / "a", "--against", "offline_dpo")
    assert rows["t1"][1].startswith("+1.500")
    assert rows["t0"][1].startswith("-0.500")


@pytest.mark.parametrize(
    ("other", "words", "said"),
    [
        ({"t0": flat(0.0), "t1": flat(1.0, 3)}, [], "found t1 on prompt p3 in 1 of 2"),
        ({"t0": flat(0.0)}, [], "found t1 on prompt p0 in 1 of 2"),
        ({"t0": flat(0.0), "t1": flat(1.0)}, ["--against", "t7"], "one of t0, t1, found t7"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(tmp_path, capsys, other, words, said):
    write(tmp_path / "a", {"t0": flat(0.0), "t1": flat(1.0)}, control=1.0)
    write(tmp_path / "b", other, control=1.0)
    with pytest.raises(SystemExit) as left:
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), *words])
    assert left.value.code == 2
    assert said in capsys.readouterr().err
