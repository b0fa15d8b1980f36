"""Is the score of a judge's model a function of weights, template and text alone?

The built-in conversations are scored one at a time, and then in every way that must not matter: together, in
the other order, with padding behind and before them. Of a reward model the head of transformers is asked as
well, because that is what others who load the model will read: it takes the last token that is not the pad
token, so a model whose pad token also ends answers gives them another number than its training had in mind.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline import ab
from pipeline.chat import Chat
from pipeline.engines.inference import architectures_of, load_causal, load_classifier, output_layer
from pipeline.engines.scoring import label_probabilities, reward_scorer, rows_of
from pipeline.errors import UserError
from pipeline.judge_conversations import CONVERSATIONS
from pipeline.rendering import scored_sequences

Format = Literal["float32", "bfloat16"]
Values = list[float]
Kind = Literal["reward model", "preference model"]

WINDOW = 384
"""Tokens of a conversation at most: the longer ones are cut as the judges cut them."""
ALONE, TOGETHER, SOME = 1, 1_000_000, 1_500
"""Tokens of a batch: one row each, all rows in one, and some."""
OWN_HEAD = "as transformers' own head reads it"


@dataclass(frozen=True, kw_only=True)
class Examination:
    """How far the scores of a model move in ways that must not matter."""

    kind: Kind
    dtype: Format
    values: Values
    """The score of each conversation alone: a reward, or P(the first answer is better)."""
    moved: dict[str, float]
    """By way of scoring, the largest |difference| to the score alone."""
    pads_with_end: str | None
    """The pad token of the model's config, where it is also the token that ends answers."""


@dataclass(frozen=True)
class Judge:
    """A model that is loaded, what it is asked, and how its scores follow from hidden states."""

    folder: Path
    kind: Kind
    network: Any
    sequences: list[list[int]]
    labels: tuple[int, int] | None
    end: int
    """The token that ends an answer."""

    @property
    def pad(self) -> int | None:
        """The pad token that the model's config names."""
        return self.network.config.get_text_config().pad_token_id

    def scores(self, sequences: Sequence[Sequence[int]], batch_tokens: int) -> Values:
        """As the stages score them."""
        settings: dict[str, Any] = {"dtype": "", "batch_tokens": batch_tokens, "threads": 0}
        loaded: Callable[..., Any] = lambda *_: self.network  # noqa: E731 - a function of one word
        if self.labels is None:
            found = reward_scorer(self.folder, load=loaded, **settings)(sequences)
        else:
            found = label_probabilities(self.folder, sequences, self.labels, load=loaded, **settings)
        return [value for _, value in sorted(found)]

    def of_states(self, states: Any) -> Values:
        """The scores that follow from the hidden states of last tokens."""
        if self.labels is None:
            return rows_of(self.network.score, [0])(states)[:, 0].tolist()
        logits = rows_of(output_layer(self.network, self.folder), list(self.labels))(states)
        return (logits[:, 0] - logits[:, 1]).sigmoid().tolist()


def examine(folder: Path, dtype: Format, threads: int = 0) -> Examination:
    """The examination of the model in `folder`, computed in `dtype`.

    UserError where it is no model, neither a reward model of one output nor a language model, lacks weights
    or a chat template, gives what is not a number, or cannot be asked for A or B.
    """
    judge = loaded_judge(folder, dtype, threads)
    alone = judge.scores(judge.sequences, ALONE)
    found = {way: largest(alone, values) for way, values in other_ways(judge)}
    clash = judge.kind == "reward model" and judge.pad == judge.end
    return Examination(
        kind=judge.kind,
        dtype=dtype,
        values=alone,
        moved=found,
        pads_with_end=Chat.load(folder).tokenizer.convert_ids_to_tokens(judge.end) if clash else None,
    )


