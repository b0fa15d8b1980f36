"""Everything the report knows, gathered once; the page, metrics.json and the CSV files are views of it."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.baselines import TEST, TRAIN
from pipeline.profiles import SIDES, WHOLE
from pipeline.report.accounts import Account, accounts
from pipeline.report.controls import ControlFacts, controls, shared_sources
from pipeline.report.documents import DealFacts, PackingFacts, deal_facts, packing_facts
from pipeline.report.grids import rounded
from pipeline.report.inputs import Folders, Recipe, read_json
from pipeline.report.iterations import IterationFacts, best_of_n_bound, iteration_facts
from pipeline.report.judges import JudgeFacts, Scores, judge_facts
from pipeline.report.learning import learning_curves
from pipeline.report.mixes import MixFacts, mix_facts
from pipeline.report.pair_rules import PairRuleFacts, pair_rule_facts, pair_rule_metrics
from pipeline.report.policies import PolicyFacts, evaluations, policies
from pipeline.report.runs import Curve, training_curves


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The figures of every section."""

    recipe: Recipe
    accounts: dict[str, Account]
    mixes: list[MixFacts]
    deal: DealFacts
    packing: PackingFacts
    curves: dict[str, list[Curve]]
    judges: JudgeFacts
    learning: dict[str, pl.DataFrame]
    iterations: list[IterationFacts]
    pair_rules: list[PairRuleFacts]
    policies: list[PolicyFacts]
    controls: list[ControlFacts]
    shared_sources: list[str]
    """Of judge and control."""
    verdict: dict[str, Any]
    release: dict[str, Any]


def findings(folders: Folders, recipe: Recipe) -> Findings:
    """Read all folders."""
    every, rows = accounts(folders, recipe), evaluations(folders, recipe)
    return Findings(
        recipe=recipe,
        accounts=every,
        mixes=[
            mix_facts(name, folders.mixes, folders.profiles, every[f"mix@{name}"]) for name in recipe.mixes
        ],
        deal=deal_facts(folders, recipe),
        packing=packing_facts(folders),
        curves=training_curves(folders, recipe),
        judges=judge_facts(folders, recipe),
        learning=learning_curves(folders, recipe),
        iterations=[iteration_facts(t, folders.iterations / t) for t in recipe.iterations],
        pair_rules=[pair_rule_facts(t, folders.counterfactuals / t) for t in recipe.iterations],
        policies=policies(rows, recipe),
        controls=controls(folders, recipe, rows),
        shared_sources=shared_sources(folders, recipe),
        verdict=read_json(folders.select / "verdict.json", "select"),
        release=read_json(folders.release / "facts.json", "release"),
    )


def checks(found: Findings) -> list[tuple[bool, str]]:
    """What must hold of every run, and whether it does."""
    broken = [name for name, one in found.accounts.items() if not one.balances]
    where = (
        f"not in {', '.join(broken)}" if broken else f"in all {len(found.accounts)} stages that may drop rows"
    )
    result = [(not broken, f"Rows in = rows kept + rows dropped, {where}")]
    for mix in found.mixes:
        kept, both = found.accounts[f"mix@{mix.name}"].kept, mix.leaked_clusters
        whole = mix.train + mix.test == kept
        result += [
            (whole, f"Mix {mix.name}: train and test hold the {kept:,} pairs of the account"),
            (both == 0, f"Mix {mix.name}: {both:,} of {mix.clusters:,} prompt clusters are on both sides"),
            (not mix.profile.failures(), f"Mix {mix.name}: {gate_told(mix)}"),
        ]
    prompts, clusters = found.deal.shared_prompts, found.deal.shared_clusters
    said = f"Validation and iterations share {prompts:,} prompts and {clusters:,} clusters of near-duplicates"
    result.append((prompts + clusters == 0, said))
    for one in found.iterations:
        kept = found.accounts[f"pair@{one.name}"].kept
        result.append(
            (one.pairs == kept, f"Iteration {one.name}: the table holds the {kept:,} pairs of the account")
        )
    return result


def gate_told(mix: MixFacts) -> str:
    """What a mix may not be guessed by."""
    gate = mix.profile.gate
    return "no gate is set" if gate is None else f"no content-blind baseline is above {gate:.0%} for certain"


def account_metrics(account: Account) -> dict[str, object]:
    """The figures of an account."""
    return {"in": account.rows_in, "kept": account.kept, "dropped": account.reasons}


