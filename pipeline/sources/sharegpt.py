"""ShareGPT's form: ShareGPT (user-shared OpenAI outputs), WizardLM Evol-Instruct V2, SlimOrca (MIT).

    {"id": "a_0",
     "conversations": [{"from": "human", "value": "Name a colour."}, {"from": "gpt", "value": "Blue."}]}

An id suffix _0, _10 ... marks parts of one long conversation: about a third of ShareGPT's rows begin
with a gpt turn, which has no prompt. Rule `trim`: leading gpt and trailing human turns are cut off,
so that the rest can be used; without it such rows are dropped by the shared rules, as are
conversations that do not alternate or have an empty turn. Blank system turns are left out.
"""

from collections.abc import Iterable

from pipeline.conversations import Turn, from_turns
from pipeline.items import Conversation, Demonstration, Drop, Item, Items, Shape, each
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import FROM_MEMORY, Upstream

KIND = "demonstrations"
RULE = "every conversation; loose ends are trimmed or the conversation is dropped"
SETS = (
    Upstream(
        name="anon8231489123/ShareGPT_Vicuna_unfiltered",
        licence="unclear",
        redistributable=False,
        files=("ShareGPT_V3_unfiltered_cleaned_split.json",),
        columns=("conversations",),
    ),
    Upstream(
        name="WizardLMTeam/WizardLM_evol_instruct_V2_196k",
        licence="MIT",
        redistributable=True,
        files=("WizardLM_evol_instruct_V2_143k.json",),
        columns=("conversations",),
        rows=143_000,
        rows_from=FROM_MEMORY,
    ),
    Upstream(
        name="Open-Orca/SlimOrca",
        licence="MIT",
        redistributable=True,
        files=("oo-labeled_correct.gpt4.sharegpt.jsonl",),
        columns=("conversations",),
        rows=517_982,
        rows_from=FROM_MEMORY,
    ),
)


class Rules(Params):
    """What becomes of a conversation's loose ends."""

    trim: bool
    """Cut off leading assistant and trailing user turns instead of dropping the row."""


class Row(Shape):
    """A conversation."""

    conversations: list[Turn]


def items(rows: Iterable[RawRow], rules: Rules) -> Items:
    """One demonstration per row."""
    return each(rows, Row, lambda row: demonstration(row, rules))


def demonstration(row: Row, rules: Rules) -> Item:
    """The conversation with roles user and assistant."""
    messages = from_turns(row.conversations)
    if not rules.trim:
        return Demonstration(messages)
    rest = trimmed(messages)
    if not rest:
        return Drop(
            "nothing left after trimming", len(messages), detail="no user turn that an assistant answers"
        )
    return Demonstration(rest)


def trimmed(messages: Conversation) -> Conversation:
    """From the first user turn (and the system turn before it) to the last assistant turn."""
    system = messages[:1] if messages and messages[0]["role"] == "system" else []
    turns = messages[len(system) :]
    while turns and turns[0]["role"] == "assistant":
        turns = turns[1:]
    while turns and turns[-1]["role"] == "user":
        turns = turns[:-1]
    return [*system, *turns] if turns else []
