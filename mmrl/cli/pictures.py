"""Pictures for a person at a terminal: what an episode shows, as files to open.

Comes in: content.  Goes out: its words, with the file of each picture where the picture stands.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from mmrl.image import Image
from mmrl.sample import Content, Part, Text, images_of

SMALLEST = 224
"""Smaller pictures are enlarged, each pixel to a square, to at least so many pixels a side."""


class Pictures:
    """Writes the pictures of an episode into a folder, which is made with the first one.

    Args:
        folder: where; None takes a new temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._count = 0

    def in_words(self, content: Content) -> str:
        """The content, with the files of its images and frames named in place."""
        return "\n".join(self._name(part) for part in content)

    def _name(self, part: Part) -> str:
        if isinstance(part, Text):
            return part.text
        paths = [self._write(image) for image in images_of((part,))]
        return f"<image: {paths[0]}>" if isinstance(part, Image) else f"<video: {paths[0]} to {paths[-1]}>"

    def _write(self, image: Image) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="mmrl-play-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        path = self._folder / f"{self._count:03d}.png"
        times = max(1, -(-SMALLEST // min(image.size)))
        picture = image.to_pil()
        picture.resize((picture.width * times, picture.height * times), resample=0).save(path)
        return path
