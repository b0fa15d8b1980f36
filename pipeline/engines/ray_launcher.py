"""Engines on a Ray cluster: a pool of actors that take chunks of a job and write to the row store.

The cluster is an existing one (execution setting `ray_address`) or one that is started on this machine
for the run. Each actor asks for one GPU, or for as many as share a copy of the model, or for CPUs where
the engine or the cluster has no GPU. It loads its engine once and computes chunks until none is left.
What goes through Ray is asks and counts; values go straight to the store.

Every node must see the folder of the run at the same path (a shared file system), and a store that is
not a URL below it or at the same path. Python finds this package there, or as it is installed on the node.

An actor that is lost, be it with its node, is replaced where there is room; those rows of its chunk that
it had not stored yet go to the next free actor.
"""

import json
import logging
import os
import socket
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.chunks import split, unanswered
from pipeline.edge import quieten
from pipeline.errors import UserError
from pipeline.execution import Execution, execution
from pipeline.filling import Advance, Job, Work, compute_with
from pipeline.store import RowStore

log = logging.getLogger(__name__)

LOSSES = 3
"""Actors that are lost over one chunk, or (for each worker) while they load, before the run gives up."""
PATIENCE = 300.0
"""Seconds that a cluster has to find room for the first actor; it may have to start a node."""
KNOCK = 10.0
"""Seconds in which a cluster must answer."""
UNITS = {"num_cpus": "CPU", "num_gpus": "GPU"}
"""What an actor asks for, and how the cluster calls it."""
OBJECT_STORE = 300_000_000
"""Bytes of memory for what goes through a local cluster: asks."""


def ray_pool(store: RowStore, job: Job, advance: Advance) -> None:
    """Compute a job on a Ray cluster. UserError where no actor finds room, or too many are lost."""
    settings, shared = execution(), reachable(store)
    with cluster(settings) as ray:
        Pool(ray, shared, job, advance, settings).run()


def reachable(store: RowStore) -> RowStore:
    """The store by a name that means the same on every node."""
    return store if "://" in store.url else RowStore(Path(store.url).absolute())


