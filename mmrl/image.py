"""Images and videos as parts of a message: lazy, content-addressed, with a pixel limit.

Comes in: a path, bytes, a PIL image, an array or a data URL.  Goes out: RGB pixels, decoded once and only
when asked for, and a hash of those pixels that names the image everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmrl.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAX_PIXELS = 64_000_000
"""Images with more pixels than this are refused (a decompression bomb looks like this)."""


class Image:
    """An image, decoded when first needed.

    Args:
        source: a path, encoded bytes, a ``data:`` URL, a PIL image, or a uint8 array of shape
            (height, width, 3) or (height, width).

    Two images are equal when their RGB pixels are.
    """

    def __init__(self, source: str | Path | bytes | PILImage | np.ndarray[Any, Any]) -> None:
        if isinstance(source, str) and source.startswith(("http://", "https://")):
            raise BadInput(f"image {source[:80]}: web addresses are not fetched; give a path, bytes or a data URL")
        self._source: Any = source

    @cached_property
    def pixels(self) -> np.ndarray[Any, Any]:
        """RGB pixels, uint8, shape (height, width, 3), read-only.

        Raises:
            BadInput: if the source is missing, no image, or has more than ``MAX_PIXELS`` pixels.
        """
        array = self._source if isinstance(self._source, np.ndarray) else np.asarray(self._decode())
        if array.ndim == 2:
            array = np.stack([array] * 3, axis=-1)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
            raise BadInput(f"an image array is uint8 of shape (height, width, 3), not {array.dtype} {array.shape}")
        array = np.array(array, copy=True, order="C")
        array.setflags(write=False)
        return array

    def _decode(self) -> PILImage:
        from PIL import Image as pil
        from PIL import ImageOps

        name = "PIL image"
        if isinstance(self._source, pil.Image):
            opened = self._source
        else:
            data, name = self._bytes()
            try:
                opened = pil.open(io.BytesIO(data))
            except Exception as error:
                raise BadInput(f"{name}: not an image that Pillow can read ({error})") from error
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise BadInput(f"image of {width}x{height} pixels; at most {MAX_PIXELS} pixels are decoded")
        try:
            return ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise BadInput(f"{name}: the image is damaged ({error})") from error

    def _bytes(self) -> tuple[bytes, str]:
        if isinstance(self._source, bytes):
            return self._source, "image bytes"
        text = str(self._source)
        if text.startswith("data:"):
            head, _, body = text.partition(",")
            if not head.endswith(";base64"):
                raise BadInput("an image data URL looks like data:image/png;base64,...")
            try:
                return base64.b64decode(body, validate=True), "image data URL"
            except ValueError as error:
                raise BadInput(f"image data URL: not base64 ({error})") from error
        path = Path(text)
        if not path.is_file():
            raise BadInput(f"image {path}: no such file")
        return path.read_bytes(), str(path)

    @cached_property
    def sha256(self) -> str:
        """Hash of the RGB pixels and the size, as 64 hex digits."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(self.pixels.tobytes())
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
        return {"_source": np.asarray(self.pixels)}


class Video:
    """A short video: frames in time order.

    Args:
        frames: at least one image, all of one size.
        fps: frames a second, above 0.
    """

    def __init__(self, frames: Sequence[Image], fps: float = 4.0) -> None:
        self.frames = tuple(frames)
        self.fps = float(fps)
        if not self.frames or not all(isinstance(f, Image) for f in self.frames):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput("a Video needs at least one frame, each an Image")
        if not self.fps > 0:
            raise BadInput(f"a Video's fps is above 0, not {fps}")

    @property
    def sha256(self) -> str:
        """Hash of the frames and the frame rate, as 64 hex digits."""
        return hashlib.sha256(repr((self.fps, [f.sha256 for f in self.frames])).encode()).hexdigest()

    def data_url(self) -> str:
        """The video as ``data:video/png;fps=4.0;base64,<frame>,<frame>,...``: every frame a PNG.

        Lossless, unlike an animated PNG, which merges equal frames and rounds their duration.
        """
        return f"data:video/png;fps={self.fps!r};base64," + ",".join(base64.b64encode(f.png()).decode()
                                                                    for f in self.frames)

    @classmethod
    def from_data_url(cls, url: str) -> Video:
        """Read what :meth:`data_url` wrote.

        Raises:
            BadInput: if the URL is of another form.
        """
        head = re.match(r"data:video/png;fps=([0-9.e+-]+);base64,", url)
        try:
            if head is None:
                raise ValueError(f"it starts with {url[:40]!r}")
            frames = [base64.b64decode(frame, validate=True) for frame in url[head.end() :].split(",")]
            return cls([Image(frame) for frame in frames], float(head[1]))
        except ValueError as error:
            raise BadInput(f"a video data URL looks like data:video/png;fps=4.0;base64,...: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Video) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Video({len(self.frames)} frames, {self.fps:g} fps)"
