"""A project whose calls to the engines are noted, and what they come to beside those that were needed."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.smoke_project import executed, must

HOOK = Path(__file__).parent / "hook"


@dataclass(frozen=True)
class Outcome:
    """The calls of one scenario."""

    calls: list[str]
    """The cell of every answer, in the order of the answers."""
    needed: set[str]
    """The cells of the stages that ran, stored before or not."""
    stored: set[str]
    """The cells of the first run."""
    allowed: int = 0
    """Repeats that a kill may cost."""

    @property
    def expected(self) -> set[str]:
        return self.needed - self.stored

    @property
    def extra(self) -> int:
        """Answers beyond the first one to each expected cell."""
        return max(0, len(self.calls) - len(set(self.calls) & self.expected) - self.allowed)

    @property
    def missing(self) -> int:
        return len(self.expected - set(self.calls))

    def figures(self) -> dict[str, Any]:
        """What the JSON line says of it."""
        kinds = Counter(json.loads(cell)[0] for cell in self.calls)
        counts = {"expected": len(self.expected), "computed": len(self.calls)}
        wrong = {"missing_cells": self.missing, "extra_cells": self.extra}
        return counts | wrong | {"without_a_store": len(self.needed)} | dict(sorted(kinds.items()))


class Project:
    """A project whose calls to the engines are noted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder.parent / f"{folder.name}.calls"

    def variables(self, **more: str) -> dict[str, str]:
        return {"PYTHONPATH": str(HOOK), "CALLS_FILE": str(self.log), **more}

    def repro(self, *stages: str, flags: Iterable[str] = (), **more: str) -> None:
        """`dvc repro` of these stages, of which the last one must run."""
        words = ["dvc", "repro", "--single-item", *flags, *stages]
        ran = executed(must(self.folder, *words, env=self.variables(**more)))
        assert stages[-1] in ran, f"expected {stages[-1]} to run, found {ran}"

    def copy(self, name: str) -> "Project":
        """A copy to edit, with no calls yet."""
        folder = self.folder.parent / name
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def outcome(self, stored: set[str], *needed: set[str], allowed: int = 0) -> Outcome:
        return Outcome(self.calls(), set().union(*needed), stored, allowed)

    def samples(self) -> int:
        """Answers that were sampled."""
        return sum(json.loads(cell)[0] == "sample" for cell in self.calls())
