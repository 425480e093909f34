"""An image as a part of a message: lazy, content-addressed, with a pixel limit.

Comes in: a path, bytes, a PIL image, an array or a data URL.  Goes out: RGB pixels, decoded once and only
when asked for, and a hash of those pixels that names the image everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mmrl.errors import BadInput
from mmrl.image_decode import MAX_PIXELS, decode

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

__all__ = ["MAX_PIXELS", "Image"]


class Image:
    """An image, decoded when first needed.

    Args:
        source: a path, encoded bytes, a ``data:`` URL, a PIL image, a uint8 array of shape (height, width, 3) or
            (height, width), or a function that gives encoded bytes when they are needed.
        name: what errors call it; by default the path or the kind of ``source``.
        max_pixels: files and encoded images with more pixels are refused before they are decoded.

    Any mode becomes RGB, and of an animation the first frame is taken (:func:`mmrl.image_decode.decode` says how).
    Two images are equal when their RGB pixels are.  Paths are opened as they are; for those that come out of somebody's
    dataset there is :func:`mmrl.image_rules.open_image`.
    """

    def __init__(self, source: str | Path | bytes | PILImage | np.ndarray[Any, Any] | Callable[[], bytes],
                 name: str = "", max_pixels: int = MAX_PIXELS) -> None:  # fmt: skip
        if isinstance(source, str) and source.startswith(("http://", "https://")):
            raise BadInput(f"image {source[:80]}: web addresses are not fetched; give a path, bytes or a data URL")
        self._source: Any = source
        self._max_pixels = max_pixels
        self.name = name or _name_of(source)

    @cached_property
    def pixels(self) -> np.ndarray[Any, Any]:
        """RGB pixels, uint8, shape (height, width, 3), read-only.

        Raises:
            BadInput: if the source is missing, no image, or has too many pixels.
        """
        is_array = isinstance(self._source, np.ndarray)
        array = self._source if is_array else np.asarray(decode(self._encoded(), self.name, self._max_pixels))
        if array.ndim == 2:
            array = np.stack([array] * 3, axis=-1)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
            raise BadInput(f"an image array is uint8 of shape (height, width, 3), not {array.dtype} {array.shape}")
        array = np.array(array, copy=True, order="C")
        array.setflags(write=False)
        return array

    def _encoded(self) -> Path | bytes | PILImage:
        """What is to be decoded."""
        if isinstance(self._source, str):
            return _of_data_url(self._source) if self._source.startswith("data:") else Path(self._source)
        return cast("Path | bytes | PILImage", self._source() if callable(self._source) else self._source)

    @cached_property
    def sha256(self) -> str:
        """Hash of the RGB pixels and the size, as 64 hex digits."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(self.pixels.data)
        return digest.hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    def to_pil(self) -> PILImage:
        """A PIL image in mode RGB."""
        from PIL import Image as pil

        return pil.fromarray(self.pixels)

    def png(self) -> bytes:
        """The image encoded as PNG."""
        buffer = io.BytesIO()
        self.to_pil().save(buffer, format="PNG")
        return buffer.getvalue()

    def data_url(self) -> str:
        """The image as a ``data:image/png;base64,...`` URL."""
        return "data:image/png;base64," + base64.b64encode(self.png()).decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        kind = f"{type(self._source).__name__}" if not isinstance(self._source, str) else f"{self._source[:40]!r}"
        return f"Image({kind})"

    def __getstate__(self) -> dict[str, Any]:
        known = {"sha256": self.sha256} if "sha256" in self.__dict__ else {}
        return {"name": self.name, "pixels": self.pixels, "_max_pixels": self._max_pixels, **known}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["pixels"].setflags(write=False)
        self.__dict__.update(state, _source=state["pixels"])


def _name_of(source: Any) -> str:
    if isinstance(source, str | Path):
        return "image data URL" if str(source).startswith("data:") else f"image {source}"
    return "image bytes" if isinstance(source, bytes) else f"image of type {type(source).__name__}"


def _of_data_url(url: str) -> bytes:
    head, _, body = url.partition(",")
    if not head.endswith(";base64"):
        raise BadInput("an image data URL looks like data:image/png;base64,...")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise BadInput(f"image data URL: not base64 ({error})") from error
