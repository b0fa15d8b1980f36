"""A Ray cluster of several node processes on this machine, and work that notes each row which it computes."""

import os
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.work import SampleWork
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.filling import Compute
from pipeline.models import SampleRequest

MARK = "PAIRMILL_RAY_TEST"
"""A variable that every process of a test inherits, so that it is found if it outlives the test."""

#: Ray notices within a second or two, not half a minute, that a node is dead.
IMPATIENT = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 2,
}


@contextmanager
def ray_cluster() -> Generator[Any]:
    """A cluster (ray.cluster_utils.Cluster) of two nodes of one CPU each; without Ray the test is skipped."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    head = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = cluster_utils.Cluster(True, head_node_args=head | {"_system_config": IMPATIENT})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


@dataclass(frozen=True)
class NotedWork(SampleWork):
    """Samples of the same cells; each row takes its time, and is noted with its key and the node."""

    notes: Path
    seconds: float = 0.0
    fails: str = ""
    """What happens to an engine: `starting` (a user's mistake), `killed` (it dies with its first row)."""
    device: bool = False
    stays: tuple[str, int] | None = None
    """A node, and after how many rows of its own it does nothing more until it is killed."""

    @property
    def on_device(self) -> bool:
        return self.device

    def start(self) -> Compute:
        if self.fails == "starting":
            raise UserError(f"expected shards of {execution().shard_rows} rows")
        compute, node = super().start(), import_module("ray").get_runtime_context().get_node_id()
        devices = os.environ.get("CUDA_VISIBLE_DEVICES") or "none"

        def noted(asks: Sequence[SampleRequest]) -> Iterator[tuple[int, tuple[Any, ...]]]:
            for i, value in compute(asks):
                time.sleep(self.seconds)
                with self.notes.open("a") as file:
                    file.write(f"{self.keys([asks[i]])[0]} {asks[i].prompt_ids[0]} {node} {devices}\n")
                if self.stays and self.stays[0] == node and self.rows_of(node) == self.stays[1]:
                    time.sleep(600)
                if self.fails == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                yield i, value

        return noted

    def rows_of(self, node: str) -> int:
        """How many rows a node has computed."""
        return sum(row[2] == node for row in self.noted())

    def noted(self) -> list[tuple[str, ...]]:
        """(key, first token of the prompt, node, its GPUs) of every computed row, as they were computed."""
        text = self.notes.read_text() if self.notes.exists() else ""
        return [tuple(line.split()) for line in text.splitlines()]


def marked(mark: str) -> list[str]:
    """The command lines of living processes whose variable MARK has this value."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is not ours
            continue
    return [command for command in found if command]


def gone(mark: str, seconds: float = 60.0) -> list[str]:
    """Processes with the mark that still live after so long; returns as soon as none does."""
    until = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    return left
