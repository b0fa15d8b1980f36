"""The section on mixes: where rows went, Table 5 beside the paper's, and what can be guessed unread."""

from typing import Any

from markupsafe import Markup

from pipeline import figures
from pipeline.baselines import TEST, TRAIN
from pipeline.profiles import SIDES, WHOLE, Part, Profile
from pipeline.report.accounts import Account
from pipeline.report.grids import NONE, Grid, count, number, percent, ratio, share
from pipeline.report.mixes import MixFacts

KEPT = (TRAIN, TEST)


def mix_view(mix: MixFacts, account: Account) -> dict[str, Any]:
    """One mix: where its rows went, Table 5, its baselines and its sources."""
    links = [
        (one.source, target, n)
        for one in mix.sources
        for target, n in [(TRAIN, one.train), (TEST, one.test), *one.dropped.items()]
        if n
    ]
    order = [*KEPT, *account.reasons]
    links = in_order(links, order)
    whole = mix.profile.total(WHOLE)
    return {
        "name": mix.name,
        "tiles": [
            ("Train pairs", count(mix.train)),
            ("Test pairs", count(mix.test)),
            ("Prompts", count(whole.prompts)),
            ("Tokens of a prompt", number(whole.mean("prompt"), 1)),
            ("Tokens of a chosen answer", number(whole.mean("chosen"), 1)),
            ("Tokens of a rejected answer", number(whole.mean("rejected"), 1)),
        ],
        "flow": figures.sankey(links, KEPT, f"Where the rows of mix {mix.name} went") if links else "",
        "margins": figures.histogram(
            mix.margins,
            f"Margins of mix {mix.name}",
            "chosen score - rejected score, each source on its own scale",
        ),
        "table_5": table_5(mix.profile, WHOLE),
        "sides": [table_5(mix.profile, part) for part in (TRAIN, TEST) if mix.profile.rows(part)],
        "baselines": baseline_grid(mix.profile),
        "by_source": source_baselines(mix.profile),
        "sources": source_grid(mix),
        "reasons": matrix(mix, account),
    }


def in_order(links: list[tuple[str, str, int]], order: list[str]) -> list[tuple[str, str, int]]:
    """The links so that the right column of the drawing stands in `order`: kept rows first."""
    sources = list(dict.fromkeys(source for source, _, _ in links))
    places = {name: i for i, name in enumerate(order)}
    return sorted(links, key=lambda link: (places.get(link[1], len(order)), sources.index(link[0])))


def table_5(profile: Profile, part: Part) -> Grid:
    """Table 5 of a part of a mix; of the whole beside the paper's figures, where it had the same raw rows."""
    rows = []
    for row in profile.rows(part):
        read = profile.sets.get(row.source or "")
        paper, theirs = (read.paper, read.compared) if read else (None, None)
        theirs = theirs if part == WHOLE else None
        rows.append(
            [
                beside(row.source or "all", "in the paper" if theirs else None),
                paper.annotator if paper else NONE,
                paper.completion if paper else NONE,
                beside(count(row.prompts), count(theirs.prompts) if theirs else None),
                beside(count(row.pairs), count(theirs.pairs) if theirs else None),
                *(
                    beside(
                        number(row.mean(side), 1),
                        number(getattr(theirs, f"{side}_tokens"), 1) if theirs else None,
                    )
                    for side in SIDES
                ),
            ]
        )
    columns = ["Source", "Annotator", "Completion", "Prompts", "Pairs", "Prompt", "Preferred", "Rejected"]
    note = (
        "As table 5 of the paper: distinct prompts, pairs, and mean tokens of the messages of a pair, "
        "without what a chat template adds. Small figures are the paper's; they stand where every row of the "
        "published set was read, before this mix dropped any."
    )
    title = "Table 5" if part == WHOLE else f"Table 5, {part} side"
    return Grid(title, columns, rows, words=3, marked=len(rows) - 1, note=note if part == WHOLE else "")


def beside(ours: str, paper: str | None) -> str | Markup:
    """A figure of ours, and the paper's below it."""
    return ours if paper is None else Markup('{} <br/><span class="ci">{}</span>').format(ours, paper)


def baseline_grid(profile: Profile) -> Grid:
    """The content-blind baselines of both sides, and what the gate says of them."""
    own = profile.of(None)
    sides = list(dict.fromkeys(one.side for one in own))
    at = {(one.name, one.side): one for one in own}
    failed = {one.name for one in profile.failures()}
    rows = [
        [
            name,
            NONE if profile.gate is None else "fails" if name in failed else "passes",
            *(percent(at[name, side].accuracy) for side in sides),
            *(share(at[name, side].decided) for side in sides),
        ]
        for name in dict.fromkeys(one.name for one in own)
    ]
    gate = "without a gate" if profile.gate is None else f"gate {profile.gate:.1%}"
    return Grid(
        f"Content-blind baselines, {gate}",
        [
            "Baseline",
            "Gate",
            *(f"Accuracy on {side}, % (95% interval)" for side in sides),
            *(f"Has an opinion, {side}" for side in sides),
        ],
        rows,
        words=2,
        note="A judge that is no better than these has learned nothing from what the answers say. First: as "
        "the pairwise model is shown the pair. Source decides: of two writers, the one that won more often "
        "in train. What is learned is judged on other pairs, on train one half of the prompts by the other.",
    )


def source_baselines(profile: Profile) -> Grid:
    """The baselines of each source on train: which source can be guessed."""
    at = {(one.source, one.name): one for one in profile.baselines if one.side == TRAIN and one.source}
    names = list(dict.fromkeys(name for _, name in at))
    rows = [
        [str(source), *(percent(at[source, name].accuracy) for name in names)]
        for source in dict.fromkeys(source for source, _ in at)
    ]
    return Grid("Content-blind baselines by source, train side, %", ["Source", *names], rows)


def source_grid(mix: MixFacts) -> Grid:
    """What each source gave."""
    rows = [
        [
            one.source,
            count(one.train),
            count(one.test),
            ratio(one.train + one.test, mix.train + mix.test),
            number(one.margin, 2),
        ]
        for one in mix.sources
    ]
    return Grid("What each source gave", ["Source", "Train", "Test", "Share", "Mean margin"], rows)


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
