"""Check the whole recipe before anything runs: every section, every key, every cross-reference.

The output is a constant, so a valid edit of params.yaml makes nothing else stale. This stage is the
one that looks into other stages: it reads each section with the params class of the stage of that
name, found by import at run time.

    python -m pipeline.stages.recipe PARAMS OUT
"""

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline import edge
from pipeline.errors import UserError
from pipeline.ledger import write_json
from pipeline.params import Params, parse, read_file
from pipeline.schemas import KINDS

#: Section -> the class that reads it. `sources`, `mixes` and `iterations` are tables of such sections.
SECTIONS = {
    "profile": "pipeline.stages.profile:ProfileParams",
    "prompts": "pipeline.stages.prompts:PromptsParams",
    "sft_mix": "pipeline.stages.sft_mix:SftMixParams",
    "base_model": "pipeline.stages.base_model:BaseModelParams",
    "pack": "pipeline.stages.pack:PackParams",
    "sft": "pipeline.training:TrainingParams",
    "learning_curve": "pipeline.stages.learning_curve:LearningCurveParams",
    "pairwise": "pipeline.stages.pairwise:PairwiseParams",
    "evaluate_judges": "pipeline.stages.evaluate_judges:EvaluateJudgesParams",
    "offline_dpo": "pipeline.stages.offline_dpo:OfflineDpoParams",
    "offline_pairs": "pipeline.stages.offline_pairs:OfflinePairsParams",
    "generate": "pipeline.stages.generate:GenerateParams",
    "judge": "pipeline.engines.judging:JudgeParams",
    "pair": "pipeline.pair_rules:PairParams",
    "counterfactual": "pipeline.pair_rules:CounterfactualParams",
    "train": "pipeline.stages.train:TrainParams",
    "evaluate": "pipeline.engines.evaluation:EvaluateParams",
    "control": "pipeline.stages.control:ControlParams",
    "select": "pipeline.stages.select:SelectParams",
}
MIX = "pipeline.stages.mix:MixParams"
REWARD = "pipeline.preference_training:RewardParams"
TABLES = ("sources", "mixes", "rewards", "iterations")
#: What other stages make below models/, data/training/ or data/curves/.
TAKEN = ("base", "policies", "checkpoints", "best", "sft", "pairwise", "offline_dpo")
BEST_OF_N = ("best_worst", "best_random", "best_second")
MIXED = ("pairwise", "offline_dpo", "offline_pairs")
"""The sections that name a mix."""


class IterationParams(Params):
    """One row of the loop: the policy it starts from, and another model that samples may ask."""

    prev: str = Field(pattern=r"^t\d+$")
    variant: str


def imported(path: str) -> Any:
    """The class at `module:Name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def check(recipe: Mapping[str, Any]) -> None:
    """Raise UserError for the first thing in `recipe` that could not run."""
    missing = sorted({*SECTIONS, *TABLES} - set(recipe))
    unknown = sorted(set(recipe) - {*SECTIONS, *TABLES})
    if missing or unknown:
        wrong = [f"missing section {name}" for name in missing] + [
            f"unknown section {name}" for name in unknown
        ]
        raise UserError(f"params.yaml: {'; '.join(wrong)}; compare with recipes/quickstart.yaml")
    for table in TABLES:
        if not isinstance(recipe[table], dict) or not recipe[table]:
            raise UserError(f"params.yaml: {table}: expected at least one entry, found {recipe[table]!r}")
    sections = {name: parse(name, imported(path), recipe[name]) for name, path in SECTIONS.items()}
    mixes = {name: parse(f"mixes.{name}", imported(MIX), body) for name, body in recipe["mixes"].items()}
    rewards = {
        name: parse(f"rewards.{name}", imported(REWARD), body) for name, body in recipe["rewards"].items()
    }
    check_sources(recipe["sources"])
    check_rewards(rewards, sections["control"].model)
    check_iterations(recipe["iterations"], sections["prompts"].slices, sections["train"].checkpoints)
    check_gates(mixes, sections["profile"].gates)
    check_references(recipe["sources"], mixes, rewards, sections)


def check_sources(sources: Mapping[str, Any]) -> None:
    """Each source has a known adapter of its declared kind and valid rules; each kind has a source."""
    source_class = imported("pipeline.source_params:Source")
    for name, body in sources.items():
        source = parse(f"sources.{name}", source_class, body)
        adapter = adapter_module(name, source.adapter)
        if source.kind != adapter.KIND:
            raise UserError(
                f"params.yaml: sources.{name}.kind: expected {adapter.KIND}, which is what the adapter "
                f"{source.adapter} makes, found {source.kind}"
            )
        parse(f"sources.{name}.rules", adapter.Rules, source.rules)
    absent = sorted(set(KINDS) - {body["kind"] for body in sources.values()})
    if absent:
        raise UserError(
            f"params.yaml: sources: expected at least one source of each kind, found none of {absent}"
        )


def adapter_module(name: str, adapter: str) -> Any:
    """The module of an adapter; UserError lists those there are."""
    folder = Path(__file__).parents[1] / "sources"
    if not (folder / f"{adapter}.py").exists():
        known = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        raise UserError(f"params.yaml: sources.{name}.adapter: expected one of {known}, found {adapter!r}")
    return importlib.import_module(f"pipeline.sources.{adapter}")


def check_iterations(iterations: Mapping[str, Any], slices: int, checkpoints: Sequence[float]) -> None:
    """Keys are t1..tT, `prev` and `variant` are there before the iteration, and there is a slice for each."""
    expected = [f"t{number}" for number in range(1, len(iterations) + 1)]
    if list(iterations) != expected:
        raise UserError(
            f"params.yaml: iterations: expected the keys {expected} in order, found {list(iterations)}"
        )
    for number, (key, body) in enumerate(iterations.items()):
        row = parse(f"iterations.{key}", IterationParams, body)
        earlier = [f"t{before}" for before in range(number + 1)]
        if row.prev not in earlier:
            raise UserError(
                f"params.yaml: iterations.{key}.prev: expected an earlier policy, one of {earlier}, "
                f"found {row.prev!r}"
            )
        kept = [f"checkpoints/{t}/{fraction}" for t in earlier[1:] for fraction in checkpoints]
        others = ["base", "offline_dpo", *(f"policies/{t}" for t in earlier if t != row.prev), *kept]
        if row.variant not in others:
            raise UserError(
                f"params.yaml: iterations.{key}.variant: expected a model other than prev that is there "
                f"before, one of {others} (train.checkpoints adds some), found {row.variant!r}"
            )
    if len(iterations) > slices:
        raise UserError(
            f"params.yaml: prompts.slices: expected at least {len(iterations)}, one per iteration, "
            f"found {slices}; raise it, which moves no prompt, or remove iterations"
        )


def check_rewards(names: Iterable[str], control: str) -> None:
    """There is the model that judges the loop, no name is another stage's, and the control is one of them."""
    wrong = sorted(name for name in names if not re.fullmatch(r"[a-z][a-z_]*", name) or name in TAKEN)
    if wrong or "reward" not in names:
        found = f"the name {wrong[0]!r}" if wrong else f"only {sorted(names)}"
        raise UserError(
            f"params.yaml: rewards: expected one named reward, which judges the loop, and others in small "
            f"letters and not among {list(TAKEN)}, found {found}"
        )
    models = sorted(f"models/{name}" for name in names)
    if control not in models:
        raise UserError(f"params.yaml: control.model: expected one of {models}, found {control!r}")


