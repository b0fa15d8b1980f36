"""What can be guessed of the judged pairs without reading: verdicts beside those of the judges.

On the held-out pairs of a mix there are all baselines of `pipeline.baselines`, those that learn taught by the
train side of that mix; on a benchmark there is nothing to learn from, so "longer wins" stands alone.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from pipeline import ab, baselines, tables
from pipeline.baselines import FIRST, LENGTH_HABIT, LONGER, TEST, TRAIN, WRITER, answer, longer_wins
from pipeline.report.inputs import Folders, Recipe
from pipeline.schemas import JUDGE_SETS, MIX, VERDICTS

BLIND = (LONGER, FIRST, WRITER, LENGTH_HABIT)
COLUMNS = ("judge", "set", "subset", "prompt_id", "pair_id", "correct")


def blind_verdicts(asked: pl.DataFrame, folders: Folders, recipe: Recipe) -> pl.DataFrame:
    """The verdicts of the baselines (COLUMNS) on the pairs that the judges were asked.

    `asked` has set, subset, prompt_id and pair_id, each pair once.
    """
    parts = []
    for name in asked["set"].unique().sort():
        if name in recipe.mixes:
            known = mix_verdicts(folders.mixes / name)
        elif recipe.kinds.get(name) == "judge_sets":
            known = benchmark_verdicts(folders.standard / "judge_sets" / name / "judge_sets.parquet")
        else:
            continue
        own = asked.filter(pl.col("set") == name)
        parts += [
            own.join(said, on="pair_id", how="inner", validate="1:1", maintain_order="left").with_columns(
                judge=pl.lit(judge)
            )
            for judge, said in known.items()
        ]
    empty = pl.DataFrame(schema={name: VERDICTS.columns[name] for name in COLUMNS})
    return pl.concat([empty, *(part.select(COLUMNS) for part in parts)])


def mix_verdicts(folder: Path) -> dict[str, pl.DataFrame]:
    """By baseline (pair_id, correct) on the test side of a mix."""
    pairs = pl.concat([part for side in (TRAIN, TEST) for part in lengths(folder, side)])
    found = {}
    for name, said in baselines.verdicts(pairs).items():
        known = pairs.select("test", "pair_id").with_columns(correct=said["verdict"])
        tested = known.filter("test").select("pair_id", "correct")
        found[name] = tested.unique("pair_id", keep="first", maintain_order=True)
    return found


def lengths(folder: Path, side: str) -> Iterator[pl.DataFrame]:
    """The pairs of a side without their texts, as `baselines.verdicts` reads them, some at a time."""
    wanted = ("source", "prompt_id", "pair_id", "chosen", "rejected", "chosen_by", "rejected_by")
    for rows in tables.batches(MIX, folder / f"{side}.parquet", wanted):
        shown = [not ab.swapped(pair) for pair in rows["pair_id"]]
        yield rows.select(
            "pair_id",
            pl.lit(side == TEST).alias("test"),
            pl.col("prompt_id").str.to_integer(base=16, dtype=pl.UInt64),
            *(pl.col(name).cast(pl.Categorical) for name in ("source", "chosen_by", "rejected_by")),
            chosen_chars=answer("chosen").str.len_chars(),
            rejected_chars=answer("rejected").str.len_chars(),
            chosen_first=pl.Series(shown, dtype=pl.Boolean),
        )


def benchmark_verdicts(path: Path) -> dict[str, pl.DataFrame]:
    """(pair_id, correct) of "longer wins" on a benchmark."""
    said = tables.batches(JUDGE_SETS, path, ("pair_id", "chosen", "rejected"))
    known = pl.concat(part.select("pair_id", correct=longer_wins()) for part in said)
    return {LONGER: known.unique("pair_id", keep="first", maintain_order=True)}
