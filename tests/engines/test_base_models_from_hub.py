"""hub: sources, taken from the stand-in Hub by subprocesses: the client reads HF_ENDPOINT when imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engines.tiny_models import tiny_random
from pipeline.ids import digest_folder
from tests.hub_server import hub_server


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_random(folder, "smollm2", seed=0)
    return folder


def from_hub(hub, source: str, out: Path, **env: str) -> subprocess.CompletedProcess:
    script = (
        "import sys; from pathlib import Path; from pipeline.model_sources import parse\n"
        "from pipeline.engines.base_models import materialise; from pipeline.errors import UserError\n"
        "try: materialise(parse(sys.argv[1]), Path(sys.argv[2]))\n"
        "except UserError as error: sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", script, source, str(out)]
    return subprocess.run(command, env=hub.env | env, capture_output=True, text=True, check=False)


def tree_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_repository_is_taken_at_a_commit_and_at_a_tag(tiny, tmp_path):
    with hub_server(tmp_path) as hub:
        commit = hub.add(
            "org/base", tree_of(tiny) | {"pytorch_model.bin": b"pickle", "original/config.json": b"{}"}
        )
        hub.repo("org/base").tags["v1"] = commit
        hub.add("org/base", {"config.json": b"{}"})
        for revision, out in ((commit, tmp_path / "a"), ("v1", tmp_path / "b")):
            done = from_hub(hub, f"hub:org/base@{revision}", out)
            assert done.returncode == 0, done.stderr
            assert digest_folder(out) == digest_folder(tiny)


def test_a_branch_an_unknown_revision_and_pickled_weights_are_refused(tiny, tmp_path):
    pickled = {name: data for name, data in tree_of(tiny).items() if not name.endswith(".safetensors")}
    out = tmp_path / "models" / "out"
    out.parent.mkdir()
    with hub_server(tmp_path) as hub:
        commit = hub.add("org/pickled", pickled | {"pytorch_model.bin": b"pickle"})
        refused = {
            f"org/pickled@{commit}": "pickled .bin weights",
            "org/pickled@v9": "found no such tag",
            f"org/pickled@{'f' * 40}": "RevisionNotFound",
            f"org/absent@{'f' * 40}": "RepositoryNotFound",
        }
        for source, message in refused.items():
            done = from_hub(hub, f"hub:{source}", out)
            assert done.returncode == 1
            assert message in done.stderr
            assert "Traceback" not in done.stderr
            assert list(out.parent.iterdir()) == []


def test_a_hub_that_cannot_be_reached_is_told_as_such(tmp_path):
    with hub_server(tmp_path) as hub:
        pass  # from here on nobody listens
    out = tmp_path / "models" / "out"
    out.parent.mkdir()
    offline = {"HF_HUB_OFFLINE": "1"}
    for revision, env in (("v1", offline), ("a" * 40, offline), ("v1", {})):
        done = from_hub(hub, f"hub:org/base@{revision}", out, **env)
        assert "mend: check the network" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert list(out.parent.iterdir()) == []
