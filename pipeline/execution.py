"""Settings of the machine, never of the result: they change speed, not bytes.

Each is a field with a default, set in an untracked `exec.yaml` or by the environment variable
`PAIRMILL_<FIELD>`; the environment wins. No stage lists them as a DVC param, so changing one makes
nothing stale.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pipeline.errors import UserError
from pipeline.params import Params, clause, read_file

EXEC_FILE = Path("exec.yaml")

MOST_ROWS = 2048
"""Of a shard, so that a look-up finds all its keys in one short read of its end."""


class Execution(Params):
    """How a stage runs here."""

    threads: int = Field(default=0, ge=0)
    """CPU threads for torch; 0 takes all cores. Beside other work 1 is faster: threads await each other."""
    sample_batch: int = Field(default=64, gt=0)
    """Sequences generated at once by the transformers engine."""
    score_batch_tokens: int = Field(default=4096, gt=0)
    """Padded tokens of a batch that the transformers engine scores; on a CPU each core may have one."""
    micro_batch: int = Field(default=2, gt=0)
    """Rows per optimiser micro-step; the global batch of the recipe is reached by accumulation."""
    shard_rows: int = Field(default=512, gt=0, le=MOST_ROWS)
    """Most rows that a worker computes between two writes to the row store: what a crash can cost."""
    shard_seconds: int = Field(default=60, gt=0)
    """Age in seconds at which a row is written to the row store, with all others, when the next one comes."""
    save_every_seconds: int = Field(default=600, gt=0)
    """Time between two training checkpoints."""
    state: Path = Path(".pairmill")
    """Folder outside DVC outs for checkpoints, run records and, unless `store` says else, the row store."""
    store: str | None = None
    """Folder or fsspec URL of the row store, such as s3://bucket/store; null: `store` below `state`."""
    data: Path | None = None
    """Folder of raw files, for sources whose origin is `env:PAIRMILL_DATA`."""
    launcher: Literal["local", "ray"] = "local"
    """What runs the engines of generation and scoring: this machine, or a Ray cluster."""
    workers: int = Field(default=1, gt=0)
    """Engines at once, each with a copy of the model: data parallel. Each has `tensor_parallel` GPUs."""
    ray_address: str | None = None
    """An existing Ray cluster (host:port, or auto); null starts one on this machine for the run."""
    tensor_parallel: int = Field(default=1, gt=0)
    """GPUs that share one copy of the model in the vllm engine."""
    vllm: dict[str, Any] = Field(default_factory=dict)
    """More engine arguments for vLLM, such as {max_num_seqs: 256, gpu_memory_utilization: 0.9}."""
    openai_url: str = "http://127.0.0.1:8000/v1"
    """Where the openai engine finds its server; its key is in the variable OPENAI_API_KEY."""
    openai_model: str | None = None
    """The server's name for the model; null: the one that is named like the model folder."""
    openai_concurrency: int = Field(default=64, gt=0)
    """Requests that each worker has open at once at that server."""
    judge_url: str | None = None
    """Where the engine chat finds its endpoint; its key is in the variable JUDGE_API_KEY, or else in
    OPENAI_API_KEY. null: at `openai_url`."""
    judge_concurrency: int = Field(default=16, gt=0)
    """Requests that each worker has open at once at that endpoint."""
    judge_requests_per_minute: int = Field(default=0, ge=0)
    """Most requests a minute of all workers together, those sent again included; 0 sets no limit."""
    judge_seconds: int = Field(default=120, gt=0)
    """The longest wait for an answer of that endpoint."""
    processes: int = Field(default=1, gt=0)
    """Training processes, one per GPU on this machine; above 1 a training stage runs under accelerate."""
    accelerate: str | None = None
    """Configuration for accelerate: fsdp, zero3, or the path of a file; null: data parallel."""


def from_text(value: str, annotation: Any) -> object:
    """What an environment variable says: a number or a JSON mapping where the field is one."""
    if annotation is int and value.lstrip("-").isdigit():
        return int(value)
    if annotation == dict[str, Any]:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


@cache
def execution() -> Execution:
    """The settings in force: defaults, then exec.yaml, then the environment."""
    section: dict[str, object] = dict(read_file(EXEC_FILE)) if EXEC_FILE.exists() else {}
    for name, field in Execution.model_fields.items():
        if (value := os.environ.get(f"PAIRMILL_{name.upper()}")) is not None:
            section[name] = from_text(value, field.annotation)
    try:
        return Execution.model_validate_json(json.dumps(section))
    except (TypeError, ValidationError) as error:
        wrong = (
            [clause("exec", section, item) for item in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        raise UserError(
            f"{EXEC_FILE} and the environment: {'; '.join(wrong)}; correct that key of {EXEC_FILE}, "
            "or unset its variable, which for exec.threads is PAIRMILL_THREADS"
        ) from None
