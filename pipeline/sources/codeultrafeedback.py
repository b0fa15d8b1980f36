"""CodeUltraFeedback (Hub coseal/CodeUltraFeedback): four answers to a coding request, rated by GPT-3.5; MIT.

    {"instruction": "Reverse a list.", "preference": "code-readability",
     "responses": [{"model": "m1", "response": "x[::-1]"}, {"model": "m2", "response": "sort(x)"}],
     "annotations": [{"model": "m1", "rating": "5", "rationale": "..."}, {"model": "m2", "rating": "N/A"}]}

Pair rule (card of RLHFlow/CodeUltraFeedback-standard): all combinations, ties dropped. There,
ratings are compared as strings and "N/A" wins against every number; here they are numbers and
"N/A" is a missing score. Ratings belong to answers by position where the models agree, else by model.
"""

from collections.abc import Iterable

from pipeline.answers import Answer, RankedRules, ranked_pairs
from pipeline.items import Items, Score, Shape, each, user
from pipeline.raw import RawRow
from pipeline.upstream import ROUNDED, Paper, Upstream

KIND = "preferences"
RULE = "all pairs of a request's four answers (or best against worst) by rating; ties and N/A dropped"
SETS = (
    Upstream(
        name="coseal/CodeUltraFeedback",
        licence="MIT",
        redistributable=True,
        files=("data/train-*.parquet",),
        columns=("instruction", "responses", "annotations"),
        rows=10_000,
        rows_from="the set's card",
        paper=Paper(
            name="CodeUltraFeedback",
            pairs=50_156,
            prompts=9_938,
            prompt_tokens=172.8,
            chosen_tokens=427.6,
            rejected_tokens=400.6,
            completion="LLM",
            annotator="LLM",
            pairs_confirmed_by=ROUNDED,
        ),
    ),
)


class Rules(RankedRules):
    """How ratings make pairs."""


class Response(Shape):
    """One answer."""

    model: str
    response: str


class Annotation(Shape):
    """One rating."""

    model: str
    rating: Score = None


class Row(Shape):
    """A request, its answers and their ratings."""

    instruction: str
    responses: list[Response]
    annotations: list[Annotation]


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The pairs of each row's answers."""
    return each(rows, Row, lambda row: ranked_pairs(user(row.instruction), answers(row), rules))


def answers(row: Row) -> list[Answer]:
    """The answers with their ratings."""
    if [r.model for r in row.responses] == [a.model for a in row.annotations]:
        ratings = [annotation.rating for annotation in row.annotations]
    else:
        by_model = {annotation.model: annotation.rating for annotation in row.annotations}
        ratings = [by_model.get(response.model) for response in row.responses]
    return [Answer(r.response, rating, r.model) for r, rating in zip(row.responses, ratings, strict=True)]
