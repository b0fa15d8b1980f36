"""The sections on models: training curves, iterations, policies, and the verdict."""

from typing import Any

from markupsafe import Markup

from pipeline import figures, judge_figures
from pipeline.intervals import Interval
from pipeline.length_bias import LengthBias
from pipeline.report.data_sections import cut
from pipeline.report.findings import Findings
from pipeline.report.grids import NONE, Grid, count, number, percent, share, spread
from pipeline.report.inputs import PI0
from pipeline.report.iterations import IterationFacts, best_of_n_bound
from pipeline.report.policies import PolicyFacts
from pipeline.report.runs import SERIES, Curve
from pipeline.report.samples import sample_grid

TEXT_CHARACTERS = 700
LENGTH_BINS = (20, 12)
"""Cells of a heatmap of length bias: across, and upwards."""


def run_view(run: str, curves: list[Curve]) -> dict[str, Any]:
    """The small multiples of one training run."""
    drawn = [
        figures.curve(list(zip(one.steps, one.values, strict=True)), SERIES.get(one.series, one.series))
        for one in curves
    ]
    return {"name": run, "figures": drawn}


def run_grid(found: Findings) -> Grid:
    """First and last loss of every run."""
    rows = []
    for run, curves in found.curves.items():
        series = {one.series: one.values for one in curves if one.values}
        loss, accuracy = series.get("loss", []), series.get("accuracy", [])
        steps = max((one.steps[-1] for one in curves if one.steps), default=0.0)
        first, last = (number(loss[i] if loss else None) for i in (0, -1))
        rows.append([run, count(int(steps)), first, last, number(accuracy[-1] if accuracy else None)])
    columns = ["Run", "Last step", "First loss", "Last loss", "Last accuracy on train pairs"]
    return Grid("Training runs", columns, rows)


def iteration_view(one: IterationFacts, found: Findings) -> dict[str, Any]:
    """One iteration: what was sampled, how it was judged, and two of its pairs."""
    return {
        "name": one.name,
        "tiles": [
            ("Candidates", count(one.candidates)),
            ("Prompts", count(one.prompts)),
            ("Pairs", count(one.pairs)),
            ("Mean reward", number(one.reward)),
            (f"Best of {one.per_prompt}", number(one.best)),
            ("Margin", number(one.margin)),
            ("Tokens of a candidate", number(one.tokens, 1)),
            ("Cut at the limit", share(one.unfinished)),
        ],
        "figures": [
            figures.histogram(one.rewards, f"Rewards of {one.name}", f"reward by {', '.join(one.judges)}"),
            figures.histogram(one.margins, f"Margins of {one.name}", "margin of a pair"),
            *(length_map(one, judge) for judge in one.length_bias),
        ],
        "samples": sample_grid(one.name, one.samples),
        "lengths": length_grid(one),
        "grid": pair_grid(one, found),
        "examples": [example(row) for row in one.examples.iter_rows(named=True)],
    }


def pair_grid(one: IterationFacts, found: Findings) -> Grid:
    """Lengths, and what was dropped on the way from prompts to trained pairs."""
    rows = [
        ["Words of a chosen answer", number(one.chosen_words, 1)],
        ["Words of a rejected answer", number(one.rejected_words, 1)],
        ["Chosen answer has more words", share(one.longer_chosen)],
        ["Chosen answer was cut at the limit", share(one.chosen_cut)],
        ["Rejected answer was cut at the limit", share(one.rejected_cut)],
    ]
    for stage, what in (
        ("generate", "Dropped candidates"),
        ("pair", "Dropped pairs"),
        ("gather", "Pairs not gathered"),
        ("train", "Pairs not trained on"),
    ):
        dropped = found.accounts[f"{stage}@{one.name}"].reasons
        rows += [[f"{what}: {reason}", count(n)] for reason, n in dropped.items()]
    return Grid(f"Pairs of {one.name}", ["Figure", "Value"], rows)


def length_grid(one: IterationFacts) -> Grid:
    """How far each judge goes by length."""
    rows = [
        [judge, spread(bias.mean), count(bias.coefficients.size), without(bias)]
        for judge, bias in one.length_bias.items()
    ]
    columns = ["Judge", "Correlation of score and length", "Prompts", "Prompts without a correlation"]
    note = (
        "Pearson's r of score and tokens over the answers to a prompt, in the mean over prompts with a 95% "
        "interval (paper, figure 3, where two reward models have 0.06 and 0.19)."
    )
    return Grid(f"Length bias on {one.name}", columns, rows, words=1, note=note)


def without(bias: LengthBias) -> str:
    """Why some prompts have no correlation."""
    return "; ".join(f"{count(n)} {reason}" for reason, n in bias.without.items()) or "0"


def length_map(one: IterationFacts, judge: str) -> Markup:
    """Correlations by the mean score of their prompts."""
    bias = one.length_bias[judge]
    labels = ("correlation of score and length", "mean score of the prompt")
    title = f"Length bias of {judge} on {one.name}"
    return judge_figures.heatmap(bias.coefficients, bias.mean_scores, title, labels, LENGTH_BINS)


def example(row: dict[str, Any]) -> dict[str, Any]:
    """One pair as text, cut to a readable length."""
    return {
        "id": row["pair_id"],
        "margin": number(row["margin"]),
        "prompt": [(turn["role"], cut(turn["content"], TEXT_CHARACTERS)) for turn in row["prompt"]],
        "sides": [
            (side, number(row[f"{side}_score"]), cut(row[side][0]["content"], TEXT_CHARACTERS))
            for side in ("chosen", "rejected")
        ],
    }


