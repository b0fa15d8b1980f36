"""How fast a GPU samples and scores with a model of 8B parameters, and how near that is to what it could do.

    python -m benchmarks.gpu_check [--engine vllm|transformers] [--prompts N] [--concurrent N] ...

The weights are random, which changes no speed. P prompts of p tokens get one answer of n tokens each, at most
C at once; then P sequences of p + n tokens are scored. The roofs, with B the bandwidth of the device's memory
and F its dense bfloat16 arithmetic:

    sampling, tokens/s:  P n B / (ceil(P / C) n W + P n (p + n/2) K)
        W = bytes of all weights but the input embedding, read once for each token of a batch;
        K = 2 * layers * key heads * head size * 2 bytes, keys and values of a token, read for each later one
    scoring, tokens/s:   F / (2 M + 2 * layers * hidden size * (p + n))
        M = weights of the layers, one multiplication and addition each for a token; then causal attention

The time of sampling contains the reading of the prompts. More than a roof means that something was not
computed, or that the roof is another device's: the check fails. Without a GPU it ends with status 2; with
`--shape tiny --device cpu` the same code runs on a CPU, without roofs.
"""

import argparse
import gc
import json
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_models import SHAPES, random_policy, random_reward_model
from pipeline.engines.sampling import transformers_sampler
from pipeline.engines.scoring import reward_scorer
from pipeline.engines.vllm_engine import vllm_sampler, vllm_scorer
from pipeline.errors import UserError
from pipeline.models import Completion, SampleRequest

PAGE = Path("docs/gpu.md")

#: The device's whole name -> memory bandwidth in TB/s, dense bfloat16 TFLOP/s: names that begin alike differ.
DEVICES = {
    "NVIDIA H200": (4.8, 989),
    "NVIDIA H200 NVL": (4.8, 835),
    "NVIDIA H100 80GB HBM3": (3.35, 989),
    "NVIDIA H100 NVL": (3.9, 835),
    "NVIDIA H100 PCIe": (2.0, 756),
    "NVIDIA A100-SXM4-80GB": (2.04, 312),
    "NVIDIA A100 80GB PCIe": (1.94, 312),
    "NVIDIA A100-SXM4-40GB": (1.56, 312),
    "NVIDIA A100-PCIE-40GB": (1.56, 312),
    "NVIDIA L40S": (0.864, 362),
    "NVIDIA L40": (0.864, 181),
    "NVIDIA L4": (0.3, 121),
}
WARM_ROWS = 16
"""Prompts that start the engine before it is timed."""

HEAD = """\
# On a GPU

`make gpu-check` adds a line to this page: sampling and scoring with a model of the shape of Llama-3-8B and
random weights, in bfloat16. The roofs are what the memory bandwidth and the arithmetic of the device allow;
the formulas are in `benchmarks/gpu_check.py`. GPU memory is the most that was taken on the device at once;
under vLLM that is what it reserves (`gpu_memory_utilization`), not what it needs. No line: no figures yet.

"""
COLUMNS = (
    "device",
    "engine",
    "shape",
    "sampling, tokens/s",
    "of the memory roof",
    "scoring, tokens/s",
    "of the compute roof",
    "GPU memory, GiB",
    "input",
)
HEAD += f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


@dataclass(frozen=True)
class Load:
    """What is asked of the engines."""

    prompts: int
    concurrent: int
    prompt_tokens: int
    new_tokens: int

    @property
    def length(self) -> int:
        """Tokens of a scored sequence."""
        return self.prompt_tokens + self.new_tokens


@dataclass(frozen=True)
class Measured:
    """Tokens per second, and device memory in bytes."""

    sampling: float
    scoring: float
    memory: int


def main() -> None:
    """Make the models, measure, check, tell, and add a line to the page."""
    words = flags()
    if words.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if words.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("gpu-check: expected a CUDA GPU, found none; nothing was measured\n")
        sys.exit(2)
    load = Load(words.prompts, words.concurrent, words.prompt_tokens, words.new_tokens)
    os.environ.setdefault("PAIRMILL_VLLM", json.dumps({"max_num_seqs": load.concurrent}))
    try:
        engine = release(words.engine, words.device)
        device = torch.cuda.get_device_name() if words.device == "cuda" else "CPU"
        limits = roofs(device, words)
        with tempfile.TemporaryDirectory(dir=words.folder) as folder:
            measured = measure(Path(folder), words, load)
        line = told(device, engine, words, load, measured, limits)
    except UserError as error:
        sys.stderr.write(f"gpu-check: {error}\n")
        sys.exit(1)
    add(words.out, line)


