"""What stages ask of the row store, found out through their own code under `planning`."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pipeline.cells import Kind
from pipeline.commands.bounds import Most
from pipeline.commands.estimates import Estimates
from pipeline.commands.graph import Outlook, paths
from pipeline.errors import UserError
from pipeline.planning import Plan, planning


class Asks(NamedTuple):
    """How a stage asks the row store."""

    function: str
    """What asks in its module, and writes nothing."""
    kinds: tuple[Kind, ...]
    """The kinds of cells that it may ask under some recipe."""


#: The stages that ask the row store.
ASKING: Mapping[str, Asks] = {
    "generate": Asks("made", ("sample",)),
    "judge": Asks("made", ("score", "prefer", "reply", "sample")),
    "pair": Asks("made", ("state",)),
    "evaluate": Asks("made", ("sample", "score", "prefer", "reply", "log_probs")),
    "evaluate_baselines": Asks("made", ("sample", "score", "prefer", "reply", "log_probs")),
    "evaluate_judges": Asks("made", ("score", "prefer", "reply", "sample")),
    "control": Asks("made", ("score",)),
    "reward": Asks("stated", ("state",)),
    "learning_curve": Asks("stated", ("state",)),
    "train": Asks("referenced", ("log_probs",)),
    "offline_dpo": Asks("referenced", ("log_probs",)),
}


@dataclass(frozen=True)
class Rows:
    """Rows of one kind from one model that a stage would ask."""

    kind: str
    engine: str
    model: str | None
    """The folder of the model; None in a bound."""
    asked: int
    compute: int
    """Those that are not stored, nor computed by a stage before."""
    exact: bool
    """False: at most so many."""
    seconds: float | None
    """Time to compute them; None where no rate has been measured."""


def stage_module(outlook: Outlook) -> Any:
    """The module of a stage."""
    return importlib.import_module(f"pipeline.stages.{outlook.name.partition('@')[0]}")


def planned(outlook: Outlook) -> tuple[Plan, Any]:
    """The fills of a stage whose inputs are there, and what it makes of values and stand-ins."""
    name = outlook.name.partition("@")[0]
    ask = getattr(stage_module(outlook), ASKING[name].function)
    try:
        with planning() as plan:
            return plan, ask(*paths(outlook.words))
    except UserError as error:
        raise UserError(f"{outlook.name}: {error}") from error


def same_bytes(outlook: Outlook, result: Any) -> bool:
    """Whether what a stage makes is already what stands in its one output folder, file for file."""
    (out,) = map(Path, outlook.outs)
    with TemporaryDirectory(prefix="pairmill-") as folder:
        new = Path(folder) / out.name
        stage_module(outlook).write(result, new)
        return files(new) == files(out) and all(
            cmp(new / name, out / name, shallow=False) for name in files(new)
        )


def files(folder: Path) -> set[str]:
    """The names of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@dataclass
class Counter:
    """Counts the rows of stages in their order: what one computes, a later one finds stored."""

    estimates: Estimates
    computed: dict[str, set[str]] = field(default_factory=dict)
    """Keys by set of cells."""

    def exact(self, plan: Plan) -> list[Rows]:
        """The rows of a stage's fills."""
        return [self.fill(planned) for planned in plan.fills]

    def fill(self, planned: Any) -> Rows:
        """The rows of one fill."""
        before = self.computed.setdefault(planned.cells.name, set())
        new = set(planned.missing) - before
        before |= new
        engine, kind, model = dict(planned.cells.identity)["engine"], planned.cells.kind, str(planned.model)
        return Rows(
            kind=kind,
            engine=str(engine),
            model=model,
            asked=len(planned.asked),
            compute=len(new),
            exact=planned.exact,
            seconds=self.estimates.rows(len(new), kind=kind, engine=str(engine), model=model),
        )

    def bounded(self, most: Most) -> list[Rows]:
        """Bounds as rows."""
        return [
            Rows(kind, engine, None, n, n, False, self.estimates.rows(n, kind=kind, engine=engine))
            for kind, engine, n in most
        ]
