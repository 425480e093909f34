"""Whether an answer fits the image: the cosine of CLIP embeddings.

Comes in: the answers, or references, or a sentence around them, and the images and videos that the policy saw.  Goes
out: how well they fit, by any CLIP model of open_clip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.sample import Image
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._arguments import one_of, whole
from mmrl_plugins._clip_model import ClipModel, clip_model
from mmrl_plugins._clip_pictures import Where, pictures_at
from mmrl_plugins._clip_score import WEIGHTS, Fit, fit, probabilities, unit
from mmrl_plugins._clip_source import clip_source
from mmrl_plugins._clip_text import main_template, query_at, template, texts_at
from mmrl_plugins._lazy import EMBEDDED
from mmrl_plugins._model_arguments import checked_names

_NOTHING_SEEN = {
    "conversation": "the episode shows no image", "observation": "no image was shown just before the answer",
}  # fmt: skip


@dataclass(frozen=True)
class _Comparison:
    """What is compared in one turn: pictures by hash in order, texts of which the best counts, and their rivals."""

    pictures: Mapping[str, Image]
    order: tuple[str, ...]
    texts: tuple[str, ...]
    negatives: tuple[str, ...]


@dataclass(frozen=True)
class _Vectors:
    pictures: Mapping[str, Any]
    texts: Mapping[str, Any]


class ClipSimilarity(RewardPlugin):
    """How well the answer fits the image: the cosine of their CLIP embeddings.

    An answer without words has cosine 0 (and probability 0, with ``negatives``).  Of several references the best
    counts.  Not applicable to an episode without turns or without images, and, where ``text`` has a place for the
    reference, without a reference in words.  An image that cannot be read fails its own episode.

    Range: [0, 1], or [-1, 1] with ``scale: cosine``.  With ``turns: all`` the value is the mean over the answers that
    can be compared, and the per-turn values add up to it.

    Cost: one pass over all images of a batch that are new, and one over all texts that are new; the vectors of the
    last 20,000 images and as many texts are kept, so that the answers of a group share their image's.  Embedded model:
    about a millisecond an image on two CPU cores.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"
    (arXiv 2103.00020); as a reward without reference, Hessel et al. 2021, "CLIPScore" (arXiv 2104.08718).

    Fails: CLIP judges whether text and image go together, not whether a question is answered.  A cosine says little by
    itself (most pairs of a large model lie between 0.1 and 0.4); differences within a group count.  What follows the
    model's context (77 tokens for most) is cut off by its tokenizer.  The embedded model knows the scenes of
    ``vqa/shapes`` and little else.

    Args:
        model: ``embedded`` (mmrl/tiny-clip), an architecture of open_clip such as ``ViT-B-32``, ``hf-hub:<name>`` or
            ``local-dir:<folder>`` with an ``open_clip_config.json``.
        pretrained: for an architecture, its weights: one of open_clip's tags, such as ``laion2b_s34b_b79k``, or the
            path of a checkpoint.
        text: what is compared with the images: ``response``, ``reference``, or a template in which ``{response}``,
            ``{query}`` and ``{reference}`` may stand, such as ``a photo of {response}``.  ``{query}`` is what was
            asked just before the answer.
        images: with which image: the ``last`` or ``first``, the ``best`` of all, or the ``mean`` of all.
        where: which images there are: those of the whole ``conversation`` up to the answer, or of the ``observation``
            just before it alone.
        frames: how many frames of a video count as images, evenly spaced; 0 leaves videos out.
        turns: ``last`` scores the last answer, ``all`` every one.
        scale: ``unit`` gives (1 + cosine) / 2, ``cosine`` the cosine itself.
        negatives: texts that compete with ``text`` (``{query}`` may stand in them).  The value is then the probability
            of ``text`` among them: a softmax of the cosines times the model's logit scale.  One that equals the text
            is left out.
        device: where the model runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``float32``, ``bfloat16`` or ``float16``; open_clip's precision.

    Raises:
        BadInput: for a wrong argument, an unknown model or tag, a missing file or package.
    """

    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    requires_any: ClassVar[frozenset[str]] = frozenset({"images", "videos"})
    cost: ClassVar[str] = "one pass of a CLIP model a batch, over images and texts that are new"

    def __init__(
        self, model: str = EMBEDDED, pretrained: str | None = None, text: str = "response",
        images: Literal["last", "first", "best", "mean"] = "last", where: Where = "conversation", frames: int = 8,
        turns: Literal["last", "all"] = "last", scale: Literal["unit", "cosine"] = "unit",
        negatives: Sequence[str] = (), device: str = "auto", dtype: str = "float32",
    ) -> None:  # fmt: skip
        self.source = clip_source(model, pretrained, device, dtype)
        self.text = main_template(text)
        self.images = one_of("images", images, WEIGHTS)
        self.where: Where = one_of("where", where, tuple(_NOTHING_SEEN))
        self.frames = whole("frames", frames, at_least=0)
        self.turns, self.scale = one_of("turns", turns, ("last", "all")), one_of("scale", scale, ("unit", "cosine"))
        names = checked_names("negatives", negatives, '["a photo of nothing"]')
        self.negatives = tuple(template("negatives", name, ("query",)) for name in names)
        if self.negatives and scale == "cosine":
            raise BadInput("with negatives the value is a probability: leave out scale, or the negatives")
        self.requires = self._required()  # pyright: ignore[reportAttributeAccessIssue] - follows the arguments
        if frames == 0:
            self.requires_any = frozenset({"images"})  # pyright: ignore[reportAttributeAccessIssue] - as above
        if scale == "unit":
            self.range = (0.0, 1.0)  # pyright: ignore[reportAttributeAccessIssue] - follows the argument

    def _required(self) -> frozenset[str]:
        """What an environment must have beside images or videos."""
        return frozenset({"reference"} & set(self.text.fields))

    def load(self) -> None:
        """Load the model."""
        clip_model(self.source).embed_texts(["hello"])

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Compare the answers of ``trajectories``: new images in one batch, new texts in another."""
        compared = [self._comparisons(t) for t in trajectories]
        found = [each for by_turn in compared if isinstance(by_turn, dict) for each in by_turn.values()]
        pictures = {key: image for each in found for key, image in each.pictures.items() if any(each.texts)}
        texts = dict.fromkeys(text for each in found for text in (*each.texts, *each.negatives) if text)
        if pictures:
            model = clip_model(self.source)
            vectors = _Vectors(model.embed_images(pictures), model.embed_texts(list(texts)))
        else:
            model, vectors = None, _Vectors({}, {})
        return [each if isinstance(each, Score) else self._score(each, model, vectors, len(t.turns))
                for each, t in zip(compared, trajectories, strict=True)]

    def _comparisons(self, trajectory: Trajectory) -> dict[int, _Comparison] | Score:
        """What is compared, by turn; or the score that says why nothing is."""
        if not trajectory.turns:
            return Score.not_applicable(reason="the episode has no turns")
        first = 0 if self.turns == "all" else len(trajectory.turns) - 1
        reason, found = "", dict[int, _Comparison]()
        for i in range(first, len(trajectory.turns)):
            try:
                pictures = pictures_at(trajectory, i, self.images, self.where, self.frames)
                order = tuple(picture.sha256 for picture in pictures)
                texts = texts_at(self.text, trajectory, i)
            except (TypeError, BadInput) as error:
                return Score.failed(f"{type(error).__name__}: {error}")
            if not pictures or not texts:
                reason = "the sample has no reference in words" if pictures else _NOTHING_SEEN[self.where]
                continue
            negatives = tuple(n.fill(query=query_at(trajectory, i)) for n in self.negatives)
            found[i] = _Comparison(dict(zip(order, pictures, strict=True)), order, texts, negatives)
        return found or Score.not_applicable(reason=reason)

    def _score(self, compared: dict[int, _Comparison], model: ClipModel | None, vectors: _Vectors,
               n_turns: int) -> Score:
        fits = {i: max((self._fit(each, text, model, vectors) for text in each.texts), key=lambda f: f.value)
                for i, each in compared.items()}  # fmt: skip
        if self.turns == "last":
            ((_, only),) = fits.items()
            return Score(only.value, info={"cosine": only.cosine})
        shares = tuple(fits[i].value / len(fits) if i in fits else 0.0 for i in range(n_turns))
        cosines = [fits[i].cosine if i in fits else None for i in range(n_turns)]
        return Score(math.fsum(shares), info={"cosines": cosines}, turns=shares)

    def _fit(self, compared: _Comparison, text: str, model: ClipModel | None, vectors: _Vectors) -> Fit:
        if model is None or not text:
            return Fit({"unit": 0.5, "cosine": 0.0}[self.scale] if not self.negatives else 0.0, 0.0)
        shown = np.stack([vectors.pictures[key] for key in compared.order]).astype(np.float64)
        cosines = np.clip(shown @ vectors.texts[text].astype(np.float64), -1.0, 1.0)
        if not self.negatives:
            return fit(unit(cosines) if self.scale == "unit" else cosines, cosines, self.images)
        rivals = [vectors.texts[other].astype(np.float64) for other in compared.negatives if other != text]
        others = shown @ np.stack(rivals, axis=1) if rivals else np.zeros((len(shown), 0))
        return fit(probabilities(cosines, others, model.scale), cosines, self.images)
