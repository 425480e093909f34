"""Rows with images on vLLM's server (``vllm serve --enable-scale-out``): token ids in and out, as without images.

Comes in: a row of ids, and the images among them.  Goes out: a request to ``/inference/v1/generate`` with these very
ids, the tensors that the server itself has made of the images (``/v1/chat/completions/render``), and where among the
ids each stands.  Nothing is expanded there, so that what is sampled stands behind the learner's own prompt.

Written against vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel, Field, ValidationError

from mmrl.image import Image
from mmrl.json_client import JsonClient
from mmrl_agents.engine_api import Asking, Said, Way, first
from mmrl_agents.generate import Row
from mmrl_agents.kept import Kept
from mmrl_agents.vllm_sampling import parameters

KEPT_BYTES = 2**28
"""Of what a server has made of images, what is kept."""
IMAGE = "image"
"""What vLLM calls images among its modalities."""


class _Place(BaseModel):
    offset: int = Field(ge=0)
    length: int = Field(gt=0)


class _Hashes(BaseModel):
    image: tuple[str]


class _Places(BaseModel):
    image: tuple[_Place]


class _Features(BaseModel):
    mm_hashes: _Hashes
    mm_placeholders: _Places
    kwargs_data: _Hashes


class _Rendered(BaseModel):
    token_ids: list[int]
    features: _Features


class _Logprob(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Logprob]


class _Choice(BaseModel):
    token_ids: list[int]
    logprobs: _Logprobs


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


@dataclass(frozen=True)
class Shown:
    """An image as a server takes it.

    Attributes:
        ids: what it becomes among the ids of a prompt.
        digest: what the server calls it.
        data: its tensors, as the server wrote them.
    """

    ids: tuple[int, ...]
    digest: str
    data: str


def shown(rendered: Any) -> Shown:
    """What a server has made of a message with one image.

    Raises:
        ValidationError: if it made no image of it, or several.
        ValueError: if there are ids among it that stand for no feature: ``/inference/v1/generate`` of vLLM 0.32 is
            told where an image begins and ends, and takes every id between for a feature.
    """
    said = _Rendered.model_validate(rendered)
    (place,), (digest,), (data,) = (
        said.features.mm_placeholders.image, said.features.mm_hashes.image, said.features.kwargs_data.image
    )  # fmt: skip
    ids = tuple(said.token_ids[place.offset : place.offset + place.length])
    if len(set(ids)) != 1:
        raise ValueError(f"it makes {len(ids)} ids of an image, some of which stand for no part of it, and vLLM's "
                         "servers cannot be told which; vLLM in process can")  # fmt: skip
    return Shown(ids, digest, data)


def offsets(prompt: Sequence[int], pieces: Sequence[Sequence[int]]) -> list[int]:
    """Where each piece begins in a prompt: one after the other, and each at its first place behind the one before.

    Raises:
        ValueError: if a piece is not there, or more of its ids are than the pieces account for.
    """
    found, at = list[int](), 0
    for n, piece in enumerate(pieces, 1):
        places = range(at, len(prompt) - len(piece) + 1)
        here = next((i for i in places if tuple(prompt[i : i + len(piece)]) == tuple(piece)), None)
        if here is None:
            raise ValueError(f"of image {n} of {len(pieces)} it makes {len(piece)} ids, which do not stand where the "
                             "learner has the image")  # fmt: skip
        found.append(here)
        at = here + len(piece)
    features = {i for piece in pieces for i in piece}
    told, held = sum(len(piece) for piece in pieces), sum(i in features for i in prompt)
    if told != held:
        raise ValueError(f"it makes {told} ids of {len(pieces)} images, and the learner {held}")
    return found


class Sight:
    """Has servers look at images, and remembers what each server has made of them."""

    def __init__(self) -> None:
        self._known = WeakKeyDictionary[JsonClient, Kept[Shown]]()

    async def body(self, client: JsonClient, asking: Asking, row: Row, seed: int) -> dict[str, Any]:
        """What ``/inference/v1/generate`` is sent.

        Raises:
            ServerError: if the server is not reached, shows no images, or reads them otherwise than the learner.
        """
        seen = [await self.look(client, asking.model, image) for image in row.images]
        try:
            places = offsets(row.prompt, [s.ids for s in seen])
        except ValueError as error:
            raise otherwise(client, error) from error
        # Under another name with other weights: what was computed of an image is kept by it.
        names = [f"{asking.salt}-{s.digest}" for s in seen]
        pairs = zip(places, seen, strict=True)
        features = {
            "mm_hashes": {IMAGE: names}, "kwargs_data": {IMAGE: [s.data for s in seen]},
            "mm_placeholders": {IMAGE: [{"offset": i, "length": len(s.ids)} for i, s in pairs]},
        }  # fmt: skip
        return {
            "model": asking.adapter or asking.model, "token_ids": list(row.prompt), "features": features,
            "sampling_params": {**parameters(asking, row, seed), "detokenize": False}, "cache_salt": asking.salt,
        }  # fmt: skip

    async def look(self, client: JsonClient, model: str, image: Image) -> Shown:
        """What a server makes of an image by itself, as the learner's processor is given it.

        Raises:
            ServerError: if it makes nothing of it that could be sent.
        """
        known = self._known.setdefault(client, Kept[Shown](lambda s: len(s.data), KEPT_BYTES))
        if (kept := known.get(image.sha256)) is not None:
            return kept
        part = {"type": "image_url", "image_url": {"url": image.data_url()}}
        message = {"model": model, "messages": [{"role": "user", "content": [part]}], "max_tokens": 1}
        rendered = await client.post(message, "/v1/chat/completions/render")
        try:
            made = shown(rendered)
        except ValueError as error:  # a ValidationError too
            raise otherwise(client, error) from error
        return known.get(image.sha256) or known.put(image.sha256, made)  # it may have been asked twice at once


def otherwise(client: JsonClient, error: ValidationError | ValueError) -> Exception:
    """The error that says how a server reads images."""
    return client.error(f"reads images otherwise than the learner: {first(error)}", 200)


def read(answer: Any) -> Said:
    """The sampled ids and their log-probabilities."""
    choice = _Answer.model_validate(answer).choices[0]
    return choice.token_ids, [at.logprob for at in choice.logprobs.content]


IMAGES = Way("/inference/v1/generate", Sight().body, read)
"""How rows with images are answered."""
