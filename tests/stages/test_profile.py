"""Stage profile: a mix that can be guessed without reading is stopped, and whoever trains on it too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import profiles
from pipeline.errors import UserError
from pipeline.preference_training import demand_gate
from pipeline.read_sets import ReadSet
from pipeline.stages import profile
from tests.stages.mix_folders import write_mix, write_sources
from tests.stages.preference_rows import preference

ROOT = Path(__file__).parents[2]
GATES = "profile: {{tokenizer: models/base, gates: {{demo: {gate}}}}}\n"


def fair(n: int) -> list[dict]:
    """Pairs in which the longer answer wins every other time."""
    long, short = "a long and winding answer", "short"
    return [preference(i, f"question {i}", *((long, short) if i % 2 else (short, long))) for i in range(n)]


def longer_chosen(n: int) -> list[dict]:
    return [preference(i, f"question {i}", "a long and winding answer", "short") for i in range(n)]


def run(
    folder: Path, monkeypatch, tokenizer: Path, train: list[dict], *, gate: str = "0.75", test=()
) -> Path:
    """The stage in `folder`; gives its out."""
    write_mix(folder / "mixes" / "demo", train, test)
    write_sources(folder / "preferences", {"a": ReadSet(rows=len(train) + len(test))})
    (folder / "params.yaml").write_text(GATES.format(gate=gate))
    words = ["profile", "demo", "mixes/demo", "preferences", str(tokenizer), "profiles/demo"]
    monkeypatch.setattr(sys, "argv", words)
    profile.main()
    return folder / "profiles" / "demo"


def test_a_fair_mix_passes_and_says_what_it_is(own_state, tmp_path, monkeypatch, tiny_model):
    out = run(tmp_path, monkeypatch, tiny_model, fair(60), test=fair(20))
    assert json.loads((out / "passed.json").read_text()) == {"passed": True}
    found = profiles.read(out)
    assert [row.pairs for row in found.rows("whole")] == [80, 80]
    assert "Passes its gate of 75.0%" in (out / "profile.md").read_text()
    demand_gate(out / "passed.json")


def test_a_mix_of_longer_answers_always_chosen_fails_and_leaves_its_figures(
    own_state, tmp_path, monkeypatch, tiny_model, capsys
):
    with pytest.raises(UserError, match=r"longer wins on train: 100.0% \(94\.0 to 100\.0\)") as error:
        run(tmp_path, monkeypatch, tiny_model, longer_chosen(60))
    assert "profile.gates.demo" in str(error.value)
    assert not (tmp_path / "profiles").exists()
    kept = (own_state / "profiles" / "demo.md").read_text()
    assert kept.strip() in capsys.readouterr().err
    failing = [line for line in kept.splitlines() if "FAILS" in line]
    assert [line.split("|")[1].strip() for line in failing] == ["longer wins", "longer or shorter by source"]
    assert "## Table 5, whole" in kept
    with pytest.raises(UserError, match="dvc repro profile@demo"):
        demand_gate(tmp_path / "profiles" / "demo" / "passed.json")


def test_a_raised_gate_or_none_lets_it_through_with_the_same_permission(
    own_state, tmp_path, monkeypatch, tiny_model
):
    permissions = set()
    for gate in ("1.0", "null"):
        out = run(tmp_path, monkeypatch, tiny_model, longer_chosen(60), gate=gate)
        permissions.add((out / "passed.json").read_bytes())
    assert len(permissions) == 1  # else another gate would train everything again


def test_the_same_mix_gives_the_same_bytes(own_state, tmp_path, monkeypatch, tiny_model):
    for name, rows in (("one", fair(40)), ("two", fair(40)[::-1])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run(tmp_path / name, monkeypatch, tiny_model, rows, test=fair(9))
    for file in ("profile.json", "profile.md", "passed.json"):
        one, two = ((tmp_path / name / "profiles" / "demo" / file).read_bytes() for name in ("one", "two"))
        assert one == two, file


def test_a_failed_gate_is_exit_status_2_without_a_traceback(own_state, tmp_path, monkeypatch, tiny_model):
    with pytest.raises(UserError):
        run(tmp_path, monkeypatch, tiny_model, longer_chosen(60))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.stages.profile", *sys.argv[1:]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error in profile@demo: mix demo fails its gate")


def test_a_mix_without_an_entry_is_not_passed_silently(own_state, tmp_path, monkeypatch, tiny_model):
    with pytest.raises(UserError, match="expected a gate for demo, found \\['other'\\]"):
        (tmp_path / "x").mkdir()
        monkeypatch.setattr(
            sys.modules[__name__], "GATES", "profile: {{tokenizer: models/base, gates: {{other: {gate}}}}}\n"
        )
        run(tmp_path, monkeypatch, tiny_model, fair(9))
