"""Stanford Human Preferences (Hub stanfordnlp/SHP): Reddit answers ranked by votes; Reddit API terms.

    {"post_id": "a1", "domain": "askculinary_train", "upvote_ratio": 0.97, "history": "Why salt pasta water?",
     "score_A": 12, "score_B": 4, "human_ref_A": "For taste.", "human_ref_B": "No idea.", "labels": 1,
     "seconds_difference": 120.0, "score_ratio": 3.0}

Pair rule (arXiv 2405.07863, appendix A): score_ratio above 2, at most 5 pairs per prompt. The paper
does not say which five; here those with the lowest hash of (seed, answers), so that the choice depends
neither on row order nor on other prompts; a repeated pair takes no second place, and one with a blank
text or equal answers none, as the validity rules drop it. `labels` 1: A is preferred. Scores are votes.
A first pass over the rows keeps those hashes alone, no text.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.answers import TIE
from pipeline.ids import text_id
from pipeline.items import Drop, Item, Items, Preference, Shape, parsed, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Paper, Upstream

KIND = "preferences"
RULE = (
    "the answer with more votes where it has more than min_ratio times the other's; "
    "at most max_pairs_per_prompt pairs of a post, chosen by hash"
)
SETS = (
    Upstream(
        name="stanfordnlp/SHP",
        licence="Reddit API terms",
        redistributable=False,
        files=("*/train.json",),
        columns=("history", "human_ref_A", "human_ref_B", "score_A", "score_B", "labels", "score_ratio"),
        rows=348_718,
        rows_from="table of the set's card",
        paper=Paper(
            name="SHP",
            pairs=93_301,
            prompts=31_003,
            prompt_tokens=186.2,
            chosen_tokens=173.6,
            rejected_tokens=88.8,
            completion="Human",
            annotator="Human",
        ),
    ),
)


class Rules(Params):
    """The paper: min_ratio 2.0, max_pairs_per_prompt 5."""

    min_ratio: float = Field(ge=1)
    """The preferred answer must have more than this many times the other's votes."""
    max_pairs_per_prompt: int = Field(gt=0)
    seed: int
    """Decides which pairs of a prompt are kept."""


class Row(Shape):
    """Two answers to one post."""

    history: str
    answer_a: str = Field(alias="human_ref_A")
    answer_b: str = Field(alias="human_ref_B")
    votes_a: float = Field(alias="score_A")
    votes_b: float = Field(alias="score_B")
    labels: int = Field(ge=0, le=1)
    score_ratio: float


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row; goes through `rows` twice, for the cap per prompt."""
    assert iter(rows) is not rows, "shp needs rows that can be read twice"
    ranks = ranks_by_prompt(rows, rules)
    for row in rows:
        outcome = paired(row, rules)
        if isinstance(outcome, Preference) and takes_a_place(outcome):
            of_prompt = ranks[prompt_key(outcome)]
            if rank(outcome, rules) not in of_prompt[: rules.max_pairs_per_prompt]:
                outcome = Drop("over the cap per prompt", len(of_prompt), rules.max_pairs_per_prompt)
        yield row, [outcome]


def ranks_by_prompt(rows: Iterable[RawRow], rules: Rules) -> dict[str, list[str]]:
    """Per prompt the ranks of its different pairs, lowest first."""
    found: dict[str, set[str]] = {}
    for row in rows:
        outcome = paired(row, rules)
        if isinstance(outcome, Preference) and takes_a_place(outcome):
            found.setdefault(prompt_key(outcome), set()).add(rank(outcome, rules))
    return {prompt: sorted(ranks) for prompt, ranks in found.items()}


def takes_a_place(pair: Preference) -> bool:
    """False for a pair that the shared validity rules drop: it must not push a good one over the cap."""
    texts = (pair.prompt[0]["content"], pair.chosen, pair.rejected)
    return all(text.strip() for text in texts) and pair.chosen != pair.rejected


def prompt_key(pair: Preference) -> str:
    """What stands for a post."""
    return text_id(pair.prompt[0]["content"])


def rank(pair: Preference, rules: Rules) -> str:
    """A place among the pairs of its prompt that only the seed and the answers decide."""
    return text_id(f"{rules.seed} {text_id(pair.chosen)} {text_id(pair.rejected)}")


def paired(row: RawRow, rules: Rules) -> Item:
    """The pair of a raw row, or why it has none."""
    raw = parsed(row, Row)
    return raw if isinstance(raw, Drop) else preference(raw, rules)


def preference(row: Row, rules: Rules) -> Item:
    """The pair that the label and the ratio give."""
    if row.votes_a == row.votes_b:
        return Drop(TIE, row.votes_a)
    if row.score_ratio <= rules.min_ratio:
        return Drop("score ratio not above minimum", row.score_ratio, rules.min_ratio)
    a, b = (row.answer_a, row.votes_a), (row.answer_b, row.votes_b)
    chosen, rejected = (a, b) if row.labels == 1 else (b, a)
    if chosen[1] < rejected[1]:
        return Drop("label contradicts the votes", chosen[1] - rejected[1], 0.0)
    return Preference(user(row.history), chosen[0], rejected[0], chosen[1], rejected[1])
