"""Scores from a service of your own, in any language, over HTTP.

Comes in: rollouts.  Goes out: what the service says they are worth.

The plugin POSTs one JSON object (``Request`` below; ``REQUEST_SCHEMA`` is its JSON schema)::

    {"version": 1,
     "rollouts": [{"id": "r1", "env_id": "text/arithmetic", "seed": 7,
                   "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}],
                   "reference": 4, "success": true,
                   "turns": [{"response": "4", "reward": 1.0, "info": {"success": true}}]}]}

``messages`` has OpenAI's chat format; an image is ``{"type": "image", "sha256": ...}`` and a video ``{"type": "video",
"sha256": ..., "frames": n}`` unless ``images`` is on.  ``success`` is null where the environment does not say.

The service answers 200 and one score for each rollout, in their order (``Response``, ``RESPONSE_SCHEMA``)::

    {"scores": [{"reward": 0.5, "info": {"why": "half right"}, "turns": [0.5]}]}

``reward`` is a number, or null where the question does not apply (``info.reason`` says why).  ``info`` is stored with
the score.  ``turns``, if it is there, has one number for each turn; they add up to ``reward``.  Any other answer fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmrl.errors import BadInput
from mmrl.json_client import JsonClient, checked_header, checked_url, from_environment
from mmrl.reward import RewardPlugin
from mmrl.rows import jsonable
from mmrl.run_sync import run_sync
from mmrl.sample import Message, Part, Text, Video, to_openai
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._checked import checked_flag, checked_pair, first_problem


class RequestTurn(BaseModel):
    """One answer of the policy, and what the environment made of it."""

    response: str
    reward: float | None
    info: dict[str, Any]


class Rollout(BaseModel):
    """One rollout, as the service sees it."""

    id: str
    env_id: str
    seed: int
    messages: list[dict[str, Any]]
    reference: Any
    success: bool | None
    turns: list[RequestTurn]


class Request(BaseModel):
    """What the service is sent."""

    version: Literal[1]
    rollouts: list[Rollout]


class RolloutScore(BaseModel):
    """What one rollout is worth."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    reward: float | None
    info: dict[str, Any] = {}
    turns: list[float] | None = None


