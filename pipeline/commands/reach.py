"""What recipes reach in the row store: the keys that their stages ask, set by set."""

import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from pipeline.cells import Kind
from pipeline.commands.asks import ASKING, planned
from pipeline.commands.graph import Graph, Outlook, input_words, plain_errors
from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE, read_file
from pipeline.provenance import PIPELINE_FILE
from pipeline.stages import recipe

#: The kinds of cells that a stage may ask.
KINDS: dict[str, tuple[Kind, ...]] = {
    "generate": ("sample",),
    "judge": ("score", "prefer"),
    "evaluate": ("sample", "score", "prefer", "log_probs"),
    "evaluate_baselines": ("sample", "score", "prefer", "log_probs"),
    "evaluate_judges": ("score", "prefer"),
    "train": ("log_probs",),
    "offline_dpo": ("log_probs",),
}


@dataclass
class Reach:
    """Keys and stages by name of a set, and the stages whose keys cannot be told."""

    keys: dict[str, list[pl.Series]] = field(default_factory=dict)
    stages: dict[str, list[str]] = field(default_factory=dict)
    blind: dict[str, str] = field(default_factory=dict)
    """Stage -> why its keys cannot be told, and what mends that."""

    def look(self, outlook: Outlook) -> None:
        """Enter what a stage asks."""
        name = outlook.name
        if not outlook.settled:
            waits = outlook.waits_for or outlook.absent
            self.blind[name] = (
                f"{waits[0]} is not made or out of date; make it: dvc repro {name} (or dvc pull)"
            )
            return
        plan, _ = planned(outlook)
        if not all(fill.exact for fill in plan.fills):
            force = "" if outlook.state == "runs" else "--force --single-item "
            self.blind[name] = f"the store lacks answers of it; sample them: dvc repro {force}{name}"
        for fill in plan.fills:
            self.keys.setdefault(fill.cells.name, []).append(fill.asked)
            users = self.stages.setdefault(fill.cells.name, [])
            users += [] if name in users else [name]

    def wanted(self, present: Sequence[str]) -> dict[str, pl.Series | None]:
        """The keys to keep of each set; None keeps a whole one, of a kind that a blind stage may ask."""
        kinds = {kind for stage in self.blind for kind in KINDS[stage.partition("@")[0]]}
        whole = {name: None for name in present if name.partition("/")[0] in kinds}
        return {name: pl.concat(parts).unique() for name, parts in self.keys.items()} | whole


def reach(recipes: Sequence[Path] = ()) -> Reach:
    """What params.yaml and further recipes ask, as far as their inputs are in this workspace."""
    found = Reach()
    for outlook in Graph.load():
        if outlook.name.partition("@")[0] in ASKING:
            found.look(outlook)
    for path in recipes:
        with params_of(path):
            for outlook in stages_of(path):
                found.look(outlook)
    return found


@contextmanager
def params_of(path: Path) -> Generator[None]:
    """Within it stages read another recipe than params.yaml."""
    before = os.environ.get("PAIRMILL_PARAMS")
    os.environ["PAIRMILL_PARAMS"] = str(path)
    try:
        recipe.check(read_file())
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    finally:
        del os.environ["PAIRMILL_PARAMS"]
        if before is not None:
            os.environ["PAIRMILL_PARAMS"] = before


def stages_of(path: Path) -> Iterator[Outlook]:
    """The asking stages of dvc.yaml under another recipe, with their inputs as they are in this workspace."""
    from dvc.repo import Repo

    with TemporaryDirectory(prefix="pairmill-") as folder, plain_errors():
        shutil.copyfile(PIPELINE_FILE, Path(folder) / PIPELINE_FILE)
        shutil.copyfile(path, Path(folder) / PARAMS_FILE)
        (Path(folder) / ".dvc").mkdir()
        (Path(folder) / ".dvc" / "config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
        stages: list[Any] = Repo(folder).index.stages
        for stage in stages:
            if stage.name.partition("@")[0] in ASKING:
                missing = [dep.def_path for dep in stage.deps if not Path(dep.def_path).exists()]
                yield other(stage.name, input_words(stage), tuple(missing))


def other(name: str, words: tuple[str, ...], missing: tuple[str, ...]) -> Outlook:
    """A stage of a recipe that DVC does not have in its lock file."""
    return Outlook(name, words, (), "runs", "", waits_for=(), stale=(), absent=missing)
