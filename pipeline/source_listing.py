"""What `pairmill sources` says of adapters, their sets and the recipe's sources, in words and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.source_params import Source
from pipeline.upstream import Paper, Upstream, described

SOURCE_KEYS = ("adapter", "kind", "origin", "licence", "redistributable")


@dataclass(frozen=True, kw_only=True)
class Known:
    """An adapter, as its module describes itself."""

    adapter: str
    kind: str
    rule: str
    """In a sentence."""
    parameters: tuple[str, ...]
    """The keys of its `rules` in params.yaml."""
    sets: tuple[Upstream, ...]
    used_by: tuple[str, ...] = ()
    """Sources of the recipe."""


def adapter_lines(known: Known) -> Iterator[str]:
    """One adapter in words, below a heading."""
    used = f", read by {', '.join(known.used_by)}" if known.used_by else ""
    yield f"{known.adapter}: {known.kind}{used}"
    yield entry("rule", known.rule)
    yield entry("rules", ", ".join(known.parameters) or "none")
    for one in known.sets:
        yield from set_lines(one)


def set_lines(one: Upstream) -> Iterator[str]:
    """A set: where, licence, what is needed, how many rows, what the paper made of it."""
    passed_on = "may be redistributed" if one.redistributable else "not to be redistributed"
    yield entry("set", f"{one.address}; {one.licence}; {passed_on}")
    yield entry("  files", ", ".join(one.files))
    yield entry("  columns", ", ".join(one.columns))
    if one.rows is not None:
        yield entry("  rows", f"{one.rows:,} ({one.rows_from})")
    if one.paper is not None:
        yield from paper_lines(one.paper)


def paper_lines(paper: Paper) -> Iterator[str]:
    """A row of table 5 in words."""
    means = f"{paper.prompt_tokens}, {paper.chosen_tokens} and {paper.rejected_tokens}"
    yield entry("  paper", f"{paper.pairs:,} pairs of {paper.prompts:,} prompts ({paper.figures_from})")
    yield entry("", f"the pairs are confirmed by {paper.pairs_confirmed_by}, the other figures by nobody")
    yield entry("", f"mean tokens of prompt, preferred and rejected: {means}")
    yield entry("", f"answers written by: {paper.completion}; preferred by: {paper.annotator}")


def entry(label: str, text: str) -> str:
    """A labelled line."""
    return f"  {label:<11}{text}"


def source_rows(sources: Mapping[str, Source]) -> list[list[str]]:
    """The recipe's sources as rows of cells, under a heading."""
    rows = [[name, *(str(getattr(one, key)) for key in SOURCE_KEYS)] for name, one in sorted(sources.items())]
    return [["source", *SOURCE_KEYS], *rows]


def record(known: Sequence[Known], sources: Mapping[str, Source]) -> dict[str, Any]:
    """Everything, as JSON takes it; `set` of a source is the upstream set that its origin and files name."""
    sets = {one.adapter: one.sets for one in known}
    return {
        "adapters": {
            one.adapter: {key: value for key, value in asdict(one).items() if key != "adapter"}
            for one in known
        },
        "sources": {
            name: {key: getattr(source, key) for key in SOURCE_KEYS} | {"set": set_of(source, sets)}
            for name, source in sorted(sources.items())
            if source.adapter in sets
        },
    }


def set_of(source: Source, sets: Mapping[str, tuple[Upstream, ...]]) -> str | None:
    """The name of the upstream set that a source of the recipe reads."""
    one = described(source.origin, [file.path for file in source.files], sets.get(source.adapter, ()))
    return one.name if one else None