class Response(BaseModel):
    """What the service answers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    scores: list[RolloutScore]


REQUEST_SCHEMA: dict[str, Any] = Request.model_json_schema()
RESPONSE_SCHEMA: dict[str, Any] = Response.model_json_schema()


class Http(RewardPlugin):
    """What a scoring service of your own says, within ``range``.

    Not applicable where the service says null, and to an episode without turns, which is not sent.

    Cost: one HTTP call a rollout, 16 at once; with ``batch`` one call for up to 64 rollouts (``batch_size`` of the
    entry in the YAML).

    Source: mmrl's own protocol, version 1; see the module.

    Failure modes: a service that is not reached, is silent, refuses or answers in another form gives failed scores
    that say so; with ``batch``, the core then asks for each rollout by itself.  The service sees references and the
    environment's infos: run it where those may go.

    Args:
        url: the service's address, http or https; redirects are not followed.
        headers_env: headers to send, as ``{name: environment variable with its value}``, such as
            ``{Authorization: SCORER_TOKEN}``; the values appear in no file and no message.
        batch: send many rollouts in one request, instead of each when it ends.
        images: send images and videos as data URLs; otherwise only their hashes.
        range: the lowest and the highest reward; one outside is an error.

    Raises:
        BadInput: for an argument of another form, a variable that is not set, or a missing package.
    """

    cost: ClassVar[str] = "one HTTP call a rollout, or a batch"
    images: bool
    _service: JsonClient

    def __new__(cls, url: str, headers_env: Mapping[str, str] | None = None, batch: bool = False,
                images: bool = False, range: Sequence[float] = (0.0, 1.0)) -> Http:
        """Check the arguments and choose the class.

        A plugin is asked by ``compute`` or by ``score``, as its class has it: ``batch`` therefore stands for a class.
        """
        self = object.__new__(HttpBatch if checked_flag("batch", batch) else Http)
        self.range = checked_pair("range", range)  # pyright: ignore[reportAttributeAccessIssue] - differs by service
        self.images = checked_flag("images", images)
        if headers_env is not None and not isinstance(headers_env, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"headers_env is {{header: environment variable}}, not {headers_env!r:.80}")
        headers = {checked_header("headers_env", name): from_environment(f"headers_env.{name}", variable)
                   for name, variable in (headers_env or {}).items()}
        self._service = JsonClient(checked_url("url", url), headers)
        return self

    async def compute(self, trajectory: Trajectory) -> Score:
        """Have ``trajectory`` scored.

        Raises:
            ServerError: if the service gives no score; it says what came instead.
        """
        return (await self._ask([trajectory]))[0]

    async def _ask(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """One request for all that have turns."""
        asked = [t for t in trajectories if t.turns]
        answers = iter(await self._answers(asked) if asked else [])
        lacking = Score.not_applicable(reason="the episode has no turns")
        return [_score(next(answers)) if t.turns else lacking for t in trajectories]

    async def _answers(self, asked: Sequence[Trajectory]) -> list[RolloutScore]:
        request = Request(version=1, rollouts=[rollout(t, self.images) for t in asked])
        answer = await self._service.post(request.model_dump())
        try:
            scores = Response.model_validate(answer).scores
        except ValidationError as error:
            raise self._service.error(f"answered in another form: {first_problem(error)}") from error
        if len(scores) != len(asked):
            raise self._service.error(f"answered {len(scores)} scores for {len(asked)} rollouts")
        for i, (score, t) in enumerate(zip(scores, asked, strict=True)):
            if score.turns is not None and len(score.turns) != len(t.turns):
                raise self._service.error(f"answered scores.{i}.turns of {len(score.turns)} for {len(t.turns)} turns")
        return scores


class HttpBatch(Http):
    """The same with many rollouts a request: what ``Http(batch=True)`` is."""

    # Without the state of the run, of which the service sees nothing: a remembered score holds at every step.
    def score(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trajectories: Sequence[Trajectory]
    ) -> list[Score]:
        """Have ``trajectories`` scored in one request.

        Raises:
            ServerError: if the service gives no scores; it says what came instead.
        """
        return run_sync(self._ask(trajectories))


def rollout(trajectory: Trajectory, images: bool) -> Rollout:
    """What the service sees of a trajectory."""
    success = trajectory.turns[-1].info.get("success") if trajectory.turns else None
    return Rollout(
        id=trajectory.id, env_id=trajectory.env_id, seed=trajectory.seed,
        messages=to_openai(trajectory.messages) if images else [_without_pixels(m) for m in trajectory.messages],
        reference=jsonable(trajectory.sample.reference), success=None if success is None else bool(success),
        turns=[RequestTurn(response=t.response, reward=t.reward if math.isfinite(t.reward) else None,
                           info=jsonable(t.info)) for t in trajectory.turns],
    )  # fmt: skip


def _without_pixels(message: Message) -> dict[str, Any]:
    """The message in OpenAI's format, with images and videos by their hashes."""
    if len(message.content) == 1 and isinstance(message.content[0], Text):
        return to_openai([message])[0]
    return {"role": message.role, "content": [_part(p) for p in message.content]}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Video):
        return {"type": "video", "sha256": part.sha256, "frames": len(part.frames)}
    return {"type": "image", "sha256": part.sha256}


def _score(answer: RolloutScore) -> Score:
    if answer.reward is None:
        return Score(0.0, False, {"reason": "the service says that it does not apply", **answer.info}, "not_applicable")
    return Score(answer.reward, info=answer.info, turns=None if answer.turns is None else tuple(answer.turns))
