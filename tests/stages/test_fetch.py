"""fetch: three origins, digests, and errors that say what to do."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.params import parse
from pipeline.source_params import Source
from pipeline.stages.fetch import fetch
from tests.hub_server import hub_server

ROOT = Path(__file__).parents[2]
CONTENT = b'{"a": 1}\n'
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "1" * 40


def source(origin: str, path: str = "sub/f.jsonl", sha256: str | None = DIGEST) -> Source:
    section: dict[str, Any] = {
        "adapter": "hh_rlhf",
        "kind": "preferences",
        "origin": origin,
        "files": [{"path": path, "sha256": sha256}],
        "licence": "MIT",
        "redistributable": True,
        "rules": {},
        "max_bad_fraction": 0.0,
    }
    return parse("sources.mine", Source, section)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with one raw file, as the working folder."""
    (tmp_path / "here" / "sub").mkdir(parents=True)
    (tmp_path / "here" / "sub" / "f.jsonl").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAIRMILL_DATA", raising=False)
    execution.cache_clear()
    yield tmp_path
    execution.cache_clear()


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_folder_of_the_project_is_copied(project):
    fetch("mine", source("path:here"), project / "raw" / "mine")
    assert tree(project / "raw") == {"mine/sub/f.jsonl": CONTENT}


def test_a_folder_of_the_environment_is_copied(project, monkeypatch):
    monkeypatch.setenv("PAIRMILL_DATA", str(project))
    fetch("mine", source("env:here/sub", "f.jsonl"), project / "raw")
    assert tree(project / "raw") == {"f.jsonl": CONTENT}


def test_without_the_environment_the_error_names_the_variable(project):
    with pytest.raises(UserError, match="export PAIRMILL_DATA"):
        fetch("mine", source("env:here"), project / "raw")


def test_what_was_there_before_is_gone(project):
    (project / "raw").mkdir()
    (project / "raw" / "old").write_text("x")
    fetch("mine", source("path:here"), project / "raw")
    assert tree(project / "raw") == {"sub/f.jsonl": CONTENT}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (source("path:here", sha256=None), f'sha256: "{DIGEST}"'),
        (source("path:here", sha256="0" * 64), f"expected sha256 {'0' * 64}, found {DIGEST}"),
        (source("path:here", "gone.jsonl"), r"here/gone\.jsonl"),
        (source("hub:org/name@main"), "a branch or tag can move"),
        (source("hub:org/name@v1.0"), "40 hex digits"),
    ],
)
def test_a_refused_source_leaves_nothing_and_says_why(project, wrong, said):
    with pytest.raises(UserError, match=said):
        fetch("mine", wrong, project / "raw")
    assert not (project / "raw").exists()


def run_stage(project: Path, origin: str, path: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The stage as DVC runs it: huggingface_hub reads its endpoint when it is imported."""
    files = f"[{{path: {path}, sha256: null}}]"
    rest = "licence: MIT, redistributable: true, rules: {}, max_bad_fraction: 0.0"
    section = f"{{adapter: hh_rlhf, kind: preferences, origin: '{origin}', files: {files}, {rest}}}"
    (project / "params.yaml").write_text(f"sources:\n  mine: {section}\n")
    command = [sys.executable, "-m", "pipeline.stages.fetch", "mine", "recipe.json", "raw/mine"]
    environment = env | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_a_hub_data_set_is_taken_at_its_commit(project):
    with hub_server(project / "home") as hub:
        commit = hub.add("org/name", {"data/f.jsonl": CONTENT}, kind="datasets")
        hub.add("org/name", {"data/f.jsonl": b"later"}, kind="datasets")
        done = run_stage(project, f"hub:org/name@{commit}", "data/f.jsonl", hub.env)
        assert done.returncode == 0, done.stderr
        assert tree(project / "raw") == {"mine/data/f.jsonl": CONTENT}


@pytest.mark.parametrize(
    ("repository", "revision", "path", "said"),
    [
        ("org/name", None, "gone.jsonl", "expected the file gone.jsonl"),
        ("org/name", COMMIT, "f.jsonl", "no such commit"),
        ("org/other", COMMIT, "f.jsonl", "no such data set, or no access"),
        ("org/name", "0" * 40, "f.jsonl", "expected the commit to read org/name at, found zeros"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line_without_a_traceback(
    project, repository, revision, path, said
):
    with hub_server(project / "home") as hub:
        commit = hub.add("org/name", {"f.jsonl": CONTENT}, kind="datasets")
        done = run_stage(project, f"hub:{repository}@{revision or commit}", path, hub.env)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_cannot_be_reached_is_one_line_without_a_traceback(project):
    with hub_server(project / "home") as hub:
        env = hub.env
    done = run_stage(project, f"hub:org/name@{COMMIT}", "f.jsonl", env)
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