def loaded_judge(folder: Path, dtype: Format, threads: int) -> Judge:
    """The judge in `folder`, of the kind that its config names."""
    names = architectures_of(folder)
    classifies = any(name.endswith("ForSequenceClassification") for name in names)
    if not classifies and not any(name.endswith("ForCausalLM") for name in names):
        raise UserError(
            f"{folder}: expected a reward model (...ForSequenceClassification) or a preference model "
            f"(...ForCausalLM), found {', '.join(names) or 'neither'}; give the folder of a judge"
        )
    network = (load_classifier if classifies else load_causal)(folder, dtype, threads)
    chat = Chat.load(folder)
    window = min(WINDOW, network.config.max_position_embeddings)
    if classifies:
        asked = scored_sequences(
            chat, [(prompt, answer) for prompt, answer, _ in CONVERSATIONS], max_length=window
        )
        return Judge(folder, "reward model", network, [list(ids) for ids in asked], None, chat.end_of_turn)
    questions = [ab.question_ids(chat, *question, max_length=window) for question in CONVERSATIONS]
    return Judge(folder, "preference model", network, questions, ab.labels(chat), chat.end_of_turn)


def other_ways(judge: Judge) -> Iterator[tuple[str, Values]]:
    """Each other way of scoring the judge's sequences, with the scores in their order."""
    yield "in one batch", judge.scores(judge.sequences, TOGETHER)
    yield "in reversed order", judge.scores(judge.sequences[::-1], SOME)[::-1]
    for side in ("right", "left"):
        states, own = padded_states(judge, side)
        yield f"padded {side}", judge.of_states(states)
        if own is not None:
            yield f"{OWN_HEAD}, padded {side}", own
    if judge.kind == "reward model" and judge.pad is None:
        yield OWN_HEAD, own_head(judge)


def padded(judge: Judge, side: str, pad: int) -> dict[str, Any]:
    """All sequences as one batch with padding on a `side`, as transformers' tokenizers and `generate` give
    it: with an attention mask, and positions that count real tokens alone."""
    import torch

    width = max(map(len, judge.sequences))
    ids, mask = [], []
    for sequence in judge.sequences:
        gap = width - len(sequence)
        fill, real = [pad] * gap, [1] * len(sequence)
        ids.append([*sequence, *fill] if side == "right" else [*fill, *sequence])
        mask.append([*real, *[0] * gap] if side == "right" else [*[0] * gap, *real])
    device = judge.network.device
    seen = torch.tensor(mask, device=device)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": seen, "position_ids": positions}


def padded_states(judge: Judge, side: str) -> tuple[Any, Values | None]:
    """The states of the true last tokens in one padded batch, and what a reward model's own head makes of it.

    A language model's head is left out, which would make logits of every token; so is that of a classifier
    without a pad token, which refuses batches.
    """
    import torch

    kept: list[Any] = []
    body, batch = judge.network.base_model, padded(judge, side, judge.pad or 0)
    whole = judge.kind == "reward model" and judge.pad is not None
    hook = body.register_forward_hook(lambda _module, _inputs, out: kept.append(out.last_hidden_state))
    try:
        with torch.inference_mode():
            found = (judge.network if whole else body)(**batch, use_cache=False)
    finally:
        hook.remove()
    ends = [len(ids) - 1 if side == "right" else -1 for ids in judge.sequences]
    states = torch.stack([kept[0][i, end] for i, end in enumerate(ends)])
    return states, found.logits[:, 0].float().tolist() if whole else None


def own_head(judge: Judge) -> Values:
    """The scores that a classifier's own head gives one at a time."""
    import torch

    rows = [torch.tensor([ids], device=judge.network.device) for ids in judge.sequences]
    with torch.inference_mode():
        return [judge.network(input_ids=ids, use_cache=False).logits[0, 0].item() for ids in rows]


def largest(alone: Values, values: Values) -> float:
    """The largest difference; infinite where a value is not a number."""
    gaps = [abs(one - other) for one, other in zip(alone, values, strict=True)]
    return max(gap if math.isfinite(gap) else math.inf for gap in gaps)
