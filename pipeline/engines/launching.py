"""Training on several processes: the stage prepares everything, then accelerate starts its processes.

What comes before training (rows, ledgers, log-probabilities of the reference) is done once, by the stage
itself. The rows then lie in a file that all processes map; the first process writes the outputs, and the
stage goes on when all have ended.

    accelerate launch ... -m pipeline.engines.launching FOLDER
"""

import hashlib
import importlib.util
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import edge
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.training import Run

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "accelerate"
LOG, JOB, ROWS = "log.txt", "job.pickle", "rows.arrow"
ATTACHED = "--attached"
#: Lines of the processes that the stage passes on; the rest stays in the log.
OWN = ("INFO pipeline", "WARNING pipeline", "ERROR pipeline")
#: In the log of the launcher: rank and exit status of the process that ended first.
ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s*: (\d+).*?exitcode\s*: (-?\d+)", re.DOTALL)
#: A line of the log that says what went wrong.
ERROR = re.compile(r"[Ee]rror: \S|: No module named ")
PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: the first one writes models meanwhile."""


def config_file(run: Run) -> Path | None:
    """The configuration for accelerate that a run names; UserError where it is missing or cannot run here."""
    import torch

    if run.accelerate is None:
        return None
    shipped = SHIPPED / f"{run.accelerate}.yaml"
    path = shipped if shipped.exists() else Path(run.accelerate)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise UserError(
            f"accelerate in exec.yaml: expected {known} or the path of a configuration file, found "
            f"{run.accelerate}; write one with accelerate config"
        )
    kind = config(path).distributed_type.value
    if kind in ("FSDP", "DEEPSPEED") and not torch.cuda.is_available():
        raise UserError(
            f"accelerate in exec.yaml: {run.accelerate} ({kind}) needs GPUs, found none; unset it: without "
            "GPUs processes train data parallel"
        )
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"accelerate in exec.yaml: {run.accelerate} needs the package deepspeed, which is not installed; "
            'say .venv/bin/pip install -c requirements/constraints.txt -e ".[zero]", or use fsdp'
        )
    return path


def config(path: Path) -> Any:
    """A configuration file as accelerate reads it."""
    from accelerate.commands.config.config_args import load_config_from_file
    from yaml import YAMLError

    try:
        return load_config_from_file(str(path))
    except (ValueError, TypeError, AttributeError, YAMLError) as error:
        raise UserError(
            f"{path}: expected a configuration for accelerate, found: {first_line(error)}; write one with "
            "accelerate config"
        ) from None


def config_digest(run: Run) -> str | None:
    """sha256 of the configuration for accelerate that a run names."""
    path = config_file(run)
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def world_size(run: Run) -> int:
    """Processes of a run on all its machines.

    UserError for more than this machine has GPUs, and for a way to spread what one process does.
    """
    import torch

    if run.processes == 1 and run.accelerate is not None:
        raise UserError(
            f"processes in exec.yaml: expected at least 2 beside accelerate: {run.accelerate}, found 1; set "
            "it to the number of GPUs of this machine, or unset accelerate"
        )
    if run.processes == 1:
        return 1
    gpus = torch.cuda.device_count()
    if 0 < gpus < run.processes:
        raise UserError(
            f"processes in exec.yaml: expected at most one per GPU of this machine ({gpus}), found "
            f"{run.processes}"
        )
    path = config_file(run)
    return run.processes * (1 if path is None else config(path).num_machines)


def launch(run: Run, work: Callable[..., None], rows: pl.DataFrame, *arguments: Any) -> None:
    """Call `work(rows, *arguments)` in every process of the run, and return when all are done.

    UserError in one line where a process fails; the log of all is then in the checkpoints folder.
    """
    if run.processes == 1:
        work(rows, *arguments)
        return
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # the processes need the GPU that this one may have used
    folder = run.checkpoints / "job"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows.write_ipc(folder / ROWS)
    (folder / JOB).write_bytes(pickle.dumps((work, arguments)))
    words = command(run, folder)
    if "--machine_rank" in words:
        joining = [w if words[i - 1] != "--machine_rank" else "K" for i, w in enumerate(words[1:], 1)]
        log.info("%s: start on machine K = 1, 2, ...: python %s", run.title, " ".join(joining[:-1]))
    if (status := follow(words, folder / LOG)) != 0:
        raise UserError(failure(run.title, folder, world_size(run), status))


def command(run: Run, folder: Path) -> list[str]:
    """The words that start the processes of this machine.

    Precision is the trainer's business: it turns on what the recipe says, whatever a configuration has.
    """
    path = config_file(run)
    machines = 1 if path is None else config(path).num_machines
    threads = (execution().threads or os.cpu_count() or 1) // run.processes
    options = {
        "--num_processes": run.processes * machines,
        "--mixed_precision": "no",
        "--num_cpu_threads_per_process": max(1, threads),
        **({"--num_machines": 1, "--main_process_port": 0} if machines == 1 else {"--machine_rank": 0}),
        **({"--dynamo_backend": "no"} if path is None else {"--config_file": path}),
    }
    words = [sys.executable, "-m", "accelerate.commands.launch", *(["--multi_gpu"] if path is None else [])]
    words += [str(word) for option in options.items() for word in option]
    return [*words, "-m", __name__, str(folder), ATTACHED]


def follow(words: list[str], log_file: Path) -> int:
    """Run a command and give its exit status; `log_file` gets its output, and stderr our lines of it."""
    with (
        log_file.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            words,
            stdin=subprocess.PIPE,  # open as long as this process lives: see `end_with_the_stage`
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                if line.startswith(OWN):
                    sys.stderr.write(line)
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def failure(title: str, folder: Path, world: int, status: int) -> str:
    """What the first process that failed had to say; the others fail after it, waiting for it.

    `status` is the launcher's exit status, which counts where the log names no process.
    """
    text = (folder / LOG).read_text(encoding="utf-8")
    cause = ROOT_CAUSE.search(text)
    rank, status = (int(cause[1]), int(cause[2])) if cause else (None, status)
    told = sorted(folder.glob("failure-*.json"), key=lambda path: path.stat().st_mtime)
    if status < 0:
        return (
            f"{title}: expected {world} training processes to end well, found one that was killed (out of "
            f"memory?); see {folder / LOG}, and say dvc repro to go on from the last checkpoint"
        )
    if not told:
        lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line)]
        last = ([line for line in lines if ERROR.search(line)] or lines or ["nothing in the log"])[-1]
        return (
            f"{title}: expected {world} training processes to end well, found that they could not be "
            f"started, or ended without a word: {last}; see {folder / LOG}"
        )
    first = folder / f"failure-{rank}.json"
    story = json.loads((first if first in told else told[0]).read_text(encoding="utf-8"))
    if story["mistake"]:
        return story["message"]
    return (
        f"{title}: training process {story['rank']} of {world} failed: {story['message']}; see {folder / LOG}"
    )


def end_with_the_stage() -> None:
    """Leave as soon as the stage is gone: a killed stage must not leave processes on the GPUs behind it."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Be one process of a run: read the job, do it with the others, and tell the stage of a failure."""
    folder, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    level = logging.INFO if rank == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    edge.quieten()
    if ATTACHED in sys.argv:
        end_with_the_stage()
    try:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        work, arguments = pickle.loads((folder / JOB).read_bytes())
        work(pl.read_ipc(folder / ROWS), *arguments)
        torch.distributed.destroy_process_group()
    except UserError as error:
        tell(folder, rank, str(error), mistake=True)
        sys.exit(2)
    except Exception as error:
        tell(folder, rank, f"{type(error).__name__}: {first_line(error)}")
        raise


def first_line(error: Exception) -> str:
    """The first line of what an exception says."""
    return str(error).strip().partition("\n")[0]


def tell(folder: Path, rank: int, message: str, *, mistake: bool = False) -> None:
    """Leave word for the stage."""
    story = {"rank": rank, "message": message, "mistake": mistake}
    (folder / f"failure-{rank}.json").write_text(json.dumps(story), encoding="utf-8")


if __name__ == "__main__":
    main()
