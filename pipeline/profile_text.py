"""A profile as Markdown: what a passed mix shows in its folder, and a failed one on stderr.

The same text serves both, so that a mix that may not be trained on is as well described as one that may.
"""

from collections.abc import Iterable, Iterator, Sequence

from pipeline.baselines import TEST, TRAIN, Baseline
from pipeline.intervals import Interval
from pipeline.profiles import SIDES, WHOLE, Part, Profile, Row

NONE = "-"


def text(found: Profile) -> str:
    """Table 5 of the whole mix, the gate with every baseline, and the same of each side and source."""
    lines = [f"# Mix {found.mix}", "", *table_5(found, WHOLE), "", *baselines(found), "", verdict(found)]
    for part in (TRAIN, TEST):
        lines += ["", *table_5(found, part)] if found.rows(part) else []
    return "\n".join([*lines, "", *by_source(found)]) + "\n"


def verdict(found: Profile) -> str:
    """Whether the mix may be trained on."""
    if found.gate is None:
        return f"No gate: profile.gates.{found.mix} is null."
    if failed := found.failures():
        return f"Fails its gate of {percent(found.gate)}: {', '.join(told(one) for one in failed)}."
    return f"Passes its gate of {percent(found.gate)}: no baseline is above it for certain."


def complaint(found: Profile, kept_at: str) -> str:
    """Why a mix may not be trained on, in one line: every baseline that fails, and what mends it."""
    assert found.gate is not None, "a mix without a gate passes"
    failed = found.failures()
    habits = {one.name: strongest(found, one) for one in failed}
    where = "; ".join(f"{name} is clearest in {source}" for name, source in habits.items() if source)
    return (
        f"mix {found.mix} fails its gate: expected no content-blind baseline above {percent(found.gate)} for "
        f"certain (profile.gates.{found.mix}), found {', '.join(told(one) for one in failed)}"
        f"{f' ({where})' if where else ''}; a model trained on it could learn this and not what answers say. "
        f"Mend it in mixes.{found.mix}: give such a source a smaller cap or a min_margin, lower "
        f"max_characters, take other sources; or raise profile.gates.{found.mix}. All figures: {kept_at}"
    )


def strongest(found: Profile, failed: Baseline) -> str | None:
    """The source in which a baseline is surest, if the mix has several."""
    own = [
        one for one in found.baselines if one.source and (one.name, one.side) == (failed.name, failed.side)
    ]
    return max(own, key=lambda one: one.certain).source if len(own) > 1 else None


def told(one: Baseline) -> str:
    """A baseline in words."""
    opposite = "" if one.accuracy.mean >= 0.5 else " (its opposite wins)"
    return f"{one.name} on {one.side}: {interval(one.accuracy)}{opposite}"


def table_5(found: Profile, part: Part) -> Iterator[str]:
    """Table 5 of a part, each row followed by the paper's where the whole published set was read."""
    yield f"## Table 5, {part}"
    yield ""
    columns = ["Source", "Annotator", "Completion", "Prompts", "Pairs", "Prompt", "Preferred", "Rejected"]
    yield from table(columns, (cells for row in found.rows(part) for cells in compared(found, row)))
    yield ""
    yield "Lengths are means over pairs in tokens of the messages, without what a chat template adds."


def compared(found: Profile, row: Row) -> Iterator[list[str]]:
    """A row of ours, and the paper's below it."""
    read = found.sets.get(row.source or "")
    paper = read.paper if read else None
    people = [paper.annotator, paper.completion] if paper else [NONE, NONE]
    counts = [f"{row.prompts:,}", f"{row.pairs:,}", *(f"{row.mean(side):.1f}" for side in SIDES)]
    yield [row.source or "all", *people, *counts]
    if row.part == WHOLE and read and (theirs := read.compared):
        lengths = (theirs.prompt_tokens, theirs.chosen_tokens, theirs.rejected_tokens)
        yield ["(paper)", "", "", f"{theirs.prompts:,}", f"{theirs.pairs:,}", *(f"{n:.1f}" for n in lengths)]


def baselines(found: Profile) -> Iterator[str]:
    """Every baseline of the whole mix beside the gate."""
    yield "## Content-blind baselines"
    yield ""
    gate = NONE if found.gate is None else percent(found.gate)
    columns = ["Baseline", "Side", "Accuracy (95% interval)", "Has an opinion on", "Pairs", "Gate", ""]
    failed = found.failures()
    rows = (
        [
            one.name,
            one.side,
            interval(one.accuracy),
            percent(one.decided),
            f"{one.pairs:,}",
            gate,
            "FAILS" if one in failed else "",
        ]
        for one in found.of(None)
    )
    yield from table(columns, rows)


def by_source(found: Profile) -> Iterator[str]:
    """Every baseline of each source: which of them makes the mix guessable."""
    names = list(dict.fromkeys(one.name for one in found.baselines))
    yield "## Content-blind baselines by source, on train"
    yield ""
    cells = {(one.source, one.name): interval(one.accuracy) for one in found.baselines if one.side == TRAIN}
    sources = sorted({source for source, _ in cells if source is not None})
    yield from table(
        ["Source", *names], ([source, *(cells[source, name] for name in names)] for source in sources)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table whose columns are as wide as their widest cell."""
    every = [list(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(columns))]
    padded = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in every]
    yield padded[0]
    yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    yield from padded[1:]


def percent(share: float) -> str:
    """A share with one decimal."""
    return f"{100 * share:.1f}%"


def interval(accuracy: Interval) -> str:
    """A share with its interval."""
    return f"{percent(accuracy.mean)} ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
