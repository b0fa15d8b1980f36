"""NVIDIA HelpSteer and the rated part of HelpSteer2 (Hub nvidia/HelpSteer, nvidia/HelpSteer2): CC-BY-4.0.

A row is one answer with five ratings from 0 to 4; rows with the same prompt belong together:

    {"prompt": "Name a colour.", "response": "Blue.", "helpfulness": 4, "correctness": 4, "coherence": 4,
     "complexity": 1, "verbosity": 0}

Pair rule (RLHFlow's early README; arXiv 2405.07863, appendix A): all pairs of a prompt's answers by
the mean of chosen attributes (helpfulness and correctness there), ties dropped. A pair stands in
the ledger and the table at the row of its later answer; a row that is the earlier one in all of its
pairs is entered as such, so that every raw row has a line. HelpSteer2 writes earlier turns into the
prompt with `<extra_id_1>User` and `<extra_id_1>Assistant` lines; these become turns.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pipeline.answers import Answer, RankedRules, ranked_pair, ranked_pairs
from pipeline.conversations import from_nemo
from pipeline.items import Drop, Item, Items, Score, Shape, parsed
from pipeline.raw import RawRow

KIND = "preferences"

Attribute = Literal["helpfulness", "correctness", "coherence", "complexity", "verbosity"]


class Rules(RankedRules):
    """Which ratings count, and how they make pairs."""

    attributes: tuple[Attribute, ...] = Field(min_length=1)
    """The score of an answer is the mean of these."""


class Row(Shape):
    """One rated answer."""

    prompt: str
    response: str
    helpfulness: Score
    correctness: Score
    coherence: Score
    complexity: Score
    verbosity: Score


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The pairs of each prompt; needs all rows, for a prompt's answers may stand apart."""
    outcomes: list[tuple[RawRow, list[Item]]] = []
    by_prompt: dict[str, list[tuple[int, Answer]]] = {}
    for row in rows:
        raw = parsed(row, Row)
        if isinstance(raw, Drop):
            outcomes.append((row, [raw]))
            continue
        by_prompt.setdefault(raw.prompt, []).append((len(outcomes), Answer(raw.response, score(raw, rules))))
        outcomes.append((row, []))
    for prompt, answers in by_prompt.items():
        place_pairs(prompt, answers, rules, outcomes)
    return iter(outcomes)


def place_pairs(
    prompt: str, answers: list[tuple[int, Answer]], rules: Rules, outcomes: list[tuple[RawRow, list[Item]]]
) -> None:
    """Put the pairs of one prompt to the rows of their later answers."""
    conversation = from_nemo(prompt)
    if len(answers) < 2 or rules.pairs == "best_vs_worst":
        last = answers[-1][0]
        outcomes[last][1].extend(ranked_pairs(conversation, [answer for _, answer in answers], rules))
    else:
        for later, (index, b) in enumerate(answers):
            pairs = (ranked_pair(conversation, a, b, rules.min_margin) for _, a in answers[:later])
            outcomes[index][1].extend(pairs)
    for index, _ in answers:
        if not outcomes[index][1]:
            outcomes[index][1].append(Drop("paired at a later row of its prompt"))


def score(row: Row, rules: Rules) -> float | None:
    """The mean of the chosen ratings; None where one is missing."""
    ratings = [getattr(row, attribute) for attribute in rules.attributes]
    return None if None in ratings else sum(ratings) / len(ratings)
