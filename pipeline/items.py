"""What a source adapter gives for each raw row: items to keep, and drops with their reasons.

An adapter has one pure function `items(rows, rules)`. It yields every raw row exactly once, with
at least one outcome, so that nothing is lost: in = kept + dropped.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from pipeline.raw import INVALID_UTF8, LONG_LINE, MALFORMED_CSV, MALFORMED_JSON, RawRow

WRONG_SHAPE = "wrong shape"

#: Reasons that say the raw row itself is broken, whatever the rules.
BAD_ROW_REASONS = frozenset({MALFORMED_JSON, MALFORMED_CSV, INVALID_UTF8, LONG_LINE, WRONG_SHAPE})

Conversation = list[dict[str, str]]


class Drop(NamedTuple):
    """An item that is not kept, and why."""

    reason: str
    value: float | None = None
    """What was measured."""
    threshold: float | None = None
    """What it was measured against."""
    detail: str | None = None


class Preference(NamedTuple):
    """A prompt and two answers, the preferred one first."""

    prompt: Conversation
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None
    chosen_by: str | None = None
    rejected_by: str | None = None
    subset: str | None = None
    """Of a judge set: the part it is reported under."""


class Demonstration(NamedTuple):
    """A conversation to imitate."""

    messages: Conversation


class Prompt(NamedTuple):
    """All turns before an answer."""

    prompt: Conversation


class Benchmark(NamedTuple):
    """A text that must not be trained on."""

    text: str


Item = Preference | Demonstration | Prompt | Benchmark | Drop
Items = Iterator[tuple[RawRow, list[Item]]]


class Shape(BaseModel):
    """Base of the raw row that an adapter expects: strict types, further columns ignored."""

    # any bound on length has pydantic read a string as UTF-8, and refuse half of a surrogate pair
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False, str_min_length=0)


class OpenRow(Shape):
    """A row that keeps its further columns, for adapters whose rules name the column."""

    model_config = Shape.model_config | {"extra": "allow"}

    def column(self, name: str | None) -> Any:
        """A further column's value; None where there is none."""
        return (self.model_extra or {}).get(name) if name else None

    def lacks(self, *names: str | None) -> Drop | None:
        """The drop that names which of the columns are not there; None where all are."""
        there = self.model_extra or {}
        missing = [f"{name}: Field required" for name in names if name and name not in there]
        return Drop(WRONG_SHAPE, detail="; ".join(missing)) if missing else None

    def text(self, name: str | None) -> str | None:
        """A further column's text; None where there is none."""
        value = self.column(name)
        return value if isinstance(value, str) and is_text(value) else None


def is_text(value: str) -> bool:
    """False where a string holds half of a surrogate pair, which UTF-8 cannot hold."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


S = TypeVar("S", bound=Shape)


def parsed(row: RawRow, shape: type[S]) -> S | Drop:
    """The row as a `shape`, or the drop that says what is wrong with it."""
    if row.bad is not None:
        return Drop(row.bad, detail=row.detail)
    try:
        return shape.model_validate(row.value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = [f"{'.'.join(map(str, p['loc'])) or 'row'}: {p['msg']}" for p in problems[:3]]
        # a key may hold half of a surrogate pair, which no table can
        return Drop(WRONG_SHAPE, detail="; ".join(wrong).encode(errors="replace").decode())


def each(rows: Iterable[RawRow], shape: type[S], outcomes: Callable[[S], Item | list[Item]]) -> Items:
    """Every row with the `outcomes` of its parsed form; for adapters whose rows stand alone."""
    for row in rows:
        raw = parsed(row, shape)
        found = raw if isinstance(raw, Drop) else outcomes(raw)
        yield row, found if isinstance(found, list) else [found]


def score_of(value: Any) -> float | None:
    """A score as upstream writes it: a number, its text, or "N/A", empty or NaN for a missing one."""
    if isinstance(value, str):
        value = value.strip()
        value = None if value.lower() in {"", "n/a", "na", "none", "nan"} else value
    if value is None:
        return None
    if isinstance(value, bool):
        raise ValueError("expected a number, found a boolean")
    try:
        number = float(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"expected a number: {error}") from error
    return None if number != number else number


#: A score column: float or None.
Score = Annotated[float | None, BeforeValidator(score_of)]


def user(text: str, system: str | None = None) -> Conversation:
    """A prompt of one user turn, after a system message where there is one that is not blank."""
    turn = {"role": "user", "content": text}
    return [{"role": "system", "content": system}, turn] if system and system.strip() else [turn]
