"""Sampling with transformers: the engine for CPUs and for small models.

Every row has its own random numbers, a function of its seed and of the place of the token, so its
text is a function of (weights, prompt, temperature, seed) and not of its neighbours or their
number. In float32 that holds up to the rounding of matrix products, which changes a draw once in
some million tokens. In bfloat16 the products of different batch shapes differ by about a
hundredth, so texts repeat only where the batches do; samples are therefore kept in the row store.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.chat import Chat
from pipeline.engines.decoding import Decoding
from pipeline.engines.inference import check_lengths, load_causal
from pipeline.errors import UserError
from pipeline.models import Completion, Sampler, SampleRequest


def transformers_sampler(model: Path, *, dtype: str, batch: int, threads: int) -> Sampler:
    """The sampler of a model folder, loaded at the first request; at most `batch` rows at once.

    Temperature 0 is greedy. A row ends at one of the chat's stop tokens ("stop") or after
    max_new_tokens ("length"); rows come as they finish. UserError where prompt and answer do not fit
    the model's positions.
    """

    @cache
    def loaded() -> tuple[Any, Chat]:
        network = load_causal(model, dtype, threads)
        full = ["full_attention"] * network.config.num_hidden_layers
        window = getattr(network.config, "sliding_window", None)
        if (getattr(network.config, "layer_types", None) or ([] if window else full)) != full:
            raise UserError(
                f"{model}: the transformers engine expects full attention in every layer, found sliding "
                "windows; use a model with full attention"
            )
        return network, Chat.load(model)

    def sample(requests: Sequence[SampleRequest], *, max_new_tokens: int) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        network, chat = loaded()
        longest = max(len(request.prompt_ids) for request in requests)
        check_lengths(model, network.config, longest + max_new_tokens, "prompt and answer")
        decoding = Decoding(network, chat.stop_ids, requests, max_new_tokens, min(batch, len(requests)))
        for i, ids in decoding.run():
            stopped = ids[-1] in chat.stop_ids
            text = chat.decode(ids[:-1] if stopped else ids)
            yield i, Completion(text, len(ids), "stop" if stopped else "length")

    return sample
