"""What an image that a dataset names may be: where it may lie, and how large.

Comes in: a path, address, data URL, base64, bytes, mapping or image out of somebody's row, and the rules.  Goes out: a
lazy :class:`~mmrl.Image` that keeps to them, or one line that says which rule was in the way.
"""

from __future__ import annotations

import base64
import http.client
import re
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from mmrl.errors import BadInput
from mmrl.image import MAX_PIXELS, Image

MAX_BYTES = 64_000_000
"""An answer from the web that is longer is given up."""
PATIENCE = 30.0
"""Seconds after which an answer from the web that is not complete is given up."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# PNG, JPEG, GIF and WebP in base64 without the head of a data URL.  A path has a full stop; base64 has none.
_BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/\s]{40,}={0,2}\s*")


@dataclass(frozen=True)
class ImageRules:
    """What images out of a dataset may be.

    Attributes:
        root: the dataset's folder: relative paths start there, and none may lead out of it.
        allow_outside: whether paths may lead anywhere.
        allow_http: whether ``http(s)`` addresses are fetched.
        max_pixels: the most pixels (width x height) of one image; at least 1.
    """

    root: Path | None = None
    allow_outside: bool = False
    allow_http: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if isinstance(self.max_pixels, bool) or self.max_pixels < 1:
            raise BadInput(f"max_pixels is a whole number of at least 1, not {self.max_pixels!r}")


def open_image(source: Any, rules: ImageRules) -> Image:
    """Make an image of what a dataset's row holds.  Nothing is read yet: see :attr:`mmrl.Image.pixels`.

    Args:
        source: a path (relative ones start at ``rules.root``), an ``http(s)`` address, a data URL, base64 of a PNG,
            JPEG, GIF or WebP file, encoded bytes, ``{"bytes": ..., "path": ...}`` as Hugging Face datasets have it (the
            bytes go first), a PIL image, an array, or an :class:`~mmrl.Image`.
        rules: what is allowed.

    Raises:
        BadInput: naming what was given: a path that leads out of the folder (also by ``..`` or a link), an address
            where none is allowed, or no image at all.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, Mapping):
        return _of_mapping(cast("Mapping[str, Any]", source), rules)
    if isinstance(source, bytes | bytearray | memoryview):
        return Image(bytes(source), max_pixels=rules.max_pixels)
    if isinstance(source, str | Path):
        return _of_text(str(source), rules)
    if isinstance(source, np.ndarray) or _is_pil(source):
        return Image(source, max_pixels=rules.max_pixels)
    holds = "nothing" if source is None else f"a {type(source).__name__}"
    raise BadInput(f"an image is a path, a data URL, base64, bytes or a mapping with bytes or path, not {holds}")


def _is_pil(source: Any) -> bool:
    from PIL import Image as pil

    return isinstance(source, pil.Image)


def _of_mapping(source: Mapping[str, Any], rules: ImageRules) -> Image:
    data, path = source.get("bytes"), source.get("path")
    if data is not None:
        return Image(bytes(data), f"image {path}" if path else "", rules.max_pixels)
    if not isinstance(path, str | Path):
        raise BadInput("an image has neither bytes nor a path")
    return _of_text(str(path), rules)


def _of_text(text: str, rules: ImageRules) -> Image:
    if text.startswith("data:"):
        return Image(text, max_pixels=rules.max_pixels)
    if address := _ADDRESS.match(text):
        if address[1].lower() not in ("http", "https"):
            raise BadInput(f"image {text:.80}: '{address[1]}' is not read; give a path or download it")
        if not rules.allow_http:
            raise BadInput(f"image {text:.80}: web addresses are not fetched; allow_http: true fetches them")
        return Image(partial(fetch, text), f"image {text:.80}", rules.max_pixels)
    if _BASE64.fullmatch(text):
        return Image(partial(_unbase64, text), "image in base64", rules.max_pixels)
    return Image(locate(text, rules), f"image {text}", rules.max_pixels)


def locate(path: str, rules: ImageRules) -> Path:
    """Where the image ``path`` lies, links followed.

    Raises:
        BadInput: if it is empty or no path, or leads out of ``rules.root``.
    """
    if not path.strip():
        raise BadInput("an image's path is empty")
    try:
        found = ((rules.root or Path()) / path).resolve()
        inside = rules.root is not None and found.is_relative_to(rules.root.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a null character, links in a circle
        raise BadInput(f"image {path!r:.80}: no path ({error})") from error
    if not inside and not rules.allow_outside:
        where = f"it lies outside {rules.root}" if rules.root else "no folder is given that it could lie in"
        raise BadInput(f"image {path}: {where}; set image_root to the images' folder, or allow_outside: true")
    return found


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise BadInput(f"image in base64: {error}") from error


def fetch(url: str) -> bytes:
    """Read what an ``http(s)`` address gives, at most ``MAX_BYTES`` and for at most ``PATIENCE`` seconds.

    Raises:
        BadInput: naming the address, if it gives nothing, too much, or takes too long.
    """
    end, data = time.monotonic() + PATIENCE, bytearray()
    try:
        # Many servers answer no client that does not say what it is.
        request = urllib.request.Request(url, headers={"User-Agent": "mmrl"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            while block := answer.read1(1 << 16):
                data += block
                if len(data) > MAX_BYTES:
                    raise BadInput(f"image {url:.80}: more than {MAX_BYTES} bytes")
                if time.monotonic() > end:
                    raise BadInput(f"image {url:.80}: not complete after {PATIENCE:g} seconds")
    except BadInput:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise BadInput(f"image {url:.80}: cannot be fetched ({error})") from error
    return bytes(data)
