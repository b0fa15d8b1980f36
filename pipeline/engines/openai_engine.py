"""Sampling from a server that speaks OpenAI's completions API: vLLM serve, SGLang, llama.cpp.

Each row is a request of its own, with its own seed. So many are open at once, and a row is given as soon as
its answer is there. What is asked and what is checked is in `openai_server`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pipeline.chat import Chat
from pipeline.engines.openai_server import Server, connected, served_name
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.models import Completion, Sampler, SampleRequest

T = TypeVar("T")
Row = tuple[int, Completion]
Calls = Iterator[Coroutine[None, None, T]]


def openai_sampler(model: Path) -> Sampler:
    """The sampler of the server at `exec.openai_url`, which must serve the model folder.

    Temperature 0 is greedy. Rows come as they finish. Where a request fails for good, no other is begun, the
    open ones are awaited, and every row that came is given before the UserError. A consumer that stops early
    closes the open requests.
    """

    def sample(requests: Sequence[SampleRequest], *, max_new_tokens: int) -> Iterator[Row]:
        if not requests:
            return
        settings, chat = execution(), Chat.load(model)
        longest = max(len(request.prompt_ids) for request in requests) + max_new_tokens
        client = connected(settings.openai_url)

        def calls(runner: asyncio.Runner) -> Calls[Row]:
            name = runner.run(served_name(client, model, settings.openai_model, longest))
            server = Server(client, model, name, chat, max_new_tokens)
            return (server.row(i, request) for i, request in enumerate(requests))

        yield from through(client, calls, len(requests), settings.openai_concurrency)

    return sample


def through(client: Any, calls: Callable[[asyncio.Runner], Calls[T]], count: int, limit: int) -> Iterator[T]:
    """What `count` calls at a client return, at most `limit` at once, as they finish; closes the client.

    A UserError says how many came before.
    """
    given = 0
    with asyncio.Runner() as runner:
        try:
            for row in as_finished(runner, calls(runner), limit):
                given += 1
                yield row
        except UserError as error:
            came = f"; {given} of {count} answers came before, only the others are asked for again"
            raise UserError(f"{error}{came if given else ''}") from None
        finally:
            runner.run(client.close())


def as_finished(runner: asyncio.Runner, calls: Calls[T], limit: int) -> Iterator[T]:
    """What the calls return, in the order in which they end; at most `limit` run at once.

    After the first that fails no other is begun; its error is raised when all that ran have ended. The event
    loop runs in the caller's thread, and only while a row is waited for: there is nothing else to stop.
    """
    running: set[asyncio.Task[T]] = set()
    failure: BaseException | None = None

    async def step() -> set[asyncio.Task[T]]:
        if failure is None:
            running.update(asyncio.create_task(call) for call in islice(calls, limit - len(running)))
        if not running:
            return set()
        ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        return ended

    async def stop() -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    try:
        while ended := runner.run(step()):
            running -= ended
            errors = [error for task in ended if (error := task.exception())]
            failure = failure or next(iter(errors), None)
            yield from [task.result() for task in ended if not task.exception()]
        if failure:
            raise failure
    finally:
        runner.run(stop())