def flags() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", default="8b", choices=("8b", "tiny"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--engine", choices=("vllm", "transformers"), help="vllm on a GPU if it is installed")
    parser.add_argument("--prompts", type=int, default=1024, help="P")
    parser.add_argument("--concurrent", type=int, default=256, help="C")
    parser.add_argument("--prompt-tokens", type=int, default=256, help="p")
    parser.add_argument("--new-tokens", type=int, default=512, help="n")
    parser.add_argument("--bandwidth", type=float, help="of the device's memory, in TB/s, if it is not known")
    parser.add_argument("--tflops", type=float, help="dense bfloat16, if the device is not known")
    parser.add_argument("--folder", type=Path, help="where the models (17 GB) are written for the time being")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page that gets a line")
    words = parser.parse_args()
    if words.engine is None:
        words.engine = "vllm" if words.device == "cuda" and installed("vllm") else "transformers"
    return words


def roofs(device: str, words: argparse.Namespace) -> tuple[float, float] | None:
    """Bandwidth in bytes/s and arithmetic in FLOP/s; None on a CPU. UserError for a device nobody knows."""
    known = DEVICES.get(device, (None, None))
    bandwidth, tflops = words.bandwidth or known[0], words.tflops or known[1]
    if bandwidth and tflops:
        return bandwidth * 1e12, tflops * 1e12
    if words.device == "cpu":
        return None
    raise UserError(f"expected a known device, found {device}; give --bandwidth (TB/s) and --tflops")