def policy_view(found: Findings) -> dict[str, Any]:
    """The policies beside each other."""
    bounds = {one.name: (best_of_n_bound(one.per_prompt), one.per_prompt) for one in found.iterations}

    every = found.policies
    pi0 = next((one for one in every if one.name == PI0), None)
    drawn = (
        ("Mean reward", [one.reward for one in every], pi0.reward.mean if pi0 else None),
        ("Win rate against t0, %", [one.win.times(100) for one in every], 50.0),
        ("Length in tokens", [one.length for one in every], pi0.length.mean if pi0 else None),
        ("KL to t0, nats", [one.kl for one in every], 0.0),
    )
    names = [one.name for one in every]
    return {
        "figures": [
            figures.whiskers(list(zip(names, intervals, strict=True)), title, reference)
            for title, intervals, reference in drawn
        ],
        "quality": quality_grid(found.policies, found.verdict["best"]),
        "control": control_grid(found),
        "cost": cost_grid(found.policies, bounds, found.verdict["best"]),
    }


def best_row(policies: list[PolicyFacts], best: str) -> int | None:
    """Where the best policy stands."""
    return next((i for i, one in enumerate(policies) if one.name == best), None)


def quality_grid(policies: list[PolicyFacts], best: str) -> Grid:
    """Reward and win rates."""
    rows = [
        [
            one.name,
            count(one.prompts),
            spread(one.reward),
            NONE if one.name == PI0 else spread(one.gain),
            NONE if one.name == PI0 else percent(one.win),
            NONE if one.name == PI0 else percent(one.preference),
        ]
        for one in policies
    ]
    columns = [
        "Policy",
        "Prompts",
        "Reward",
        "Gain over t0",
        "Win rate, %",
        "Preferred by the pairwise model, %",
    ]
    note = (
        "95% intervals from 2,000 bootstrap resamples of the prompts; the gain is paired by prompt. "
        "The marked row is the best."
    )
    return Grid("How good", columns, rows, marked=best_row(policies, best), note=note)


def control_grid(found: Findings) -> Grid:
    """The policies as a reward model sees them that the loop never asked."""
    rows = [
        [
            one.name,
            spread(one.reward),
            *((NONE, NONE) if one.name == PI0 else (spread(one.gain), percent(one.agreement))),
        ]
        for one in found.controls
    ]
    columns = ["Policy", "Reward by the control", "Gain over t0", "Agrees with the judge, %"]
    shared = ", ".join(found.shared_sources)
    note = (
        f"The control, models/{found.recipe.control}, is trained on the mix "
        f"{found.recipe.rewards[found.recipe.control]}, models/reward on {found.recipe.rewards['reward']}; "
        + (f"sources in both: {shared}. " if shared else "no source is in both. ")
        + "A gain that the judge sees and the control does not may be the judge's taste alone. Agreement: "
        "the share of prompts on which both prefer the same answer, the policy's or t0's; 50% is chance."
    )
    return Grid("Seen by a model that the loop never asked", columns, rows, note=note)


def cost_grid(policies: list[PolicyFacts], bounds: dict[str, tuple[float, int]], best: str) -> Grid:
    """Length and distance."""
    rows = []
    for one in policies:
        bound, n = bounds.get(one.name, (float("nan"), 0))
        rows.append(
            [
                one.name,
                spread(one.length, 1),
                NONE if one.name == PI0 else spread(one.longer, 1),
                number(one.words, 1),
                share(one.unfinished),
                spread(one.kl),
                NONE if one.name == PI0 else spread(one.kl_per_token, 4),
                f"{number(bound)} (n = {n})" if n else NONE,
            ]
        )
    columns = [
        "Policy",
        "Tokens",
        "Longer than t0 by",
        "Words",
        "Cut at the limit",
        "KL to t0",
        "KL per token",
        "Best-of-n bound",
    ]
    note = (
        "KL in nats: the mean of log pi(y|x) - log pi_0(y|x) over answers y that the policy samples at "
        "temperature 1, with a 95% bootstrap interval; per token, their sum over that of tokens. The bound "
        "is log n - (n - 1) / n: what best-of-n sampling of one iteration's candidates costs at most."
    )
    return Grid("At what cost", columns, rows, marked=best_row(policies, best), note=note)


def verdict_grid(found: Findings) -> Grid:
    """The figures on which the choice rests."""
    table, best = found.verdict["policies"], found.verdict["best"]
    names = [name for name in found.recipe.policies if name in table]
    rows = [
        [
            name,
            spread(Interval(*(table[name][key] for key in ("reward", "low", "high")))),
            gain_cell(name, table[name]),
            number(table[name].get("length"), 1),
        ]
        for name in names
    ]
    marked = names.index(best) if best in names else None
    columns = ["Policy", "Score (95% interval)", "Gain over t0 (95% interval)", "Tokens"]
    return Grid("What the rule saw", columns, rows, marked=marked)


def gain_cell(name: str, figures_of: dict[str, Any]) -> str | Markup:
    """The gain of a policy over pi_0, which has none over itself."""
    keys = ("gain", "gain_low", "gain_high")
    known = name != PI0 and all(key in figures_of for key in keys)
    return spread(Interval(*(figures_of[key] for key in keys))) if known else NONE


def release_grid(found: Findings) -> Grid:
    """The released pairs, per iteration and all."""
    by_name = found.release["iterations"] | {"all": found.release["all"]}
    rows = [
        [
            name,
            count(by_name[name]["rows"]),
            count(by_name[name]["prompts"]),
            number(by_name[name]["chosen_words"], 1),
            number(by_name[name]["rejected_words"], 1),
            share(by_name[name]["longer_wins_words"]),
        ]
        for name in (*found.recipe.iterations, "all")
        if name in by_name
    ]
    columns = ["Iteration", "Pairs", "Prompts", "Chosen words", "Rejected words", "Longer wins"]
    return Grid("Pairs ready to publish", columns, rows)
