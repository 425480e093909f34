import base64
import pickle
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.sample import Message, from_openai, to_openai
from mmrl.video import Video

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
FRAME, OTHER = Image(PIXELS), Image(PIXELS[::-1])


def test_frames_are_shown_at_the_rate() -> None:
    video = Video([FRAME, OTHER, FRAME], fps=2)
    assert video.times == (0.0, 0.5, 1.0)
    assert video.is_regular
    assert Video([FRAME, OTHER], 2, (0.0, 0.5)) == Video([FRAME, OTHER], 2)
    assert Video([FRAME, OTHER], 2, (0.0, 0.6)) != Video([FRAME, OTHER], 2)
    assert not Video([FRAME, OTHER], 2, (0.0, 0.6)).is_regular


def test_round_trip_is_exact_with_equal_frames_and_odd_rate() -> None:
    video = Video([FRAME, FRAME, OTHER, FRAME], fps=3.3)
    back = Video.from_data_url(video.data_url())
    assert back == video
    assert back.frames == (FRAME, FRAME, OTHER, FRAME)
    assert (back.fps, back.times) == (3.3, video.times)
    assert Video([FRAME], 3.3) != video
    assert ";times" not in video.data_url()


@given(st.floats(1e-3, 1e3), st.lists(st.floats(0, 1e6), min_size=1, max_size=4, unique=True).map(sorted))
def test_any_times_survive_data_url_chat_and_pickle(fps: float, times: list[float]) -> None:
    video = Video([FRAME] * len(times), fps, times)
    (back,) = from_openai(to_openai([Message("user", (video,))]))[0].videos
    for twin in (Video.from_data_url(video.data_url()), back, pickle.loads(pickle.dumps(video))):
        assert twin == video
        assert (twin.fps, twin.times, twin.sha256) == (fps, tuple(times), video.sha256)


@pytest.mark.parametrize("url", [
    "data:image/png;base64,AAAA", "data:video/png;fps=4;base64,@@", "data:video/png;fps=0;base64," +
    base64.b64encode(FRAME.png()).decode(), "data:video/png;fps=1.2.3;base64,AAAA",
    "data:video/png;fps=1;times=1|2;base64,AAAA", "data:video/png;fps=1;times=a;base64,AAAA",
])  # fmt: skip
def test_bad_urls(url: str) -> None:
    with pytest.raises(BadInput):
        Video.from_data_url(url)


@pytest.mark.parametrize(("frames", "fps", "times", "message"), [
    ([], 1, None, "at least one frame"), (["a.png"], 1, None, "each an Image"), ([FRAME], 0, None, "above 0"),
    ([FRAME], float("nan"), None, "above 0"), ([FRAME], 1, (0.0, 1.0), "one for each of its 1 frames"),
    ([FRAME] * 2, 1, (1.0, 1.0), "rising"), ([FRAME], 1, (float("inf"),), "rising"),
])  # fmt: skip
def test_what_is_no_video(frames: list, fps: float, times: tuple | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Video(frames, fps, times)


def test_a_file_becomes_frames_with_their_times(tmp_path: Path) -> None:
    path = tmp_path / "grey.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10, width=8, height=6, pix_fmt="gray")
        for level in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((6, 8), level, np.uint8), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = Video.from_file(path, fps=2)
    assert video.times == pytest.approx((0.0, 0.5, 1.0, 1.5))
    assert video.fps == pytest.approx(2.0)
    assert [frame.size for frame in video.frames] == [(8, 6)] * 4
    assert [int(frame.pixels[0, 0, 0]) for frame in video.frames] == [0, 5, 10, 15]
    assert Video.from_data_url(video.data_url()) == video
    single = Video.from_file(str(path), count=1)
    assert (single.fps, len(single.frames)) == (10.0, 1)
    assert len(Video.from_file(path).frames) == 20
