import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pil

from mmrl.errors import BadInput
from mmrl.image_decode import decode, to_rgb

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)


def encoded(image: pil.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def pixels(data: bytes | pil.Image | Path) -> np.ndarray:
    image = decode(data, "it")
    assert image.mode == "RGB"
    return np.asarray(image)


def bomb(width: int, height: int) -> bytes:
    """A PNG file whose header promises many pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0\0\x10\0IDAT"


def test_palette() -> None:
    image = pil.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    assert pixels(encoded(image)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert pixels(encoded(image, "GIF")).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert pixels(encoded(image, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_transparency_lies_on_white() -> None:
    clear = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    assert pixels(encoded(pil.fromarray(clear))).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    grey = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert pixels(encoded(pil.fromarray(grey, "LA"))).tolist() == [[[10] * 3, [255] * 3]]
    keyed = pil.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert pixels(encoded(keyed, transparency=(4, 5, 6))).tolist() == [[[1, 2, 3], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_deep_greys_are_scaled_and_not_clipped(kind: str) -> None:
    deep = RAMP.astype(np.uint16) * 257
    found = pixels(encoded(pil.fromarray(deep), kind))
    assert np.array_equal(found, np.stack([RAMP] * 3, axis=-1))


def test_numbers_outside_their_range_are_an_error() -> None:
    assert np.asarray(to_rgb(pil.fromarray(np.array([[0, 256, 65535]], np.int32))))[0, :, 0].tolist() == [0, 1, 255]
    for wrong in (np.array([[0, 65536]], np.int32), np.array([[-1]], np.int32), np.array([[-0.1]], np.float32),
                  np.array([[256.0]], np.float32), np.array([[np.nan, 0]], np.float32)):  # fmt: skip
        with pytest.raises(BadInput, match=r"^it: the image is damaged "):
            decode(pil.fromarray(wrong), "it")


def test_floats() -> None:
    for real, levels in (([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 100.4, 255.0], [0, 100, 255])):
        image = pil.fromarray(np.array([real], np.float32))
        assert pixels(encoded(image, "TIFF"))[0, :, 0].tolist() == levels


def test_one_bit_and_cmyk() -> None:
    image = pil.fromarray(RAMP).convert("1")
    assert set(np.unique(pixels(encoded(image)))) == {0, 255}
    ink = pil.fromarray(COLOURS).convert("CMYK")
    assert np.array_equal(pixels(encoded(ink, "TIFF")), COLOURS)
    assert pixels(encoded(ink, "JPEG")).shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [pil.new("RGB", (4, 3), colour) for colour in ("red", "blue", "lime")]
    options = {} if kind == "TIFF" else {"duration": 100, "loop": 0}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:],
                   **options, **({"lossless": True} if kind == "WEBP" else {}))  # fmt: skip
    assert pil.open(io.BytesIO(data)).n_frames == 3
    assert np.array_equal(pixels(data), np.asarray(frames[0]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    exif = pil.Exif()
    exif[0x0112] = orientation
    data = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    turned = {1: data, 2: data[:, ::-1], 3: data[::-1, ::-1], 4: data[::-1], 5: data.T, 6: np.rot90(data, -1),
              7: data[::-1, ::-1].T, 8: np.rot90(data)}[orientation]  # fmt: skip
    assert np.array_equal(pixels(encoded(pil.fromarray(data), exif=exif))[..., 0], turned)


def test_a_broken_note_on_orientation_spoils_no_picture() -> None:
    data = encoded(pil.fromarray(COLOURS), "WEBP", lossless=True, exif=b"Exif\0\0no exif at all")
    assert np.array_equal(pixels(data), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_damaged(kind: str, tmp_path: Path) -> None:
    noise = pil.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    data = encoded(noise, kind)
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    for source in (data[: len(data) // 2], tmp_path / "half.png"):
        with pytest.raises(BadInput, match=r"^it: (the image|not an image)"):
            decode(source, "it")


@pytest.mark.parametrize(("content", "message"), [
    (None, "it: no such file"), (b"", "it: the image is empty (0 bytes)"),
    (b"A text.", "it: not an image that Pillow can read"),
])  # fmt: skip
def test_what_is_no_image(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "photo.png"
    if content is not None:
        path.write_bytes(content)
        with pytest.raises(BadInput) as caught:
            decode(content, "it")
        assert str(caught.value) == message
    with pytest.raises(BadInput) as caught:
        decode(path, "it")
    assert str(caught.value) == message


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (10_000, 10_000), (50_000, 50_000)])
def test_too_many_pixels_are_refused_from_the_header_alone(width: int, height: int) -> None:
    # The second is one that Pillow warns of, the third one that it refuses itself.  None of the files has any pixels.
    for strict in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(strict)
            with pytest.raises(BadInput, match=r"^it: .*pixels.*64,000,000"):
                decode(bomb(width, height), "it")


def test_the_limit_is_exact_and_holds_for_opened_images_too() -> None:
    image = pil.new("RGB", (4, 5))
    for source in (image, encoded(image)):
        assert decode(source, "it", 20).size == (4, 5)
        with pytest.raises(BadInput, match="4x5 pixels, more than max_pixels \\(19\\)"):
            decode(source, "it", 19)
    with pytest.raises(BadInput, match="0x5 pixels"):
        decode(pil.new("RGB", (0, 5)), "it")


DATA = [encoded(pil.fromarray(COLOURS).quantize(16) if kind == "GIF" else pil.fromarray(COLOURS), kind)
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(DATA), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
       st.integers(0, 2000))  # fmt: skip
def test_damage_is_bad_input_or_pixels_and_nothing_else(data: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    spoilt = bytearray(data)
    for at, value in changes:
        spoilt[at % len(spoilt)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcome = decode(bytes(spoilt[: len(spoilt) - cut]), "it", 1_000_000).mode
        except BadInput as error:
            outcome = str(error)
    assert outcome == "RGB" or outcome.startswith("it: ")
