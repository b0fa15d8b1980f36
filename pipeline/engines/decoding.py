"""Token by token decoding of many rows that come and go ("continuous batching").

A finished row leaves its slot to the next prompt; equal prompts are read once; keys and values are
written in place. All rows end at the same column of the buffer, so a row that is shorter than its
neighbours starts further right, and what lies left of its start is masked.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from pipeline.errors import UserError
from pipeline.models import SampleRequest

PREFILL_TOKENS = 8192
"""Prompt tokens (padded) read in one pass."""

SPARE_COLUMNS = 128
"""Columns of the buffer beyond the longest row, so that it is shifted seldom."""

CDF_BLOCK = 256
"""Vocabulary entries that the first of the two steps of a draw sums up."""

#: The constants of SplitMix64 (Steele, Lea, Flood 2014): a hash of a counter with good bits everywhere.
GOLDEN, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = (1 << 64) - 1


class Decoding:
    """One run over the requests: the queue of those that wait, and the slots of those that are answered."""

    def __init__(
        self,
        network: Any,
        stop_ids: Iterable[int],
        requests: Sequence[SampleRequest],
        max_new_tokens: int,
        slots: int,
    ) -> None:
        self.network, self.requests, self.max_new_tokens = network, requests, max_new_tokens
        self.stop_ids = frozenset(stop_ids)
        # Longest first, so that later prompts fit left of the current column; equal prompts are neighbours.
        order = sorted(
            range(len(requests)), key=lambda i: (-len(requests[i].prompt_ids), requests[i].prompt_ids, i)
        )
        self.queue = deque(order)
        longest = len(requests[order[0]].prompt_ids)
        self.slots = slots
        self.buffer = SlotBuffer(longest, longest + max_new_tokens + SPARE_COLUMNS)
        #: Per slot: the request it answers (None: free), its prompt's first column, its newest token.
        self.owner: list[int | None] = [None] * slots
        self.start = [0] * slots
        self.token = [0] * slots
        self.answers: dict[int, list[int]] = {}

    def run(self) -> Iterator[tuple[int, list[int]]]:
        """Each request's index and token ids (the stop token included), as they finish."""
        import torch

        while self.queue or self.answers:
            with torch.inference_mode():
                finished = self.admit()
                if self.answers:
                    self.shrink()
                    finished += self.step()
            yield from finished

    def admit(self) -> list[tuple[int, list[int]]]:
        """Give free slots to waiting requests, once enough are free to read prompts efficiently."""
        free = [slot for slot, owner in enumerate(self.owner) if owner is None]
        if not self.queue or (self.answers and len(free) * 8 < self.slots):
            return []
        wanting: dict[tuple[int, ...], list[int]] = {}
        for slot in free[: len(self.queue)]:
            request = self.queue.popleft()
            self.owner[slot], self.answers[request] = request, []
            wanting.setdefault(self.requests[request].prompt_ids, []).append(slot)
        finished: list[tuple[int, list[int]]] = []
        prompts = iter(wanting)
        while group := list(islice(prompts, max(1, PREFILL_TOKENS // len(next(iter(wanting)))))):
            finished += self.prefill(group, [wanting[prompt] for prompt in group])
        return finished

    def prefill(self, prompts: list[tuple[int, ...]], slots: list[list[int]]) -> list[tuple[int, list[int]]]:
        """Read each prompt once, copy it to the slots that want it, and draw their first tokens."""
        import torch
        from transformers import DynamicCache

        device, width = self.network.device, max(map(len, prompts))
        ids = torch.tensor([[*[0] * (width - len(prompt)), *prompt] for prompt in prompts], device=device)
        pad = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
        place = torch.arange(width, device=device) - pad[:, None]
        read = DynamicCache()
        logits = self.network(
            input_ids=ids,
            attention_mask=(place >= 0).long(),
            position_ids=place.clamp(min=0),
            past_key_values=read,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        source = [i for i, group in enumerate(slots) for _ in group]
        target = [slot for group in slots for slot in group]
        self.buffer.put(read, source, target, self.slots)
        for i, slot in zip(source, target, strict=True):
            self.start[slot] = self.buffer.end - len(prompts[i])
        return self.draw(logits[source], target)

    def step(self) -> list[tuple[int, list[int]]]:
        """One more token for every slot."""
        import torch

        device = self.network.device
        self.make_room()
        start = torch.tensor(self.start, device=device)
        self.buffer.first = self.leftmost()
        column = torch.arange(self.buffer.first, self.buffer.end + 1, device=device)
        logits = self.network(
            input_ids=torch.tensor(self.token, device=device)[:, None],
            # The newest column is always visible: a free slot must not have an empty row of weights (NaN).
            attention_mask=(column >= start[:, None])[:, None, None, :],
            position_ids=(self.buffer.end - start)[:, None],
            past_key_values=self.buffer,
            use_cache=True,
        ).logits[:, -1]
        self.buffer.end += 1
        occupied = [slot for slot, owner in enumerate(self.owner) if owner is not None]
        return self.draw(logits if len(occupied) == self.slots else logits[occupied], occupied)

    def draw(self, logits: Any, slots: list[int]) -> list[tuple[int, list[int]]]:
        """Choose the next token of each slot; the requests that it ends give up theirs.

        UserError where the model's logits are no distribution: one not a number makes the maximum so.
        """
        if not logits.amax(-1).isfinite().all():
            raise UserError(
                f"{self.network.name_or_path}: expected finite logits from the model, found others; check "
                "its weights (make it again: dvc repro), or set its dtype in params.yaml to float32"
            )
        owners = [owner for slot in slots if (owner := self.owner[slot]) is not None]
        temperatures = [self.requests[owner].temperature for owner in owners]
        noise = [uniform(self.requests[owner].seed, len(self.answers[owner])) for owner in owners]
        finished = []
        for slot, owner, token in zip(slots, owners, choose(logits, temperatures, noise), strict=True):
            answer = self.answers[owner]
            answer.append(token)
            self.token[slot] = token
            if token in self.stop_ids or len(answer) == self.max_new_tokens:
                self.owner[slot] = None
                finished.append((owner, self.answers.pop(owner)))
        return finished

    def shrink(self) -> None:
        """Drop free slots that nobody waits for, when they are a quarter or more of all."""
        occupied = [slot for slot, owner in enumerate(self.owner) if owner is not None]
        if not self.queue and len(occupied) * 4 <= self.slots * 3:
            self.buffer.select(occupied)
            self.slots = len(occupied)
            self.owner = [self.owner[slot] for slot in occupied]
            self.start = [self.start[slot] for slot in occupied]
            self.token = [self.token[slot] for slot in occupied]

    def make_room(self) -> None:
        """Shift the buffer to the left when it is full, but not so far that the next prompt would not fit."""
        if self.buffer.end < self.buffer.columns:
            return
        longest_next = len(self.requests[self.queue[0]].prompt_ids) if self.queue else 0
        by = min(self.leftmost(), self.buffer.end - longest_next)
        self.buffer.shift(by)
        self.start = [max(start - by, 0) for start in self.start]

    def leftmost(self) -> int:
        """The first column that an occupied slot needs."""
        return min(start for start, owner in zip(self.start, self.owner, strict=True) if owner is not None)


class SlotBuffer:
    """Keys and values of all slots, per layer; the part of transformers' cache interface that a model calls.

    Columns from `first` up to `end` are in use; the next token is written at column `end`.
    """

    def __init__(self, end: int, columns: int) -> None:
        self.first, self.end, self.columns = 0, end, columns
        self.keys: list[Any] = []
        self.values: list[Any] = []

    def put(self, read: Any, source: list[int], target: list[int], slots: int) -> None:
        """Copy rows `source` of a prompt cache into the slots `target`, ending at the current column."""
        for i, layer in enumerate(read.layers):
            for store, states in ((self.keys, layer.keys), (self.values, layer.values)):
                if len(store) == i:
                    # Zeros, not empty: a masked NaN would still be a NaN.
                    store.append(states.new_zeros(slots, states.shape[1], self.columns, states.shape[3]))
                store[i][target, :, self.end - states.shape[2] : self.end] = states[source]

    def update(self, keys: Any, values: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write the newest column of a layer, and give all that are in use."""
        result = []
        for store, states in ((self.keys[layer_idx], keys), (self.values[layer_idx], values)):
            store[:, :, self.end : self.end + 1] = states
            result.append(store[:, :, self.first : self.end + 1])
        return result[0], result[1]

    def get_seq_length(self, _: int = 0) -> int:
        """Columns in use."""
        return self.end - self.first

    def select(self, slots: list[int]) -> None:
        """Keep only these slots."""
        self.keys = [layer[slots] for layer in self.keys]
        self.values = [layer[slots] for layer in self.values]

    def shift(self, by: int) -> None:
        """Move all columns to the left, over those that nobody needs."""
        for layer in (*self.keys, *self.values):
            layer[:, :, : self.end - by] = layer[:, :, by : self.end].clone()
        self.end -= by


def choose(logits: Any, temperatures: Sequence[float], noise: Sequence[float]) -> list[int]:
    """A token id per row of logits: the likeliest at temperature 0, else drawn by inverting the distribution.

    The draw takes the block of the vocabulary in which the cumulative probability passes the row's uniform
    number, then the token within it: a tenth of the work of a cumulative sum over all.
    """
    import torch

    greedy = logits.argmax(-1)
    if not any(temperatures):
        return greedy.tolist()
    device = logits.device
    temperature = torch.tensor([t or 1.0 for t in temperatures], device=device)
    weights = (logits.float() / temperature[:, None]).softmax(-1)
    weights = torch.nn.functional.pad(weights, (0, -weights.shape[1] % CDF_BLOCK))
    weights = weights.view(len(noise), -1, CDF_BLOCK)
    blocks = weights.sum(-1).double()
    point = torch.tensor(noise, dtype=torch.double, device=device)[:, None]
    block, rest = invert(blocks, point * blocks.sum(-1, keepdim=True))
    inside = weights[torch.arange(len(noise), device=device), block[:, 0]].double()
    within, _ = invert(inside, rest)
    drawn = (block * CDF_BLOCK + within)[:, 0]
    return torch.where(torch.tensor(temperatures, device=device) == 0, greedy, drawn).tolist()


def invert(weights: Any, point: Any) -> tuple[Any, Any]:
    """Per row, the entry where the running sum of weights passes `point`, and how far inside it that is."""
    import torch

    running = weights.cumsum(-1)
    total = running[:, -1:]
    # Below the total, so that rounding cannot choose an entry of weight zero behind the last positive one.
    point = torch.minimum(point, torch.nextafter(total, torch.zeros_like(total)))
    entry = torch.searchsorted(running, point, right=True)
    return entry, point - running.gather(1, entry) + weights.gather(1, entry)


def uniform(seed: int, place: int) -> float:
    """A number in [0, 1) that depends on the row's seed and the token's place alone."""
    state = (mixed(seed) + (place + 1) * GOLDEN) & WORD
    return (mixed(state) >> 11) / (1 << 53)


def mixed(state: int) -> int:
    """The output function of SplitMix64."""
    state = ((state ^ (state >> 30)) * MIX_1) & WORD
    state = ((state ^ (state >> 27)) * MIX_2) & WORD
    return state ^ (state >> 31)
