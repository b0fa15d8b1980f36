"""Fixtures that several folders of tests use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.engines.tiny_models import tiny_random
from pipeline.execution import Execution, execution
from tests import smoke_project

# A gate must give the same answer twice: there the examples follow from the tests alone. A developer's
# runs draw new ones each time, which is how rare failures are found.
settings.register_profile("gate", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("gate")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real upstream data beside the project; tests of it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real upstream data at {folder}")
    return folder


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> smoke_project.Smoke:
    """The whole pipeline on fake engines and a tiny model, run once; tests copy it before they change it."""
    return smoke_project.build(tmp_path_factory.mktemp("smoke") / "project")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A random language model of some hundred kilobytes with a ChatML tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-model") / "model"
    tiny_random(folder, "smollm2")
    return folder


@pytest.fixture
def own_state(tmp_path, monkeypatch) -> Iterator[Path]:
    """A working folder with a row store of its own and default settings."""
    monkeypatch.chdir(tmp_path)
    for name in Execution.model_fields:
        monkeypatch.delenv(f"PAIRMILL_{name.upper()}", raising=False)
    execution.cache_clear()
    yield tmp_path / ".pairmill"
    execution.cache_clear()
