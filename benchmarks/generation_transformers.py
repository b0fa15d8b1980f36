"""Sample the paper's n answers per prompt with transformers: our sampler against `generate`, one by one.

The peer is the plain loop: each prompt by itself, and one call per temperature with `num_return_sequences`
for its answers. Ours fills every batch with rows of any prompt and temperature, and refills places that
become free. Prompts differ in length as real ones do, and answers end where the model ends its turn. Texts
cannot be compared, since each side draws its own random numbers; the greedy answers must be equal in float32,
also where another type of numbers is timed.

    python -m benchmarks.generation_transformers [--rows N] [--repeats N] [--model FOLDER] [--dtype DTYPE]
"""

import json
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from benchmarks.measure import Result, flags, medians, tell
from pipeline.chat import Chat
from pipeline.engines.sampling import transformers_sampler
from pipeline.engines.tiny_models import tiny_random
from pipeline.models import Sampler, SampleRequest

ROWS = 16
TEMPERATURES = (1.0, 0.7)
"""The paper's: half of the n answers at each."""
ANSWERS = 4
"""For each temperature."""
NEW_TOKENS = 64
LONGEST = 9
"""Questions in the longest prompt."""
SAMPLES = Path("data/samples/dibt_10k/data/train-00000-of-00001.parquet")


def prompts_of(chat: Chat, rows: int) -> list[tuple[int, ...]]:
    """Rendered prompts of one to LONGEST questions of the sample data, some 40 to 200 tokens."""
    questions = cycle(pl.read_parquet(SAMPLES)["prompt"].to_list())
    texts = ["\n".join(islice(questions, 1 + i * 4 % LONGEST)) for i in range(rows)]
    return [tuple(chat.prompt_ids([{"role": "user", "content": text}])) for text in texts]


class Peer:
    """`generate`, one prompt at a time."""

    def __init__(self, model: Path, chat: Chat, dtype: str) -> None:
        network = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        self.network: Any = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.stop = sorted(chat.stop_ids)

    def __call__(self, prompts: Sequence[Sequence[int]], **settings: Any) -> list[list[int]]:
        """The new tokens of every answer, its stop token included."""
        found = []
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=self.network.device)
            done = self.network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                eos_token_id=self.stop,
                pad_token_id=self.stop[0],
                **settings,
            )
            found += [self.until_stop(row[len(prompt) :].tolist()) for row in done]
        return found

    def until_stop(self, ids: list[int]) -> list[int]:
        """Without the padding behind the stop token."""
        end = next((i + 1 for i, token in enumerate(ids) if token in self.stop), len(ids))
        return ids[:end]


def main() -> None:
    """Load the model twice, compare greedy answers, time, tell."""
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument("--model", type=Path, help="a model folder; a tiny random model if not given")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    words = parser.parse_args()
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model = words.model or Path(folder) / "tiny"
        if not words.model:
            tiny_random(model, "smollm2", seed=0)
        result = measured(model, words.rows, words.repeats, words.dtype, tiny=not words.model)
    tell(result)


def measured(model: Path, rows: int, repeats: int, dtype: str, *, tiny: bool) -> Result:
    """The result on one model."""
    chat = Chat.load(model)
    prompts = prompts_of(chat, rows)
    sampler, peer = sides(model, chat, "float32")
    require_all(same_greedy(sampler, peer, chat, prompts), rows)
    counted: dict[str, int] = {}
    same = rows
    if dtype != "float32":
        sampler, peer = sides(model, chat, dtype)
        same = same_greedy(sampler, peer, chat, prompts)

    def ours() -> None:
        asked = [
            SampleRequest(prompt, temperature, i * ANSWERS + k)
            for i, prompt in enumerate(prompts)
            for temperature in TEMPERATURES
            for k in range(ANSWERS)
        ]
        counted["ours"] = sum(done.tokens for _, done in sampler(asked, max_new_tokens=NEW_TOKENS))

    def one_by_one() -> None:
        whole = {"do_sample": True, "top_k": 0, "top_p": 1.0, "num_return_sequences": ANSWERS}
        counted["peer"] = sum(
            len(ids)
            for prompt in prompts
            for temperature in TEMPERATURES
            for ids in peer([prompt], temperature=temperature, **whole)
        )

    fast, slow = medians(repeats, ours, one_by_one)
    own, other = counted["ours"] / fast, counted["peer"] / slow
    return Result(
        name="generation_transformers",
        ours=own,
        peer=other,
        ratio=own / other,
        unit="tokens/s",
        peer_is="transformers generate, one prompt at a time",
        input={"rows": rows, "bytes": sum(map(len, prompts)) * 4},
        equality=equality(same, rows, dtype),
        runs=repeats,
        notes={
            "answers": ANSWERS * len(TEMPERATURES),
            "prompt_tokens": f"{min(map(len, prompts))} to {max(map(len, prompts))}",
            "max_new_tokens": NEW_TOKENS,
            "model": "tiny random" if tiny else json.loads((model / "config.json").read_text())["model_type"],
        },
    )


def sides(model: Path, chat: Chat, dtype: str) -> tuple[Sampler, Peer]:
    """Ours and the peer, each with a copy of the model."""
    return transformers_sampler(model, dtype=dtype, batch=64, threads=0), Peer(model, chat, dtype)


def same_greedy(sampler: Sampler, peer: Peer, chat: Chat, prompts: Sequence[tuple[int, ...]]) -> int:
    """Prompts to which both give the same greedy answer."""
    greedy = [SampleRequest(prompt, 0.0, 0) for prompt in prompts]
    mine = {i: (done.tokens, done.text) for i, done in sampler(greedy, max_new_tokens=NEW_TOKENS)}
    theirs = [(len(ids), text_of(chat, ids)) for ids in peer(prompts, do_sample=False)]
    return sum(mine[i] == row for i, row in enumerate(theirs))


def require_all(same: int, rows: int) -> None:
    """AssertionError unless all greedy answers are the same."""
    assert same == rows, f"{rows - same} of {rows} greedy answers differ in float32"


def equality(same: int, rows: int, dtype: str) -> str:
    """What was found equal: all in float32, and how many in the type that is timed."""
    timed = "" if dtype == "float32" else f"; {same} of them in {dtype}, which is timed"
    return f"greedy answers: all {rows} the same in float32{timed}"


def text_of(chat: Chat, ids: list[int]) -> str:
    """The answer's text, without its stop token."""
    return chat.decode(ids[:-1] if ids and ids[-1] in chat.stop_ids else ids)


if __name__ == "__main__":
    main()
