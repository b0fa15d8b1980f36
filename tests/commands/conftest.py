"""A project of the stages that ask the row store, on models and prompts that no stage makes."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import tables
from pipeline.schemas import SLICE
from tests.smoke_project import Smoke, clone, commit, copy, must
from tests.stages.answers import slice_of

STAGES = ("recipe", "generate", "judge", "evaluate_baselines", "evaluate")
MODELS = (
    "base",
    "reward",
    "pairwise",
    "offline_dpo",
    "policies/t0",
    "policies/t1",
    "policies/t2",
    "checkpoints/t1/0.5",
)


@pytest.fixture(scope="session")
def asking(tmp_path_factory, tiny_model) -> Smoke:
    """The project, reproduced."""
    folder = clone(tmp_path_factory.mktemp("asking") / "project")
    keep_stages(folder / "dvc.yaml")
    for name in ("t1", "t2", "t3", "validation"):
        prompts = slice_of(*(f"What is {name} number {i}?" for i in range(6)))
        tables.write(SLICE, prompts, folder / "data" / "prompts" / f"{name}.parquet")
    for name in MODELS:
        write_model(tiny_model, folder / "models" / name)
    commit(folder)
    output = must(folder, "dvc", "repro")
    commit(folder)
    return Smoke(folder, output, 0.0, 0.0)


@pytest.fixture
def project(asking, tmp_path) -> Path:
    """A copy to spoil."""
    return copy(asking, tmp_path / "project")


def keep_stages(path: Path) -> None:
    """Leave only the asking stages in dvc.yaml."""
    yaml = YAML(typ="safe")
    stages = yaml.load(path.read_text(encoding="utf-8"))["stages"]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump({"stages": {name: stages[name] for name in STAGES}}, file)


def write_model(like: Path, folder: Path) -> None:
    """A model with weights of its own, as far as a digest can tell: the fake engines read no more of it."""
    shutil.copytree(like, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + str(folder.name).encode())
