"""The learning curve on the page: a row per number of pairs, and what longer answers win below it."""

import polars as pl

from pipeline import tables
from pipeline.report.inputs import Folders, Recipe
from pipeline.report.learning import learning_curves, learning_view
from pipeline.schemas import LEARNING_CURVE
from tests.stages.small_run import learned

RECIPE = Recipe(kinds={}, mixes=(), rewards={"reward": "m", "whole": "m"}, control="whole", iterations=())


def curve(*points: dict) -> pl.DataFrame:
    return pl.DataFrame(points, schema=dict(LEARNING_CURVE.columns))


def test_rows_are_in_the_order_of_the_pairs_and_longer_wins_stands_last():
    points = [learned(1.0, 1200, 0.7), learned(0.5, 600, 0.6)]
    more = [point | {"subset": "hh", "held_out": 2} for point in points[:1]]
    (view,) = learning_view({"reward": curve(*points, *more)}, RECIPE)
    grid = view["grid"]
    assert [row[0] for row in grid.rows] == ["600", "1,200", "longer wins"]
    assert list(grid.columns) == ["Pairs trained on", "Runs, %", "All (3)", "hh (2)"]
    assert grid.rows[0][1] == "55.0 to 65.0"
    assert "60.0" in str(grid.rows[0][2]) and "55.0" in str(grid.rows[2][2])
    assert str(view["figure"]).index(">600 pairs<") < str(view["figure"]).index(">1,200 pairs<")
    assert "dashed: 55" in view["figure"]


def test_a_model_without_a_curve_is_not_shown(tmp_path):
    for name, points in (("reward", [learned(1.0, 9, 0.7)]), ("whole", [])):
        tables.write(LEARNING_CURVE, curve(*points), tmp_path / name / "curve.parquet")
    folders = Folders(**(dict.fromkeys(Folders.__dataclass_fields__, tmp_path)))
    assert list(learning_curves(folders, RECIPE)) == ["reward"]
