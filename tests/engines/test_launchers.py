"""Workers on this machine: the same values as one, an engine each, and none that dies costs the job."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.engines import local_pool
from pipeline.engines.launchers import launcher
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.filling import compute_into, fill, open_store
from tests.smoke_project import ROOT
from tests.toy_work import Squares

NUMBERS = list(range(40))
SQUARES = [float(number**2) for number in NUMBERS]


@pytest.fixture
def workers(own_state, monkeypatch):
    """Set the number of workers, and other settings."""

    def set_to(count: int, **values) -> None:
        for name, value in {"workers": count, "threads": 4, "shard_rows": 4, **values}.items():
            monkeypatch.setenv(f"PAIRMILL_{name.upper()}", str(value))
        execution.cache_clear()

    return set_to


def filled(work, numbers=NUMBERS) -> list[float]:
    return fill(work, numbers, launcher())["value"].to_list()


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return ") Z " not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_one_worker_computes_in_this_process(workers, tmp_path):
    workers(1)
    assert launcher() is compute_into
    work = Squares(tmp_path / "notes")
    assert filled(work) == SQUARES
    assert [path.name for path in work.notes.iterdir()] == [str(os.getpid())]


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_workers_give_the_same_values_each_with_one_engine(workers, tmp_path, count):
    workers(count)
    work = Squares(tmp_path / "notes", slow=0.05)
    assert filled(work) == SQUARES
    assert work.computed() == NUMBERS
    assert len(work.lines()) == count
    assert str(os.getpid()) not in {path.name for path in work.notes.iterdir()}
    for lines in work.lines():
        assert [line for line in lines if line.startswith("start")] == [f"start {4 // count} None"]


@pytest.mark.slow
def test_all_samples_of_a_group_are_computed_by_one_worker(workers, tmp_path):
    workers(3)
    work = Squares(tmp_path / "notes", slow=0.02)
    filled(work, NUMBERS[::-1])
    for lines in work.lines():
        numbers = {int(line) for line in lines if line.isdigit()}
        assert numbers == {4 * group + k for group in {number // 4 for number in numbers} for k in range(4)}


def test_there_are_no_more_workers_than_chunks(workers, tmp_path):
    workers(3)
    work = Squares(tmp_path / "notes")
    assert filled(work, [1, 2, 3]) == [1, 4, 9]
    assert len(work.lines()) == 1


def test_a_worker_that_is_killed_costs_less_than_a_shard(workers, tmp_path, caplog):
    workers(2)
    work = Squares(tmp_path / "notes", dies=frozenset([6, 30]))
    assert filled(work) == SQUARES
    assert len(work.lines()) <= 4
    computed = work.computed()
    assert set(computed) == set(NUMBERS)
    assert len(computed) - len(NUMBERS) <= 2 * 3
    assert caplog.text.count("a worker died (killed by signal 9)") == 2


@pytest.mark.slow
def test_a_row_that_kills_every_worker_ends_the_job_and_what_was_computed_is_stored(workers, tmp_path):
    workers(2)
    work = Squares(tmp_path / "notes", poison=30)
    with pytest.raises(UserError, match=r"found 4 that died \(the last: killed by signal 9\).*lower workers"):
        filled(work)
    stored = work.stored(NUMBERS)
    assert len(stored) >= 20
    mended = Squares(tmp_path / "again")
    assert filled(mended) == SQUARES
    assert set(mended.computed()) == set(NUMBERS) - stored


def test_a_mistake_that_an_engine_finds_reaches_the_user_as_it_is(workers, tmp_path):
    workers(2)
    work = Squares(tmp_path / "notes", mistake=33, slow=0.01)
    with pytest.raises(UserError, match=r"^number 33 does not fit$"):
        filled(work)
    # Also what the other worker had in hand is stored, but for the one row that the interrupt may fall on.
    assert len(set(work.computed()) - work.stored(NUMBERS)) <= 1
    assert not any(alive(int(path.name)) for path in work.notes.iterdir())


@pytest.mark.slow
def test_an_error_of_an_engine_is_told_by_its_name(workers, tmp_path):
    workers(2)
    with pytest.raises(RuntimeError, match="a worker failed: ZeroDivisionError: number 5"):
        filled(Squares(tmp_path / "notes", bug=5))


PROGRAM = """
import sys
from pathlib import Path
from pipeline.engines.launchers import launcher
from pipeline.filling import fill
from tests.toy_work import Squares

if __name__ == "__main__":
    fill(Squares(Path(sys.argv[1]), slow=0.1), range(400), launcher())
"""


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_stage(workers, tmp_path, blow):
    workers(2, shard_rows=1000)
    (tmp_path / "program.py").write_text(PROGRAM)
    work = Squares(tmp_path / "notes")
    command = [sys.executable, str(tmp_path / "program.py"), str(work.notes)]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    ) as process:
        while len(work.computed()) < 8 or len(work.lines()) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(blow)
        process.wait()
        pids = [int(path.name) for path in work.notes.iterdir()]
        while any(map(alive, pids)):
            time.sleep(0.02)
        said = process.stderr.read().decode()
    computed = work.computed()
    assert len(computed) < 400
    if blow == signal.SIGINT:
        assert len(set(computed) - work.stored(computed)) <= 2, "more than the rows that the blow fell on"
        assert said.count("Traceback") == 1, "a worker has told of the interrupt, too"


def test_the_ray_launcher_is_chosen_by_its_name(workers, monkeypatch):
    workers(1, launcher="ray")
    assert launcher().__name__ == "ray_pool"


@pytest.mark.slow
def test_progress_comes_back_where_a_worker_dies_before_it_stores(workers, tmp_path, monkeypatch):
    workers(2, shard_rows=100)
    monkeypatch.setattr(local_pool, "TELL_SECONDS", 0.0)
    told = []
    work = Squares(tmp_path / "notes", dies=frozenset([6]), slow=0.2)
    local_pool.local_pool(open_store(), work.job(NUMBERS), told.append)
    assert sum(told) == len(NUMBERS)
