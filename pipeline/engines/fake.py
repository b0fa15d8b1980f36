"""Fake engines: the answers and scores of models that do not exist, without torch.

They make the whole loop run in seconds, and test everything around a model. All values depend on
the inputs alone (and, for texts, on weights and tokenizer, so that every iteration's policy writes
something else). The rules are simple, so that a test can know which answer must win.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.ids import seed_for
from pipeline.models import Completion, Sampler, SampleRequest, Scorer, model_identity

WORDS = (
    *("apple", "bread", "candle", "door", "evening", "field", "garden", "house", "island", "journey"),
    *("kitchen", "letter", "morning", "night", "ocean", "paper", "quiet", "river", "stone", "table"),
    *("under", "village", "window", "yellow", "zebra", "and", "the", "a", "of", "is"),
)

LONGEST = 24
"""Words of the longest answer that ends by itself."""

RAMBLING = 8
"""One answer in so many goes on until the length limit (but not beyond RAMBLED words of text)."""

RAMBLED = 200


def fake_sampler(model: Path) -> Sampler:
    """Answers of a few words: a word is a token, the end of turn one more. Temperature 0 ignores the seed."""

    def sample(requests: Sequence[SampleRequest], *, max_new_tokens: int) -> Iterator[tuple[int, Completion]]:
        for i, request in enumerate(requests):
            yield i, answer(identity(model), request, max_new_tokens)

    return sample


def identity(model: Path) -> str:
    """What tells one model from another: what names its cells, too, so that one cell has one value."""
    return "-".join(model_identity(model).values())


def answer(model: str, request: SampleRequest, max_new_tokens: int) -> Completion:
    """The one answer to a request."""
    seed = request.seed if request.temperature else 0
    origin = (model, list(request.prompt_ids), request.temperature, seed)
    rambles = seed_for("rambles", *origin) % RAMBLING == 0
    count = max_new_tokens if rambles else 1 + seed_for("length", *origin) % LONGEST
    finished = count < max_new_tokens
    count = min(count, max_new_tokens)
    words = [WORDS[seed_for("word", k, *origin) % len(WORDS)] for k in range(min(count, RAMBLED))]
    return Completion(" ".join(words), count + finished, "stop" if finished else "length")


def fake_scorer(model: Path) -> Scorer:
    """Prefers varied answers: different tokens, less a hundredth of all. `model` changes nothing."""

    def score(sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, float]]:
        for i, ids in enumerate(sequences):
            yield i, len(set(ids)) - len(ids) / 100

    return score


def fake_label_probabilities(sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, float]]:
    """A probability in (0, 1) of the first label, from a hash of the question."""
    for i, ids in enumerate(sequences):
        yield i, (seed_for("label", list(ids)) % 9973 + 1) / 9975


def fake_log_probs(
    model: Path, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> Iterator[tuple[int, float]]:
    """As `scoring.log_probs`: each token costs between one and two nats, by model, prompt and response."""
    own = identity(model)
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        share = seed_for("nats", own, list(prompt), list(response)) / (1 << 31)
        yield i, -math.fsum([1 + share] * len(response))
