import base64
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil

import mmrl.image
from mmrl.errors import BadInput
from mmrl.image import Image, Video

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


def test_all_sources_of_the_same_pixels_are_equal(tmp_path: Path) -> None:
    first = Image(PIXELS)
    (tmp_path / "a.png").write_bytes(first.png())
    sources = [tmp_path / "a.png", str(tmp_path / "a.png"), first.png(), first.data_url(), pil.fromarray(PIXELS)]
    for source in sources:
        image = Image(source)
        assert image == first
        assert hash(image) == hash(first)
        assert np.array_equal(image.pixels, PIXELS)
        assert image.size == (4, 5)
    assert pickle.loads(pickle.dumps(Image(tmp_path / "a.png"))) == first


def test_other_shape_of_the_same_bytes_is_another_image() -> None:
    assert Image(PIXELS) != Image(PIXELS.reshape(4, 5, 3))


def test_pixels_are_a_read_only_copy() -> None:
    source = PIXELS.copy()
    image = Image(source)
    digest = image.sha256
    source[:] = 0
    assert image.sha256 == digest
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0, 0] = 1


def test_grey_becomes_rgb() -> None:
    grey = PIXELS[:, :, 0]
    assert np.array_equal(Image(grey).pixels, np.stack([grey] * 3, axis=-1))
    assert Image(pil.fromarray(grey)) == Image(grey)


def test_rotated_photo_is_turned_upright() -> None:
    buffer = io.BytesIO()
    exif = pil.Exif()
    exif[0x0112] = 6
    pil.fromarray(PIXELS).save(buffer, format="PNG", exif=exif)
    assert Image(buffer.getvalue()).size == (5, 4)


@pytest.mark.parametrize(("source", "message"), [
    ("nowhere.png", "image nowhere.png: no such file"),
    (b"no image", "not an image that Pillow can read"),
    ("data:image/png,abc", "looks like data:image/png;base64"),
    ("data:image/png;base64,@@@", "not base64"),
    (np.zeros((2, 2, 4), np.uint8), r"not uint8 \(2, 2, 4\)"),
    (np.zeros((2, 2, 3)), "not float64"),
])  # fmt: skip
def test_bad_sources_are_named_when_decoded(source: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _ = Image(source).pixels  # type: ignore[arg-type]


def test_web_addresses_are_refused_at_once() -> None:
    with pytest.raises(BadInput, match="not fetched"):
        Image("https://example.com/a.png")


def test_damaged_file_is_bad_input() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(BadInput, match="damaged"):
        _ = Image(Image(noise).png()[:2000]).pixels


def test_pixel_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmrl.image, "MAX_PIXELS", 19)
    with pytest.raises(BadInput, match="4x5 pixels; at most 19"):
        _ = Image(Image(PIXELS).png()).pixels


def test_video_round_trip_is_exact_with_equal_frames_and_odd_rate() -> None:
    frame, other = Image(PIXELS), Image(PIXELS[::-1])
    video = Video([frame, frame, other, frame], fps=3.3)
    back = Video.from_data_url(video.data_url())
    assert back == video
    assert back.frames == (frame, frame, other, frame)
    assert back.fps == 3.3
    assert Video([frame], 3.3) != video


@pytest.mark.parametrize("url", [
    "data:image/png;base64,AAAA", "data:video/png;fps=4;base64,@@", "data:video/png;fps=0;base64," +
    base64.b64encode(Image(PIXELS).png()).decode(), "data:video/png;fps=1.2.3;base64,AAAA",
])  # fmt: skip
def test_bad_video_urls(url: str) -> None:
    with pytest.raises(BadInput):
        Video.from_data_url(url)


def test_video_needs_frames_and_a_rate() -> None:
    with pytest.raises(BadInput, match="at least one frame"):
        Video([])
    with pytest.raises(BadInput, match="above 0"):
        Video([Image(PIXELS)], fps=0)
