"""A clone of this project with the smoke recipe, reproduced once per test session, and copies of it to spoil.

It has its own git repository, DVC cache and row store; nothing of the developer's settings or results
reaches it. Stages run from the clone's own `pipeline/`, since `python -m` looks in its folder first.
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

#: Tracked here, but results of the quickstart recipe: a clone with another recipe makes its own.
RESULTS = ("dvc.lock", "reports/")


@dataclass(frozen=True)
class Smoke:
    """The reproduced project, what `dvc repro` wrote, and what it took: on the clock, and of all cores."""

    folder: Path
    output: str
    wall: float
    cpu: float


def environment() -> dict[str, str]:
    """The environment of a machine where nobody has set anything, without network."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PAIRMILL_", "DVC_", "GIT_"))
    }
    who = {f"GIT_{role}_{what}": "tester" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "DVC_NO_ANALYTICS": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own.pop("PYTHONPATH", None)
    return own | who | alone | {"PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in the project."""
    return subprocess.run(
        words, cwd=folder, env=environment() | (env or {}), capture_output=True, text=True, check=False
    )


def must(folder: Path, *words: str, env: dict[str, str] | None = None) -> str:
    """Run a program in the project; it must succeed. Gives what it wrote to stdout."""
    done = run(folder, *words, env=env)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def commit(folder: Path, message: str = "state") -> None:
    """Commit everything that git does not ignore."""
    must(folder, "git", "add", "-A")
    must(folder, "git", "commit", "-q", "--allow-empty", "-m", message)


def clone(folder: Path, recipe: str = "smoke") -> Path:
    """The files that git tracks or would track, as they stand in the working copy, with a recipe in place."""
    listed = must(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if not name.startswith(RESULTS) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copyfile(ROOT / "recipes" / f"{recipe}.yaml", folder / "params.yaml")
    must(folder, "git", "init", "-q", "-b", "main")
    commit(folder)
    return folder


def build(folder: Path) -> Smoke:
    """Clone, reproduce and commit."""
    clone(folder)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = run(folder, "dvc", "repro")
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, f"dvc repro:\n{done.stdout}{done.stderr}"
    commit(folder)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Smoke(folder, done.stdout + done.stderr, wall, cpu)


def copy(smoke: Smoke, to: Path, *, light: bool = False) -> Path:
    """A copy that a test may spoil; a light one without git and the DVC cache, for stages run by hand."""
    heavy = shutil.ignore_patterns(".git", "cache", "tmp", "__pycache__", "docs", "tests", "benchmarks")
    shutil.copytree(smoke.folder, to, symlinks=True, ignore=heavy if light else None)
    return to


def executed(output: str) -> list[str]:
    """The stages that `dvc repro` ran, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def change(folder: Path, dotted: str, value: object) -> None:
    """Set one key of params.yaml as an editor would: comments, anchors and all other keys stay."""
    with edited(folder) as document:
        section, last = found(document, dotted)
        section[last] = value


def without(folder: Path, dotted: str) -> None:
    """Remove one key of params.yaml."""
    with edited(folder) as document:
        section, last = found(document, dotted)
        del section[last]


@contextmanager
def edited(folder: Path) -> Generator[Any]:
    """params.yaml as an object, written back at the end."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 10_000
    document = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    yield document
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def found(document: Any, dotted: str) -> tuple[Any, str | int]:
    """The section that holds the last key of `dotted`, and that key; a number is a place in a list."""
    *parents, last = (int(key) if key.isdigit() else key for key in dotted.split("."))
    for key in parents:
        document = document[key]
    return document, last
