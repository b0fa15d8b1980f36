"""Who answered the prompts of an iteration, at which temperature, and what the answers are like."""

from pathlib import Path
from typing import Any

from pipeline.report.grids import NONE, Grid, count, number, share
from pipeline.report.inputs import read_json

COLUMNS = (
    *("Policy", "Temperature", "Asked", "Answers", "Finished", "Cut at the limit", "Empty", "Tokens"),
    "Distinct per prompt",
)
NOTE = (
    "Answers to the prompts that fit the window, before any is dropped; tokens and distinct texts are means."
)


def sample_figures(name: str, folder: Path) -> list[dict[str, Any]]:
    """What generation.json says of each policy and temperature, and of all where there are several."""
    account = read_json(folder / "generation.json", f"generate@{name}")
    whole = {"policy": "all", "temperature": None, "asked": account["asked"]} | account["all"]
    return [*account["samples"], *([whole] if len(account["samples"]) > 1 else [])]


def sample_grid(name: str, samples: list[dict[str, Any]]) -> Grid:
    """The figures as a table."""
    rows = [
        [
            row["policy"],
            number(row["temperature"], 1),
            count(row["asked"]),
            count(row["answers"]),
            *(NONE if row[end] is None else share(row[end]) for end in ("finished", "unfinished", "empty")),
            number(row["mean_tokens"], 1),
            number(row["distinct_per_prompt"], 2),
        ]
        for row in samples
    ]
    return Grid(f"Samples of {name}", COLUMNS, rows, note=NOTE)
