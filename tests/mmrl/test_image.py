import copy
import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as pil

from mmrl.errors import BadInput
from mmrl.image import Image

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
    (np.zeros((0, 2, 3), np.uint8), r"not uint8 \(0, 2, 3\)"),
    (b"", "image bytes: the image is empty"),
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


def test_pixel_limit_names_the_image() -> None:
    png = Image(PIXELS).png()
    assert Image(png, max_pixels=20).size == (4, 5)
    with pytest.raises(BadInput, match=r"^image bytes: an image of 4x5 pixels, more than max_pixels \(19\)"):
        _ = Image(png, max_pixels=19).pixels


def test_errors_call_the_image_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^photo 7: not an image"):
        _ = Image(b"text", name="photo 7").pixels
    (tmp_path / "text.png").write_text("no image at all")
    with pytest.raises(BadInput, match=r"^image .*text.png: not an image that Pillow can read$"):
        _ = Image(tmp_path / "text.png").pixels


def test_a_function_is_asked_for_bytes_once_and_only_when_needed() -> None:
    calls: list[int] = []
    png = Image(PIXELS).png()

    def read() -> bytes:
        calls.append(1)
        return png

    image = Image(read)
    assert calls == []
    assert image == Image(PIXELS)
    assert image.size == (4, 5)
    assert calls == [1]


def test_the_hash_is_of_shape_and_pixels() -> None:
    # Stored runs name their images by it, so it may not change.
    assert Image(PIXELS).sha256 == hashlib.sha256(b"(5, 4, 3)" + PIXELS.tobytes()).hexdigest()


def test_a_copy_in_another_process_need_not_hash_again() -> None:
    image = Image(PIXELS)
    assert "sha256" not in pickle.loads(pickle.dumps(image)).__dict__
    digest = image.sha256
    for twin in (pickle.loads(pickle.dumps(image)), copy.deepcopy(image)):
        assert twin.__dict__["sha256"] == digest
        assert not twin.pixels.flags.writeable
        assert len(pickle.dumps(twin)) < PIXELS.nbytes + 600


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_any_pixels_survive_png_data_url_and_pickle(pixels: np.ndarray) -> None:
    image = Image(pixels)
    for twin in (Image(image.png()), Image(image.data_url()), Image(image.to_pil()), pickle.loads(pickle.dumps(image))):
        assert twin == image
        assert np.array_equal(twin.pixels, pixels)
