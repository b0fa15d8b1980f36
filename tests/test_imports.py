"""Imports go one way, and a data stage starts without the heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.closure import ROOT, imported_files

FILES = sorted((ROOT / "pipeline").rglob("*.py"))
HEAVY = ("torch", "transformers", "trl", "vllm", "datasets", "dvclive", "peft", "ray", "openai")
DATA_STAGES = (
    "recipe",
    "fetch",
    "standardize",
    "mix",
    "profile",
    "prompts",
    "sft_mix",
    "pair",
    "gather",
    "release",
    "report",
    "select",
)


def layer(path: Path) -> int:
    """0 nouns, 1 engines and sources, 2 stages, 3 commands, which ask stages, 4 the command line."""
    folder = path.relative_to(ROOT / "pipeline").parts[0]
    return {"engines": 1, "sources": 1, "stages": 2, "commands": 3, "cli.py": 4}.get(folder, 0)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_from_stages_to_engines_to_nouns(file):
    for other in imported_files(file) - {file}:
        assert layer(other) <= layer(file), f"{file.name} imports {other.relative_to(ROOT)}"
        assert layer(file) != 2 or layer(other) != 2, f"stage {file.stem} imports stage {other.stem}"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_heavy_imports_stand_inside_functions(file):
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        assert not [name for name in names if name.split(".")[0] in HEAVY], f"{file}:{node.lineno}"


@pytest.mark.parametrize("stage", DATA_STAGES)
def test_a_data_stage_starts_without_torch(stage):
    program = f"import sys, pipeline.stages.{stage}; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
