"""The sections on data: the flow of rows, the mixes, the prompts and the packed demonstrations."""

from typing import Any

import polars as pl
from markupsafe import Markup

from pipeline import figures
from pipeline.report.accounts import Account
from pipeline.report.findings import Findings
from pipeline.report.grids import NONE, Grid, count, number, percent, ratio, share
from pipeline.report.mixes import MixFacts

DETAIL_CHARACTERS = 160
KEPT = ("train", "test")


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


def mix_view(mix: MixFacts, account: Account) -> dict[str, Any]:
    """One mix: where its rows went, its baselines and its sources."""
    links = [
        (one.source, target, n)
        for one in mix.sources
        for target, n in [("train", one.train), ("test", one.test), *one.dropped.items()]
        if n
    ]
    order = [*KEPT, *account.reasons]
    links.sort(key=lambda link: (link[0], order.index(link[1]) if link[1] in order else len(order)))
    links = in_order(links, order)
    return {
        "name": mix.name,
        "tiles": [
            ("Train pairs", count(mix.train)),
            ("Test pairs", count(mix.test)),
            ("Prompts", count(mix.prompts)),
            ("Words of a prompt", number(mix.words["prompt"], 1)),
            ("Words of a chosen answer", number(mix.words["chosen"], 1)),
            ("Words of a rejected answer", number(mix.words["rejected"], 1)),
        ],
        "flow": figures.sankey(links, KEPT, f"Where the rows of mix {mix.name} went") if links else "",
        "margins": figures.histogram(
            mix.margins,
            f"Margins of mix {mix.name}",
            "chosen score - rejected score, each source on its own scale",
        ),
        "baselines": baseline_grid(mix),
        "sources": source_grid(mix),
        "reasons": matrix(mix, account),
    }


def in_order(links: list[tuple[str, str, int]], order: list[str]) -> list[tuple[str, str, int]]:
    """The links so that the right column of the drawing stands in `order`: kept rows first."""
    sources = list(dict.fromkeys(source for source, _, _ in links))
    places = {name: i for i, name in enumerate(order)}
    return sorted(links, key=lambda link: (places.get(link[1], len(order)), sources.index(link[0])))


def baseline_grid(mix: MixFacts) -> Grid:
    """The content-blind baselines on the test pairs."""
    rows = [[one.name, percent(one.accuracy), share(one.decided), count(one.pairs)] for one in mix.baselines]
    return Grid(
        "Content-blind baselines on the test pairs",
        ["Baseline", "Accuracy, % (95% interval)", "Has an opinion on", "Pairs"],
        rows,
        note="A judge that is no better than these has learned nothing from what the answers say. "
        "Source decides: the writer that won more often in train wins.",
    )


def source_grid(mix: MixFacts) -> Grid:
    """What each source gave."""
    rows = [
        [
            one.source,
            count(one.train),
            count(one.test),
            ratio(one.train + one.test, mix.train + mix.test),
            *(number(one.words[side], 1) for side in ("prompt", "chosen", "rejected")),
            number(one.margin, 2),
            share(one.longer_wins),
        ]
        for one in mix.sources
    ]
    columns = ["Source", "Train", "Test", "Share", "Prompt words", "Chosen words", "Rejected words", "Margin"]
    return Grid("What each source gave, in means", [*columns, "Longer wins"], rows)


def matrix(mix: MixFacts, account: Account) -> Grid:
    """Dropped rows by source and reason."""
    rows = [
        [
            one.source,
            count(one.rows_in),
            *(count(one.dropped.get(reason, 0)) for reason in account.reasons),
            count(one.train + one.test),
        ]
        for one in mix.sources
    ]
    columns = ["Source", "In", *(name[:1].upper() + name[1:] for name in account.reasons), "Kept"]
    return Grid("Dropped rows by source and reason", columns, rows)


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
