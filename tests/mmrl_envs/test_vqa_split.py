import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.errors import BadInput
from mmrl_envs.vqa_split import Split, content_id, image_name, place


def test_places_are_the_same_everywhere_and_uniform() -> None:
    # A change here moves held-out samples into training.
    assert place("a") == 0x487B6B9793FB / 16**12
    assert hashlib.sha256(b"split:a").hexdigest().startswith("487b6b9793fb")
    counts = [0] * 10
    for i in range(10_000):
        counts[int(place(f"id-{i}") * 10)] += 1
    assert all(900 < count < 1100 for count in counts)


@given(st.text(), st.floats(0.01, 0.99))
def test_every_sample_is_in_exactly_one_part(sample_id: str, share: float) -> None:
    parts = [Split(part, share).holds(sample_id) for part in ("train", "eval")]
    assert sum(parts) == 1
    assert Split("all", share).holds(sample_id)


@given(st.text(), st.floats(0.01, 0.5))
def test_a_larger_share_keeps_what_is_held_out(sample_id: str, share: float) -> None:
    assert not Split("eval", share).holds(sample_id) or Split("eval", share + 0.1).holds(sample_id)


@pytest.mark.parametrize(("arguments", "message"), [
    (("test",), "part is one of all, train, eval, not 'test'"), (("eval", 0.0), "between 0 and 1, not 0.0"),
    (("eval", 1.0), "between 0 and 1, not 1.0"), (("eval", float("nan")), "between 0 and 1, not nan"),
])  # fmt: skip
def test_bad_splits(arguments: tuple, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Split(*arguments)


def test_names_of_images(tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(b'png').hexdigest()}"
    for source, name in [
        ("images/a.png", "images/a.png"), ("./images//a.png", "images/a.png"), (f"{tmp_path}/a.png", "a.png"),
        ("/elsewhere/a.png", "/elsewhere/a.png"), (b"png", digest), ({"bytes": b"png", "path": "a.png"}, digest),
        ({"bytes": None, "path": "a.png"}, "a.png"), ("https://example.com/a.png", "https://example.com/a.png"),
        ("data:png", f"sha256:{hashlib.sha256(b'data:png').hexdigest()}"),
    ]:  # fmt: skip
        assert image_name(source, tmp_path) == name
    for source in (None, 3, {"bytes": None, "path": None}):
        with pytest.raises(BadInput, match="an image is a path"):
            image_name(source)


def test_the_content_names_a_sample() -> None:
    assert content_id("What?", ["a.png"]) == hashlib.sha256(b'["What?", "a.png"]').hexdigest()[:16]
    assert len({content_id("What?", ["a", "b"]), content_id("What?", ["b", "a"]), content_id("What?a", ["b"])}) == 3
