"""A stand-in for vLLM's server: its paths, its answers, its refusals; what it samples follows from what it is asked.

The tests of the protocol, of retries and of deaths use it; the tests with the real one are in tests/with_vllm.
"""

import hashlib
import json
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_server import Asked, LocalServer, Reply

from mmrl.image import Image

PROBE = "mmrl-probe"
"""Begins what the check before a run calls its requests."""
SAMPLING = ("/v1/completions", "/inference/v1/generate")
"""Where ids are sampled."""
Hook = Callable[[Asked], Reply | None]


@dataclass
class StandIn:
    """A server that can be killed, and started anew at the same address.

    Attributes:
        model: its name; ``root``: where it loaded it from; ``context``: tokens that it holds.
        vocabulary: ids that it samples from, all equally likely.
        lora: whether it loads adapters, and up to which rank.
        dev: whether it takes all weights.
        picture: the ids that it makes of every image, of one ``placeholder``; empty: its path for images is closed.
        key: what it asks for.
        processed: whether log-probabilities have the temperature in.
        hook: asked first; its reply, if it has one, is sent.
        adapters: that it has now, by name; ``ever``: all that it was given; ``answered``: what it sampled for.
    """

    model: str = "mmrl/tiny"
    root: str = "somewhere"
    owner: str = "vllm"
    context: int = 4096
    vocabulary: int = 64
    end: int = 2
    lora: int = 16
    dev: bool = False
    picture: tuple[int, ...] = ()
    placeholder: int = -1
    key: str | None = None
    processed: bool = True
    hook: Hook = lambda asked: None
    adapters: dict[str, str] = field(default_factory=dict)
    ever: list[str] = field(default_factory=list)
    weights: str = "base"
    births: int = 0
    answered: list[Any] = field(default_factory=list)
    server: LocalServer | None = None
    port: int = 0

    def start(self) -> "StandIn":
        """Start it, with nothing of what it was given before."""
        self.adapters, self.weights, self.births = {}, "base", self.births + 1
        self.server = LocalServer(self.answer, self.port)
        self.port = self.server.server_address[1]
        return self

    def kill(self) -> None:
        """Stop it in the midst of what it does: connections break."""
        assert self.server is not None
        self.server.kill()
        self.server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, asked: Asked) -> Reply:
        """What vLLM would say."""
        if (reply := self.hook(asked)) is not None:
            return reply
        wanted = None if self.key is None or asked.path == "/health" else f"Bearer {self.key}"
        if wanted not in (None, asked.headers.get("authorization")):
            return Reply({"error": "Unauthorized"}, 401)
        known = {
            "/health": self._health, "/metrics": self._metrics, "/v1/models": self._models,
            "/v1/load_lora_adapter": self._load, "/v1/unload_lora_adapter": self._unload,
            "/collective_rpc": self._rpc, "/v1/completions": self._complete,
            "/inference/v1/generate": self._generate,
        }  # fmt: skip
        return known[asked.path](asked.body) if asked.path in known else Reply({"detail": "Not Found"}, 404)

    def _health(self, body: Any) -> Reply:
        return Reply(b"")

    def _metrics(self, body: Any) -> Reply:
        return Reply(f"# HELP start\nprocess_start_time_seconds {self.births}.5\nother 1\n".encode())

    def _models(self, body: Any) -> Reply:
        cards = [{"id": self.model, "root": self.root, "owned_by": self.owner, "max_model_len": self.context}]
        cards += [{"id": n, "root": p, "owned_by": self.owner, "parent": self.model} for n, p in self.adapters.items()]
        return Reply({"object": "list", "data": cards})

    def _load(self, body: Any) -> Reply:
        if not self.lora:
            return Reply({"detail": "Not Found"}, 404)
        folder = Path(body["lora_path"])
        if not (folder / "adapter_config.json").is_file():
            return error(f"Loading lora {body['lora_name']} failed: No adapter found for {folder}", 404)
        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        if rank > self.lora:
            return error(f"LoRA rank {rank} is greater than max_lora_rank {self.lora}.", 500)
        self.adapters[body["lora_name"]] = str(folder)
        self.ever.append(body["lora_name"])
        return Reply(b"Success")

    def _unload(self, body: Any) -> Reply:
        found = self.adapters.pop(body["lora_name"], None)
        return Reply(b"Success") if found else error(f"The lora adapter '{body['lora_name']}' cannot be found.", 404)

    def _rpc(self, body: Any) -> Reply:
        if not self.dev:
            return Reply({"detail": "Not Found"}, 404)
        if body["method"] == "take_weights":
            self.weights = body["kwargs"]["weights_path"]
            self.ever.append(self.weights)
        return Reply({"results": [None]})

    def _complete(self, body: Any) -> Reply:
        said = self._sampled(body, body, body["prompt"])
        if isinstance(said, Reply):
            return said
        ids, logprob = said
        return Reply({"choices": [{
            "index": 0, "text": "", "token_ids": ids, "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": [logprob] * len(ids)},
            "finish_reason": "stop" if ids[-1] in body["stop_token_ids"] else "length",
        }]})  # fmt: skip

    def _generate(self, body: Any) -> Reply:
        if not self.picture:
            return error("Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out.", 403)
        parts = body["content_parts"]
        if body["token_ids"].count(self.placeholder) != len(parts):
            return error(f"{len(parts)} images, and not as many placeholders", 400)
        expanded = [self.picture if i == self.placeholder else (i,) for i in body["token_ids"]]
        ids = [i for piece in expanded for i in piece]
        said = self._sampled(body, body["sampling_params"], [*ids, *(Image(p["url"]).sha256 for p in parts)])
        if isinstance(said, Reply):
            return said
        content = [{"token_id": i, "logprob": said[1], "rank": 1, "top_logprobs": []} for i in said[0]]
        choice = {"index": 0, "token_ids": said[0], "logprobs": {"content": content}}
        return Reply({"choices": [choice], "prompt_token_ids": ids if body["return_token_ids"] else None})

    def _sampled(self, body: Any, how: Any, prompt: list[Any]) -> tuple[list[int], float] | Reply:
        """What is said to a prompt, with the log-probability of each id; or why nothing is."""
        if not 0 <= how["temperature"] <= 2:
            return error(f"temperature must be in [0, 2], got {how['temperature']}.", 400)
        if body["model"] not in {self.model, *self.adapters}:
            return error(f"The model `{body['model']}` does not exist.", 404)
        if not body["cache_salt"].startswith(PROBE):
            self.answered.append(body)
        stale = not self.adapters and self.weights == "base"
        known = [i for i in range(self.vocabulary) if str(i) not in how.get("logit_bias", {})]
        ids = sampled(prompt, how["seed"] + stale, how["max_tokens"], known, set(how["stop_token_ids"]))
        return ids, -math.log(len(known)) / (how["temperature"] if self.processed else 1.0)


def error(message: str, status: int) -> Reply:
    """An error as vLLM words it."""
    return Reply({"error": {"message": message, "type": "Error", "param": None, "code": status}}, status)


def sampled(prompt: list[Any], seed: int, limit: int, known: list[int], ends: set[int]) -> list[int]:
    """What is said to a prompt: a function of it and the seed, whichever server that follows the run is asked."""
    noise = random.Random(hashlib.sha256(json.dumps([prompt, seed]).encode()).digest())
    out: list[int] = []
    while len(out) < limit and not (out and out[-1] in ends):
        out.append(noise.choice(known))
    return out


def samples(asked: Asked) -> bool:
    """Whether this is a request for a run's episode."""
    return asked.path in SAMPLING and not asked.body["cache_salt"].startswith(PROBE)


class Gate:
    """Lets some requests for episodes pass, and holds the others until it is opened."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.opened, self.reached = threading.Event(), threading.Event()

    def __call__(self, asked: Asked) -> Reply | None:
        if samples(asked):
            self.left -= 1
            if self.left < 0:
                self.reached.set()
                self.opened.wait(30)
        return None
