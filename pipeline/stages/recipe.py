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
from pipeline.loop_rules import check_loop, imported, known
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
    "gather": "pipeline.stages.gather:GatherParams",
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
MIXED = ("pairwise", "offline_dpo", "offline_pairs")
"""The sections that name a mix."""


class IterationParams(Params):
    """One row of the loop: the policy it starts from, and another model that samples may ask."""

    prev: str = Field(pattern=r"^t\d+$")
    variant: str


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
    check_loop(sections)


def main() -> None:
    """Check the params file; write the constant."""
    params, out = edge.arguments("PARAMS", "OUT")
    check(read_file(params))
    write_json(out, {"valid": True})


if __name__ == "__main__":
    edge.run("recipe", main)
