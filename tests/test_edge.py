"""The edge of a stage: one readable line for a mistake, a record of cost for a success."""

import json
import subprocess
import sys

from pipeline import edge

PROGRAM = """
import sys
from pipeline import edge
from pipeline.errors import UserError
def main():
    (out,) = edge.arguments("OUT")
    if out.name == "threads":
        import os
        print(os.environ["OMP_NUM_THREADS"])
    if out.name == "bad":
        raise UserError("expected a, found b; mend it with: c")
edge.run("stage", main)
"""


def run(tmp_path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": ":".join(sys.path), "PAIRMILL_STATE": str(tmp_path / "state")} | settings
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, env=env, check=False
    )


def test_a_mistake_is_one_line_without_traceback(tmp_path):
    done = run(tmp_path, "x/bad")
    assert done.returncode == 2
    assert done.stderr == "error in stage: expected a, found b; mend it with: c\n"


def test_wrong_arguments_tell_the_usage(tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (2, "error in stage: expected the arguments OUT, found 0: \n")


def test_a_success_leaves_a_record_outside_the_outs(tmp_path):
    assert run(tmp_path, "t1").returncode == 0
    (line,) = (tmp_path / "state" / "runs.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["stage"] == "stage@t1"
    assert record["peak_mib"] > 5


def test_a_line_that_a_crash_cut_is_left_out(own_state):
    own_state.mkdir()
    whole = {"stage": "sft", "seconds": 1.0}
    lines = (b'{"stage": "cut {}', json.dumps(whole).encode(), b'{"stage": "\xc3')
    (own_state / "runs.jsonl").write_bytes(b"\n".join(lines))
    assert edge.recorded() == {"sft": whole}


def test_the_threads_of_the_execution_settings_hold_for_every_stage(tmp_path):
    assert run(tmp_path, "x/threads", PAIRMILL_THREADS="3").stdout == "3\n"
