"""The sections on data: the flow of rows, the prompts and the packed demonstrations."""

from typing import Any

import polars as pl
from markupsafe import Markup

from pipeline import figures
from pipeline.report.accounts import Account
from pipeline.report.findings import Findings
from pipeline.report.grids import NONE, Grid, count, number, ratio, share

DETAIL_CHARACTERS = 160


def cut(words: str, most: int) -> str:
    """At most `most` characters of a text."""
    return words if len(words) <= most else words[:most].rstrip() + " [...]"


def flow(found: Findings) -> dict[str, Any]:
    """Every stage with its bar, and below it what each stage dropped and why."""
    rows = [
        [
            one.stage,
            one.unit,
            figures.share_bar(one.kept, one.reasons, f"{one.stage}: {one.kept:,} of {one.rows_in:,} kept"),
            count(one.rows_in),
            count(one.kept),
            count(one.dropped),
            ratio(one.kept, one.rows_in),
        ]
        for one in found.accounts.values()
    ]
    columns = ["Stage", "Rows are", "Kept and dropped", "In", "Kept", "Dropped", "Kept, share"]
    note = (
        "The first segment of a bar is what was kept; then one segment per reason, the most frequent first."
    )
    losing = [one for one in found.accounts.values() if one.dropped]
    return {
        "stages": Grid("Rows through every stage that may drop some", columns, rows, words=3, note=note),
        "drops": [{"account": one, "grid": reasons(one)} for one in losing],
    }


def reasons(account: Account) -> Grid:
    """The reasons of one stage with examples."""
    rows = [
        [reason, examples(account.examples(reason)), count(n), ratio(n, account.rows_in)]
        for reason, n in account.reasons.items()
    ]
    return Grid(
        f"What {account.stage} dropped", ["Reason", "Examples", "Rows", "Share of rows in"], rows, words=2
    )


def examples(drops: pl.DataFrame) -> Markup:
    """Dropped rows in words: where they came from, what was measured, the limit, and the detail."""
    lines = []
    for row in drops.iter_rows(named=True):
        value, limit = (NONE if row[key] is None else f"{row[key]:.4g}" for key in ("value", "threshold"))
        facts = "" if row["value"] is None else f" value {value}, threshold {limit}"
        lines.append(
            Markup('<li><code>{}/{}</code> row {} item {}<span class="ci">{}</span> {}</li>').format(
                row["source"],
                row["file"],
                row["row"],
                row["item"],
                facts,
                cut(row["detail"] or "", DETAIL_CHARACTERS),
            )
        )
    return Markup('<ul class="plain">{}</ul>').format(Markup("").join(lines))


def prompt_grid(found: Findings) -> Grid:
    """The slices of the prompts."""
    rows = [
        [one.name, ", ".join(f"{source} {n:,}" for source, n in one.sources.items()), count(one.prompts)]
        for one in found.deal.slices
    ]
    return Grid("Prompts of each slice", ["Slice", "Sources", "Prompts"], rows, words=2)


def sft_tiles(found: Findings) -> list[tuple[str, str]]:
    """The figures of supervised fine-tuning."""
    packing, account = found.packing, found.accounts["sft_mix"]
    return [
        ("Demonstrations", count(account.kept)),
        ("Documents in blocks", count(packing.documents)),
        ("Blocks", count(packing.blocks)),
        ("Tokens", count(packing.tokens)),
        (f"Fill of {packing.longest:,}-token blocks", share(packing.fill)),
        ("Documents in a block", number(packing.per_block, 1)),
        ("Tokens with a loss", share(packing.trained)),
    ]
