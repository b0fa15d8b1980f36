"""Nectar (Hub berkeley-nest/Nectar): seven answers per prompt, ranked by GPT-4; Apache-2.0.

    {"prompt": "\\n\\nHuman: Name a colour.\\n\\nAssistant: ", "answers": [
        {"answer": "Blue.", "model": "gpt-4", "rank": 1.0}, {"answer": "No.", "model": "m1", "rank": 2.0}],
     "turns": 1, "num_responses": 2, "source": ["sharegpt"], "good_natured": true}

The data of the paper's offline-DPO baseline, which has no conversion code; `pairs` chooses best
against worst rank or all pairs. The score of an answer is minus its rank (1 is best), so that higher
is better and a mix's `min_margin` of 2 means two ranks apart.
"""

from collections.abc import Iterable

from pipeline.answers import Answer, RankedRules, ranked_pairs
from pipeline.conversations import from_transcript
from pipeline.items import WRONG_SHAPE, Drop, Item, Items, Score, Shape, each
from pipeline.raw import RawRow
from pipeline.upstream import FROM_MEMORY, Upstream

KIND = "preferences"
RULE = "best against worst rank (or all pairs) of a prompt's seven answers"
SETS = (
    Upstream(
        name="berkeley-nest/Nectar",
        licence="Apache-2.0; CC-BY-NC until November 2023",
        redistributable=False,
        files=("data/rlaif.parquet",),
        columns=("prompt", "answers", "good_natured"),
        rows=182_954,
        rows_from=FROM_MEMORY,
    ),
)


class Rules(RankedRules):
    """How ranks make pairs."""

    good_natured_only: bool
    """Drop prompts that upstream marks as not good-natured."""


class Ranked(Shape):
    """One answer."""

    answer: str
    model: str | None = None
    rank: Score


class Row(Shape):
    """A transcript that awaits an answer, and its answers."""

    prompt: str
    answers: list[Ranked]
    good_natured: bool | None = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The pairs of each row's answers."""
    return each(rows, Row, lambda row: preferences(row, rules))


def preferences(row: Row, rules: Rules) -> Item | list[Item]:
    """The pairs, if the prompt is a transcript that ends with the assistant's opening."""
    if rules.good_natured_only and not row.good_natured:
        if row.good_natured is None:
            return Drop(WRONG_SHAPE, detail="good_natured: Field required")
        return Drop("not good-natured")
    conversation = from_transcript(row.prompt)
    if conversation is None:
        return Drop("malformed transcript")
    if conversation[-1] != {"role": "assistant", "content": ""}:
        return Drop("malformed transcript", detail="does not end with an open assistant turn")
    answers = [Answer(a.answer, None if a.rank is None else -a.rank, a.model) for a in row.answers]
    return ranked_pairs(conversation[:-1], answers, rules)
