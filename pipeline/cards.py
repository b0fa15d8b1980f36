"""The card of a published data set: facts in, Markdown with YAML front matter out.

Nothing here measures anything and no figure is typed by hand: every number of a card is a field of
`CardFacts`. The same facts give the same card, to the byte.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.markdown import dumped, heading, line
from pipeline.pair_facts import PairFacts
from pipeline.provenance import Provenance

#: Licence identifiers that the Hub knows (its documentation, "Licenses"); all others are `other`.
HUB_LICENCES = frozenset(
    {
        "apache-2.0",
        "mit",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "openrail",
        "bigscience-openrail-m",
        "c-uda",
        "cc",
    }
    | {"cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"}
    | {
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
    }
    | {"cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "odc-by", "odbl", "pddl", "unlicense", "wtfpl"}
    | {"cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl"}
    | {"agpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma"}
)

#: Upper bounds of the Hub's size categories.
SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}

COLUMNS = {
    "source": "name of the source in params.yaml",
    "file": "file of the source, below its folder",
    "row": "row of that file, from 0",
    "item": "which of several items of that row, from 0",
    "prompt_id": "hash of the prompt's messages",
    "pair_id": "hash of prompt, chosen and rejected",
    "iteration": "the iteration that made the pair",
    "prompt": "all turns before the answer: a list of {role, content}",
    "chosen": "the preferred answer: one assistant message",
    "rejected": "the other answer: one assistant message",
    "chosen_id": "hash that identifies the chosen answer",
    "rejected_id": "hash that identifies the rejected answer",
    "chosen_ended": "false where the chosen answer was cut at the limit: train on no end of turn behind it",
    "rejected_ended": "the same of the rejected answer",
    "chosen_score": "score of the chosen answer, where there is one",
    "rejected_score": "score of the rejected answer, where there is one",
    "score_margin": "chosen_score - rejected_score",
    "chosen_by": "who wrote the chosen answer, where that is known",
    "rejected_by": "who wrote the rejected answer, where that is known",
    "judge": "what gave the scores",
    "cluster_id": "near copies of a prompt and longer forms of its conversation share it; no split parts it",
}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Under which licence a source came, and whether its rows may be handed on."""

    licence: str
    redistributable: bool
    origin: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a stage did with its rows: rows_in = kept + the sum of dropped."""

    stage: str
    unit: str
    rows_in: int
    kept: int
    dropped: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that a card says."""

    target: str
    repo: str
    columns: tuple[str, ...]
    splits: Mapping[str, Mapping[str, PairFacts]]
    """The facts of each split of each config."""
    files: Mapping[str, Mapping[str, Sequence[str]]]
    """The data files of each split of each config; a file may serve several configs."""
    every: PairFacts
    by_source: Mapping[str, PairFacts]
    terms: Mapping[str, Terms]
    accounts: tuple[Account, ...]
    provenance: Provenance
    judges: Mapping[str, Mapping[str, float]]
    """Margin quantiles by judge; empty for pairs that no judge of ours scored."""


def card(facts: CardFacts) -> str:
    """The README.md of a data set repository."""
    sections = (use, splits, how_it_was_built, accounts, sources, lengths, margins, columns, values)
    body = "\n\n".join(text for section in sections if (text := "\n".join(section(facts))))
    return f"---\n{dumped(front_matter(facts))}---\n\n# {facts.repo.rpartition('/')[2]}\n\n{body}\n"


def front_matter(facts: CardFacts) -> dict[str, Any]:
    """What the Hub reads: configs and their files, licences, tasks, tags and size."""
    configs: list[dict[str, Any]] = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": list(paths)} for split, paths in files.items()],
        }
        for config, files in facts.files.items()
    ]
    configs[0]["default"] = True
    return {
        **licence(facts.terms),
        "task_categories": ["text-generation", "reinforcement-learning"],
        "tags": ["preference", "rlhf", "dpo", "reward-model", "trl", "pairmill"],
        "size_categories": [size_category(facts.every.rows)],
        "configs": configs,
    }


def licence(terms: Mapping[str, Terms]) -> dict[str, Any]:
    """The sources' licences: all of them where the Hub knows each, else `other`."""
    names = sorted({source.licence.lower() for source in terms.values()})
    if set(names) <= HUB_LICENCES:
        return {"license": names}
    name = "licences-of-the-sources"
    return {"license": "other", "license_name": name, "license_link": "#sources-and-licences"}


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    return next((name for bound, name in SIZES.items() if rows < bound), "n>10M")


def use(facts: CardFacts) -> Iterator[str]:
    """What it is, and the lines that load it."""
    whole = facts.every
    config, files = next(iter(facts.files.items()))
    yield (
        f"{whole.rows:,} preference pairs over {whole.prompts:,} prompts, in the explicit conversational "
        f"form that TRL's `DPOTrainer` and `RewardTrainer` take as it is. Made by Pairmill as "
        f"`{facts.target}`, after the workflow of [RLHF Workflow](https://arxiv.org/abs/2405.07863). Every "
        f"figure below was computed from the rows, the ledgers and `dvc.lock`; `facts.json` holds them all."
    )
    yield ""
    yield "```python\nfrom datasets import load_dataset\n"
    yield f'pairs = load_dataset("{facts.repo}", "{config}", split="{next(iter(files))}")\n```'


