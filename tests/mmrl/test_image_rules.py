import base64
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmrl.image_rules
from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.image_rules import ImageRules, locate, open_image

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
PNG = Image(PIXELS).png()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    return folder


def test_all_that_a_row_may_hold(root: Path) -> None:
    text = base64.b64encode(PNG).decode()
    sources: list[Any] = [
        "images/a.png", Path("images/a.png"), root / "images" / "a.png", "images/../images/a.png", PNG, bytearray(PNG),
        {"bytes": PNG, "path": None}, {"bytes": PNG, "path": "/gone.png"}, {"bytes": None, "path": "images/a.png"},
        f"data:image/png;base64,{text}", text, f"{text[:40]}\n{text[40:]}\n", Image(PNG).to_pil(), PIXELS,
        Image(PIXELS),
    ]  # fmt: skip
    for source in sources:
        assert open_image(source, ImageRules(root)) == Image(PIXELS), source


def test_nothing_is_read_before_it_is_needed(root: Path) -> None:
    image = open_image("images/none.png", ImageRules(root))
    with pytest.raises(BadInput, match=r"^image images/none.png: no such file$"):
        _ = image.pixels


@pytest.mark.parametrize("path", ["../secret.png", "images/../../secret.png", "images/link.png", "up/secret.png",
                                  "{root}/../secret.png", "/etc/hostname"])  # fmt: skip
def test_no_path_leads_out_of_the_folder(root: Path, path: str) -> None:
    os.symlink("../../secret.png", root / "images" / "link.png")
    os.symlink("..", root / "up")
    path = path.format(root=root)
    with pytest.raises(BadInput, match=f"^image {path}: it lies outside {root}; set image_root"):
        open_image(path, ImageRules(root))
    with pytest.raises(BadInput, match="outside"):
        open_image({"bytes": None, "path": path}, ImageRules(root))
    assert locate(path, ImageRules(root, allow_outside=True)).is_absolute()
    if "secret" in path or "link" in path:
        assert open_image(path, ImageRules(root, allow_outside=True)) == Image(PIXELS)


def test_a_link_within_the_folder_and_a_folder_that_is_a_link(root: Path) -> None:
    os.symlink("a.png", root / "images" / "b.png")
    os.symlink(root, root.parent / "other")
    assert open_image("images/b.png", ImageRules(root.parent / "other")) == Image(PIXELS)
    assert open_image(root.parent / "other" / "images" / "a.png", ImageRules(root)) == Image(PIXELS)


def test_without_a_folder_no_path_is_inside(root: Path) -> None:
    with pytest.raises(BadInput, match="no folder is given that it could lie in; set image_root"):
        open_image(root / "images" / "a.png", ImageRules())
    assert open_image(PNG, ImageRules()) == Image(PIXELS)


@pytest.mark.parametrize(("source", "message"), [
    ("http://example.com/a.png", "image http://example.com/a.png: web addresses are not fetched; allow_http: true"),
    ("HTTPS://example.com/a.png", "allow_http: true fetches them"),
    ({"bytes": None, "path": "https://example.com/a.png"}, "allow_http"),
    ("file:///etc/passwd", "'file' is not read"), ("s3://bucket/a.png", "'s3' is not read"),
    ("", "an image's path is empty"), ("a\0b", "no path"), ("x" * 5000, "cannot be read"),
    ({"bytes": None, "path": None}, "neither bytes nor a path"), (None, "not nothing"), (7, "not a int"),
])  # fmt: skip
def test_what_is_refused(tmp_path: Path, source: object, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        _ = open_image(source, ImageRules(tmp_path)).pixels
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_pixel_limit_holds_for_every_source(root: Path) -> None:
    for source in ("images/a.png", PNG, {"bytes": PNG}, Image(PIXELS).data_url(), base64.b64encode(PNG).decode(),
                   Image(PIXELS).to_pil()):  # fmt: skip
        with pytest.raises(BadInput, match="4x5 pixels, more than max_pixels \\(19\\)"):
            _ = open_image(source, ImageRules(root, max_pixels=19)).pixels
    with pytest.raises(BadInput, match="max_pixels is a whole number of at least 1, not 0"):
        ImageRules(max_pixels=0)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        self.wfile.write(PNG if self.path == "/a.png" else b"x" * 300_000)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_addresses_are_fetched_where_they_are_allowed(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ImageRules(allow_http=True)
    assert open_image(f"{address}/a.png", rules) == Image(PIXELS)
    with pytest.raises(BadInput, match=f"image {address}/none: cannot be fetched .*404"):
        _ = open_image(f"{address}/none", rules).pixels
    with pytest.raises(BadInput, match=f"image {address}/text: not an image"):
        _ = open_image(f"{address}/text", rules).pixels
    monkeypatch.setattr(mmrl.image_rules, "MAX_BYTES", 299_999)
    with pytest.raises(BadInput, match="more than 299999 bytes"):
        _ = open_image(f"{address}/long", rules).pixels
    monkeypatch.setattr(mmrl.image_rules, "PATIENCE", 0.0)
    with pytest.raises(BadInput, match=f"image {address}/a.png: "):
        _ = open_image(f"{address}/a.png", rules).pixels
