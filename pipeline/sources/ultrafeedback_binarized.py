"""UltraFeedback, binarized (Hub HuggingFaceH4/ultrafeedback_binarized, trl-lib/ultrafeedback_binarized): MIT.

    {"chosen": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}],
     "rejected": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "No."}],
     "score_chosen": 8.0, "score_rejected": 5.0}

Both conversations hold the prompt. Pair rule: as upstream ordered them; about a tenth are ties
(111 of 1,000 measured), which `scores_must_agree` drops, and a few have identical or empty answers.
"""

from collections.abc import Iterable

from pipeline.answers import Answer, RatedRules, rated_pair
from pipeline.conversations import Message, from_messages, split_pair
from pipeline.items import Drop, Item, Items, Score, Shape, each
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "preferences"
RULE = "as upstream ordered them; the scores can be asked to agree, which drops its ties"
SETS = (
    Upstream(
        name="HuggingFaceH4/ultrafeedback_binarized",
        licence="MIT",
        redistributable=True,
        files=("data/train_prefs-*.parquet",),
        columns=("chosen", "rejected", "score_chosen", "score_rejected"),
    ),
    Upstream(
        name="trl-lib/ultrafeedback_binarized",
        licence="MIT",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("chosen", "rejected", "score_chosen", "score_rejected"),
    ),
)


class Rules(RatedRules):
    """What is asked of upstream's order."""


class Row(Shape):
    """Two conversations and their scores."""

    chosen: list[Message]
    rejected: list[Message]
    score_chosen: Score = None
    score_rejected: Score = None


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, lambda row: preference(row, rules))


def preference(row: Row, rules: Rules) -> Item:
    """The pair, if both conversations share their prompt."""
    split = split_pair(from_messages(row.chosen), from_messages(row.rejected))
    if isinstance(split, Drop):
        return split
    prompt, chosen, rejected = split
    return rated_pair(prompt, Answer(chosen, row.score_chosen), Answer(rejected, row.score_rejected), rules)
