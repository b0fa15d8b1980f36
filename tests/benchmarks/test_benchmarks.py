"""Every benchmark runs on a small input, finds both sides equal and ends with one JSON line."""

import json
import subprocess
import sys

import pytest

from benchmarks import all as benchmarks_all
from benchmarks import incremental
from tests.smoke_project import ROOT, environment

SMALL = {
    **{"standardize": 200, "dedup": 400, "decontaminate": 300, "packing": 60, "pairs": 60, "startup": 5},
    **{"generation_transformers": 2, "generation_vllm": 2, "scoring": 16, "projection": 160},
    "reference_memory": 8,
}
KEYS = {"name", "ours", "peer", "ratio", "unit", "peer_is", "input", "equality", "runs", "notes"}


def outcome(name: str, *more: str) -> dict:
    """The JSON line of a benchmark on a small input."""
    size = ("--rows", str(SMALL[name]), "--repeats", "1")
    words = [sys.executable, "-m", f"benchmarks.{name}", *size, *more]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_compares_both_sides_and_tells_their_speed(name):
    if benchmarks_all.lacks(name):
        pytest.skip(f"{benchmarks_all.PACKAGES[name]} is not installed")
    told = outcome(name)
    assert set(told) - {"recall", "precision", "classes"} == KEYS
    assert told["name"] == name
    assert told["input"]["rows"] == SMALL[name]
    assert told["input"]["bytes"] > 0
    assert told["equality"]
    faster = told["peer"] / told["ours"] if told["unit"] in ("s", "MiB") else told["ours"] / told["peer"]
    assert told["ratio"] == pytest.approx(faster, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generation_transformers", "generation_vllm"])
def test_greedy_answers_are_compared_in_float32_whatever_is_timed(name):
    if benchmarks_all.lacks(name):
        pytest.skip(f"{benchmarks_all.PACKAGES[name]} is not installed")
    told = outcome(name, "--dtype", "bfloat16")
    assert told["equality"].startswith("greedy answers: all 2 the same in float32; ")
    assert told["equality"].endswith("in bfloat16, which is timed")


@pytest.mark.slow
def test_rewards_are_compared_in_float32_before_they_are_timed():
    assert outcome("scoring")["equality"].startswith("all 16 rewards within 0.0001 in float32")


@pytest.mark.slow
def test_the_mix_at_full_scale_gives_the_counts_of_table_5_on_a_small_part_of_it():
    words = [sys.executable, "-m", "benchmarks.mix_full_scale", "--fraction", "0.02"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told) == KEYS
    assert told["input"]["rows"] == pytest.approx(848_965 * 0.02, rel=0.001)
    assert {"seconds", "peak_mib", "linear", "within"} <= set(told["notes"])


@pytest.mark.slow
def test_after_an_edit_engines_compute_what_is_new_and_nothing_else():
    words = [sys.executable, "-m", "benchmarks.incremental", "--rows", "40"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told) - {"classes", "extra_cells"} == KEYS
    assert told["extra_cells"] == dict.fromkeys(["first_run", *incremental.SCENARIOS], 0)
    figures = told["classes"]
    assert all(found["missing_cells"] == 0 for found in figures.values())
    # Engines were asked at all, for everything that they compute, and most scenarios need stored cells, too.
    assert {"sample", "score", "prefer", "log_probs", "reference"} <= set(figures["first_run"])
    assert [name for name, found in figures.items() if not found["computed"]] == ["execution_changed"]
    for name in ("prompts_plus_1_percent", "samples_8_to_16", "execution_changed", "prompts_shared"):
        assert figures[name]["computed"] < figures[name]["without_a_store"]


def test_every_benchmark_is_run_by_make_bench():
    # length_bias tells what judges think, not how fast anything is.
    shared = {"__init__", "all", "measure", "gpu_check", "random_models", "length_bias"}
    assert set(benchmarks_all.NAMES) == {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - shared
    assert set(benchmarks_all.NAMES) == set(SMALL) | {"mix_full_scale", "incremental"}


def test_a_benchmark_without_its_package_is_named_on_the_page(monkeypatch):
    monkeypatch.setattr(benchmarks_all, "find_spec", lambda name: None)
    assert [name for name in benchmarks_all.NAMES if benchmarks_all.lacks(name)] == ["generation_vllm"]
    assert "- `generation_vllm`: not run, without vllm." in benchmarks_all.page([], ["generation_vllm"])


def test_the_page_has_a_line_for_each_result():
    result = {
        "name": "startup",
        "ours": 0.4252,
        "peer": None,
        "ratio": None,
        "unit": "s",
        "peer_is": None,
        "input": {"rows": 12_000, "bytes": 2_500_000},
        "equality": "the first row",
        "runs": 3,
        "notes": {"peer_fill": 0.5},
    }
    page = benchmarks_all.page([result])
    assert "| `startup` | 0.425 | - | - | s | 3 | 12,000 rows, 2.5 MB | the first row | none |" in page
    assert "- `startup`: peer fill 0.5." in page