def splits(facts: CardFacts) -> Iterator[str]:
    """Rows by config and split."""
    yield from heading("Configs and splits", "config", "split", "rows", "prompts", "longer wins")
    for config, named in facts.splits.items():
        for split, part in named.items():
            yield line(config, split, part.rows, part.prompts, percent(part.longer_wins_chars))


def how_it_was_built(facts: CardFacts) -> Iterator[str]:
    """Revision, digests and the stages."""
    made = facts.provenance
    yield "## How it was built\n"
    yield f"- git revision: `{made.revision}`"
    yield f"- dvc.lock: md5 `{made.lock_md5}`, sha256 `{made.lock_sha256}`"
    yield f"- again, from that revision: `dvc repro {made.steps[-1].name}`\n"
    yield "| stage | command | output | md5 (DVC) |\n|---|---|---|---|"
    for step in made.steps:
        for path, digest in step.outputs.items():
            yield line(step.name, f"`{step.command}`", f"`{path}`", f"`{digest}`")
    ours = {path for step in made.steps for path in step.outputs}
    inputs = {path: digest for step in made.steps for path, digest in step.inputs.items() if path not in ours}
    for path, digest in sorted(inputs.items()):
        yield line("(input)", "", f"`{path}`", f"`{digest}`")


def accounts(facts: CardFacts) -> Iterator[str]:
    """Rows kept and dropped, by stage and reason."""
    yield from heading("Rows kept and dropped", "stage", "unit", "in", "kept", "dropped", "reasons")
    for account in facts.accounts:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in account.dropped.items())
        dropped = sum(account.dropped.values())
        yield line(account.stage, account.unit, account.rows_in, account.kept, dropped, reasons or "-")
    yield f"\nDuplicates removed: {duplicates(facts.accounts):,}."


def duplicates(every: Sequence[Account]) -> int:
    """Rows that a stage dropped for a reason with "duplicate" in its name."""
    return sum(n for account in every for reason, n in account.dropped.items() if "duplicate" in reason)


def sources(facts: CardFacts) -> Iterator[str]:
    """Who wrote it, and what one may do with it."""
    named = ("source", "rows", "licence", "may be handed on", "origin")
    yield from heading("Sources and licences", *named)
    for name, part in facts.by_source.items():
        terms = facts.terms[name]
        free = "yes" if terms.redistributable else "**no**"
        yield line(name, part.rows, terms.licence, free, f"`{terms.origin}`")
    if kept_back := sorted(name for name, terms in facts.terms.items() if not terms.redistributable):
        yield (
            f"\nThe licences of {', '.join(kept_back)} do not let their rows be handed on; whoever published "
            f"this accepted that. Keep this copy private unless you have the right to share them."
        )


def lengths(facts: CardFacts) -> Iterator[str]:
    """Mean lengths and what length alone predicts."""
    kinds = ("prompt", "chosen", "rejected")
    yield from heading(
        "Lengths and the length-only baseline",
        "source",
        *(f"{kind} (characters / words)" for kind in kinds),
        "longer wins (characters / words)",
    )
    for name, part in {**facts.by_source, "all": facts.every}.items():
        means = (f"{getattr(part, f'{k}_chars'):,.1f} / {getattr(part, f'{k}_words'):,.1f}" for k in kinds)
        yield line(name, *means, f"{percent(part.longer_wins_chars)} / {percent(part.longer_wins_words)}")
    gap = facts.every.gap_chars
    yield (
        f"\nMeans over pairs. The chosen answer is {abs(gap):,.1f} characters "
        f'{"longer" if gap >= 0 else "shorter"} in the mean. "Longer wins" is the accuracy of preferring the '
        f"longer answer without reading it, a tie counting one half; a model trained on these pairs should "
        f"beat it."
    )


def margins(facts: CardFacts) -> Iterator[str]:
    """Quantiles of the judges' margins, where a judge of ours scored."""
    if facts.judges:
        names = next(iter(facts.judges.values()))
        yield from heading("Margins of the judge (quantiles)", "judge", *names)
        for judge, quantiles in facts.judges.items():
            yield line(judge, *(f"{value:.4g}" for value in quantiles.values()))


def columns(facts: CardFacts) -> Iterator[str]:
    """The data dictionary."""
    yield from heading("Columns", "column", "meaning")
    for name in facts.columns:
        yield line(f"`{name}`", COLUMNS[name])


def values(facts: CardFacts) -> Iterator[str]:
    """The sections of params.yaml that made the bytes."""
    merged: dict[str, Any] = {}
    for step in facts.provenance.steps:
        merged |= step.values
    yield "## Values of params.yaml\n"
    yield f"As dvc.lock records them:\n\n```yaml\n{dumped(dict(sorted(merged.items())))}```"


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"
