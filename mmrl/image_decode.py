"""Encoded images to RGB pixels: every mode that files come in, and one error for everything that is no image.

Comes in: a file, encoded bytes or a PIL image.  Goes out: a PIL image in mode RGB, upright, or one line that names
the file and what is wrong with it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmrl.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAX_PIXELS = 64_000_000
"""Images with more pixels than this are refused (a decompression bomb looks like this)."""

_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def decode(source: Path | bytes | PILImage, name: str, max_pixels: int = MAX_PIXELS) -> PILImage:
    """Decode to upright RGB.

    The header is read first, and an image with too many pixels is refused before anything is decoded.  Of an animation
    (GIF, WebP, APNG) the first frame is taken; :meth:`mmrl.Video.from_file` reads all of them.  EXIF orientation is
    applied; what is transparent stands on white; greys of 16 bits keep their upper 8, as Pillow does with colours of
    16 bits; floats are as :func:`to_rgb` says.

    Args:
        source: a file, encoded bytes, or an image that Pillow has opened or made.
        name: what errors call it.
        max_pixels: the most pixels (width x height) that are decoded.

    Raises:
        BadInput: naming ``name``: no such file, empty, no image, too many pixels, damaged.
    """
    from PIL import Image as pil

    if isinstance(source, pil.Image):
        return _upright(source, name, max_pixels)
    with _open(source, name, max_pixels) as opened:
        return _upright(opened, name, max_pixels)


def _open(source: Path | bytes, name: str, max_pixels: int) -> PILImage:
    """Read the header."""
    from PIL import Image as pil

    try:
        if isinstance(source, Path) and not source.is_file():
            raise BadInput(f"{name}: no such file")
        if not (source.stat().st_size if isinstance(source, Path) else len(source)):
            raise BadInput(f"{name}: the image is empty (0 bytes)")
        return pil.open(source if isinstance(source, Path) else io.BytesIO(source))
    except BadInput:
        raise
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        most = 2 * (pil.MAX_IMAGE_PIXELS or max_pixels)
        limit = f"max_pixels ({max_pixels:,})" if max_pixels <= most else f"the {most:,} that Pillow opens"
        raise BadInput(f"{name}: an image of more pixels than {limit}") from error
    except pil.UnidentifiedImageError as error:
        raise BadInput(f"{name}: not an image that Pillow can read") from error
    except Exception as error:  # what Pillow's readers raise on damaged data is of any type
        raise BadInput(f"{name}: the image cannot be read ({error})") from error


def _upright(opened: PILImage, name: str, max_pixels: int) -> PILImage:
    """Decode what is open."""
    from PIL import ImageOps

    width, height = opened.size
    if width * height == 0:
        raise BadInput(f"{name}: an image of {width}x{height} pixels")
    if width * height > max_pixels:
        raise BadInput(f"{name}: an image of {width}x{height} pixels, more than max_pixels ({max_pixels:,})")
    try:
        opened.load()
        try:
            turned = ImageOps.exif_transpose(opened)
        except Exception:  # a picture that every viewer shows is not refused because of what is written beside it
            turned = opened
        return to_rgb(turned)
    except Exception as error:  # what Pillow's readers raise on damaged data is of any type
        raise BadInput(f"{name}: the image is damaged ({error})") from error


def to_rgb(image: PILImage) -> PILImage:
    """Convert any mode to RGB.

    Greys of more than 8 bits (modes ``I`` and ``I;16``) have the range 0-65535 and keep their upper 8 bits.  Floats
    (mode ``F``) have the range 0-1, or 0-255 if one of them is above 1.  Transparent pixels are laid on white.

    Raises:
        ValueError: for numbers outside these ranges.
    """
    from PIL import Image as pil

    if image.mode in _DEEP:
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65_535:
            raise ValueError(f"greys of mode {image.mode} are 0 to 65535, these are {deep.min()} to {deep.max()}")
        return pil.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        real = np.asarray(image).astype(np.float64)
        if not (real.min() >= 0 and real.max() <= 255):
            raise ValueError(f"floats are 0 to 1, or 0 to 255; these are {real.min()} to {real.max()}")
        return pil.fromarray(np.round(real * (255 if real.max() <= 1 else 1)).astype(np.uint8)).convert("RGB")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        layer = image.convert("RGBA")
        return pil.alpha_composite(pil.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
