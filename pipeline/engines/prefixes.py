"""Reading token sequences that begin alike: what they share is read once.

The answers of one prompt, the two sides of a pair and the questions about one conversation differ only behind
their common beginning. A causal model's keys and values of that beginning do not depend on what follows, so
they are computed once and each sequence adds the rest of itself. The values are those of reading each
sequence whole, up to the rounding that any other batch brings, too.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

from pipeline.engines.cores import beside_each_other, independent
from pipeline.engines.inference import right_padded, token_batches

WORTH = 8
"""Share a beginning where that saves at least one token in so many: it takes two calls instead of one."""


@dataclass(frozen=True)
class Shared:
    """Sequences that begin alike."""

    rows: list[int]
    length: int
    """Tokens of the common beginning; at least one of each row follows."""


class Rest(NamedTuple):
    """What a row adds to its beginning."""

    row: int
    place: int
    """Of the beginning among those that are kept."""
    start: int
    """Tokens of the beginning."""
    tokens: Sequence[int]


def shared_beginnings(sequences: Sequence[Sequence[int]]) -> list[Shared]:
    """The sequences for which it pays, in groups by their beginning.

    In the order of their tokens, neighbours are alike. A group takes the next one in as long as the tokens
    that it saves do not become fewer, which a beginning that is much shorter would make of them.
    """
    order = sorted(range(len(sequences)), key=lambda i: (sequences[i], i))
    groups: list[Shared] = []
    for i in order:
        last = groups[-1] if groups else Shared([], 0)
        length = common(sequences[last.rows[-1]], sequences[i]) if last.rows else 0
        if len(last.rows) > 1:
            length = min(length, last.length)
        if last.rows and length and len(last.rows) * length >= (len(last.rows) - 1) * last.length:
            groups[-1] = Shared([*last.rows, i], length)
        else:
            groups.append(Shared([i], 0))
    return [group for group in groups if worth(group, sequences)]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with, of which none is the last of either."""
    pairs = zip(one[:-1], other[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def worth(group: Shared, sequences: Sequence[Sequence[int]]) -> bool:
    """Whether sharing saves enough."""
    saved = (len(group.rows) - 1) * group.length
    return saved > 0 and saved * WORTH >= sum(len(sequences[i]) for i in group.rows)


def shareable(network: Any) -> bool:
    """Whether keys and values of a beginning are all that this model keeps of it.

    Not where layers see a window of what is before them, or hold a state in the place of keys and values, nor
    where positions cannot be given: such models read every sequence whole.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    asked = inspect.signature(network.base_model.forward).parameters
    layers = DynamicCache(config=network.config).layers
    plain = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
    return plain and {"position_ids", "past_key_values", "attention_mask"} <= asked.keys()


def last_states_of_groups(
    network: Any, sequences: Sequence[Sequence[int]], groups: Sequence[Shared], batch_tokens: int
) -> Iterator[tuple[list[int], Any]]:
    """Batches of indices with the state of each row's last token; `groups` share a beginning each.

    The beginnings of one batch are in memory together, as keys and values, and the rows that go on from them
    make batches among themselves.
    """
    import torch

    for some in token_batches([group.length for group in groups], batch_tokens):
        beginnings = [groups[k] for k in some]
        starts = [sequences[group.rows[0]][: group.length] for group in beginnings]
        with torch.inference_mode():
            ids = right_padded(starts, network.device)
            kept = network.base_model(input_ids=ids, use_cache=True).past_key_values
        rests = [
            Rest(i, place, group.length, sequences[i][group.length :])
            for place, group in enumerate(beginnings)
            for i in group.rows
        ]
        batches = token_batches([len(rest.tokens) for rest in rests], batch_tokens, beside=ids.shape[1])
        calls = [partial(continued, network, kept, [rests[k] for k in batch]) for batch in batches]
        yield from beside_each_other(calls, at_once=independent(network))


def continued(network: Any, kept: Any, batch: Sequence[Rest]) -> tuple[list[int], Any]:
    """The rows of `batch` with the states of their last tokens, behind the beginnings in `kept`."""
    import torch

    with torch.inference_mode():
        return [rest.row for rest in batch], states_behind(network, kept, batch)


def states_behind(network: Any, kept: Any, batch: Sequence[Rest]) -> Any:
    """The state of the last token of each rest."""
    import torch
    from transformers import DynamicCache

    device = network.device
    index = torch.tensor([rest.place for rest in batch], device=device)
    before = DynamicCache(config=network.config)
    for number, layer in enumerate(kept.layers):
        before.update(layer.keys[index], layer.values[index], number)
    ids = right_padded([rest.tokens for rest in batch], device)
    start = torch.tensor([rest.start for rest in batch], device=device)[:, None]
    size = torch.tensor([len(rest.tokens) for rest in batch], device=device)
    column = torch.arange(ids.shape[1], device=device)
    seen = torch.arange(before.get_seq_length(), device=device) < start
    own = column <= column[:, None]
    visible = torch.cat([seen[:, None].expand(-1, len(own), -1), own.expand(len(seen), -1, -1)], dim=2)
    # As numbers that are added: from True and False every layer would make them anew.
    mask = torch.zeros(visible.shape, dtype=network.dtype, device=device)
    states = network.base_model(
        input_ids=ids,
        attention_mask=mask.masked_fill_(~visible, -torch.inf)[:, None],
        position_ids=start + column,
        past_key_values=before,
        use_cache=True,
    ).last_hidden_state
    return states[torch.arange(len(batch), device=device), size - 1]
