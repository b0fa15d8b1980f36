"""Several workers on this machine, each a process with an engine of its own and its part of the GPUs.

A worker loads its engine once, is handed one chunk after another, and appends its rows to the store itself.
One that dies is replaced, up to a few times, and what it has not stored is computed again.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pipeline import edge
from pipeline.chunks import split, unanswered
from pipeline.engines.devices import places
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.filling import Advance, Compute, Job, compute_with
from pipeline.store import RowStore

log = logging.getLogger(__name__)

MOST_DEATHS = 3
"""Workers that may die during a job. One more, and something is wrong with the job or the machine."""
STOP_SECONDS = 30.0
"""Time that a worker gets to store its rows and end, before it is killed."""
DEATH_SECONDS = 1.0
"""Time between two looks whether the workers live, and for one that leaves to be gone."""
TELL_SECONDS = 0.5
"""Time between two words of a worker about its progress."""


class Worker:
    """A process that computes chunks, or the place of one; at most one chunk at a time is in its hands."""

    def __init__(self, url: str, place: Mapping[str, str]) -> None:
        self.url, self.place = url, place
        self.process: SpawnProcess | None = None
        self.pipe: Connection | None = None
        self.job: Job | None = None
        self.told = 0
        """Rows of the chunk that were told to be computed."""

    def take(self, job: Job) -> None:
        """Hand over a chunk; the process is started with the first one."""
        if self.process is None or self.pipe is None:
            self.process, self.pipe = started(self.url, self.place)
        self.job, self.told = job, 0
        with suppress(OSError):  # it died while it had nothing to do: that is heard next
            self.pipe.send(job)

    def heard(self, advance: Advance) -> bool:
        """Take its next word, if there is one: rows done, chunk done, or what its engine raised.

        False where it has died. The pipe may be open even then: a process of its engine may hold the end.
        """
        assert self.process is not None and self.pipe is not None
        alive = self.process.is_alive()
        if not self.pipe.poll():
            return alive
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):
            return False
        if isinstance(said, Exception):
            self.job = None
            raise said
        if said is None:
            self.job = None
        else:
            self.told += said
            advance(said)
        return True

    def bury(self, store: RowStore, advance: Advance) -> tuple[str, Job | None]:
        """How it died, and what is left of its chunk."""
        how, job = self.ended(DEATH_SECONDS), self.job
        assert job is not None
        self.job = None
        rest = unanswered(store, job)
        advance(len(job.asks) - (len(rest.asks) if rest else 0) - self.told)
        return how, rest

    def interrupt(self) -> None:
        """Have it store what it has, and end."""
        if self.process is not None and self.pipe is not None:
            if self.job is not None and self.process.is_alive():
                os.kill(self.process.pid or 0, signal.SIGINT)
            self.pipe.close()

    def ended(self, seconds: float) -> str:
        """Wait for its end so long, then kill it; its engine's own processes go with it."""
        if self.process is None:
            return ""
        self.process.join(seconds)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        status = self.process.exitcode or 0
        self.process = None
        return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def local_pool(store: RowStore, job: Job, advance: Advance) -> None:
    """Compute a job by the workers of the execution settings.

    UserError where more than MOST_DEATHS workers die, and where the engine of one raises it; what has
    been computed is stored. No worker outlives this call, nor this process.
    """
    queue = deque(split(job, execution().workers))
    count, deaths = min(execution().workers, len(queue)), 0
    with pool(store.url, places(count, on_device=job.work.on_device)) as workers:
        while True:
            for worker in sorted(workers, key=lambda worker: worker.process is None):
                if worker.job is None and queue:
                    worker.take(queue.popleft())
            busy = [worker for worker in workers if worker.job is not None]
            if not busy:
                return
            wait([worker.pipe for worker in busy if worker.pipe is not None], DEATH_SECONDS)
            for worker in busy:
                if worker.heard(advance):
                    continue
                how, rest = worker.bury(store, advance)
                deaths += 1
                if deaths > MOST_DEATHS:
                    raise UserError(too_many(deaths, how, job))
                log.warning("a worker died (%s): what it had not stored is computed again", how)
                queue.extendleft([rest] if rest else [])


def too_many(deaths: int, how: str, job: Job) -> str:
    """What is said where a job gives up; how: the end of the last worker that died."""
    return (
        f"expected workers that compute {job.cells.kind} rows, found {deaths} that died (the last: {how}), "
        "perhaps out of memory; lower workers or the engine's batch in exec.yaml and say dvc repro: what was "
        "computed is stored"
    )


@contextmanager
def pool(url: str, places: list[dict[str, str]]) -> Generator[list[Worker]]:
    """Workers that have ended when this is left, however it is left."""
    workers = [Worker(url, place) for place in places]
    try:
        yield workers
    finally:
        try:
            for worker in workers:
                worker.interrupt()
            deadline = time.monotonic() + STOP_SECONDS
            for worker in workers:
                worker.ended(max(0.0, deadline - time.monotonic()))
        finally:  # a second Ctrl-C does not wait
            for worker in workers:
                worker.ended(0.0)


def started(url: str, place: Mapping[str, str]) -> tuple[SpawnProcess, Connection]:
    """A new process with the environment of its place, and our end of the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, url))
    before = dict(os.environ)
    # It begins with SIGINT blocked, so that an early Ctrl-C finds it where it can end quietly.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.environ.update(place)
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return process, ours


def work(pipe: Connection, url: str) -> None:
    """Be a worker: compute the chunks that come through the pipe until it is closed."""
    os.setpgrp()  # Ctrl-C on a terminal reaches the stage alone, which tells its workers
    threading.Thread(target=end_with_the_stage, daemon=True).start()
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    edge.quieten()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        compute_all(pipe, RowStore(url))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        pass  # the stage is done with this worker
    except UserError as error:
        pipe.send(error)
    except Exception as error:
        pipe.send(RuntimeError(f"a worker failed: {type(error).__name__}: {error}"))
        raise


def compute_all(pipe: Connection, store: RowStore) -> None:
    """Compute each chunk, and tell of rows now and then, and of the end of a chunk."""
    compute: Compute | None = None
    untold, last = 0, 0.0

    def advance(rows: int) -> None:
        nonlocal untold, last
        untold += rows
        if time.monotonic() - last >= TELL_SECONDS:
            pipe.send(untold)
            untold, last = 0, time.monotonic()

    while True:
        job: Job = pipe.recv()
        if compute is None:
            compute = job.work.start()
        compute_with(compute, store, job, advance)
        pipe.send(untold)
        untold = 0
        pipe.send(None)


def end_with_the_stage() -> None:
    """Kill this worker and its engine's processes as soon as the stage is gone, so that no GPU stays held."""
    stage = multiprocessing.parent_process()
    assert stage is not None
    stage.join()
    os.killpg(os.getpgrp(), signal.SIGKILL)
