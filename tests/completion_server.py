"""A server of OpenAI's APIs on the loopback interface: completions are the project's own sampler behind real
HTTP, chats are answered by the test.

What goes wrong is up to the test, which is asked about every try:

    with completion_server(fake_sampler(folder), name=folder.name) as server:
        server.fault = lambda place, tries: Status(500) if tries == 0 else None
        ...
"""

import json
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.models import Sampler, SampleRequest


@dataclass(frozen=True)
class Status:
    """Answer with an error status."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "not now"
    body: dict[str, Any] | None = None
    """null: an error with the message."""


@dataclass(frozen=True)
class Garbled:
    """Answer with these bytes."""

    body: bytes


@dataclass(frozen=True)
class Changed:
    """Answer, but let this function change it before."""

    change: Callable[[dict[str, Any]], None]


class Dropped:
    """Send half of the answer and close the connection."""


class Hanging:
    """Never answer; end when the client goes away."""


Fault = Status | Garbled | Changed | Dropped | Hanging


@dataclass
class CompletionServer:
    """What a test sees and sets."""

    url: str
    sampler: Sampler
    models: list[dict[str, Any]]
    fault: Callable[[int, int], Fault | None] = lambda place, tries: None
    """What happens to a try: the place of its row (by first arrival) and how often it was tried before."""
    reply: Callable[[list[dict[str, str]]], str] = lambda messages: "Verdict: tie"
    """The text of the answer to a chat; a word counts as a token."""
    gather: int = 0
    """The first requests wait until so many are open at once."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Of every try, in the order of arrival."""
    keys: list[str] = field(default_factory=list)
    """The Authorization header of every request."""
    most_open: int = 0
    abandoned: int = 0
    """Hanging requests that the client left."""
    open: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def arrive(self, body: dict[str, Any]) -> tuple[int, int]:
        """Count a request in; its row's place and earlier tries."""
        with self.changed:
            tries = Counter(map(repr, self.bodies))
            self.bodies.append(body)
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            if self.most_open >= self.gather:
                self.gather = 0
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: not self.gather, timeout=30)
            rows = list(dict.fromkeys([*tries, repr(body)]))
            return rows.index(repr(body)), tries[repr(body)]

    def leave(self, *, abandoned: bool = False) -> None:
        """Count a request out."""
        with self.changed:
            self.open -= 1
            self.abandoned += abandoned
            self.changed.notify_all()


@contextmanager
def completion_server(sampler: Sampler, name: str) -> Iterator[CompletionServer]:
    """Serve until the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    url = f"http://127.0.0.1:{http.server_port}/v1"
    http.state = CompletionServer(url, sampler, [{"id": name, "object": "model", "max_model_len": 4096}])
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, name="serving")
    thread.start()
    try:
        yield http.state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.state: CompletionServer = self.server.state
        self.state.keys.append(self.headers.get("Authorization", ""))
        found = self.path == "/v1/models"
        self.send(200 if found else 404, {"object": "list", "data": self.state.models})

    def do_POST(self) -> None:
        self.state = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.keys.append(self.headers.get("Authorization", ""))
        assert self.path in ("/v1/completions", "/v1/chat/completions")
        fault = self.state.fault(*self.state.arrive(body))
        if isinstance(fault, Hanging):
            self.await_leaving()
            return
        answer = self.chat_answer(body) if "messages" in body else self.answer(body)
        # Counted out before the answer is sent: the client may send its next request at once.
        self.state.leave()
        match fault:
            case None:
                self.send(200, answer)
            case Status():
                self.send(fault.code, fault.body or {"error": {"message": fault.message}}, fault.headers)
            case Garbled():
                self.send(200, fault.body)
            case Changed():
                fault.change(answer)
                self.send(200, answer)
            case Dropped():
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": [')
                self.close_connection = True

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of the sampler to the one row of a request."""
        row = SampleRequest(tuple(body["prompt"]), body["temperature"], body["seed"])
        ((_, done),) = self.state.sampler([row], max_new_tokens=body["max_tokens"])
        return {
            "id": "cmpl",
            "object": "text_completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "text": done.text, "finish_reason": done.finish_reason}],
            "usage": {
                "prompt_tokens": len(body["prompt"]),
                "completion_tokens": done.tokens,
                "total_tokens": len(body["prompt"]) + done.tokens,
            },
        }

    def chat_answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one list of messages."""
        text = self.state.reply(body["messages"])
        read, made = sum(len(turn["content"].split()) for turn in body["messages"]), len(text.split())
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {
            "id": "chatcmpl",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made},
        }

    def await_leaving(self) -> None:
        """Until the client closes its end."""
        while not (select.select([self.connection], [], [], 0.05)[0] and self.at_end()):
            pass
        self.close_connection = True
        self.state.leave(abandoned=True)

    def at_end(self) -> bool:
        return self.connection.recv(1, socket.MSG_PEEK) == b""

    def send(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {})
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
