"""Sample n answers per prompt with vLLM: our sampler against bare `LLM.generate` on the very same requests.

Both sides drive the same running engine with the same sampling parameters, so what differs is what our code
adds: queueing rows one by one, yielding each as it finishes, finding its end and decoding it. The cache of
prompts is emptied before every run. Texts of vLLM differ between runs where batches differ, so the greedy
answers are compared, which must be equal in float32, also where another type of numbers is timed.

    python -m benchmarks.generation_vllm [--rows N] [--repeats N] [--model FOLDER] [--dtype float32|bfloat16]
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from benchmarks.generation_transformers import equality, prompts_of, require_all, text_of
from benchmarks.measure import Result, flags, medians, tell
from pipeline.chat import Chat
from pipeline.engines.tiny_models import tiny_random
from pipeline.engines.vllm_engine import sampling, vllm_sampler
from pipeline.engines.vllm_process import Engine, load_vllm
from pipeline.engines.vllm_settings import check_installed, engine_arguments, set_environment
from pipeline.execution import execution
from pipeline.models import Completion, SampleRequest

ROWS = 16
ANSWERS = 4
NEW_TOKENS = 64
POSITIONS = 2048


def main() -> None:
    """Start one engine, compare greedy answers, time, tell."""
    parser = flags(__doc__ or "", rows=ROWS)
    parser.add_argument("--model", type=Path, help="a model folder; a tiny random model if not given")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    words = parser.parse_args()
    check_installed()
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model = words.model or Path(folder) / "tiny"
        if not words.model:
            tiny_random(model, "smollm2", seed=0, head_dim=32)
        result = measured(model, words.rows, words.repeats, words.dtype, tiny=not words.model)
    tell(result)


def started(model: Path, dtype: str) -> Any:
    """vLLM as a script of its own would have it, with the arguments that our engine gives."""
    settings = execution()
    set_environment(settings)
    load_vllm()
    from vllm import LLM  # noqa: PLC0415 - reads the environment when it is imported

    positions = min(POSITIONS, json.loads((model / "config.json").read_text())["max_position_embeddings"])
    return LLM(**engine_arguments(model, dtype, settings, positions))


class Sides:
    """Ours and bare vLLM, on one running engine, which ends with this object."""

    def __init__(self, model: Path, chat: Chat, dtype: str) -> None:
        self.peer, self.chat = started(model, dtype), chat
        engine = self.peer.llm_engine
        Engine.start = lambda self, positions: engine  # ours takes the engine that runs already
        self.sampler = vllm_sampler(model, dtype=dtype)

    def ours(self, asked: Sequence[SampleRequest]) -> dict[int, Completion]:
        """Every answer, by our sampler."""
        self.peer.llm_engine.reset_prefix_cache()
        return dict(self.sampler(asked, max_new_tokens=NEW_TOKENS))

    def bare(self, asked: Sequence[SampleRequest]) -> list[list[int]]:
        """The new tokens of every answer, by bare vLLM."""
        self.peer.llm_engine.reset_prefix_cache()
        parameters = [sampling(request, self.chat.stop_ids, NEW_TOKENS) for request in asked]
        tokens = [{"prompt_token_ids": list(request.prompt_ids)} for request in asked]
        found = self.peer.generate(tokens, parameters, use_tqdm=False)
        return [list(done.outputs[0].token_ids) for done in found]

    def same_greedy(self, prompts: Sequence[tuple[int, ...]]) -> int:
        """Prompts to which both give the same greedy answer."""
        greedy = [SampleRequest(prompt, 0.0, 0) for prompt in prompts]
        theirs = [text_of(self.chat, ids) for ids in self.bare(greedy)]
        mine = self.ours(greedy)
        return sum(mine[i].text == text for i, text in enumerate(theirs))


def measured(model: Path, rows: int, repeats: int, dtype: str, *, tiny: bool) -> Result:
    """The result on one model."""
    chat = Chat.load(model)
    prompts = sorted(prompts_of(chat, rows))
    sides = Sides(model, chat, "float32")
    require_all(sides.same_greedy(prompts), rows)
    counted: dict[str, int] = {}
    same = rows
    if dtype != "float32":
        del sides  # its engine gives way to the next
        sides = Sides(model, chat, dtype)
        same = sides.same_greedy(prompts)
    asked = [
        SampleRequest(prompt, 1.0, i * ANSWERS + k)
        for i, prompt in enumerate(prompts)
        for k in range(ANSWERS)
    ]

    def ours() -> None:
        counted["ours"] = sum(done.tokens for done in sides.ours(asked).values())

    def bare() -> None:
        counted["peer"] = sum(map(len, sides.bare(asked)))

    fast, slow = medians(repeats, ours, bare)
    own, other = counted["ours"] / fast, counted["peer"] / slow
    return Result(
        name="generation_vllm",
        ours=own,
        peer=other,
        ratio=own / other,
        unit="tokens/s",
        peer_is="vLLM's LLM.generate, the same engine and parameters",
        input={"rows": rows, "bytes": sum(map(len, prompts)) * 4},
        equality=equality(same, rows, dtype),
        runs=repeats,
        notes={
            "answers": ANSWERS,
            "max_new_tokens": NEW_TOKENS,
            "model": "tiny random" if tiny else json.loads((model / "config.json").read_text())["model_type"],
        },
    )


if __name__ == "__main__":
    main()
