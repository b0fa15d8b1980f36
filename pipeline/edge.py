"""The edge of every stage: logging, readable errors, and a record of time and memory.

A UserError becomes one line on stderr and exit status 2, without a traceback. Wall time and peak
memory of each stage go to `<state>/runs.jsonl`, outside every DVC out.
"""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.execution import execution


def run(stage: str, main: Callable[[], None]) -> None:
    """Run a stage's `main` and leave the process: 0 done, 2 a user's mistake.

    A first argument that is not a path is the key of a `foreach` stage and joins its name: generate@t1.
    """
    if len(sys.argv) > 1 and not {"/", "."} & set(sys.argv[1]):
        stage = f"{stage}@{sys.argv[1]}"
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    quieten()
    started = time.monotonic()
    try:
        if threads := execution().threads:  # a wrong setting is told before anything is computed
            os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
        main()
    except UserError as error:
        sys.stderr.write(f"error in {stage}: {error}\n")
        sys.exit(2)
    record(stage, time.monotonic() - started)


def quieten() -> None:
    """Keep libraries from talking over the stage, and from asking the network for anything."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("httpx", "httpx2", "urllib3", "fsspec", "datasets", "dvclive"):
        logging.getLogger(name).setLevel(logging.WARNING)


def record(stage: str, seconds: float) -> None:
    """Append what the stage cost to runs.jsonl: seconds in `main` and peak resident memory in MiB."""
    path = execution().state / "runs.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "stage": stage,
        "seconds": round(seconds, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def recorded() -> dict[str, dict[str, float | str]]:
    """The last record of each stage, in the order in which they first ran; empty where nothing ran here."""
    return {line["stage"]: line for line in records("runs.jsonl")}


def records(name: str) -> list[dict[str, Any]]:
    """The lines of a file of `<state>`, the oldest first; without those that a crash has cut."""
    path = execution().state / name
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def arguments(*names: str) -> list[Path]:
    """The stage's command-line words, one per name; UserError says the usage."""
    words = sys.argv[1:]
    if len(words) != len(names):
        raise UserError(f"expected the arguments {' '.join(names)}, found {len(words)}: {' '.join(words)}")
    return [Path(word) for word in words]
