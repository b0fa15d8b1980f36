"""What is known of the data sets that adapters read: where they are, their licence, what the paper says.

Every adapter names its sets in `SETS` and its rule in `RULE`. A figure carries where it is from, and
whether a second place confirms it: what nobody can look up is not passed off as a fact.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

#: The paper: "RLHF Workflow: From Reward Modeling to Online RLHF"; lengths by the LLaMA-3-8B tokenizer.
TABLE_5 = "arXiv 2405.07863, table 5"
#: Lists the rows of all ten converted sets, to three digits.
ROUNDED = "Hub collection RLHFlow/standard-format-preference-dataset, to three digits"
#: Another paper that trains on the same sets and lists the pairs of eight of them.
EXACT = "arXiv 2409.13156"

#: Where a number is from that is widely quoted, but was not looked up again.
FROM_MEMORY = "from memory, not confirmed"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A row of table 5: what the paper made of a set, as it says."""

    name: str
    """The set's name there."""
    pairs: int
    prompts: int
    """No second place confirms these and the three means."""
    prompt_tokens: float
    """Mean length."""
    chosen_tokens: float
    rejected_tokens: float
    completion: Literal["Human", "LLM"]
    """Who wrote the answers."""
    annotator: Literal["Human", "LLM"]
    """Who preferred one."""
    figures_from: str = TABLE_5
    pairs_confirmed_by: str = EXACT


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A data set that somebody else publishes."""

    name: str
    """`owner/repository` on its host."""
    host: Literal["hub", "github"] = "hub"
    licence: str
    """SPDX name, or in words, as the set's page has it."""
    redistributable: bool
    """Whether rows may be passed on: false for non-commercial, unclear or missing licences."""
    files: tuple[str, ...]
    """The raw files, as patterns below the repository; those that the paper reads, where it reads the set."""
    columns: tuple[str, ...]
    """The columns that the adapter reads."""
    rows: int | None = None
    """Raw rows of `files`; None where nobody has counted or said."""
    rows_from: str | None = None
    """Where that number is from."""
    paper: Paper | None = None
    """None for sets that are not in table 5."""

    def __post_init__(self) -> None:
        assert (self.rows is None) == (self.rows_from is None), f"{self.name}: a number without its origin"

    @property
    def address(self) -> str:
        """`hub:<owner>/<name>` as `origin` in params.yaml begins, or `github:<owner>/<name>`."""
        return f"{self.host}:{self.name}"

    def has(self, file: str) -> bool:
        """True where `file` is one of the set's."""
        return any(fnmatchcase(file, pattern) for pattern in self.files)


def described(origin: str, files: Iterable[str], sets: Iterable[Upstream]) -> Upstream | None:
    """The one of `sets` that a source of params.yaml reads: its origin, and no file beside that set's.

    None for local files and for what is not among the sets. The whole set was read where the number of
    raw rows is `rows`.
    """
    address = origin.partition("@")[0].lower()
    for one in sets:
        if one.address.lower() == address and all(one.has(file) for file in files):
            return one
    return None
