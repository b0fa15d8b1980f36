"""kill -9 at any moment of `generate`: less than a shard is lost, and the rerun ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from pipeline import tables
from pipeline.schemas import SLICE
from tests.smoke_project import ROOT
from tests.stages.answers import slice_of

PARAMS = """
generate:
  engine: fake
  dtype: float32
  samples:
    - {policy: current, temperature: 1.0, count: 4}
    - {policy: current, temperature: 0.7, count: 4}
  max_prompt_tokens: 200
  max_new_tokens: 40
  unfinished: keep
  seed: 5
"""
PROMPTS = 24
ROWS = 8 * PROMPTS
SHARD = 8
SHARDS = ROWS // SHARD
MOMENTS = 50
STAGE = str(ROOT / "tests" / "killed_generate.py")
#: A run is killed in each of its phases; most of a long one are answers and shards.
PHASES = {"start": 1, "answer": 4, "shard": 4, "projection": 1}


@dataclass
class Folder:
    """A working folder with the inputs of the stage, a store, and notes of what was computed."""

    path: Path
    model: Path
    seen: int = 0
    """Answers of earlier runs."""
    lost: int = field(default=0, init=False)

    def words(self) -> list[str]:
        return ["t1", "prompts.parquet", str(self.model), str(self.model), "out"]

    def environment(self, settings: dict[str, object]) -> dict[str, str]:
        (self.path / "notes").mkdir(exist_ok=True)
        told = {"KILL_NOTES": "notes", "KILL_PAUSE": 0.0005, "PAIRMILL_SHARD_ROWS": SHARD, **settings}
        return {name: str(value) for name, value in told.items()}

    def start(self, **settings: object) -> subprocess.Popen:
        """Start the stage."""
        with (self.path / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, STAGE, *self.words()],
                cwd=self.path,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment(settings)},
                stderr=log,
                start_new_session=True,
            )

    def run(self, **settings: object) -> int:
        """Run the stage; its exit status."""
        with self.start(**settings) as process:
            return process.wait()

    def note(self, name: str) -> list[str]:
        path = self.path / "notes" / name
        return path.read_text().splitlines() if path.exists() else []

    def answers(self) -> list[tuple[int, str]]:
        """Process and key of every answer that the engine has given, in all runs."""
        return [(int(pid), key) for pid, key in (line.split() for line in self.note("answers"))]

    def stored(self) -> set[str]:
        shards = (self.path / ".pairmill" / "store").glob("sample/*/*.parquet")
        return {key for path in shards for key in pl.read_parquet(path)["key"]}

    def outputs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.path / "out").iterdir())}

    def account(self, before: set[str], workers: int = 1) -> None:
        """Of the last run: no stored row was computed, and less than a shard per worker was lost."""
        new = [key for _, key in self.answers()[self.seen :]]
        self.seen += len(new)
        assert not before & set(new), "a stored row was computed again"
        assert before <= self.stored(), "a stored row is gone"
        lost = len(new) - len(self.stored() - before)
        assert 0 <= lost <= workers * SHARD
        self.lost += lost


def folder_in(parent: Path, name: str, model: Path) -> Folder:
    """A working folder; any two differ in nothing."""
    folder = Folder(parent / name, model)
    folder.path.mkdir()
    (folder.path / "params.yaml").write_text(PARAMS)
    prompts = slice_of(*(f"What is {number} times seven?" for number in range(PROMPTS)))
    tables.write(SLICE, prompts, folder.path / "prompts.parquet")
    return folder


@pytest.fixture
def made(tmp_path, tiny_model):
    return lambda name: folder_in(tmp_path, name, tiny_model)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_model) -> Folder:
    folder = folder_in(tmp_path_factory.mktemp("kills"), "undisturbed", tiny_model)
    assert folder.run() == 0, (folder.path / "log.txt").read_text()
    assert len(folder.answers()) == len(folder.stored()) == ROWS
    return folder


def moment(rng: random.Random, left: int, start: float) -> dict[str, object]:
    """A random moment of a run that has so many rows left and takes `start` seconds before its first."""
    phase = rng.choices(list(PHASES), list(PHASES.values()))[0]
    marks = {"start": 1, "answer": left, "shard": 2 * -(-left // SHARD), "projection": 3}[phase]
    after = rng.uniform(0, 1.5 * start if phase == "start" else 0.01)
    return {"KILL_AT": f"{phase}:{rng.randrange(max(marks, 1))}", "KILL_AFTER": after}


@pytest.fixture
def forks():
    """Run the stage in a folder, in a process that need not import anything."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KILL_NOTES": "", "KILL_PAUSE": ""}
    command = [sys.executable, STAGE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        tell, answers = server.stdin, server.stdout

        def run(folder: Folder, settings: dict[str, object]) -> int:
            job = [str(folder.path), folder.environment(settings), folder.words()]
            tell.write(f"{json.dumps(job)}\n")
            tell.flush()
            return int(answers.readline())

        yield run


@pytest.mark.slow
def test_kills_at_random_moments_cost_less_than_a_shard_each_and_no_byte(undisturbed, made, forks):
    """Runs are killed, and the runs that go on from them, until one gets through; then in a new folder."""
    rng, kills, folders = random.Random(4), 0, 0
    start = float(undisturbed.note("start")[0])
    while kills < MOMENTS:
        folder, status, folders = made(f"killed-{folders}"), -signal.SIGKILL, folders + 1
        while status == -signal.SIGKILL:
            before = folder.stored()
            at = moment(rng, ROWS - len(before), start) if kills < MOMENTS else {}
            status = folder.run(**at) if at.get("KILL_AT") == "start:0" else forks(folder, at)
            folder.account(before)
            kills += status == -signal.SIGKILL
        assert status == 0, (folder.path / "log.txt").read_text()
        assert folder.outputs() == undisturbed.outputs()
        assert len(folder.answers()) == ROWS + folder.lost


def until(process: subprocess.Popen, folder: Folder, answers: int) -> set[int]:
    """Wait for so many answers; the processes that gave them."""
    while len(folder.answers()) < folder.seen + answers:
        assert process.poll() is None, (folder.path / "log.txt").read_text()
        time.sleep(0.002)
    return {pid for pid, _ in folder.answers()[folder.seen :]}


def gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


TWO = {"PAIRMILL_WORKERS": 2, "KILL_PAUSE": 0.005}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_with_two_workers_a_kill_of_the_stage_costs_less_than_a_shard_each(undisturbed, made, seed):
    rng, folder = random.Random(seed), made("killed")
    for _ in range(2):
        before = folder.stored()
        with folder.start(**TWO) as process:
            workers = until(process, folder, rng.randrange(1, (ROWS - len(before)) // 3))
            os.killpg(process.pid, signal.SIGKILL)
        while not all(map(gone, {*workers, *(pid for pid, _ in folder.answers()[folder.seen :])})):
            time.sleep(0.01)
        folder.account(before, workers=2)
    before = folder.stored()
    assert folder.run(**TWO) == 0
    folder.account(before, workers=0)
    assert folder.outputs() == undisturbed.outputs()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_loses_a_worker_goes_on_and_ends_well(undisturbed, made, seed):
    rng, folder = random.Random(seed), made("killed")
    with folder.start(**TWO) as process:
        for answers in (rng.randrange(1, ROWS // 4), rng.randrange(ROWS // 4, ROWS // 2)):
            until(process, folder, answers)
            os.kill(folder.answers()[-1][0], signal.SIGKILL)
        assert process.wait() == 0, (folder.path / "log.txt").read_text()
    lost = len(folder.answers()) - ROWS
    assert 0 <= lost <= 2 * SHARD
    assert {key for _, key in folder.answers()} == folder.stored()
    assert folder.outputs() == undisturbed.outputs()
    assert "a worker died (killed by signal 9)" in (folder.path / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"WORKERS": 2}, {"WORKERS": 3, "SHARD_ROWS": 3}, {"SHARD_ROWS": 1000}])
def test_no_number_of_workers_and_no_shard_size_changes_a_byte(undisturbed, made, settings):
    folder = made("other")
    assert folder.run(**{f"PAIRMILL_{name}": value for name, value in settings.items()}) == 0
    assert len(folder.answers()) == ROWS
    assert folder.outputs() == undisturbed.outputs()
