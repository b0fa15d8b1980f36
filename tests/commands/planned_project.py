"""What `pairmill` says in a project, and what its stages then compute."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.smoke_project import executed, must

PAIRMILL = (sys.executable, "-m", "pipeline.cli")


def plan(project: Path, *words: str) -> dict[str, Any]:
    """The plan, with its stages by name."""
    said = json.loads(must(project, *PAIRMILL, "plan", "--json", *words))
    return said | {"stages": {stage["stage"]: stage for stage in said["stages"]}}


def states(said: dict[str, Any]) -> dict[str, str]:
    """The state of each stage that is not up to date, but for the one that checks the recipe."""
    found = {name: stage["state"] for name, stage in said["stages"].items() if name != "recipe"}
    return {name: state for name, state in found.items() if state != "up to date"}


def ran(output: str) -> list[str]:
    """The stages that `dvc repro` ran, but for the one that checks the recipe."""
    return [name for name in executed(output) if name != "recipe"]


def to_compute(said: dict[str, Any], *names: str, exact: bool = True) -> Counter[str]:
    """Rows by kind that stages are said to compute; each must be (or not be) an exact count."""
    rows: Counter[str] = Counter()
    for name in names:
        for entry in said["stages"][name]["rows"]:
            assert entry["exact"] is exact, (name, entry)
            rows[entry["kind"]] += entry["compute"]
    return +rows


def computed(project: Path, *words: str) -> Counter[str]:
    """Rows by kind that a command computes."""
    before = len(launches(project))
    must(project, *words)
    rows: Counter[str] = Counter()
    for line in launches(project)[before:]:
        rows[line["kind"]] += line["rows"]
    return rows


def launches(project: Path) -> list[dict[str, Any]]:
    """The records of what was computed."""
    path = project / ".pairmill" / "cells.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
