"""Which part of this machine each of several workers gets: GPUs by CUDA_VISIBLE_DEVICES, and CPU threads.

Both are read when torch is loaded, so they stand in a worker's environment before it starts.
"""

import os
from collections.abc import Mapping, Sequence

from pipeline.errors import UserError
from pipeline.execution import execution


def places(workers: int, *, on_device: bool) -> list[dict[str, str]]:
    """The environment of each of `workers` workers, under the execution settings."""
    settings = execution()
    groups = device_groups(visible_devices() if on_device else [], workers, settings.tensor_parallel)
    threads = str(thread_share(settings.threads or cores(), workers))
    shares = {"PAIRMILL_THREADS": threads, "OMP_NUM_THREADS": threads}
    return [shares | ({"CUDA_VISIBLE_DEVICES": ",".join(group)} if group else {}) for group in groups]


def visible_devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return (
            [name.strip() for name in named.split(",") if name.strip()] if torch.cuda.is_available() else []
        )
    return [str(i) for i in range(torch.cuda.device_count())]


def device_groups(devices: Sequence[str], workers: int, size: int) -> list[list[str]]:
    """The GPUs of each of `workers` workers, `size` each; none each where the machine has none.

    UserError where there are too few.
    """
    if devices and workers * size > len(devices):
        raise UserError(
            f"workers in exec.yaml: expected at most {len(devices) // size} with {len(devices)} GPUs, of "
            f"which each takes {size} (tensor_parallel), found {workers}; lower workers"
        )
    return [list(devices[i * size : (i + 1) * size]) for i in range(workers)]


def cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def thread_share(threads: int, workers: int) -> int:
    """CPU threads of one of several workers: an even share, at least one."""
    return max(1, threads // workers)
