import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.errors import BadInput
from mmrl.sample import ROLES, Image, Message, Sample, Text, Video, as_content, from_openai, text_of, to_openai

IMAGES = [Image(np.full((2, 3, 3), value, np.uint8)) for value in (0, 9)]
PARTS = st.one_of(
    st.text().map(Text),
    st.sampled_from(IMAGES),
    st.builds(Video, st.lists(st.sampled_from(IMAGES), min_size=1, max_size=3), st.floats(0.01, 240)),
)
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(ROLES), st.lists(PARTS, max_size=3).map(tuple)),
    max_size=4,
).map(tuple)


@settings(max_examples=60, deadline=None)
@given(MESSAGES)
def test_openai_round_trip_is_exact_through_json(messages: tuple[Message, ...]) -> None:
    assert from_openai(json.loads(json.dumps(to_openai(messages)))) == messages


def test_openai_format_is_the_shared_one() -> None:
    message = Message("user", (IMAGES[0], Text("what?")))
    assert to_openai([Message("system", as_content("be brief")), message]) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": IMAGES[0].data_url()}}, {"type": "text", "text": "what?"},
        ]},
    ]  # fmt: skip


@pytest.mark.parametrize(("message", "error"), [
    ({"role": "user"}, "message 0: needs 'role' and 'content', has role"),
    ({}, "message 0: needs 'role' and 'content', has nothing"),
    ({"role": "user", "content": None}, "message 0: the content is a string or a list of parts, not None"),
    ({"role": "user", "content": [{"type": "audio"}]}, "message 0, part 0: a part's type is .* not 'audio'"),
    ({"role": "user", "content": [{"type": "text"}]}, "message 0, part 0: not a part"),
    ({"role": "user", "content": ["hi"]}, "message 0, part 0: not a part"),
    ({"role": "robot", "content": "hi"}, "role is one of system, user, assistant, tool, not 'robot'"),
])  # fmt: skip
def test_bad_openai_messages_are_named(message: dict[str, Any], error: str) -> None:
    with pytest.raises(BadInput, match=error):
        from_openai([message])


def test_as_content_takes_strings_parts_and_lists() -> None:
    assert as_content("a") == (Text("a"),)
    assert as_content(Text("a")) == (Text("a"),)
    assert as_content([Text("a"), IMAGES[0]]) == (Text("a"), IMAGES[0])
    with pytest.raises(TypeError, match="not int"):
        as_content([3])  # type: ignore[list-item]
    assert text_of((Text("a"), IMAGES[0], Text("b"))) == "a\nb"


def test_sample_ask() -> None:
    sample = Sample.ask("2+2?", 4, system="Be brief.", level=1)
    assert sample.messages == (Message("system", (Text("Be brief."),)), Message("user", (Text("2+2?"),)))
    assert (sample.id, sample.reference, sample.query, dict(sample.meta)) == ("2+2?", 4, "2+2?", {"level": 1})


def test_sample_is_frozen_copies_its_meta_and_survives_pickling() -> None:
    meta = {"a": 1}
    sample = Sample("s", (Message("user", (IMAGES[0],)),), "r", meta)
    meta["a"] = 2
    assert sample.meta["a"] == 1
    with pytest.raises(TypeError):
        sample.meta["a"] = 3  # type: ignore[index]
    with pytest.raises(AttributeError):
        sample.id = "t"  # type: ignore[misc]
    for other in (pickle.loads(pickle.dumps(sample)), copy.deepcopy(sample)):
        assert other == sample
        with pytest.raises(TypeError):
            other.meta["a"] = 3


def test_message_gives_text_images_videos() -> None:
    video = Video(IMAGES)
    message = Message("user", (Text("a"), IMAGES[1], video, Text("b")))
    assert (message.text, message.images, message.videos) == ("a\nb", (IMAGES[1],), (video,))
