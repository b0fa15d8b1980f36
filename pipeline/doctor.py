"""Is this checkout fit to run? Checks that cost seconds and say what mends them."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE, read_file
from pipeline.provenance import LOCK_FILE, PIPELINE_FILE, assert_current, read_lock, run_dvc

MODEL_STAGE = "base_model"
MIN_FREE_GIB = 5
"""A quickstart run with its DVC cache fits into this."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    good: bool
    message: str


def examine() -> Iterator[Finding]:
    """Every check in turn; one that fails does not keep the next from running."""
    checks: dict[str, Callable[[], str]] = {
        PARAMS_FILE: params_load,
        PIPELINE_FILE: graph_resolves,
        "disk": disk_has_room,
        "base model": model_is_the_recorded_one,
    }
    for name, check in checks.items():
        try:
            yield Finding(name, True, check())
        except UserError as error:
            yield Finding(name, False, str(error))


def params_load() -> str:
    """The params file is YAML, and every key is a word: DVC drops integer keys without a message."""
    content = read_file(Path(PARAMS_FILE))
    sections = {name: section for name, section in content.items() if isinstance(section, dict)}
    numbers = [
        f"{name}.{key}" for name, section in sections.items() for key in section if not isinstance(key, str)
    ]
    if numbers:
        raise UserError(
            f"{PARAMS_FILE}: expected words as keys, found {', '.join(numbers)}, which DVC would skip; "
            f"write t1 instead of 1"
        )
    return f"{len(content)} sections, {len(content.get('sources') or {})} sources"


def graph_resolves() -> str:
    """Every template of dvc.yaml resolves with these params, and the graph has no cycle."""
    run_dvc("dag", "--dot")
    names = run_dvc("stage", "list", "--all", "--name-only").split()
    if not names:
        raise UserError(f"{PIPELINE_FILE}: expected stages, found none; git checkout {PIPELINE_FILE}")
    return f"{len(names)} stages"


def disk_has_room() -> str:
    """There is room for outputs and cache."""
    free = shutil.disk_usage(Path()).free / 2**30
    if free < MIN_FREE_GIB:
        raise UserError(
            f"expected {MIN_FREE_GIB} GiB free here, found {free:.1f}; remove unused cache with: dvc gc -w"
        )
    return f"{free:.0f} GiB free"


def model_is_the_recorded_one() -> str:
    """The base model's files have the digest that dvc.lock records."""
    lock = read_lock() if Path(LOCK_FILE).exists() else {}
    if MODEL_STAGE not in lock:
        return f"not made yet; dvc repro {MODEL_STAGE}"
    assert_current([MODEL_STAGE])
    made = lock[MODEL_STAGE]
    return f"{made.folder} is {made.outputs[str(made.folder)]}, as in {LOCK_FILE}"