def check_gates(mixes: Iterable[str], gates: Iterable[str]) -> None:
    """Every mix has a gate, even if it is null, and nothing else has."""
    missing, unknown = sorted(set(mixes) - set(gates)), sorted(set(gates) - set(mixes))
    if missing or unknown:
        raise UserError(
            f"params.yaml: profile.gates: expected one gate for each mix, found none for {missing} and "
            f"one for the unknown {unknown}; write <mix>: null for a mix without a gate"
        )


def check_references(
    sources: Mapping[str, Any],
    mixes: Mapping[str, Any],
    rewards: Mapping[str, Any],
    sections: Mapping[str, Any],
) -> None:
    """Every name that a section mentions exists and is of the right kind."""
    kinds = {name: body["kind"] for name, body in sources.items()}
    for name, mix in mixes.items():
        known(f"mixes.{name}.sources", (s.name for s in mix.sources), kinds, {"preferences"})
        known(f"mixes.{name}.decontaminate.benchmarks", mix.decontaminate.benchmarks, kinds, {"benchmarks"})
    known("prompts.sources", sections["prompts"].sources, kinds, {"prompts", "preferences"})
    known("sft_mix.sources", (s.name for s in sections["sft_mix"].sources), kinds, {"demonstrations"})
    for name in ("prompts", "sft_mix"):
        known(
            f"{name}.decontaminate.benchmarks", sections[name].decontaminate.benchmarks, kinds, {"benchmarks"}
        )
    known("evaluate_judges.sets", sections["evaluate_judges"].sets, kinds, {"judge_sets"})
    named = {f"{name}.mix": [sections[name].mix] for name in MIXED}
    named |= {f"rewards.{name}.mix": [params.mix] for name, params in rewards.items()}
    for where, wanted in (named | {"evaluate_judges.mixes": sections["evaluate_judges"].mixes}).items():
        known(where, wanted, dict.fromkeys(mixes, "mix"), {"mix"})
    block, longest = sections["pack"].block, sections["sft"].max_length
    if block > longest:
        raise UserError(
            f"params.yaml: pack.block: expected at most sft.max_length = {longest}, found {block}; "
            "blocks are what sft trains on: lower the one or raise the other"
        )
    check_judge(sections["judge"])
    check_pair(sections["pair"], [one.kind for one in sections["judge"].jury])
    check_exploration(sections["pair"].strategy, sections["train"].pairs)
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
            "params.yaml: train.pairs: expected cumulative with pair.strategy uncertainty, which goes by the "
            f"pairs of all earlier iterations, found {data}"
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


def main() -> None:
    """Check the params file; write the constant."""
    params, out = edge.arguments("PARAMS", "OUT")
    check(read_file(params))
    write_json(out, {"valid": True})


if __name__ == "__main__":
    edge.run("recipe", main)
