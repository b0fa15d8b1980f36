"""Settings of the machine, never of the result: they change speed, not bytes.

Each is a field with a default, set in an untracked `exec.yaml` or by the environment variable
`PAIRMILL_<FIELD>`; the environment wins. No stage lists them as a DVC param, so changing one makes
nothing stale.
"""

import json
import os
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError

from pipeline.errors import UserError
from pipeline.params import Params, clause, read_file

EXEC_FILE = Path("exec.yaml")


class Execution(Params):
    """How a stage runs here."""

    threads: int = Field(default=0, ge=0)
    """CPU threads for torch; 0 takes all cores. Beside other work 1 is faster: threads await each other."""
    sample_batch: int = Field(default=64, gt=0)
    """Sequences generated at once."""
    score_batch_tokens: int = Field(default=8192, gt=0)
    """Padded tokens scored at once."""
    micro_batch: int = Field(default=2, gt=0)
    """Rows per optimiser micro-step; the global batch of the recipe is reached by accumulation."""
    shard_rows: int = Field(default=64, gt=0)
    """Rows computed between two writes to the row store: what a crash can cost."""
    save_every_seconds: int = Field(default=600, gt=0)
    """Time between two training checkpoints."""
    state: Path = Path(".pairmill")
    """Folder outside DVC outs for the row store, checkpoints and run records."""
    data: Path | None = None
    """Folder of raw files, for sources whose origin is `env:PAIRMILL_DATA`."""


@cache
def execution() -> Execution:
    """The settings in force: defaults, then exec.yaml, then the environment."""
    section: dict[str, object] = dict(read_file(EXEC_FILE)) if EXEC_FILE.exists() else {}
    for name, field in Execution.model_fields.items():
        if (value := os.environ.get(f"PAIRMILL_{name.upper()}")) is not None:
            section[name] = int(value) if field.annotation is int and value.lstrip("-").isdigit() else value
    try:
        return Execution.model_validate_json(json.dumps(section))
    except (TypeError, ValidationError) as error:
        wrong = (
            [clause("exec", item) for item in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        raise UserError(
            f"{EXEC_FILE} and the environment: {'; '.join(wrong)}; correct that key of {EXEC_FILE}, "
            "or unset its variable, which for exec.threads is PAIRMILL_THREADS"
        ) from None
