"""Frames of a video file, taken evenly in time.

Comes in: a file that PyAV can read, and how many frames a second or in all.  Goes out: RGB frames with the second that
each is shown at.  PyAV is imported when the first file is read.
"""

from __future__ import annotations

import bisect
import importlib
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmrl.errors import BadInput
from mmrl.image_decode import MAX_PIXELS

MAX_FRAMES = 1024
"""The most frames that are taken of a file."""
MAX_TOTAL_PIXELS = 512_000_000
"""The most pixels that the frames taken have together (width x height x frames)."""

_NEARLY = 1e-6
"""Seconds by which a frame may be late and still be the one that is shown; time bases are fractions."""


@dataclass(frozen=True)
class Frame:
    """One frame: its second, counted from the first frame, and its RGB pixels, uint8 (height, width, 3)."""

    time: float
    pixels: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Frames:
    """The frames that were taken, at least one, and the file's own rate."""

    frames: tuple[Frame, ...]
    fps: float


def evenly(times: Sequence[float], fps: float | None = None, count: int | None = None) -> list[float]:
    """Which frames are taken.

    Args:
        times: when each frame of the file is shown, in seconds, rising from 0.
        fps: those that are shown at 0, ``1 / fps``, ``2 / fps``, ... seconds, as far as the last frame.
        count: those that are shown at so many moments from the first frame to the last; one moment is in the middle.

    Returns:
        The times of the frames that are taken, each once; all if neither is given, or there are no more than ``count``.
    """
    last = times[-1]
    if fps is not None:
        until = [*times[1:], last + 2 * _NEARLY]
        return [t for t, end in zip(times, until, strict=True) if math.ceil((t - _NEARLY) * fps) / fps + _NEARLY < end]
    if count is None or count >= len(times):
        return list(times)
    moments = [last / 2] if count == 1 else [last * k / (count - 1) for k in range(count)]
    return [times[i] for i in sorted({bisect.bisect_right(times, m + _NEARLY) - 1 for m in moments})]


def read_frames(path: Path, fps: float | None = None, count: int | None = None) -> Frames:
    """Decode a file and take the frames that :func:`evenly` says.

    Raises:
        BadInput: as :meth:`mmrl.Video.from_file` says.
    """
    if fps is not None and count is not None:
        raise BadInput(f"{path}: give fps or count, not both")
    if fps is not None and not 0 < fps < math.inf:
        raise BadInput(f"{path}: fps is a number above 0, not {fps}")
    if count is not None and count < 1:
        raise BadInput(f"{path}: count is a whole number of at least 1, not {count}")
    av, name = _pyav(), f"video {path}"
    if not path.is_file():
        raise BadInput(f"{name}: no such file")
    if not path.stat().st_size:
        raise BadInput(f"{name}: the file is empty (0 bytes)")
    try:
        # Opened twice, because not every format can be wound back.
        with _opened(av, path) as container:
            clip = _clip(container, name)
        wanted = evenly(clip.times, fps, count)
        _within_limits(clip, len(wanted), name)
        with _opened(av, path) as container:
            taken = tuple(Frame(t, _upright(frame)) for t, frame in _at(_decoded(container, clip.fps), wanted))
    except (av.error.FFmpegError, OSError) as error:
        raise BadInput(f"{name}: no video that can be decoded, or damaged ({error})") from error
    if len({frame.pixels.shape for frame in taken}) != 1:
        raise BadInput(f"{name}: {len(taken)} frames were decoded, and not all of one size; the file is damaged")
    return Frames(taken, clip.fps)


def _pyav() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise BadInput(f"reading video files needs PyAV: pip install mmrl[video] ({error})") from error


@contextmanager
def _opened(av: Any, path: Path) -> Generator[Any]:
    # An open file and no protocol: a playlist that calls itself a video opens neither files nor addresses.
    with path.open("rb") as file, av.open(file, options={"protocol_whitelist": "none"}) as container:
        yield container


@dataclass(frozen=True)
class _Clip:
    """What a file says of itself: when its frames are shown, their rate, and the pixels of one."""

    times: list[float]
    fps: float
    pixels: int


def _within_limits(clip: _Clip, frames: int, name: str) -> None:
    if frames > MAX_FRAMES:
        raise BadInput(f"{name}: {frames} frames; at most {MAX_FRAMES} are taken: give a lower fps or a smaller count")
    if clip.pixels > MAX_PIXELS or clip.pixels * frames > MAX_TOTAL_PIXELS:
        raise BadInput(f"{name}: {frames} frames of {clip.pixels} pixels; at most {MAX_PIXELS} a frame and "
                       f"{MAX_TOTAL_PIXELS} in all are decoded: take fewer frames")  # fmt: skip


def _clip(container: Any, name: str) -> _Clip:
    """Read the file's table; nothing is decoded."""
    if not container.streams.video:
        raise BadInput(f"{name}: the file has no video stream")
    stream = container.streams.video[0]
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    stamps = [packet.pts for packet in container.demux(stream) if packet.size]
    if not stamps:
        raise BadInput(f"{name}: the file holds no frames")
    if len(stamps) < stream.frames:
        raise BadInput(f"{name}: the file is damaged: {len(stamps)} of its {stream.frames} frames are there")
    known = None not in stamps
    times = [float((s - min(stamps)) * stream.time_base) if known else i / rate
             for i, s in enumerate(sorted(stamps) if known else stamps)]  # fmt: skip
    return _Clip(times, rate, stream.codec_context.width * stream.codec_context.height)


def _decoded(container: Any, rate: float) -> Iterator[tuple[float, Any]]:
    """Every frame with its second, from the first; one that is not later than the one before it is left out."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    first = last = None
    for number, frame in enumerate(container.decode(stream)):
        time = number / rate if frame.time is None else float(frame.time)
        first = time if first is None else first
        if last is None or time > last:
            last = time
            yield time - first, frame


def _at(frames: Iterator[tuple[float, Any]], moments: Sequence[float]) -> Iterator[tuple[float, Any]]:
    """The frames that are shown at ``moments``; each once."""
    ahead, shown = iter(moments), None
    moment = next(ahead, None)
    for time, frame in frames:
        wanted = False
        while moment is not None and moment + _NEARLY < time:
            moment, wanted = next(ahead, None), True
        if wanted and shown is not None:
            yield shown
        if moment is None:
            return
        shown = (time, frame)
    if shown is not None:
        yield shown


def _upright(frame: Any) -> np.ndarray[Any, Any]:
    """RGB pixels, turned as the file says."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4))
