"""MT-Bench and Arena-Hard: questions for judges, MT-Bench with a second turn; Apache-2.0.

    {"question_id": 81, "category": "writing", "turns": ["Write a poem.", "Now without the letter e."]}
    {"question_id": "ab12", "category": "hard", "cluster": "Poems", "turns": [{"content": "Write a poem."}]}
    {"uid": "ab12", "category": "creative_writing", "subcategory": "poem", "prompt": "Write a poem."}

The first is a line of FastChat's files (on the Hub `prompt` is the list), the others of Arena-Hard v0.1 and
v2.0. Texts: each turn by itself, for a prompt may have one of them alone.
"""

from collections.abc import Iterable

from pydantic import model_validator

from pipeline.items import Benchmark, Item, Items, Shape, each
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream

KIND = "benchmarks"
RULE = "each turn of a question"
SETS = (
    Upstream(
        name="HuggingFaceH4/mt_bench_prompts",
        licence="Apache-2.0",
        redistributable=True,
        files=("raw/question.jsonl",),
        columns=("turns",),
        rows=80,
        rows_from="counted",
    ),
    Upstream(
        name="lmarena/arena-hard-auto",
        host="github",
        licence="Apache-2.0",
        redistributable=True,
        files=("data/arena-hard-v0.1/question.jsonl",),
        columns=("turns",),
        rows=500,
        rows_from="counted",
    ),
    Upstream(
        name="lmarena-ai/arena-hard-auto",
        licence="Apache-2.0",
        redistributable=True,
        files=("data/arena-hard-v0.1/question.jsonl",),
        columns=("prompt",),
        rows=500,
        rows_from="counted",
    ),
)


class Rules(Params):
    """No rule of its own."""


class Turn(Shape):
    """A turn of Arena-Hard v0.1."""

    content: str


class Row(Shape):
    """A question in any of the forms."""

    turns: list[str] | list[Turn] | None = None
    prompt: str | list[str] | None = None

    @model_validator(mode="after")
    def has_text(self) -> "Row":
        """Turns, or a prompt."""
        if not self.turns and not self.prompt:
            raise ValueError("expected turns, or a prompt")
        return self


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """The turns of each row."""
    return each(rows, Row, turns_of)


def turns_of(row: Row) -> list[Item]:
    """Each turn as a text."""
    turns = row.turns or ([row.prompt] if isinstance(row.prompt, str) else row.prompt or [])
    return [Benchmark(turn.content if isinstance(turn, Turn) else turn) for turn in turns]
