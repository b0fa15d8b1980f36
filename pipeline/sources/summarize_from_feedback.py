"""OpenAI summarize-from-feedback, the comparisons (Hub openai/summarize_from_feedback): modified MIT.

    {"info": {"id": "t3_1", "post": "My cat ate ...", "title": "Cat help", "subreddit": "cats"},
     "summaries": [{"text": " Cat ate it.", "policy": "sup1"}, {"text": " Help.", "policy": "ref"}],
     "choice": 0, "worker": "w1", "batch": "batch3", "split": "train", "extra": {"confidence": 2}}

`choice` is the index of the preferred summary. CNN/DM rows have `article` and `site` instead of
`post` and `subreddit`. The paper's Mix1 holds this set without conversion code; here the prompt is
an instruction from params.yaml, the title and the text. `confidence` (not in all batches) is a
nine-point scale from surely the first (1) to surely the second (9), arXiv 2009.01325 appendix C;
upstream's example row has choice 1 with 8. A row that says otherwise is dropped where strength counts.
"""

from collections.abc import Iterable

from pydantic import Field

from pipeline.items import Drop, Item, Items, Preference, Score, Shape, each, user
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "preferences"
RULE = "the summary that the worker chose, under an instruction; unsure choices can be dropped"
SETS = (
    Upstream(
        name="openai/summarize_from_feedback",
        licence="modified MIT; posts CC-BY-4.0",
        redistributable=True,
        files=("comparisons/train/*.parquet",),
        columns=("info", "summaries", "choice", "extra"),
        rows=92_858,
        rows_from="arXiv 2310.01377, appendix E.1",
    ),
    Upstream(
        name="openai/summarize-from-feedback",
        host="github",
        licence="modified MIT; posts CC-BY-4.0",
        redistributable=True,
        files=("comparisons/*.json",),
        columns=("info", "summaries", "choice", "extra"),
    ),
)

UNDECIDED = 5


class Rules(Params):
    """How the prompt is put, and how sure the worker must be."""

    post_instruction: str
    """First line of the prompt for a Reddit post."""
    article_instruction: str
    """First line of the prompt for a news article."""
    min_strength: int | None = Field(ge=1, le=4)
    """Least distance of the confidence from 5; rows without one are dropped too. null: no such rule."""


class Info(Shape):
    """What is to be summarized."""

    title: str | None = None
    post: str | None = None
    article: str | None = None


class Summary(Shape):
    """One summary."""

    text: str
    policy: str | None = None


class Extra(Shape):
    """Further answers of the worker."""

    confidence: Score = None


class Row(Shape):
    """A text, two summaries and a choice."""

    info: Info
    summaries: list[Summary] = Field(min_length=2, max_length=2)
    choice: int = Field(ge=0, le=1)
    extra: Extra | None = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The chosen summary against the other."""
    if rules.min_strength is not None:
        confidence = row.extra.confidence if row.extra else None
        if confidence is None:
            return Drop("missing confidence")
        if confidence != UNDECIDED and (confidence > UNDECIDED) != bool(row.choice):
            return Drop("choice contradicts the confidence", confidence, UNDECIDED)
        if (strength := abs(confidence - UNDECIDED)) < rules.min_strength:
            return Drop("preference too weak", strength, rules.min_strength)
    text = row.info.post or row.info.article
    if not text or not text.strip():
        return Drop("no text to summarize")
    instruction = rules.post_instruction if row.info.post else rules.article_instruction
    parts = [instruction, row.info.title or "", text]
    prompt = user("\n\n".join(part.strip() for part in parts if part.strip()))
    chosen, rejected = row.summaries[row.choice], row.summaries[1 - row.choice]
    return Preference(
        prompt,
        chosen.text.strip(),
        rejected.text.strip(),
        chosen_by=chosen.policy,
        rejected_by=rejected.policy,
    )
