"""What a language model thinks of a rollout, by a rubric of your own.

Comes in: a rollout, its reference if there is one, a rubric.  Goes out: the judge's grades, mapped from its scale to
[0, 1], with its reason and the tokens it took.  Any server with OpenAI's ``/v1/chat/completions`` will do.

The rollout is quoted: what is judged cannot end the quotation, and the judge is told to obey nothing inside it.  A
verdict counts only if the answer holds exactly one JSON object with exactly the asked-for keys; anything else fails.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from mmrl.chat_completion import ChatCompletion
from mmrl.errors import BadInput
from mmrl.json_client import EXCERPT, JsonClient, ServerError, checked_url, from_environment
from mmrl.reward import RewardPlugin
from mmrl.sample import Message, to_openai
from mmrl.score import Score
from mmrl_plugins._checked import checked_flag
from mmrl_plugins._judge_prompt import judge_prompt
from mmrl_plugins._rubric import Rubric

OFFICIAL = "https://api.openai.com/v1"
NO_SCHEMA = frozenset({400, 422, 501})
"""What servers answer to a ``response_format`` that they do not know."""


class LlmJudge(RewardPlugin):
    """How well a rollout does by a rubric, in [0, 1]: the weighted mean of the grades that a language model gives.

    Not applicable to an episode without turns.

    Cost: one HTTP call a rollout, and the tokens of the rollout and of the verdict (counted in ``info``).

    Source: LLM as a judge, Zheng et al. 2023 (arXiv:2306.05685).

    Failure modes: judges favour long and confident answers and their own style, change from version to version, and
    can be talked into things by what they read; one request need not give one grade, whatever the seed.  A server that
    refuses, is silent, or whose judge gives no proper verdict, makes a failed score, never a 0.

    Args:
        model: the judge's name, as the server knows it.
        rubric: what is good, in words; or several criteria, ``{name: {question: ..., weight: 1.0}}``.
        base_url: the server, such as ``http://localhost:8000/v1`` (``/v1`` is added where there is no path); null: the
            environment variable OPENAI_BASE_URL, or else OpenAI's own.
        api_key_env: the environment variable that holds the key; null for a server that asks for none.
        scale: the worst and the best grade that the judge may give.
        conversation: show the whole conversation; false: the last answer and the message before it.
        images: show the images too, and the frames of videos; the judge must be able to see.
        temperature: of the judge; null leaves it out of the request, for models that take none.
        max_tokens: where the judge is cut off, its thoughts included; null leaves it out of the request.
        seed: for servers that know one; null leaves it out of the request.

    Raises:
        BadInput: for an argument of another form, a key that is not set, or a missing package.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    cost: ClassVar[str] = "one HTTP call of a large model a rollout"

    def __init__(self, model: str, rubric: str | Mapping[str, Any], base_url: str | None = None,
                 api_key_env: str | None = "OPENAI_API_KEY", scale: Sequence[float] = (0, 10),
                 conversation: bool = True, images: bool = False, temperature: float | None = 0.0,
                 max_tokens: int | None = 512, seed: int | None = 0) -> None:
        if not model or not isinstance(model, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"model is the judge's name, as the server knows it, not {model!r:.80}")
        self.rubric = Rubric.read(rubric, scale)
        self.conversation = checked_flag("conversation", conversation)
        self.images = checked_flag("images", images)
        self._request: dict[str, Any] = {"model": model, **_sampling(temperature, max_tokens, seed)}
        url = _endpoint(base_url)
        key = None if api_key_env is None else from_environment("api_key_env", api_key_env)
        self._client = JsonClient(url, {} if key is None else {"authorization": f"Bearer {key}"})
        self._takes_schema = True

    async def compute(self, messages: Sequence[Message], reference: Any = None) -> Score:
        """Have a conversation judged.

        Raises:
            ServerError: if the server or the judge gives no verdict; it says what came instead.
        """
        if not messages or messages[-1].role != "assistant":
            return Score.not_applicable(reason="the episode has no turns")
        shown = messages if self.conversation else messages[-2:]
        prompt = judge_prompt(self.rubric, shown, reference, self.images)
        answer = await self._ask({**self._request, "messages": to_openai(prompt)})
        try:
            completion = ChatCompletion.model_validate(answer)
        except ValidationError as error:
            raise self._client.error(f"answered with no chat completion: {json.dumps(answer)[:EXCERPT]}") from error
        choice = completion.choices[0]
        text = choice.message.content or ""
        try:
            if choice.finish_reason == "length":  # what is there may be a quotation, with the verdict still to come
                raise ValueError("cut off at max_tokens")
            verdict = self.rubric.verdict(text)
        except ValueError as error:
            said = (text or choice.message.refusal or "nothing")[:EXCERPT]
            raise self._client.error(f"gave no verdict ({error}): {said}") from error
        tokens = completion.usage.model_dump(exclude_none=True) if completion.usage else {}
        info = {"reason": verdict.reason, "grades": dict(verdict.grades), **tokens}
        return Score(self.rubric.value(verdict), info=info)

    async def _ask(self, request: dict[str, Any]) -> Any:
        """Ask with a schema; a server that knows none is asked again without, and never with one from then on."""
        if not self._takes_schema:
            return await self._client.post(request)
        try:
            return await self._client.post({**request, "response_format": self.rubric.response_format()})
        except ServerError as error:
            if error.status not in NO_SCHEMA:
                raise
        answer = await self._client.post(request)  # if this fails as well, it was not the schema that was wrong
        self._takes_schema = False
        return answer


def _sampling(temperature: Any, max_tokens: Any, seed: Any) -> dict[str, Any]:
    """The request's sampling fields, without those that are None."""
    fields: dict[str, Any] = {}
    for name, value, kind, low, right in (
        ("temperature", temperature, int | float, 0.0, "a number of at least 0"),
        ("max_tokens", max_tokens, int, 1, "a whole number of at least 1"),
        ("seed", seed, int, -math.inf, "a whole number"),
    ):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value < math.inf:
            raise BadInput(f"{name} is {right}, or null, not {value!r:.80}")
        fields[name] = value
    return fields


def _endpoint(base_url: Any) -> str:
    argument, url = "base_url", base_url
    if url is None:
        argument, url = "OPENAI_BASE_URL", os.environ.get("OPENAI_BASE_URL") or OFFICIAL
    parts = urlsplit(checked_url(argument, url))
    return parts._replace(path=(parts.path.rstrip("/") or "/v1") + "/chat/completions").geturl()
