"""Run a stage in a process of its own, and measure its time and the memory of all its processes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[2]
LOOK_EVERY = 0.1
"""Seconds between two looks at a stage's processes."""


@dataclass(frozen=True)
class Cost:
    """What one stage took."""

    stage: str
    seconds: float
    cpu_seconds: float
    """Of all its threads and processes."""
    peak_mib: int
    """Resident memory: the kernel's own peak, or of a stage with child processes what they have together."""


def run_stage(project: Path, stage: str, *words: str) -> Cost:
    """Run `pipeline.stages.<stage>` (without what follows @) in `project`; SystemExit where it fails."""
    command = [sys.executable, "-m", f"pipeline.stages.{stage.partition('@')[0]}", *words]
    with tempfile.TemporaryFile() as told:
        started = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(HOME)},
            stdout=told,
            stderr=told,
        )
        together = 0
        while True:
            done, status, used = os.wait4(child.pid, os.WNOHANG)
            if done:
                break
            together = max(together, together_kib(child.pid))
            time.sleep(LOOK_EVERY)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            told.seek(0)
            raise SystemExit(f"{stage}: exit status {child.returncode}\n{told.read().decode()[-4000:]}")
    return Cost(stage, seconds, used.ru_utime + used.ru_stime, max(used.ru_maxrss, together) // 1024)


def together_kib(process: int) -> int:
    """Resident KiB of a process and its children, shared pages counted once; 0 where it has no children."""
    children = list(below(process))
    return sum(map(share_kib, [process, *children])) if children else 0


def below(process: int) -> Iterator[int]:
    """The children of a process, and theirs."""
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from below(int(child))


def share_kib(process: int) -> int:
    """The proportional set size of a process; 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
