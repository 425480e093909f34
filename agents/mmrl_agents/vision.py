"""Images on the side of the model: features, embeddings, positions.

Comes in: ids with placeholders, and their images.  Goes out: embeddings in which every placeholder is one feature of
its image, and positions.  An image's features are computed once and shared by every row that shows it: kept until
:meth:`Vision.forget` where no gradient goes through them, once a pass where one does.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmrl.errors import BadInput, one_line
from mmrl.image import Image
from mmrl_agents.decoder import base_of, evaluating, head_reads_decoder, language_parameters
from mmrl_agents.image_tokens import PROBE, ImageTokens, Processed
from mmrl_agents.kept import Kept

GRID_POSITIONS = frozenset({"qwen2_vl", "qwen2_5_vl"})
"""Model types whose image tokens stand at places of a grid (M-RoPE) and not in a row."""
MAX_IMAGES = 64
"""Images in one pass of the vision tower."""
KEPT_BYTES = 2**30
"""Features that are kept."""


class Vision:
    """How a vision-language model sees.

    Args:
        model: an image-text-to-text model, with or without a PEFT adapter.
        tokens: its processor's image side.
        probe: whether to compare; a model without weights has nothing to be compared.

    Attributes:
        grid: whether image tokens stand at places of a grid (three positions each) and not in a row.

    Raises:
        BadInput: if the model's own way from a picture to logits gives others than the way taken here.
    """

    def __init__(self, model: Any, tokens: ImageTokens, probe: bool = True) -> None:
        self.tokens = tokens
        self._base = base_of(model)
        self._kind: str = self._base.config.model_type
        self.grid = self._kind in GRID_POSITIONS
        self._takes = frozenset(inspect.signature(self._base.get_image_features).parameters)
        self._known = Kept[Tensor](lambda t: t.nbytes, KEPT_BYTES)
        with torch.no_grad(), evaluating(model):
            why = self._differs(model) if probe else ""
        if why:
            raise BadInput(f"model type '{self._kind}' reads images in a way that mmrl does not follow ({why}); LLaVA, "
                           "Qwen2-VL, Qwen2.5-VL, Idefics3 and SmolVLM are known to work")  # fmt: skip
        self.forget()

    @property
    def trains(self) -> bool:
        """Whether anything between pixels and features is trained."""
        mine = {id(p) for p in language_parameters(self._base)}
        return any(p.requires_grad for p in self._base.parameters() if id(p) not in mine)

    def forget(self) -> None:
        """Drop what is kept: the weights have changed, or the step is over."""
        self._known.clear()

    def words(self, ids: Int[Tensor, "rows length"]) -> Float[Tensor, "rows length hidden"]:
        """Embeddings of ``ids``, placeholders too as they are."""
        return self._base.get_input_embeddings()(ids)

    def embed(self, ids: Int[Tensor, "rows length"],
              images: Sequence[Sequence[Image]]) -> Float[Tensor, "rows length hidden"]:
        """Embeddings of ``ids``, the features of each row's images in the places of its placeholders.

        Raises:
            ValueError: if a row has another number of placeholders than its images have features.
        """
        embedded = self.words(ids)
        places = ids == self.tokens.id
        for row, (held, shown) in enumerate(zip(places.sum(1).tolist(), images, strict=True)):
            wanted = sum(self.tokens.of(i).features for i in shown)
            if held != wanted:
                raise ValueError(
                    f"row {row} has {held} image tokens, but its {len(shown)} images have {wanted} features"
                )
        flat = [image for shown in images for image in shown]
        if not flat:
            return embedded
        by_hash = self.features(flat)
        features = torch.cat([by_hash[image.sha256] for image in flat]).to(embedded.dtype)
        return embedded.masked_scatter(places[..., None], features)

    def positions(self, ids: Sequence[int], images: Sequence[Image]) -> Int[Tensor, "3 length"]:
        """The positions of ``ids`` on a grid, counted from 0."""
        if not images:
            return torch.arange(len(ids)).expand(3, -1)
        row = torch.tensor([list(ids)])
        grids = torch.cat([self.tokens.of(i).tensors["image_grid_thw"] for i in images])
        kinds = (row == self.tokens.id).int()
        return self._base.model.get_rope_index(row, mm_token_type_ids=kinds, image_grid_thw=grids)[0][:, 0]

    def features(self, images: Sequence[Image]) -> dict[str, Tensor]:
        """Features of each image by its hash; shape (its features, hidden)."""
        learned = torch.is_grad_enabled() and self.trains
        found = {i.sha256: None if learned else self._known.get(i.sha256) for i in images}
        new = {i.sha256: self.tokens.of(i) for i in images if found[i.sha256] is None}
        computed: dict[str, Tensor] = {}
        # Sampler and update share what is found here; a model without weights is on a device that knows no autocast.
        kind = self._base.device.type
        plain = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
        with plain, torch.set_grad_enabled(learned), nullcontext() if learned else evaluating(self._base):
            for keys in _alike(new):
                computed.update(zip(keys, self._encode([new[k] for k in keys]), strict=True))
        for key, features in computed.items() if not learned else ():
            self._known.put(key, features.clone())  # a part of its batch would keep the whole batch
        return computed | {key: features for key, features in found.items() if features is not None}

    def _encode(self, batch: Sequence[Processed]) -> Sequence[Tensor]:
        """One pass of the vision tower and what leads from it to the language model."""
        names = [n for n in batch[0].tensors if n in self._takes]
        stacked = {n: torch.cat([p.tensors[n] for p in batch]).to(self._base.device) for n in names}
        found = self._base.get_image_features(**self._cast(stacked), return_dict=True).pooler_output
        parts = [f.reshape(-1, f.shape[-1]) for f in (found if isinstance(found, list | tuple) else [found])]
        flat, sizes = torch.cat(parts), [p.features for p in batch]
        if len(flat) != sum(sizes):
            raise ValueError(f"the vision tower gave {len(flat)} features for {sum(sizes)} image tokens")
        return flat.split(sizes)

    def _cast(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: t.to(self._base.dtype) if t.is_floating_point() else t for n, t in tensors.items()}

    def _differs(self, model: Any) -> str:
        """How the model's own way from a picture to logits differs from the way taken here; empty if it does not."""
        text = self.tokens.rendered([{"type": "image"}])
        try:
            made = self.tokens.encoded(text, PROBE).to(self._base.device)
            row = made["input_ids"]
            if not head_reads_decoder(model, row[:, row[0] != self.tokens.id][:, :8]):
                return "its head does not read its decoder's last state"
            bare = self.tokens.tokenizer(text, add_special_tokens=False)["input_ids"]
            if self.tokens.expand(bare, [PROBE]) != tuple(row[0].tolist()):
                return "an image's tokens depend on what stands around it"
            own = {n: t for n, t in made.items() if n != "labels"}
            theirs = self._base(**self._cast(own), use_cache=False).logits[:, -1].float()
            mine = self._probe(row)
        except BadInput:
            raise
        except Exception as error:  # whatever a model's own code raises on being fed in this way
            return one_line(error)
        loose = 1e-3 if self._base.dtype in (torch.float32, torch.float64) else 5e-2
        same = torch.allclose(mine, theirs, rtol=loose, atol=loose * float(theirs.abs().max()))
        return "" if same else "its logits differ"

    def _probe(self, row: Int[Tensor, "1 length"]) -> Float[Tensor, "1 vocab"]:
        """Logits after a prompt with the probing picture, by the way taken here."""
        places = {"position_ids": self.positions(row[0].tolist(), [PROBE])[:, None].to(row.device)} if self.grid else {}
        hidden = self._base.get_decoder()(inputs_embeds=self.embed(row, [[PROBE]]), use_cache=False,
                                          attention_mask=torch.ones_like(row), **places).last_hidden_state  # fmt: skip
        return self._base.get_output_embeddings()(hidden[:, -1]).float()


def _alike(images: dict[str, Processed]) -> list[list[str]]:
    """Hashes of images whose tensors can be stacked, at most ``MAX_IMAGES`` together."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for key, processed in images.items():
        shape = tuple((name, tuple(t.shape)) for name, t in sorted(processed.tensors.items()))
        groups.setdefault(shape, []).append(key)
    return [keys[i : i + MAX_IMAGES] for keys in groups.values() for i in range(0, len(keys), MAX_IMAGES)]
