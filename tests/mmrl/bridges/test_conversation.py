"""Chats of other trainers become trajectories; images go where they belong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmrl
from mmrl.bridges.conversation import IMAGE_TAG, Exchange, as_images, messages_of, place_images

RED, BLUE = (mmrl.Image(np.full((1, 1, 3), c, np.uint8)) for c in (1, 2))


def user(*parts: mmrl.Part | str) -> mmrl.Message:
    return mmrl.Message("user", tuple(mmrl.Text(p) if isinstance(p, str) else p for p in parts))


def answer(text: str) -> mmrl.Message:
    return mmrl.Message("assistant", (mmrl.Text(text),))


def test_an_exchange_of_two_answers():
    t = Exchange("x", "trl", (user("go"),), (answer("a"), user("no"), user("wall"), answer("b"), user("end")),
                 reference="r", token_ids=[[1], [2, 3]], meta={"k": 1}).trajectory()  # fmt: skip
    assert (t.id, t.env_id, t.sample.reference, dict(t.sample.meta)) == ("x", "trl", "r", {"k": 1})
    assert [(turn.observation, turn.response, turn.token_ids) for turn in t.turns] == [
        (user("go").content, "a", (1,)), (user("no", "wall").content, "b", (2, 3))]
    assert t.final_observation == user("end").content
    assert all(math.isnan(turn.reward) and not turn.info for turn in t.turns)
    assert (t.terminated, t.truncated, t.success) == (True, False, False)


def test_what_stands_before_the_first_answer_belongs_to_the_prompt():
    t = Exchange("x", "trl", (user("a"),), (user("b"), answer("c"))).trajectory()
    assert (t.sample.messages, t.turns[0].observation) == ((user("a"), user("b")), user("b").content)


def test_no_answer_is_no_turn():
    t = Exchange("x", "trl", (user("a"),), ()).trajectory()
    assert (t.turns, t.final_observation, t.sample.query) == ((), (), "a")


def test_chats():
    assert messages_of("hi", "user", "row 0") == (user("hi"),)
    assert messages_of([{"role": "assistant", "tool_calls": []}], "user", "row 0") == (answer(""),)
    with pytest.raises(mmrl.BadInput, match=r"^row 0: message 0, part 0: a part's type is .* not 'audio'"):
        messages_of([{"role": "user", "content": [{"type": "audio"}]}], "user", "row 0")
    with pytest.raises(mmrl.BadInput, match=r"^row 0: message 0: needs 'role' and 'content'"):
        messages_of([{"text": "hi"}], "user", "row 0")


def test_images_of_every_form():
    png = RED.png()
    rows = [None, [], RED.to_pil(), [RED.to_pil(), png], {"bytes": png, "path": None}, [{"bytes": None, "path": "x"}]]
    assert [len(as_images(row, "row")) for row in rows] == [0, 0, 1, 2, 1, 1]
    assert as_images([png, {"bytes": png}, RED.pixels], "row") == [RED] * 3
    with pytest.raises(mmrl.BadInput, match=r"^row 3: an image has neither bytes nor a path"):
        as_images([{"bytes": None, "path": None}], "row 3")


def test_images_stand_at_their_tags_and_the_rest_in_front():
    chat = (mmrl.Message("system", (mmrl.Text("s"),)), user("is <image>red?"))
    assert place_images(chat, [RED], "row")[1] == user("is ", RED, "red?")
    assert place_images(chat, [BLUE, RED], "row")[1] == user(BLUE, "is ", RED, "red?")
    assert place_images((user("<image><image>"),), [RED, BLUE], "row") == (user(RED, BLUE),)
    assert place_images((user("?"), user("!")), [RED], "row") == (user(RED, "?"), user("!"))
    with pytest.raises(mmrl.BadInput, match=r"^row 2: 1 times <image> and 0 images"):
        place_images(chat, [], "row 2")


def test_a_tag_in_an_answer_is_the_policys_own_words():
    chat = (user("<image>"), answer("I see <image>"))
    assert place_images(chat, [RED], "row") == (user(RED), answer("I see <image>"))


PIECES = st.lists(st.sampled_from(["<", ">", "a", "image", IMAGE_TAG])).map("".join)


@given(st.lists(PIECES, min_size=1), st.integers(0, 3))
def test_no_text_and_no_image_is_lost(texts: list[str], spare: int):
    chat = tuple(user(text) for text in texts)
    images = [mmrl.Image(np.full((1, 1, 3), i % 256, np.uint8))
              for i in range(sum(t.count(IMAGE_TAG) for t in texts) + spare)]  # fmt: skip
    placed = place_images(chat, images, "row")
    assert [image for m in placed for image in m.images] == images
    assert ["".join(p.text for p in m.content if isinstance(p, mmrl.Text)) for m in placed] == [
        text.replace(IMAGE_TAG, "") for text in texts]  # fmt: skip
