import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mmrl.batcher import PolicyError
from mmrl.env import Env
from mmrl.episode import EpisodeLimits, EpisodeSpec, run_episode, visible
from mmrl.policy import Completion, Request
from mmrl.sample import Message, Sample, Text
from mmrl.trajectory import Trajectory


class Counter(Env):
    """Ends after ``length`` steps; says which step it is."""

    def __init__(self, length: int = 3, truncates: bool = False, breaks: int | None = None) -> None:
        super().__init__()
        self.length, self.truncates, self.breaks, self.n = length, truncates, breaks, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.n = 0
        seen = (Text(f"seed {seed}"),)
        sample = Sample("s", (Message("system", (Text("count"),)), Message("user", seen)))
        return seen, {"sample": sample, "state_key": "k0"}

    def step(self, action: str) -> Any:
        if self.n == self.breaks:
            raise OSError("broken")
        self.n += 1
        over = self.n >= self.length
        info = {"state_key": f"k{self.n}", "heard": action, "success": over}
        return (Text(f"o{self.n}"),), 0.5, over and not self.truncates, over and self.truncates, info


class Speaker:
    """Speaks its turn's number; says that the context is full at turn ``full``."""

    def __init__(self, full: int | None = None, reason: Any = "stop") -> None:
        self.full, self.reason, self.requests = full, reason, list[Request]()

    async def __call__(self, request: Request) -> Completion:
        self.requests.append(request)
        if request.turn == self.full:
            return Completion("", (1,), finish_reason="context")
        n = request.turn
        return Completion(f"a{n}", (n,), (n, n), (-0.5, -0.25), self.reason, 7)


SPEC = EpisodeSpec("e", "env", 4, "g", (9, 8))


def run(env: Env, speaker: Any, limits: EpisodeLimits = EpisodeLimits()) -> Trajectory:
    with ThreadPoolExecutor(1) as pool:
        return asyncio.run(run_episode(SPEC, env, speaker, limits, pool))


def ending(t: Trajectory) -> tuple[bool, bool, int, list[str]]:
    return t.terminated, t.truncated, len(t.turns), [turn.finish_reason for turn in t.turns]


def test_an_episode_turn_by_turn() -> None:
    speaker = Speaker()
    t = run(Counter(2), speaker)
    assert ending(t) == (True, False, 2, ["stop", "stop"])
    assert (t.id, t.env_id, t.seed, t.group, t.error) == ("e", "env", 4, "g", None)
    assert [u.observation for u in t.turns] == [(Text("seed 4"),), (Text("o1"),)]
    assert t.final_observation == (Text("o2"),)
    assert [u.response for u in t.turns] == ["a0", "a1"]
    assert [u.info["heard"] for u in t.turns] == ["a0", "a1"]
    assert [u.info["state_key"] for u in t.turns] == ["k0", "k1"]  # of the state in which the policy spoke
    assert (t.turns[1].prompt_ids, t.turns[1].token_ids, t.turns[1].logprobs) == ((1,), (1, 1), (-0.5, -0.25))
    assert t.turns[1].version == 7
    assert t.env_return == 1.0
    assert t.success


def test_the_endings_are_told_apart() -> None:
    assert ending(run(Counter(2), Speaker())) == (True, False, 2, ["stop"] * 2)
    assert ending(run(Counter(2, truncates=True), Speaker())) == (False, True, 2, ["stop"] * 2)
    assert ending(run(Counter(2), Speaker(reason="length"))) == (True, False, 2, ["length"] * 2)  # turns were cut
    assert ending(run(Counter(9), Speaker(), EpisodeLimits(max_turns=2))) == (False, True, 2, ["stop"] * 2)
    assert ending(run(Counter(9), Speaker(full=1))) == (False, True, 1, ["stop"])  # no room for a second turn
    assert ending(run(Counter(2), Speaker(), EpisodeLimits(max_turns=2))) == (True, False, 2, ["stop"] * 2)


def test_a_context_full_at_once_leaves_nothing_to_learn_from() -> None:
    t = run(Counter(), Speaker(full=0))
    assert (t.truncated, t.turns, t.valid) == (True, (), False)


@pytest.mark.parametrize("breaks", [0, 1])
def test_an_environments_exception_ends_the_episode(breaks: int) -> None:
    t = run(Counter(breaks=breaks), Speaker())
    assert (t.error, len(t.turns), t.valid, t.terminated) == ("OSError: broken", breaks, False, False)


def test_a_reset_without_a_sample_is_an_error() -> None:
    class Bare(Counter):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return (), {}

    assert run(Bare(), Speaker()).error == "KeyError: 'sample'"


def test_an_observation_that_is_no_content_is_an_error_in_words() -> None:
    class Plain(Counter):
        def step(self, action: str) -> Any:
            return "you won", *super().step(action)[1:]

    class Listed(Counter):
        def step(self, action: str) -> Any:
            observation, *rest = super().step(action)
            return [*observation], *rest

    t = run(Plain(), Speaker())
    assert t.error == ("TypeError: step() returned 'you won' as its observation; return a tuple of parts: "
                       "(mmrl.Text('...'),)")  # fmt: skip
    listed, plain = Speaker(), Speaker()
    assert run(Listed(), listed) == run(Counter(), plain)
    assert [r.messages for r in listed.requests] == [r.messages for r in plain.requests]


def test_a_policys_failure_is_not_the_environments() -> None:
    async def broken(request: Request) -> Completion:
        raise PolicyError("no weights", ZeroDivisionError("no weights"))

    with pytest.raises(PolicyError):
        run(Counter(), broken)


def texts(request: Request) -> list[str]:
    return [m.text for m in request.messages]


def test_requests_of_a_whole_transcript_extend_the_turn_before() -> None:
    speaker = Speaker()
    t = run(Counter(3), speaker)
    assert [texts(r) for r in speaker.requests] == [
        ["count", "seed 4"],
        ["count", "seed 4", "a0", "o1"],
        ["count", "seed 4", "a0", "o1", "a1", "o2"],
    ]
    assert [r.previous for r in speaker.requests] == [None, t.turns[0], t.turns[1]]
    assert [r.added for r in speaker.requests] == [0, 1, 1]
    assert [r.seed for r in speaker.requests] == [(9, 8, 0), (9, 8, 1), (9, 8, 2)]


@pytest.mark.parametrize(
    ("window", "last"),
    [
        (1, ["count", "o3"]),
        (2, ["count", "o2", "a2", "o3"]),
        (9, ["count", "seed 4", "a0", "o1", "a1", "o2", "a2", "o3"]),
    ],
)
def test_a_window_shows_the_last_observations(window: int, last: list[str]) -> None:
    speaker = Speaker()
    run(Counter(4), speaker, EpisodeLimits(window=window))
    assert texts(speaker.requests[0]) == ["count", "seed 4"]
    assert texts(speaker.requests[3]) == last
    assert all(r.previous is None for r in speaker.requests)


def test_visible_keeps_the_system_messages() -> None:
    roles = ("system", "user", "assistant", "user", "assistant", "user")
    messages = tuple(Message(r, (Text(str(i)),)) for i, r in enumerate(roles))  # type: ignore[arg-type]
    assert visible(messages, None) == messages
    assert [m.text for m in visible(messages, 1)] == ["0", "5"]
    assert [m.text for m in visible(messages, 2)] == ["0", "3", "4", "5"]
