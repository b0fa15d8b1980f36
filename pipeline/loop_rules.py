"""What the sections of the loop demand of each other: judges, pairs, and what is trained on.

Classes and tables of other modules are found by import at run time, as in stage `recipe`, which asks this.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

BEST_OF_N = ("best_worst", "best_random", "best_second")


def imported(path: str) -> Any:
    """The class at `module:Name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def check_loop(sections: Mapping[str, Any]) -> None:
    """Raise UserError for the first thing in the parsed `sections` that does not go with another."""
    check_judge(sections["judge"])
    check_pair(sections["pair"], [one.kind for one in sections["judge"].jury])
    check_exploration(sections["pair"].strategy, sections["gather"].pairs)
    check_best_of_n(sections["pair"].strategy.name, sections["train"].objective.kind)
    for name in ("judge", "evaluate_judges"):
        if how := sections[name].prompted:
            check_template(f"{name}.prompted.template", Path(how.template))


def check_template(where: str, path: Path) -> None:
    """A template is whole, and stands where the pipeline sees that it changes."""
    folder = Path("recipes", "templates")
    if folder not in path.parents or ".." in path.parts:
        raise UserError(
            f"params.yaml: {where}: expected a file below {folder}, whose changes the pipeline sees, found "
            f"{path}; copy it there"
        )
    imported("pipeline.judge_templates:load_template")(path)


def check_judge(judge: Any) -> None:
    """The models of the judges are of the kinds that ask them, and there is a folder for each."""
    models = imported("pipeline.engines.judging:MODELS")
    model = models[judge.kind]
    if judge.model != model:
        raise UserError(
            f"params.yaml: judge.model: expected {model}, which judge.kind {judge.kind} asks, found "
            f"{judge.model!r}"
        )
    others = sorted({models[kind] for kind in judge.also} - {model})
    if judge.kind == "cascade":
        referees, asked = sorted(imported("pipeline.engines.judging:WORDINGS")), "a judge of two answers"
    elif others:
        referees, asked = others, "the model of judge.also"
    else:
        referees, asked = [model], "judge.model, for nothing else is asked"
    if judge.referee not in referees:
        raise UserError(
            f"params.yaml: judge.referee: expected {' or '.join(referees)} with judge.kind {judge.kind} "
            f"({asked}), found {judge.referee!r}"
        )
    folders = {judge.model, judge.referee}
    can = [kind for kind in ("bt", "pairwise", "prompted") if models[kind] in folders and kind != judge.kind]
    if len(set(judge.also)) < len(judge.also) or not set(judge.also) <= set(can):
        raise UserError(
            f"params.yaml: judge.also: expected each of {can} at most once, whose models are judge.model and "
            f"judge.referee, found {list(judge.also)}"
        )


def check_exploration(strategy: Any, data: str) -> None:
    """Uncertainty is that of all earlier pairs, which are kept where they are trained on."""
    if strategy.name == "uncertainty" and data != "cumulative":
        raise UserError(
            "params.yaml: gather.pairs: expected cumulative with pair.strategy uncertainty, which goes by "
            f"the pairs of all earlier iterations, found {data}"
        )


def check_best_of_n(strategy: str, objective: str) -> None:
    """Rejection-sampling fine-tuning is on the best answers, which are the chosen ones of some strategies."""
    if objective == "raft" and strategy not in BEST_OF_N:
        raise UserError(
            f"params.yaml: pair.strategy: expected one whose chosen answer is the best, {list(BEST_OF_N)}, "
            f"with train.objective.kind raft, found {strategy}"
        )


def check_pair(pair: Any, judges: Sequence[str]) -> None:
    """The judges that decide are there."""
    rule, several = pair.judges.rule, len(judges) > 1
    if (rule in ("mean", "agreement") and not several) or (rule == "one" and several):
        raise UserError(
            f"params.yaml: pair.judges: expected {'named, mean or agreement' if several else 'one or named'} "
            f"with the judges {list(judges)} of judge.kind and judge.also, found {rule}"
        )
    if rule == "named":
        known("pair.judges.judge", [pair.judges.judge], dict.fromkeys(judges, "judge"), {"judge"})
    deciding = [pair.judges.judge] if rule == "named" else judges
    if pair.noise and set(pair.noise) != set(deciding):
        raise UserError(
            f"params.yaml: pair.noise: expected the noise of each judge that decides, {list(deciding)}, or "
            f"{{}}, found {sorted(pair.noise)}"
        )


def known(where: str, names: Iterable[str], kinds: Mapping[str, str], wanted: set[str]) -> None:
    """Raise UserError for the first of `names` that is not an entry of a wanted kind."""
    allowed = sorted(name for name, kind in kinds.items() if kind in wanted)
    for name in names:
        if name not in allowed:
            raise UserError(f"params.yaml: {where}: expected one of {allowed}, found {name!r}")
