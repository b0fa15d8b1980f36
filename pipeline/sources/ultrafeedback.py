"""UltraFeedback, raw (Hub openbmb/UltraFeedback): four answers per prompt, rated by GPT-4; MIT.

    {"source": "flan", "instruction": "Name a colour.", "models": ["m1", "m2"], "completions": [
        {"model": "m1", "response": "Blue.", "overall_score": 8.0, "fine-grained_score": 4.5,
         "annotations": {"helpfulness": {"Rating": "4"}, "honesty": {"Rating": "N/A"}}}, ...]}

Pair rule (card of RLHFlow/UltraFeedback-preference-standard): all combinations of answers by
fine-grained score (the mean of the four ratings), ties dropped, "N/A" is a missing score. Answers
are told apart by position, so two of the same model do not collapse. In the first release 2,628
answers have overall_score 10 where 1 was meant; upstream's own repair (its repository,
fix_overall_score_issue.py) reads those with a fine-grained score of at most 2 as 1, which is done here,
and had those up to 4 rated again, which no reader of the first release can do.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pipeline.answers import Answer, RankedRules, ranked_pairs
from pipeline.items import Items, Score, Shape, each, user
from pipeline.raw import RawRow
from pipeline.upstream import Paper, Upstream

KIND = "preferences"
RULE = "all pairs of a prompt's answers (or best against worst) by a score; ties and missing scores dropped"
SETS = (
    Upstream(
        name="openbmb/UltraFeedback",
        licence="MIT",
        redistributable=True,
        files=("*.jsonl",),
        columns=("instruction", "completions"),
        rows=63_967,
        rows_from="arXiv 2310.01377, section 2.2",
        paper=Paper(
            name="UltraFeedback",
            pairs=340_025,
            prompts=63_591,
            prompt_tokens=161.5,
            chosen_tokens=279.5,
            rejected_tokens=211.1,
            completion="LLM",
            annotator="LLM",
        ),
    ),
)

#: The error of the first release (upstream README, 2023-12-29).
WRONG_TEN, CONTRADICTED_BELOW, MEANT = 10.0, 2.0, 1.0


class Rules(RankedRules):
    """Which score counts, and how it makes pairs."""

    score: Literal["fine-grained_score", "overall_score", "mean_rating"]
    """`mean_rating` computes the mean of the ratings that are there; the others are columns."""


class Annotation(Shape):
    """One aspect's rating."""

    rating: Score = Field(default=None, alias="Rating")


class Completion(Shape):
    """One answer."""

    response: str
    model: str | None = None
    overall_score: Score = None
    fine_grained_score: Score = Field(default=None, alias="fine-grained_score")
    annotations: dict[str, Annotation] = Field(default_factory=dict)


class Row(Shape):
    """A prompt and its answers."""

    instruction: str
    completions: list[Completion]


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The pairs of each row's answers."""
    return each(rows, Row, lambda row: ranked_pairs(user(row.instruction), answers(row, rules), rules))


def answers(row: Row, rules: Rules) -> list[Answer]:
    """The answers with the chosen score."""
    return [Answer(c.response, score(c, rules), c.model) for c in row.completions]


def score(completion: Completion, rules: Rules) -> float | None:
    """The score that the rules name."""
    match rules.score:
        case "fine-grained_score":
            return completion.fine_grained_score
        case "overall_score":
            return overall(completion)
        case "mean_rating":
            return mean_rating(completion)


def overall(completion: Completion) -> float | None:
    """The overall score, with the known error of the first release mended."""
    fine = completion.fine_grained_score
    if completion.overall_score == WRONG_TEN and fine is not None and fine <= CONTRADICTED_BELOW:
        return MEANT
    return completion.overall_score


def mean_rating(completion: Completion) -> float | None:
    """The mean of the ratings that are there."""
    ratings = [a.rating for a in completion.annotations.values() if a.rating is not None]
    return sum(ratings) / len(ratings) if ratings else None
