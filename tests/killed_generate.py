"""The stage `generate` with a slower fake engine that notes each answer, and that is killed where it is told.

    python tests/killed_generate.py ITERATION PROMPTS POLICY VARIANT OUT
    python tests/killed_generate.py < RUNS

The environment says where notes go (KILL_NOTES), and at which mark of the process (KILL_AT, such as
"answer:17") and how many seconds after it (KILL_AFTER) the process gets SIGKILL. With workers each of them
runs this module, too, and has marks of its own. RUNS are lines of JSON: folder, environment, arguments; each
is a process that is forked when all is imported, and its exit status is a line on stdout.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

marks: Counter[str] = Counter()


def note(name: str, line: str) -> None:
    """Append a line to a file of notes: in one write, so that a kill leaves the whole line or none."""
    with (Path(os.environ["KILL_NOTES"]) / name).open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


def mark(phase: str) -> None:
    """Pass a mark; at the one where it is told, the process dies a little later, wherever it is then."""
    if f"{phase}:{marks[phase]}" == os.environ.get("KILL_AT"):
        threading.Timer(float(os.environ["KILL_AFTER"]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    marks[phase] += 1


mark("start")
begun = time.monotonic()

from pipeline import edge, tables  # noqa: E402 - the start is a part of the run
from pipeline.cells import sample_key, tokens_digest  # noqa: E402
from pipeline.engines import fake  # noqa: E402
from pipeline.stages import generate  # noqa: E402
from pipeline.storage import Storage  # noqa: E402
from pipeline.store import RowStore  # noqa: E402

plain_sampler, plain_move, plain_values, plain_write = (
    fake.fake_sampler,
    Storage.move,
    RowStore.values,
    tables.write,
)


def fake_sampler(model):
    sample = plain_sampler(model)

    def answers(requests, *, max_new_tokens):
        for i, done in sample(requests, max_new_tokens=max_new_tokens):
            time.sleep(float(os.environ["KILL_PAUSE"]))
            asked = requests[i]
            key = sample_key(tokens_digest(asked.prompt_ids), asked.temperature, asked.seed)
            note("answers", f"{os.getpid()} {key}")
            mark("answer")
            yield i, done

    return answers


def move(self, path, to):
    mark("shard")
    plain_move(self, path, to)
    mark("shard")


def values(self, cells, keys):
    mark("projection")
    return plain_values(self, cells, keys)


def write(*arguments):
    mark("projection")
    plain_write(*arguments)
    mark("projection")


fake.fake_sampler, Storage.move, RowStore.values, tables.write = fake_sampler, move, values, write


def run() -> None:
    """Be the stage."""
    note("start", str(time.monotonic() - begun))
    edge.run("generate", generate.main)


def forked(folder: str, environment: dict[str, str], words: list[str]) -> int:
    """Be the stage in a new process; its exit status, or minus the signal that killed it."""
    if (pid := os.fork()) == 0:
        os.chdir(folder)
        os.environ.update(environment)
        with Path("log.txt").open("ab") as log:
            os.dup2(log.fileno(), sys.stderr.fileno())
        sys.argv[1:] = words
        status = 1
        try:
            run()
            status = 0
        except SystemExit as end:
            status = int(str(end.code or 0))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run()
    else:
        import transformers  # noqa: F401 - what loading a tokenizer takes most of its time for

        for line in sys.stdin:
            sys.stdout.write(f"{forked(*json.loads(line))}\n")
            sys.stdout.flush()