def measure(folder: Path, words: argparse.Namespace, load: Load) -> Measured:
    """Make the models below `folder` and time both engines. UserError where a result is not as asked."""
    policy, judge = folder / "policy", folder / "judge"
    random_policy(policy, words.shape, words.device)
    random_reward_model(judge, policy, words.shape, words.device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(SHAPES[words.shape]["vocab_size"], (load.prompts, load.length), generator=generator)
    free_memory()
    with peak_memory() as memory:
        sampling = sampled(policy, words.engine, load, ids[:, : load.prompt_tokens].tolist())
        free_memory()
        scoring = scored(judge, words.engine, load, ids.tolist())
    return Measured(sampling, scoring, max(memory))


def free_memory() -> None:
    """Give back the device memory that this process no longer needs: an engine may be another process."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def peak_memory() -> Generator[list[int]]:
    """A list of what is used on the device, by all processes, ten times a second."""
    used, stop = [0], threading.Event()

    def watch() -> None:
        while torch.cuda.is_available() and not stop.wait(0.1):
            free, total = torch.cuda.mem_get_info()
            used.append(total - free)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield used
    finally:
        stop.set()
        thread.join()


def sampled(model: Path, engine: str, load: Load, prompts: list[list[int]]) -> float:
    """Tokens per second of one answer per prompt, after a short warm-up."""
    sampler = (
        vllm_sampler(model, dtype="bfloat16")
        if engine == "vllm"
        else transformers_sampler(model, dtype="bfloat16", batch=load.concurrent, threads=0)
    )
    asked = [SampleRequest(tuple(prompt), 1.0, i) for i, prompt in enumerate(prompts)]
    # As long as those that are timed, or vLLM starts anew for them; but others, for it keeps what it read.
    warm = [SampleRequest(one.prompt_ids[::-1], 1.0, one.seed) for one in asked[:WARM_ROWS]]
    list(sampler(warm, max_new_tokens=load.new_tokens))
    started = time.perf_counter()
    done = dict(sampler(asked, max_new_tokens=load.new_tokens))
    seconds = time.perf_counter() - started
    return counted(done, load) / seconds


def counted(done: dict[int, Completion], load: Load) -> int:
    """The tokens of all answers. UserError where an answer or a token is missing."""
    wrong = [
        i
        for i, answer in done.items()
        if not 0 < answer.tokens <= load.new_tokens
        or (answer.finish_reason == "length" and answer.tokens != load.new_tokens)
    ]
    if wrong or set(done) != set(range(load.prompts)):
        raise UserError(
            f"expected {load.prompts} answers of at most {load.new_tokens} tokens, all counted, found "
            f"{len(done)}, of which {len(wrong)} have another number of tokens"
        )
    return sum(answer.tokens for answer in done.values())


def scored(model: Path, engine: str, load: Load, sequences: list[list[int]]) -> float:
    """Tokens per second of one score per sequence, after a short warm-up."""
    scorer = (
        vllm_scorer(model, dtype="bfloat16")
        if engine == "vllm"
        else reward_scorer(model, dtype="bfloat16", batch_tokens=32 * load.length, threads=0)
    )
    # Other rows than those that are timed: what the engine has in its cache it would not compute again.
    list(scorer([sequence[::-1] for sequence in sequences[: max(1, load.prompts // 8)]]))
    started = time.perf_counter()
    scores = dict(scorer(sequences))
    seconds = time.perf_counter() - started
    check_scores(scores, load)
    return load.prompts * load.length / seconds


def check_scores(scores: dict[int, float], load: Load) -> None:
    """UserError where a score is missing, is no finite number, or is that of every other sequence."""
    odd = sum(not math.isfinite(score) for score in scores.values())
    if odd or set(scores) != set(range(load.prompts)):
        raise UserError(
            f"expected {load.prompts} finite scores, found {len(scores)}, {odd} of them not finite"
        )
    if load.prompts > 1 and len(set(scores.values())) == 1:
        raise UserError(f"expected different scores for different sequences, found {scores[0]} for all")


def memory_roof(shape: dict[str, int], load: Load, bandwidth: float) -> float:
    """Tokens per second that the memory allows in sampling; `bandwidth` in bytes/s."""
    head = shape["hidden_size"] * shape["vocab_size"]
    keys = 4 * shape["num_hidden_layers"] * shape["num_key_value_heads"] * head_size(shape)
    steps = math.ceil(load.prompts / load.concurrent) * load.new_tokens
    context = load.prompt_tokens + load.new_tokens / 2
    moved = steps * 2 * (layer_weights(shape) + head) + load.prompts * load.new_tokens * context * keys
    return load.prompts * load.new_tokens * bandwidth / moved


def compute_roof(shape: dict[str, int], load: Load, flops: float) -> float:
    """Tokens per second that the arithmetic allows in scoring; `flops` per second."""
    attention = 2 * shape["num_hidden_layers"] * shape["hidden_size"] * load.length
    return flops / (2 * layer_weights(shape) + attention)


def layer_weights(shape: dict[str, int]) -> int:
    """Weights of the matrices in all layers."""
    width, keys = shape["hidden_size"], shape["num_key_value_heads"] * head_size(shape)
    attention = 2 * width * width + 2 * width * keys
    return shape["num_hidden_layers"] * (attention + 3 * width * shape["intermediate_size"])


def head_size(shape: dict[str, int]) -> int:
    """Numbers in the key of one head."""
    return shape["hidden_size"] // shape["num_attention_heads"]


def told(
    device: str,
    engine: str,
    words: argparse.Namespace,
    load: Load,
    measured: Measured,
    limits: tuple[float, float] | None,
) -> str:
    """Print what was measured, give the page's line. UserError where it is more than the device can do."""
    shape = SHAPES[words.shape]
    parts = ["-", "-"]
    if limits is not None:
        fractions = [
            measured.sampling / memory_roof(shape, load, limits[0]),
            measured.scoring / compute_roof(shape, load, limits[1]),
        ]
        if max(fractions) > 1:
            raise UserError(
                f"expected at most what {device} can do, found {fractions[0]:.2f} of the memory roof and "
                f"{fractions[1]:.2f} of the compute roof; give its own figures with --bandwidth and --tflops"
            )
        parts = [f"{fraction:.0%}" for fraction in fractions]
    memory = f"{measured.memory / 2**30:.1f}" if measured.memory else "-"
    sys.stdout.write(
        f"{device}, {engine}, shape {words.shape}\n"
        f"sampling  {measured.sampling:,.0f} tokens/s, {parts[0]} of the memory roof\n"
        f"scoring   {measured.scoring:,.0f} tokens/s, {parts[1]} of the compute roof\n"
        f"GPU memory in use at most {memory} GiB\n"
    )
    row: list[Any] = [device, engine, words.shape]
    row += [f"{measured.sampling:,.0f}", parts[0], f"{measured.scoring:,.0f}", parts[1], memory]
    row += [f"{load.prompts} x ({load.prompt_tokens} + {load.new_tokens}) tokens, {load.concurrent} at once"]
    return f"| {' | '.join(row)} |\n"


def release(engine: str, device: str) -> str:
    """Name and version of the package that is measured.

    vLLM's build for CPUs has the same modules and another name: UserError where it alone is installed and
    the device is a GPU.
    """
    if installed(engine):
        return f"{engine} {version(engine)}"
    if device == "cpu" and installed(f"{engine}-cpu"):
        return f"{engine}-cpu {version(f'{engine}-cpu')}"
    raise UserError(
        f"expected {engine} for {device} to be installed, found none; say "
        '.venv/bin/pip install -c requirements/constraints.txt -e ".[gpu]", or --engine transformers'
    )


def installed(package: str) -> bool:
    """Whether a package of this very name is installed."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def add(page: Path, line: str) -> None:
    """Put the line at the end of the page, which is begun if there is none."""
    before = page.read_text(encoding="utf-8") if page.exists() else HEAD
    page.write_text(before + line, encoding="utf-8")


if __name__ == "__main__":
    main()
