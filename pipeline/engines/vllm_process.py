"""A vLLM engine over one model: rows in, outputs as they finish.

The engine starts at the first rows, lives as long as the object that holds it, and takes its processes
with it when that is dropped, closed, or the program ends, in whatever way.
"""

import gc
import os
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import active_children, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.engines.inference import architectures_of, check_lengths
from pipeline.engines.vllm_settings import (
    check_arguments,
    check_installed,
    engine_arguments,
    set_environment,
)
from pipeline.errors import UserError
from pipeline.execution import EXEC_FILE, execution

QUEUED = 4096
"""Rows that the engine knows of at once: far more than it runs at once, so it never waits for the next,
and few enough that half a million prompts are not held three times."""

LEAST_POSITIONS = 256
SHUTDOWN_SECONDS = 60

Ids = Sequence[int]


class Engine:
    """vLLM on the model in a folder. `kind` is CausalLM or SequenceClassification, `fixed` more arguments."""

    def __init__(self, model: Path, dtype: str, kind: str, **fixed: Any) -> None:
        """UserError where vLLM is not installed, or told what it must not be."""
        check_installed()
        self.settings = execution()
        check_arguments(self.settings.vllm)
        self.model, self.dtype, self.kind, self.fixed = model, dtype, kind, fixed
        self.positions = 0
        self.engine: Any = None
        self.stop: Callable[[], object] = lambda: None

    def outputs(
        self, rows: Sequence[Ids], parameters: Callable[[int], Any], *, new_tokens: int, what: str
    ) -> Iterator[tuple[int, Any]]:
        """vLLM's output for each row, with its index, in the order in which they finish.

        `parameters` gives a row's SamplingParams or PoolingParams. Rows that begin alike are given one
        after the other, so that the cache has what they share. UserError where a row (`what`) and its
        new tokens do not fit the model.
        """
        engine = self.ready(max(map(len, rows)) + new_tokens, what)
        queue = iter(sorted(range(len(rows)), key=lambda i: array("I", rows[i])))
        running: set[str] = set()
        try:
            while True:
                for i in islice(queue, QUEUED - len(running)):
                    self.add(engine, i, rows[i], parameters(i))
                    running.add(str(i))
                if not running:
                    return
                for output in self.step(engine):
                    running.discard(output.request_id)
                    yield int(output.request_id), output
        finally:
            if running and self.engine is not None:
                engine.abort_request(sorted(running))

    def add(self, engine: Any, i: int, ids: Ids, parameters: Any) -> None:
        """Queue a row under the name of its index."""
        from vllm.inputs import tokens_input

        engine.add_request(str(i), tokens_input(list(ids)), parameters)

    def step(self, engine: Any) -> list[Any]:
        """Rows that have finished since; UserError where the engine has died."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return [output for output in engine.step() if output.finished]
        except (EngineDeadError, RuntimeError) as error:
            self.close()
            raise UserError(
                f"{self.model}: vLLM ended while it computed: {first_line(error)}; mend that (vllm in "
                f"{EXEC_FILE}, another model) and run again: rows that were stored are kept"
            ) from error

    def ready(self, positions: int, what: str) -> Any:
        """The running engine, with room for sequences of `positions` tokens."""
        if positions > self.positions:
            self.close()
            room = self.room(positions, what)
            others = set(active_children())
            self.engine = self.start(room)
            self.positions = room
            processes = set(active_children()) - others
            self.stop = weakref.finalize(self, shut_down, self.engine, processes)
        return self.engine

    def room(self, positions: int, what: str) -> int:
        """Positions to start with: a power of two, so that longer rows seldom need a new start.

        UserError where the model is of another kind, or has fewer positions than are needed.
        """
        from transformers import AutoConfig

        found = architectures_of(self.model)
        if not any(name.endswith(f"For{self.kind}") for name in found):
            raise UserError(
                f"{self.model}: expected a ...For{self.kind} checkpoint, found {', '.join(found) or 'none'}; "
                "give the folder of the right kind of model"
            )
        config = AutoConfig.from_pretrained(self.model)
        if self.kind == "SequenceClassification" and config.num_labels != 1:
            raise UserError(
                f"{self.model}: expected a reward model with one output (num_labels 1), found "
                f"{config.num_labels}; set the reward model to one that the reward stage made"
            )
        check_lengths(self.model, config, positions, what)
        return min(max(LEAST_POSITIONS, 1 << (positions - 1).bit_length()), config.max_position_embeddings)

    def start(self, positions: int) -> Any:
        """A new engine; UserError where vLLM cannot be imported or does not start."""
        set_environment(self.settings)
        try:
            load_vllm()
            from vllm import EngineArgs, LLMEngine
            from vllm.usage.usage_lib import UsageContext

            arguments = engine_arguments(self.model, self.dtype, self.settings, positions)
            told = EngineArgs(**arguments | self.fixed)
            return LLMEngine.from_engine_args(told, usage_context=UsageContext.LLM_CLASS)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.model}: expected vLLM to start, found: {first_line(error)}; correct "
                f"vllm in {EXEC_FILE}, install vLLM again, or choose the transformers engine"
            ) from error

    def close(self) -> None:
        """End the engine and its processes; the next rows start another."""
        self.stop()
        self.positions, self.engine, self.stop = 0, None, lambda: None


def first_line(error: Exception) -> str:
    """What an error says first; its cause, where that is in another process, is on standard error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def load_vllm() -> None:
    """Import what is used of vLLM, on a stack of its own.

    Something in it keeps the stack that imported it, and with it every object there: the engine would not
    end before the program. What the import raises is raised here.
    """
    failed: list[Exception] = []

    def load() -> None:
        try:
            import vllm
            import vllm.v1.engine.llm_engine

            # Each of these is loaded when it is asked for.
            assert vllm.EngineArgs and vllm.SamplingParams and vllm.PoolingParams
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            failed.append(error)

    thread = Thread(target=load, name="import vllm")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def end_with_parent() -> None:
    """End this process, a part of an engine, as soon as the one that started it is gone, killed included.

    vLLM calls it in each of its processes (an entry point in pyproject.toml). By itself an engine whose
    program is killed runs on, and keeps the memory of its GPU.
    """
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, name="end with parent", daemon=True).start()


def shut_down(engine: Any, processes: Iterable[BaseProcess]) -> None:
    """End an engine and its processes, or, where it runs in this one, what it holds of it."""
    from vllm import envs
    from vllm.distributed import cleanup_dist_env_and_memory

    engine.engine_core.shutdown()
    for process in processes:
        process.join(SHUTDOWN_SECONDS)  # vLLM kills those that are slow to end, and leaves them as zombies
    if not envs.VLLM_ENABLE_V1_MULTIPROCESSING:
        cleanup_dist_env_and_memory()
    gc.collect()
