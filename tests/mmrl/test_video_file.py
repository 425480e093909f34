import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pil

import mmrl.video_file
from mmrl.errors import BadInput
from mmrl.video_file import evenly, read_frames


def write(path: Path, stamps: list[int], codec: str = "mpeg4") -> Path:
    """A video of 64x48 pixels whose frame i has grey level 10 * i and is shown at ``stamps[i] / 10`` seconds."""
    width, height, rate = 64, 48, 10
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, width=width, height=height, pix_fmt="yuv420p")
        stream.codec_context.time_base = Fraction(1, rate)
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 10 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def taken(path: Path, fps: float | None = None, count: int | None = None) -> tuple[list[float], list[int]]:
    """Times, and which frame each is by its grey level."""
    frames = read_frames(path, fps, count).frames
    return [round(f.time, 6) for f in frames], [round(float(f.pixels.mean()) / 10) for f in frames]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mp4", "libx264"), ("a.mkv", "ffv1"),
                                             ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")])  # fmt: skip
def test_by_rate_by_count_and_all(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / name, list(range(20)), codec)
    assert taken(path, fps=2) == ([0.0, 0.5, 1.0, 1.5], [0, 5, 10, 15])
    assert taken(path, count=3) == ([0.0, 0.9, 1.9], [0, 9, 19])
    assert taken(path, count=1) == ([0.9], [9])
    assert taken(path, count=50)[1] == list(range(20))
    assert taken(path)[1] == list(range(20))
    assert taken(path, fps=1000)[1] == list(range(20))
    assert read_frames(path).fps == 10.0
    assert read_frames(path).frames[0].pixels.shape == (48, 64, 3)


def test_frames_at_uneven_times(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [0, 1, 2, 20, 21, 40], "ffv1")
    assert taken(path) == ([0.0, 0.1, 0.2, 2.0, 2.1, 4.0], [0, 1, 2, 3, 4, 5])
    # At 1 second the frame of 0.2 seconds is still shown; at 3 seconds that of 2.1.
    assert taken(path, fps=1) == ([0.0, 0.2, 2.0, 2.1, 4.0], [0, 2, 3, 4, 5])
    assert taken(path, count=3) == ([0.0, 2.0, 4.0], [0, 3, 5])
    # Twice a second: what is still shown is not taken again.
    assert taken(path, fps=2) == ([0.0, 0.2, 2.0, 2.1, 4.0], [0, 2, 3, 4, 5])


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    assert taken(write(tmp_path / "a.mkv", [50, 55, 60], "ffv1")) == ([0.0, 0.5, 1.0], [0, 1, 2])


def test_an_animation(tmp_path: Path) -> None:
    frames = [pil.new("RGB", (8, 8), (level, level, level)) for level in (0, 100, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=500)
    assert taken(tmp_path / "a.gif") == ([0.0, 0.5, 1.0], [0, 10, 20])


@pytest.mark.parametrize(("angle", "matrix", "corner"), [
    (90, (0, 1, -1, 0), (0, -1)), (180, (-1, 0, 0, -1), (-1, -1)), (270, (0, -1, 1, 0), (-1, 0)),
])  # fmt: skip
def test_a_declared_rotation_is_applied(tmp_path: Path, angle: int, matrix: tuple[int, ...],
                                        corner: tuple[int, int]) -> None:
    """Phones write pictures as the sensor has them and how far to turn them clockwise."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=64, height=48, pix_fmt="yuv420p")
        array = np.zeros((48, 64, 3), np.uint8)
        array[:16, :16] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (frame,) = read_frames(path).frames
    assert frame.pixels.shape == ((64, 48, 3) if angle != 180 else (48, 64, 3))
    assert frame.pixels[corner].min() > 200
    assert sum(int(frame.pixels[y, x].min() > 200) for y in (0, -1) for x in (0, -1)) == 1


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


def test_what_is_no_video(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", list(range(20))).read_bytes()
    sound(tmp_path / "sound.wav")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/a.mp4\n"
                                        "#EXT-X-ENDLIST\n")  # fmt: skip
    undecodable = "no video that can be decoded, or damaged"
    for name, message in {"none.mp4": "no such file", "empty.mp4": "the file is empty (0 bytes)",
                          "text.mp4": undecodable, "sound.wav": "has no video stream", "half.mp4": undecodable,
                          "list.m3u8": undecodable}.items():  # fmt: skip
        with pytest.raises(BadInput) as caught:
            read_frames(tmp_path / name)
        assert str(caught.value).startswith(f"video {tmp_path / name}: ")
        assert message in str(caught.value)


def test_a_file_that_was_cut_off_behind_its_table(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3)).astype(np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10, width=64, height=48, pix_fmt="yuv420p")
        for array in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=r"a.mp4: .*damaged"):
        read_frames(path)


def test_arguments(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [0, 1])
    for arguments, message in {(1.0, 1): "fps or count, not both", (0.0, None): "fps is a number above 0, not 0.0",
                               (float("nan"), None): "not nan", (None, 0): "count is a whole number of at"}.items():
        with pytest.raises(BadInput, match=message):
            read_frames(path, *arguments)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", list(range(20)))
    monkeypatch.setattr(mmrl.video_file, "MAX_FRAMES", 4)
    for arguments in ((None, None), (None, 5), (3.0, None)):
        with pytest.raises(BadInput, match="at most 4 are taken: give a lower fps or a smaller count"):
            read_frames(path, *arguments)
    assert len(taken(path, fps=2)[0]) == len(taken(path, count=4)[0]) == 4
    monkeypatch.setattr(mmrl.video_file, "MAX_TOTAL_PIXELS", 64 * 48 * 3)
    with pytest.raises(BadInput, match=r"4 frames of 3072 pixels; .* 9216 in all"):
        read_frames(path, count=4)
    assert len(taken(path, count=3)[0]) == 3
    monkeypatch.setattr(mmrl.video_file, "MAX_PIXELS", 3071)
    with pytest.raises(BadInput, match="at most 3071 a frame"):
        read_frames(path, count=1)


def test_without_pyav_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadInput, match=r"needs PyAV: pip install mmrl\[video\]"):
        read_frames(tmp_path / "a.mp4")


TIMES = st.lists(st.floats(0.01, 3), max_size=30).map(lambda gaps: [0.0, *np.cumsum(gaps).tolist()])


@given(TIMES, st.integers(1, 40))
def test_frames_by_count_run_from_the_first_to_the_last(times: list[float], count: int) -> None:
    found = evenly(times, count=count)
    assert found == sorted(set(found) & set(times))
    assert len(found) <= count
    if count >= len(times):
        assert found == times
    elif count > 1:
        assert (found[0], found[-1]) == (0.0, times[-1])


@given(TIMES, st.floats(0.1, 10))
def test_frames_by_rate_are_those_shown_at_each_step(times: list[float], fps: float) -> None:
    steps = [k / fps for k in range(int(times[-1] * fps) + 2) if k / fps <= times[-1]]
    shown = sorted({max(t for t in times if t <= step) for step in steps})
    found = evenly(times, fps=fps)
    # A frame that begins within a millionth of a second of a step may count as shown or not.
    close = {t for t in times for step in steps if abs(t - step) < 2e-6}
    assert set(found) ^ set(shown) <= close | {times[times.index(t) - 1] for t in close}


def test_a_rate_beyond_the_files_own_takes_every_frame() -> None:
    assert evenly([0.0, 0.1, 5.0], fps=1e9) == [0.0, 0.1, 5.0]
    assert evenly([0.0, 0.1, 4.3], fps=1) == [0.0, 0.1]
