"""Every benchmark runs on a small input, finds both sides equal and ends with one JSON line."""

import json
import subprocess
import sys

import pytest

from benchmarks import all as benchmarks_all
from tests.smoke_project import ROOT, environment

SMALL = {"standardize": 200, "dedup": 400, "decontaminate": 300, "packing": 60, "startup": 5, "sampling": 2}
KEYS = {"name", "ours", "peer", "ratio", "unit", "peer_is", "input", "equality", "runs", "notes"}


def outcome(name: str) -> dict:
    """The JSON line of a benchmark on a small input."""
    words = [sys.executable, "-m", f"benchmarks.{name}", "--rows", str(SMALL[name]), "--repeats", "1"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_compares_both_sides_and_tells_their_speed(name):
    told = outcome(name)
    assert set(told) - {"recall", "precision", "classes"} == KEYS
    assert told["name"] == name
    assert told["input"]["rows"] == SMALL[name]
    assert told["input"]["bytes"] > 0
    assert told["equality"]
    faster = told["peer"] / told["ours"] if told["unit"] == "s" else told["ours"] / told["peer"]
    assert told["ratio"] == pytest.approx(faster, rel=0.01)


@pytest.mark.slow
def test_the_mix_at_full_scale_gives_the_counts_of_table_5_on_a_small_part_of_it():
    words = [sys.executable, "-m", "benchmarks.mix_full_scale", "--fraction", "0.02"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told) == KEYS
    assert told["input"]["rows"] == pytest.approx(848_965 * 0.02, rel=0.001)
    assert {"seconds", "peak_mib", "linear", "within"} <= set(told["notes"])


def test_every_benchmark_is_run_by_make_bench():
    shared = {"__init__", "all", "measure"}
    assert set(benchmarks_all.NAMES) == {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - shared
    assert set(benchmarks_all.NAMES) == set(SMALL) | {"mix_full_scale"}


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
