"""Anthropic HH-RLHF (github.com/anthropics/hh-rlhf, Hub Anthropic/hh-rlhf): MIT.

A row is two transcripts of one conversation with different ends:

    {"chosen": "\\n\\nHuman: Name a colour.\\n\\nAssistant: Blue.",
     "rejected": "\\n\\nHuman: Name a colour.\\n\\nAssistant: No."}

Pair rule (card of RLHFlow/HH-RLHF-Helpful-standard): the prompt is every turn but the last, which
must be the same in both and be followed by an assistant turn; the answers must differ. Some rows
differ before the last turn, end in a human turn or have an empty one: all dropped by name. No scores.
"""

from collections.abc import Iterable

import polars as pl

from pipeline.conversations import WHITE_SPACE, from_transcript, one_message
from pipeline.items import Drop, Item, Items, Preference, Shape, each
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import FROM_MEMORY, Paper, Upstream

KIND = "preferences"

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
#: Stands between turns while transcripts are split; a transcript that holds it goes row by row.
MARK = "\x1e"
RULE = "as upstream ordered them: the shared turns are the prompt, the two last turns the answers"
SETS = (
    Upstream(
        name="Anthropic/hh-rlhf",
        licence="MIT",
        redistributable=True,
        files=(
            "helpful-base/train.jsonl.gz",
            "helpful-online/train.jsonl.gz",
            "helpful-rejection-sampled/train.jsonl.gz",
        ),
        columns=("chosen", "rejected"),
        rows=118_263,
        rows_from="arXiv 2310.01377, appendix E.1",
        paper=Paper(
            name="HH-RLHF",
            pairs=115_396,
            prompts=115_092,
            prompt_tokens=160.4,
            chosen_tokens=82.2,
            rejected_tokens=73.6,
            completion="LLM",
            annotator="Human",
        ),
    ),
    Upstream(
        name="Anthropic/hh-rlhf",
        licence="MIT",
        redistributable=True,
        files=("harmless-base/train.jsonl.gz",),
        columns=("chosen", "rejected"),
        rows=42_537,
        rows_from=FROM_MEMORY,
    ),
)


class Rules(Params):
    """No rule of its own: the shared validity rules do the rest."""


class Row(Shape):
    """Two transcripts."""

    chosen: str
    rejected: str


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One preference per row."""
    return each(rows, Row, preference)


def preference(row: Row) -> Item:
    """The pair, or why the two transcripts make none."""
    chosen, rejected = from_transcript(row.chosen), from_transcript(row.rejected)
    if chosen is None or rejected is None:
        return Drop("malformed transcript")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return Drop("no answer", detail="a transcript ends with a human turn")
    if chosen[:-1] != rejected[:-1]:
        return Drop("contexts differ")
    return Preference(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])


#: The texts that `certain` reads.
COLUMNS = ("chosen", "rejected")


def certain(texts: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """`row`, prompt, chosen and rejected of the rows that `preference` and the validity rules surely keep.

    The same as the row by row way gives, for many rows at once: both transcripts begin with a human
    turn, are the same up to the last assistant turn, and alternate without an empty turn.
    """
    return pairs(last_turns(texts))


def last_turns(texts: pl.DataFrame) -> pl.DataFrame:
    """`row`, the shared beginning and the two last turns; without the rows that do not split so."""
    both = pl.col("chosen", "rejected")
    usual = texts.filter(
        pl.all_horizontal(both.str.starts_with(HUMAN)), ~pl.col("chosen").str.contains(MARK, literal=True)
    )
    last = pl.col("chosen").str.find_many([ASSISTANT]).list.last()
    split = usual.with_columns(both.cast(pl.Binary), last=last).drop_nulls("last")
    size = pl.col("last") + len(ASSISTANT)
    same = split.filter(pl.col("rejected").bin.starts_with(pl.col("chosen").bin.head(size)))
    turns = same.select(
        "row",
        prompt=pl.col("chosen").bin.head("last").cast(pl.String),
        chosen=pl.col("chosen").bin.slice(size).cast(pl.String),
        rejected=pl.col("rejected").bin.slice(size).cast(pl.String),
    )
    return turns.filter(
        ~pl.any_horizontal(both.str.contains(HUMAN, literal=True)),
        ~pl.col("rejected").str.contains(ASSISTANT, literal=True),
    )


def pairs(split: pl.DataFrame) -> pl.DataFrame:
    """The beginnings as turns, and the answers as messages; without rows that break a validity rule."""
    answers = split.with_columns(pl.col("chosen", "rejected").str.strip_chars(WHITE_SPACE))
    chosen, rejected, prompt, turn = pl.col("chosen"), pl.col("rejected"), pl.col("prompt"), pl.element()
    good = answers.filter(chosen != "", rejected != "", chosen != rejected).with_columns(
        prompt.str.replace_many([HUMAN, ASSISTANT], [MARK + "H", MARK + "A"]).str.split(MARK).list.slice(1)
    )
    content = turn.str.slice(1).str.strip_chars(WHITE_SPACE)
    alternates = prompt.list.eval(turn.str.head(1)).list.join("").str.contains("^H(AH)*$")
    blank = prompt.list.eval(content == "").list.any()
    role = pl.when(turn.str.starts_with("H")).then(pl.lit("user")).otherwise(pl.lit("assistant"))
    return good.filter(alternates, ~blank).select(
        "row",
        prompt.list.eval(pl.struct(role=role, content=content)),
        *(one_message("assistant", pl.col(name)).alias(name) for name in ("chosen", "rejected")),
    )
