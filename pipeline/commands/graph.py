"""What `dvc repro` would do with each stage, and why, told without running anything.

DVC knows of each stage whether its inputs, values, command and outputs are those of dvc.lock. What it
cannot know is what comes of a stage that will run: whatever reads its outputs may run too, unless the
bytes come out the same. An earlier run that DVC remembers (its run cache) is brought back, not repeated.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.commands.workspace import Workspace
from pipeline.errors import UserError
from pipeline.params import read_file
from pipeline.stages import recipe

CONSTANT = "recipe"
"""The stage whose output is the same for every valid recipe: what reads it need not wait."""

State = Literal["runs", "may run", "restored", "up to date"]


@dataclass
class Outlook:
    """What would happen to one stage."""

    name: str
    words: tuple[str, ...]
    """The command's words that are inputs: a key, or paths."""
    outs: tuple[str, ...]
    state: State
    because: str
    waits_for: tuple[str, ...]
    """Stages that would make inputs of this one anew."""
    stale: tuple[str, ...]
    """The inputs that these stages would make anew."""
    absent: tuple[str, ...]
    """Inputs that are not in the workspace as they will be read, though nothing has to make them."""

    @property
    def settled(self) -> bool:
        """Whether every input is there with the bytes that the stage will read."""
        return not self.waits_for and not self.absent


@dataclass
class Coming:
    """An output that will be written: by whom, and what DVC remembers of it where it only brings it back."""

    stage: str
    out: Any = None


@dataclass
class Graph:
    """DVC's stages in the order in which they would run, looked at one after the other."""

    repo: Any
    stages: Sequence[Any]
    coming: dict[str, Coming] = field(default_factory=dict)
    workspace: Workspace = field(default_factory=Workspace)

    @classmethod
    def load(cls, targets: Sequence[str] = ()) -> "Graph":
        """The stages that lead to `targets`, all without any.

        UserError where params.yaml or dvc.yaml is wrong.
        """
        from dvc.repo import Repo
        from dvc.repo.reproduce import collect_stages, plan_repro

        recipe.check(read_file())
        with plain_errors():
            repo = Repo()
            wanted = collect_stages(repo, targets) if targets else None
            return cls(repo, plan_repro(repo.index.graph, wanted))

    def __iter__(self) -> Iterator[Outlook]:
        """Each stage's outlook; call `settle` on it before the next where its outputs stay as they are."""
        for stage in self.stages:
            with plain_errors():
                outlook = self.outlook(stage)
            yield outlook

    def outlook(self, stage: Any) -> Outlook:
        """What would happen to a stage, given what happens to those before it."""
        changed, waits, stale, absent = self.inputs(stage)
        command = ["command"] if stage.changed_stage() else []
        outs = [f"{out} {what}" for out in stage.outs for what in out.status().values()]
        own = [*changed, *command, *outs]
        if own and not any(dep.hash_info for dep in stage.deps):
            own = ["never run"]
        state: State = "runs" if own else "may run" if waits else "up to date"
        restored = (
            self.remembered(stage, only_outs=not changed and not command) if own and not waits else None
        )
        if restored is not None:
            state = "restored"
        if state != "up to date":
            self.expect(stage, restored)
        return Outlook(
            name=stage.addressing,
            words=input_words(stage),
            outs=tuple(out.def_path for out in stage.outs),
            state=state,
            because=", ".join(own or named(waits)),
            waits_for=tuple(waits),
            stale=tuple(stale),
            absent=tuple(absent),
        )

    def inputs(self, stage: Any) -> tuple[list[str], list[str], list[str], list[str]]:
        """Of a stage's inputs: what is not as it was; who makes some anew, and which; which are not here."""
        changed: list[str] = []
        waits: dict[str, None] = {}
        stale: list[str] = []
        absent: list[str] = []
        for dep in [] if stage.frozen else stage.deps:
            before = self.before(dep.fs_path) if dep.def_path else []
            if known := self.known(dep):
                absent.append(dep.def_path)
                changed += [] if known.hash_info == dep.hash_info else [dep.def_path]
            elif before:
                waits |= dict.fromkeys(coming.stage for coming in before)
                stale.append(dep.def_path)
            elif what := self.workspace.difference(dep):
                changed.append(what)
                absent += [] if dep.exists else [dep.def_path]
        return shortened(changed), list(waits), stale, absent

    def known(self, dep: Any) -> Any:
        """The output that DVC will bring back at this path; None where there is none, or it is not alone."""
        coming = self.coming.get(dep.fs_path)
        return coming.out if coming and len(self.before(dep.fs_path)) == 1 else None

    def before(self, path: str) -> list[Coming]:
        """The outputs at, above or below a path that will be written."""
        return [
            coming
            for other, coming in self.coming.items()
            if path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
        ]

    def remembered(self, stage: Any, *, only_outs: bool) -> dict[str, Any] | None:
        """The outputs that DVC would bring back instead of a run, by path; None where it runs."""
        if only_outs:
            there = all(out.use_cache and not out.changed_cache() for out in stage.outs)
            return {out.fs_path: out for out in stage.outs} if there else None
        for dep in stage.deps:  # in memory: the key of a run is made of what its inputs will be
            if known := self.known(dep):
                dep.hash_info, dep.meta = known.hash_info, known.meta
            elif dep.exists:
                dep.save()
            else:
                return None
        runs = self.repo.stage_cache
        entry = runs._load(stage)
        then = runs._create_stage(entry, wdir=stage.wdir) if entry else None
        if then is None or not then.outs_cached():
            return None
        return {out.fs_path: out for out in then.outs}

    def expect(self, stage: Any, restored: dict[str, Any] | None) -> None:
        """Note the outputs of a stage as coming, but for those that are here as they will be."""
        if stage.addressing == CONSTANT and all(out.exists for out in stage.outs):
            return
        for out in stage.outs:
            back = restored.get(out.fs_path) if restored else None
            if not (back and out.exists and out.get_hash() == back.hash_info):
                self.coming[out.fs_path] = Coming(stage.addressing, back)

    def settle(self, outlook: Outlook) -> None:
        """The outputs of this stage are, and will be, as they are: what reads them need not wait."""
        self.coming = {path: coming for path, coming in self.coming.items() if coming.stage != outlook.name}


def input_words(stage: Any) -> tuple[str, ...]:
    """The words of `python -m module words...` that are not outputs."""
    outs = {out.def_path for out in stage.outs}
    return tuple(word for word in stage.cmd.split()[3:] if word not in outs)


def named(stages: Sequence[str], most: int = 2) -> list[str]:
    """The names of stages, all but the first few as a number."""
    more = len(stages) - most
    return [*stages[:most], *([f"{more} more"] if more > 0 else [])]


def shortened(changed: Sequence[str]) -> list[str]:
    """What changed, with all code as one."""
    code = [what for what in changed if what.startswith("pipeline/")]
    return [what for what in changed if what not in code] + ([f"code ({len(code)})"] if code else [])


@contextmanager
def plain_errors() -> Generator[None]:
    """DVC's complaints as one line for the user."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        raise UserError(f"dvc.yaml: {' '.join(str(error).split())}; see: dvc status") from error


def paths(words: Iterable[str]) -> list[str | Path]:
    """Words of a command as a stage's functions take them: a key as it is, all else as paths."""
    return [Path(word) if {"/", "."} & set(word) else word for word in words]