def mix_metrics(mix: MixFacts, account: Account) -> dict[str, object]:
    """The figures of a mix; tokens are means over its pairs."""
    return account_metrics(account) | {
        "train": mix.train,
        "test": mix.test,
        "prompts": mix.profile.total(WHOLE).prompts,
        "leaked_clusters": mix.leaked_clusters,
        "tokens": {side: mix.profile.total(WHOLE).mean(side) for side in SIDES},
        "baselines": {
            side: {one.name: one.accuracy for one in mix.profile.of(None) if one.side == side}
            for side in (TRAIN, TEST)
        },
    }


def judge_metrics(judges: JudgeFacts) -> dict[str, object]:
    """Accuracy by set and judge, then by subset; confidence."""
    return {name: judge_set_metrics(judges, name) for name in judges.sets}


def score_metrics(scores: Scores) -> dict[str, object]:
    """The scores of a benchmark by judge, and how many subsets no set has; nothing where none has any."""
    if not scores.of:
        return {}
    return {**scores.of, "missing": {name: len(some) for name, some in scores.missing.items()}}


def judge_set_metrics(judges: JudgeFacts, name: str) -> dict[str, object]:
    """The figures of the judges on one set."""
    own = [one for one in judges.accuracies if one.set == name]
    subsets = sorted({one.subset for one in own if one.subset is not None})
    found: dict[str, object] = {one.judge: one.accuracy for one in own if one.subset is None}
    found["subsets"] = {
        subset: {one.judge: one.accuracy for one in own if one.subset == subset} for subset in subsets
    }
    found["confidence"] = {
        one.judge: {
            "expected_calibration_error": one.calibration.error,
            "mean": one.calibration.confidence,
            "disagreement": one.disagreement,
        }
        for one in judges.confidences
        if one.set == name
    }
    return found


def iteration_metrics(one: IterationFacts, found: Findings) -> dict[str, object]:
    """The figures of an iteration and of the policy that came of it."""
    return {
        "candidates": one.candidates,
        "tokens": one.tokens,
        "unfinished": one.unfinished,
        "reward": {"mean": one.reward, "best": one.best, "worst": one.worst},
        "length_bias": {
            judge: {"correlation": bias.mean, "prompts": bias.coefficients.size, "without": bias.without}
            for judge, bias in one.length_bias.items()
        },
        "best_of_n_kl_bound": best_of_n_bound(one.per_prompt),
        "pairs": one.pairs,
        "margin": one.margin,
        "chosen_words": one.chosen_words,
        "rejected_words": one.rejected_words,
        "chosen_cut": one.chosen_cut,
        "rejected_cut": one.rejected_cut,
        "dropped": {
            stage: found.accounts[f"{stage}@{one.name}"].reasons
            for stage in ("generate", "pair", "gather", "train")
        },
    }


def policy_metrics(one: PolicyFacts) -> dict[str, object]:
    """The figures of a policy on the validation prompts."""
    return {
        "reward": one.reward,
        "gain": one.gain,
        "win_rate": one.win,
        "preference": one.preference,
        "length": one.length,
        "kl": one.kl,
        "kl_per_token": one.kl_per_token,
        "unfinished": one.unfinished,
    }


def metrics(found: Findings) -> object:
    """All figures, nested by section: what `dvc metrics show` and `dvc metrics diff` read."""
    recipe, every = found.recipe, found.accounts
    return rounded(
        {
            "sources": {name: account_metrics(every[f"standardize@{name}"]) for name in recipe.kinds},
            "mixes": {mix.name: mix_metrics(mix, every[f"mix@{mix.name}"]) for mix in found.mixes},
            "prompts": account_metrics(every["prompts"])
            | {"slices": {one.name: one.prompts for one in found.deal.slices}},
            "sft": account_metrics(every["sft_mix"])
            | {"blocks": found.packing.blocks, "tokens": found.packing.tokens, "fill": found.packing.fill}
            | {"too_long_to_pack": every["pack"].dropped},
            "judges": judge_metrics(found.judges),
            "reward_bench": score_metrics(found.judges.sections),
            "rm_bench": score_metrics(found.judges.styles),
            "iterations": {one.name: iteration_metrics(one, found) for one in found.iterations},
            "pair_rules": {one.name: pair_rule_metrics(one) for one in found.pair_rules},
            "policies": {one.name: policy_metrics(one) for one in found.policies},
            "controls": {
                one.name: {"reward": one.reward, "gain": one.gain, "agreement": one.agreement}
                for one in found.controls
            },
            "selection": {"best": found.verdict["best"]},
        }
    )
