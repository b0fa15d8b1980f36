"""What git and DVC say of an output: which revision, which stage, which digests, which values.

dvc.lock is the record of what was really run: the values here are those that made the bytes, and
`assert_current` refuses where the working tree no longer says the same.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE

LOCK_FILE, PIPELINE_FILE, CODE_FOLDER = "dvc.lock", "dvc.yaml", "pipeline"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage as it was run: its command, its values, and its inputs and outputs as {path: md5}.

    The md5 of a folder is DVC's, which ends with ".dir". Code is not among the inputs: git has it.
    """

    name: str
    command: str
    values: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The one output of a stage that has one."""
        assert len(self.outputs) == 1, f"{self.name} has the outputs {list(self.outputs)}"
        return Path(next(iter(self.outputs)))


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where published bytes come from: git revision, digests of dvc.lock, and the stages that made them."""

    revision: str
    lock_md5: str
    lock_sha256: str
    steps: tuple[Step, ...]


def read_lock() -> dict[str, Step]:
    """Every stage in dvc.lock, by name."""
    path = Path(LOCK_FILE)
    if not path.exists():
        raise UserError(
            f"{LOCK_FILE} is missing in {Path.cwd()}; go to the project's root, or make it with: dvc repro"
        )
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())
        raise UserError(
            f"{LOCK_FILE}: expected DVC's YAML, found: {found}; git checkout {LOCK_FILE}"
        ) from error
    return {name: as_step(name, entry) for name, entry in (content or {}).get("stages", {}).items()}


def as_step(name: str, entry: Mapping[str, Any]) -> Step:
    """One entry of dvc.lock."""
    inputs = {dep["path"]: dep.get("md5", "") for dep in entry.get("deps", [])}
    command = entry["cmd"]
    return Step(
        name=name,
        command=command if isinstance(command, str) else "; ".join(command),
        values=entry.get("params", {}).get(PARAMS_FILE, {}),
        inputs={path: digest for path, digest in inputs.items() if not path.endswith(".py")},
        outputs={out["path"]: out.get("md5", "") for out in entry.get("outs", [])},
    )


def step(lock: Mapping[str, Step], name: str) -> Step:
    """A stage of dvc.lock, or a UserError that says which there are."""
    if name not in lock:
        group = name.partition("@")[0]
        near = sorted(known for known in lock if known.partition("@")[0] == group) or sorted(lock)
        raise UserError(
            f"{LOCK_FILE}: expected the stage {name}, found {near}; make it with: dvc repro {name}"
        )
    return lock[name]


def provenance(steps: Sequence[Step]) -> Provenance:
    """The record for `steps`; UserError where the tree is not what git and DVC have on record."""
    revision = assert_committed([PARAMS_FILE, PIPELINE_FILE, LOCK_FILE, CODE_FOLDER])
    assert_current([each.name for each in steps])
    lock = Path(LOCK_FILE).read_bytes()
    return Provenance(
        revision=revision,
        lock_md5=md5(lock, usedforsecurity=False).hexdigest(),
        lock_sha256=sha256(lock).hexdigest(),
        steps=tuple(steps),
    )


def assert_committed(paths: Iterable[str]) -> str:
    """The git revision, or a UserError that names those of `paths` that differ from it."""
    head = call("git", "rev-parse", "--verify", "HEAD")
    if head.returncode:
        raise UserError(
            f"{Path.cwd()}: expected a git repository with a commit, found none ({head.stderr.strip()}); "
            f"git init, then git add and git commit"
        )
    changed = call("git", "status", "--porcelain", "--untracked-files=all", "--", *paths)
    if names := [line[3:] for line in changed.stdout.splitlines()]:
        raise UserError(
            f"expected {', '.join(names)} as in the git revision {head.stdout.strip()[:12]}, "
            f"found uncommitted changes; a card must name the revision that made its rows: git commit -a"
        )
    return head.stdout.strip()


def assert_current(stages: Sequence[str]) -> None:
    """UserError where an output, value or code file of one of `stages` is not as in dvc.lock.

    What is not on this machine is no fault: dvc.lock still says what it was, and who reads it will notice.
    """
    changes: dict[str, list[Any]] = json.loads(run_dvc("status", "--json", *stages))
    found = [
        f"{stage}: {what}"
        for stage, entries in changes.items()
        for entry in entries
        for what in clauses(entry)
    ]
    if found:
        raise UserError(
            f"expected everything as in {LOCK_FILE}, found {'; '.join(found)}; "
            f"bring both together with: dvc repro {' '.join(changes)}, then git commit {LOCK_FILE}"
        )


def clauses(entry: str | Mapping[str, Any]) -> list[str]:
    """What one entry of `dvc status --json` says is wrong, in words."""
    if isinstance(entry, str):
        return [entry]
    found = []
    for paths in entry.values():
        for path, state in paths.items():
            if isinstance(state, Mapping):
                found += [f"{path}: {key} {how} value" for key, how in state.items()]
            elif state != "deleted":
                found.append(f"{path} {state}")
    return found


def run_dvc(*words: str) -> str:
    """What a DVC command writes, or a UserError with its complaint."""
    done = call(sys.executable, "-m", "dvc", *words)
    if done.returncode:
        complaint = " ".join(done.stderr.split()).removeprefix("ERROR: ")
        raise UserError(f"dvc {words[0]}: {complaint}; mend it and see with: dvc {' '.join(words)}")
    return done.stdout


def call(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program here and give what it said."""
    return subprocess.run(words, capture_output=True, text=True, check=False)
