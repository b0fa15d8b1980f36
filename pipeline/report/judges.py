"""How often each judge agrees with people on held-out pairs and benchmarks, beside "longer wins"."""

from dataclasses import dataclass

import polars as pl

from pipeline import tables
from pipeline.baselines import LONGER, longer_wins
from pipeline.intervals import Interval, accuracy_interval
from pipeline.report.inputs import Folders, Recipe
from pipeline.report.sections import SUBSETS, section_scores
from pipeline.schemas import JUDGE_SETS, MIX, VERDICTS

#: Judges in the order and with the names of table 1 of the paper.
TITLES = {
    "prompted": "Prompting (LLM as a judge)",
    "bt": "Bradley-Terry reward model",
    "pairwise": "Pairwise preference model",
    LONGER: "Longer wins (content-blind)",
}


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A judge on one subset, or on the whole of a set (subset is None)."""

    judge: str
    set: str
    subset: str | None
    pairs: int
    ties: int
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """The judges on every set; `sections` maps a set with RewardBench's subsets to scores by judge."""

    judges: list[str]
    sets: list[str]
    accuracies: list[Accuracy]
    sections: dict[str, dict[str, dict[str, Interval]]]


def blind_verdicts(asked: pl.DataFrame, folders: Folders, recipe: Recipe) -> pl.DataFrame:
    """The verdicts of "longer wins" on the pairs that the judges were asked (set, subset, pair_id)."""
    parts = []
    for name in asked["set"].unique().sort():
        own = asked.filter(pl.col("set") == name)
        if name in recipe.mixes:
            table, path = MIX, folders.mixes / name / "test.parquet"
        elif recipe.kinds.get(name) == "judge_sets":
            table, path = JUDGE_SETS, folders.standard / "judge_sets" / name / "judge_sets.parquet"
        else:
            continue
        said = tables.batches(table, path, ("pair_id", "chosen", "rejected"))
        known = pl.concat(part.select("pair_id", correct=longer_wins()) for part in said).unique("pair_id")
        parts.append(own.join(known, on="pair_id", how="inner", validate="1:1", maintain_order="left"))
    empty = pl.DataFrame(
        schema={name: VERDICTS.columns[name] for name in ("set", "subset", "pair_id", "correct")}
    )
    return pl.concat([empty, *parts]).with_columns(judge=pl.lit(LONGER))


def accuracy(rows: pl.DataFrame, judge: str, name: str, subset: str | None) -> Accuracy:
    """The accuracy of the verdicts `rows`, a tie counting one half, with its Wilson interval."""
    return Accuracy(
        judge=judge,
        set=name,
        subset=subset,
        pairs=rows.height,
        ties=rows.filter(pl.col("correct") == 0.5).height,
        accuracy=accuracy_interval(float(rows["correct"].sum()), rows.height),
    )


def judge_facts(folders: Folders, recipe: Recipe) -> JudgeFacts:
    """Accuracies per judge and set, then per subset, and section scores."""
    columns = ["judge", "set", "subset", "pair_id", "correct"]
    verdicts = tables.read(VERDICTS, folders.judge_evaluation / "verdicts.parquet").select(columns)
    asked = verdicts.select("set", "subset", "pair_id").unique().sort("set", "pair_id")
    verdicts = pl.concat([verdicts, blind_verdicts(asked, folders, recipe).select(columns)])
    judges = sorted(verdicts["judge"].unique(), key=lambda name: ([*TITLES, name].index(name), name))
    judges = [name for name in judges if name != LONGER] + [name for name in judges if name == LONGER]
    sets = sorted(asked["set"].unique())
    accuracies: list[Accuracy] = []
    sections: dict[str, dict[str, dict[str, Interval]]] = {}
    for name in sets:
        for judge in judges:
            own = verdicts.filter((pl.col("set") == name) & (pl.col("judge") == judge)).sort(
                "subset", "pair_id"
            )
            if own.is_empty():
                continue
            accuracies.append(accuracy(own, judge, name, None))
            for (subset,), rows in own.group_by("subset", maintain_order=True):
                accuracies.append(accuracy(rows, judge, name, str(subset)))
            if SUBSETS & set(own["subset"]):
                sections.setdefault(name, {})[judge] = section_scores(own)
    return JudgeFacts(judges=judges, sets=sets, accuracies=accuracies, sections=sections)
