"""Real HTTP servers for tests: JSON in, JSON out, on a port of their own of this machine."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request: its path, its headers by lower-case name, its body."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """An answer; ``body`` is sent as JSON unless it is bytes.  A status of 0 closes the connection instead."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[Asked], Reply]


class LocalServer(ThreadingHTTPServer):
    """Answers every GET and POST by ``answer``, each connection on a thread of its own; remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer, self.asked, self.connections = answer, list[Asked](), 0
        self.sockets = set[socket.socket]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def kill(self) -> None:
        """Stop answering, in the midst of what it does: connections break."""
        self.shutdown()
        self.server_close()
        for connection in list(self.sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True
    server: LocalServer

    def setup(self) -> None:
        self.server.connections += 1
        self.server.sockets.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.server.sockets.discard(self.request)
        super().finish()

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _answer(self, body: Any) -> None:
        asked = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.server.asked.append(asked)
        reply = self.server.answer(asked)
        if reply.status == 0:
            self.close_connection = True
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        usual = {"content-type": "application/json", "content-length": str(len(data))}
        for name, value in {**usual, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(answer: Answer) -> Iterator[LocalServer]:
    """A server for as long as the block runs."""
    server = LocalServer(answer)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def completion(text: str | None, **more: Any) -> Reply:
    """What a chat server answers."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return Reply({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def plain_judge(asked: Asked) -> Reply:
    """A judge by length: it grades each criterion that the schema names from 0 to 10."""
    shown = json.dumps(asked.body["messages"][1]["content"])
    keys = asked.body["response_format"]["json_schema"]["schema"]["required"]
    return completion(json.dumps({"reason": f"{len(shown)} characters", **{k: len(shown) % 11 for k in keys[1:]}}))


def plain_scorer(asked: Asked) -> Reply:
    """A scoring service by length: the share of digits in the last answer; null without a reference."""
    scores: list[dict[str, Any]] = []
    for rollout in asked.body["rollouts"]:
        text = rollout["turns"][-1]["response"]
        value = sum(c.isdigit() for c in text) / max(1, len(text))
        shares = [0.0] * (len(rollout["turns"]) - 1) + [value]
        none = {"reward": None, "info": {"reason": "no reference"}}
        scores.append(none if rollout["reference"] is None else {"reward": value, "turns": shares})
    return Reply({"scores": scores})
