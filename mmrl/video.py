"""A short video as a part of a message: frames with time stamps.

Comes in: frames, or a file that PyAV decodes and samples.  Goes out: the frames as images, the second that each shows,
and a hash of both.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.video_file import read_frames

_HEAD = re.compile(r"data:video/png;fps=([0-9.e+-]+)(?:;times=([0-9.e+|-]+))?;base64,")


class Video:
    """A short video: frames in time order.

    Args:
        frames: at least one image, all of one size.
        fps: frames a second, above 0; of irregular frames their average.
        times: when each frame is shown, in seconds, rising; by default frame i is shown at ``i / fps``.

    Raises:
        BadInput: without frames, for a rate that is not above 0, and for times that do not rise or are too few.
    """

    def __init__(self, frames: Sequence[Image], fps: float = 4.0, times: Sequence[float] | None = None) -> None:
        self.frames = tuple(frames)
        self.fps = float(fps)
        if not self.frames or not all(isinstance(f, Image) for f in self.frames):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput("a Video needs at least one frame, each an Image")
        if not 0 < self.fps < math.inf:
            raise BadInput(f"a Video's fps is above 0, not {fps}")
        regular = tuple(i / self.fps for i in range(len(self.frames)))
        self.times = regular if times is None else tuple(float(t) for t in times)
        self.is_regular = self.times == regular
        rising = all(a < b for a, b in zip(self.times, self.times[1:], strict=False))
        if len(self.times) != len(self.frames) or not rising or not all(math.isfinite(t) for t in self.times):
            raise BadInput(f"a Video's times are rising seconds, one for each of its {len(self.frames)} frames, "
                           f"not {self.times!s:.80}")  # fmt: skip

    @classmethod
    def from_file(cls, path: str | Path, fps: float | None = None, count: int | None = None) -> Video:
        """Decode a video file, or an animated GIF, WebP or APNG, and take frames evenly in time.

        Args:
            path: the file; of its first video stream.
            fps: take the frame that is shown every ``1 / fps`` seconds, from the first on.
            count: take so many frames, from the first to the last; of one, that in the middle.

        With neither, all frames are taken.  No frame is taken twice: where the file has fewer, there are fewer.  The
        times are the frames' own, counted from the first; the rate is their average.  A rotation that the file declares
        is applied.

        Raises:
            BadInput: if PyAV is not installed; naming the file, if it is missing, no video, damaged, or more is asked
                for than ``MAX_FRAMES`` and ``MAX_TOTAL_PIXELS`` of :mod:`mmrl.video_file`; if both ``fps`` and
                ``count`` are given, or one is not above 0.
        """
        found = read_frames(Path(path), fps, count)
        times = [frame.time for frame in found.frames]
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else found.fps
        name = f"frame of {path}"
        return cls([Image(frame.pixels, name=name) for frame in found.frames], rate, times)

    @cached_property
    def sha256(self) -> str:
        """Hash of the frames, their rate and, where they are irregular, their times, as 64 hex digits."""
        facts = (self.fps, [f.sha256 for f in self.frames], *(() if self.is_regular else (self.times,)))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def data_url(self) -> str:
        """The video as ``data:video/png;fps=4.0;base64,<frame>,<frame>,...``: every frame a PNG.

        Irregular times stand behind the rate: ``;times=0.0|0.5|2.0``.  Lossless, unlike an animated PNG, which merges
        equal frames and rounds their duration.
        """
        times = "" if self.is_regular else ";times=" + "|".join(map(repr, self.times))
        return f"data:video/png;fps={self.fps!r}{times};base64," + ",".join(
            base64.b64encode(f.png()).decode() for f in self.frames
        )

    @classmethod
    def from_data_url(cls, url: str) -> Video:
        """Read what :meth:`data_url` wrote.

        Raises:
            BadInput: if the URL is of another form.
        """
        head = _HEAD.match(url)
        try:
            if head is None:
                raise ValueError(f"it starts with {url[:40]!r}")
            frames = [base64.b64decode(frame, validate=True) for frame in url[head.end() :].split(",")]
            times = [float(t) for t in head[2].split("|")] if head[2] else None
            return cls([Image(frame) for frame in frames], float(head[1]), times)
        except ValueError as error:
            raise BadInput(f"a video data URL looks like data:video/png;fps=4.0;base64,...: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Video) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Video({len(self.frames)} frames, {self.fps:g} fps)"