@contextmanager
def cluster(settings: Execution) -> Generator[Any]:
    """The module `ray`, connected to the cluster of the settings; in the end it is left, or shut down."""
    ray, address = imported(), settings.ray_address
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        if address and address != "auto":
            knock(address)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except OSError as error:
        raise UserError(
            f"exec.ray_address: expected a Ray cluster at {address}, found none ({first_line(error)}); "
            "start one with: ray start --head, or set the key to null"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def knock(address: str) -> None:
    """OSError where nothing listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise OSError("this is no host:port")
    socket.create_connection((host, int(port)), timeout=KNOCK).close()


def imported() -> Any:
    """The module `ray`, told to send no usage statistics."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it will be; without it Ray warns
    try:
        import ray
    except ImportError:
        raise UserError(
            "exec.launcher: expected the package ray for the launcher 'ray', found none; "
            "install it with: make setup"
        ) from None
    return ray


class Engine:
    """The actor: an engine in a process of its own on some node. Failures must come from its methods: a
    constructor that fails looks like a lost node."""

    def place(self) -> str:
        """The name of the node, as soon as the actor is there."""
        return f"{socket.gethostname()} (process {os.getpid()})"

    def start(self, folder: Path, variables: dict[str, str], url: str, cells: str, work: Work) -> None:
        """Take over the settings of the run, look for what must be shared (the store has `cells`), load the
        engine."""
        if not folder.is_dir():
            raise UserError(
                f"the Ray node {socket.gethostname()}: expected the folder {folder}, found none; "
                "run in a folder that all nodes of the cluster share"
            )
        os.chdir(folder)
        os.environ.update(variables)
        execution.cache_clear()
        quieten()
        self.store = RowStore(url)
        if not self.store.storage.files(cells):
            raise UserError(
                f"the Ray node {socket.gethostname()}: expected the row store {url} of the run, found "
                "another; set exec.store to a folder that all nodes share, or to an s3:// URL"
            )
        self.loaded = work.start()

    def compute(self, chunk: Job) -> None:
        """Compute a chunk into the store."""
        compute_with(self.loaded, self.store, chunk, lambda rows: None)


@dataclass
class Worker:
    """An actor as the pool sees it: where it is (None before it has found room), and what it computes."""

    actor: Any
    node: str | None = None
    chunk: Job | None = None
    losses: int = 0
    """Actors that were lost over this chunk before."""


class Pool:
    """The actors of one job."""

    def __init__(self, ray: Any, store: RowStore, job: Job, advance: Advance, settings: Execution) -> None:
        self.ray, self.store, self.job, self.advance, self.settings = ray, store, job, advance, settings
        self.waiting = deque((chunk, 0) for chunk in split(job, settings.workers))
        self.unfinished = len(self.waiting)
        self.idle: list[Worker] = []
        self.running: dict[Any, Worker] = {}
        self.lost_loading = 0
        self.needs = needs(ray.cluster_resources(), job.work.on_device, settings)

    def run(self) -> None:
        """Compute every chunk."""
        wanted, has = min(self.settings.workers, self.unfinished), self.ray.cluster_resources()
        room = min(int(has.get(UNITS[name], 0) // count) for name, count in self.needs.items() if count)
        if room < wanted:
            log.warning("the Ray cluster has room for %d of %d workers and goes on with these", room, wanted)
        for _ in range(wanted):
            self.hire()
        while self.unfinished:
            done, _ = self.ray.wait(list(self.running), timeout=PATIENCE)
            if not done:
                self.wait_for_room()
            for ref in done:
                self.settle(self.running.pop(ref), ref)

    def hire(self) -> None:
        """Ask the cluster for one more actor; it may have to wait for room."""
        actor = self.ray.remote(Engine).options(scheduling_strategy="SPREAD", **self.needs).remote()
        self.running[actor.place.remote()] = Worker(actor)

    def wait_for_room(self) -> None:
        """UserError where no actor has found room for so long; others that compute are let go on."""
        if any(worker.node for worker in (*self.running.values(), *self.idle)):
            return
        has = self.ray.cluster_resources()
        found = ", ".join(f"{has.get(name, 0):g} {name}" for name in UNITS.values())
        wanted = ", ".join(f"{count} {UNITS[name]}" for name, count in self.needs.items() if count)
        raise UserError(
            f"the Ray cluster: expected room for a worker with {wanted} within {PATIENCE:.0f} s, found none: "
            f"it has {found} in all; add nodes, or lower exec.tensor_parallel or exec.threads"
        )

    def settle(self, worker: Worker, ref: Any) -> None:
        """What follows from one finished call of an actor."""
        errors = self.ray.exceptions
        try:
            result = self.ray.get(ref)
        except (errors.RayActorError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            self.replace(worker, error)
            return
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from None
            raise
        if worker.node is None:
            worker.node = result
            log.info("a worker starts on %s", worker.node)
            settings = variables(self.settings)
            # The name of the set is sent along: to find it, every node would digest the model's files.
            told = (Path.cwd(), settings, self.store.url, self.job.cells.name)
            call = worker.actor.start.remote(*told, self.job.work)
            self.running[call] = worker
            return
        if worker.chunk is None:
            self.advance(0)  # the first row is on its way
        else:
            self.finish(worker.chunk)
            worker.chunk = None
        self.give(worker)

    def finish(self, chunk: Job) -> None:
        """A chunk is in the store."""
        self.unfinished -= 1
        self.advance(len(chunk.keys))

    def give(self, worker: Worker) -> None:
        """Have an actor compute the next chunk; without one it waits, since a chunk may come back."""
        if not self.waiting:
            self.idle.append(worker)
            return
        worker.chunk, worker.losses = self.waiting.popleft()
        self.running[worker.actor.compute.remote(worker.chunk)] = worker

    def replace(self, worker: Worker, error: Exception) -> None:
        """Put back what a lost actor has not stored, and ask for another actor."""
        self.ray.kill(worker.actor)  # one that only cannot be reached would go on
        chunk, losses, limit = worker.chunk, worker.losses + 1, LOSSES
        if chunk is None:
            self.lost_loading += 1
            losses, limit = self.lost_loading, LOSSES * self.settings.workers
        where = worker.node or "an unknown node"
        if losses >= limit:
            what = "loading the engine" if chunk is None else f"the same {len(chunk.keys)} rows"
            raise UserError(
                f"Ray: expected workers that live, found {losses} lost over {what}, the last on {where} "
                f"({first_line(error)}); look there for memory and in Ray's logs. What they computed is "
                "stored: the same command goes on from there"
            )
        log.warning("a worker on %s is lost (%s): another takes its rows", where, first_line(error))
        if chunk is not None:
            self.put_back(chunk, losses)
        self.hire()

    def put_back(self, chunk: Job, losses: int) -> None:
        """The rest of a lost chunk goes to the next actor that is free."""
        rest = unanswered(self.store, chunk)
        if rest is None:
            self.finish(chunk)
            return
        self.advance(len(chunk.keys) - len(rest.keys))
        self.waiting.appendleft((rest, losses))
        if self.idle:
            self.give(self.idle.pop())


def needs(has: dict[str, float], on_device: bool, settings: Execution) -> dict[str, int]:
    """What an actor asks the cluster for."""
    if on_device and has.get("GPU"):
        return {"num_cpus": 0, "num_gpus": settings.tensor_parallel}
    return {"num_cpus": max(1, settings.threads), "num_gpus": 0}


def variables(settings: Execution) -> dict[str, str]:
    """The settings as environment variables, which win over those of a node."""
    told = {name: value for name, value in settings if value is not None}
    return {
        f"PAIRMILL_{name.upper()}": json.dumps(value) if isinstance(value, dict) else str(value)
        for name, value in told.items()
    }


def first_line(error: Exception) -> str:
    """The first line of what an exception says."""
    return str(error).strip().partition("\n")[0]
