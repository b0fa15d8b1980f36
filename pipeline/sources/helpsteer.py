"""NVIDIA HelpSteer and the rated part of HelpSteer2 (Hub nvidia/HelpSteer, nvidia/HelpSteer2): CC-BY-4.0.

A row is one answer with five ratings from 0 to 4; rows with the same prompt belong together:

    {"prompt": "Name a colour.", "response": "Blue.", "helpfulness": 4, "correctness": 4, "coherence": 4,
     "complexity": 1, "verbosity": 0}

Pair rule (RLHFlow's early README; arXiv 2405.07863, appendix A): all pairs of a prompt's answers by
the mean of chosen attributes (helpfulness and correctness there), ties dropped. That rule gave 21,576
pairs; the score behind the paper's 37,131 is not recorded. A pair stands in the ledger and the table
at the row of its later answer; a row that is the earlier one in all of its pairs is entered as such,
so that every raw row has a line. HelpSteer2 writes earlier turns into the prompt with
`<extra_id_1>User` and `<extra_id_1>Assistant` lines (its card); these become turns.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pipeline.answers import FEW_ANSWERS, Answer, RankedRules, ranked_pair, ranked_pairs
from pipeline.conversations import from_nemo
from pipeline.ids import text_id
from pipeline.items import Drop, Item, Items, Score, Shape, parsed
from pipeline.raw import RawRow
from pipeline.upstream import Paper, Upstream

KIND = "preferences"
RULE = "all pairs of a prompt's answers (or best against worst) by the mean of attributes; ties dropped"
COLUMNS = ("prompt", "response", "helpfulness", "correctness", "coherence", "complexity", "verbosity")
SETS = (
    Upstream(
        name="nvidia/HelpSteer",
        licence="CC-BY-4.0",
        redistributable=True,
        files=("train.jsonl.gz",),
        columns=COLUMNS,
        rows=35_331,
        rows_from="the set's card",
        paper=Paper(
            name="HelpSteer",
            pairs=37_131,
            prompts=8_592,
            prompt_tokens=530.0,
            chosen_tokens=116.4,
            rejected_tokens=89.3,
            completion="LLM",
            annotator="Human",
        ),
    ),
    Upstream(
        name="nvidia/HelpSteer2",
        licence="CC-BY-4.0",
        redistributable=True,
        files=("train.jsonl.gz",),
        columns=COLUMNS,
        rows=20_324,
        rows_from="the set's card",
    ),
)

Attribute = Literal["helpfulness", "correctness", "coherence", "complexity", "verbosity"]

LATER = "paired at a later row of its prompt"


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
    """The pairs of each prompt; goes through `rows` twice, for a prompt's answers may stand apart.

    Answers are held from the first row of their prompt to its last, which upstream puts side by side.
    """
    assert iter(rows) is not rows, "helpsteer needs rows that can be read twice"
    expected = answers_by_prompt(rows)
    held: dict[str, list[Answer]] = {}
    for row in rows:
        raw = parsed(row, Row)
        if isinstance(raw, Drop):
            yield row, [raw]
            continue
        key = text_id(raw.prompt)
        answers = held.setdefault(key, [])
        answers.append(Answer(raw.response, score(raw, rules)))
        yield row, outcomes(raw.prompt, answers, expected[key], rules)
        if len(answers) == expected[key]:
            del held[key]


def answers_by_prompt(rows: Iterable[RawRow]) -> Counter[str]:
    """How many answers each prompt has."""
    parsed_rows = (parsed(row, Row) for row in rows)
    return Counter(text_id(raw.prompt) for raw in parsed_rows if not isinstance(raw, Drop))


def outcomes(prompt: str, answers: list[Answer], expected: int, rules: Rules) -> list[Item]:
    """What the latest of the `answers` so far adds; `expected` is their number in the end."""
    if expected < 2:
        return [Drop(FEW_ANSWERS, expected, 2)]
    *earlier, latest = answers
    if rules.pairs == "all":
        return [ranked_pair(from_nemo(prompt), a, latest) for a in earlier] or [Drop(LATER)]
    return ranked_pairs(from_nemo(prompt), answers, rules) if len(answers) == expected else [Drop(LATER)]


def score(row: Row, rules: Rules) -> float | None:
    """The mean of the chosen ratings; None where one is missing."""
    ratings = [getattr(row, attribute) for attribute in rules.attributes]
    return None if None in ratings else sum(ratings) / len(ratings)
