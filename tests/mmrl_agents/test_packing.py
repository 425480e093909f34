import pytest
import torch
from talk_tools import CONVERSATION, ONE, TWO, WIDE, said, user
from tiny_vlm import KINDS, tiny_vlm

from mmrl_agents.feed import Feed
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.layout import lay_out
from mmrl_agents.packing import decoder_inputs, rows_to_read
from mmrl_agents.packs import Row, common
from mmrl_agents.transcript import Transcript
from mmrl_agents.vision import Vision

ALL = pytest.mark.parametrize("kind", sorted(KINDS))
CPU = torch.device("cpu")


def test_a_row_is_read_up_to_what_predicts_its_last_question() -> None:
    masks = [[False, True, True], [False, True, False], [False, False, False]]
    assert rows_to_read([[5, 6, 7, 8]] * 3, masks, (), Feed()) == [
        Row(ids, (), ids, ()) for ids in ((5, 6, 7), (5, 6), (5,))
    ]


def test_text_is_packed_with_its_places_and_a_mask() -> None:
    rows = rows_to_read([[1, 2, 3, 9], [1, 2, 4, 9]], [[False, True, True]] * 2, (), Feed())
    made = decoder_inputs(lay_out(rows, [(0, 1)], CPU), Feed(), torch.float64)
    assert made["input_ids"].tolist() == [[1, 2, 3, 4]]
    assert made["position_ids"].tolist() == [[0, 1, 2, 2]]
    low = torch.finfo(torch.float64).min
    assert made["attention_mask"].tolist() == [
        [[[0, low, low, low], [0, 0, low, low], [0, 0, 0, low], [0, 0, low, 0]]]
    ]
    assert decoder_inputs(lay_out(rows[:1], [(0,)], CPU), Feed(), torch.float64).keys() == {"input_ids"}


@ALL
def test_other_images_behind_the_same_ids_begin_otherwise(kind: str) -> None:
    model, processor = tiny_vlm(kind)
    t, feed = Transcript(processor, [1]), Feed(Vision(model, ImageTokens(processor)))
    talks = ([user(ONE), said("x"), user(TWO, "y")], [user(ONE), said("x"), user(WIDE, "y")], [user(TWO), said("x")])
    shown = [(ONE, TWO), (ONE, WIDE), (TWO,)]
    ids = [t.prompt(talk) for talk in talks]
    masks = [[False] * (len(i) - 2) + [True] for i in ids]
    rows = rows_to_read(ids, masks, shown, feed)
    placeholder = feed.vision.tokens.id if feed.vision else 0
    second = rows[0].starts[1]
    assert (rows[0].ids[second], rows[0].images) == (placeholder, (ONE, TWO))
    assert common(rows[0].symbols, rows[1].symbols) <= second
    assert common(rows[0].symbols, rows[1].symbols) > rows[0].starts[0] + 4  # the first image is the same
    assert common(rows[0].symbols, rows[2].symbols) == rows[0].starts[0]
    made = lay_out(rows, [(0, 1), (2,)], CPU)
    assert made.images == ((ONE, TWO, WIDE), (TWO,))


@ALL
def test_slots_stand_where_their_own_row_has_them(kind: str) -> None:
    model, processor = tiny_vlm(kind)
    t, feed = Transcript(processor, [1]), Feed(Vision(model, ImageTokens(processor)))
    talks = [[*CONVERSATION, said("a"), user("b")], [*CONVERSATION, said("c")], [user("none")]]
    shown = [(ONE, WIDE, TWO), (ONE, WIDE, TWO), ()]
    ids = [t.prompt(talk) for talk in talks]
    rows = rows_to_read(ids, [[False] * (len(i) - 2) + [True] for i in ids], shown, feed)
    order = sorted((0, 1), key=lambda i: rows[i].symbols)
    layout = lay_out(rows, [order, (2,)], CPU)
    places = decoder_inputs(layout, feed, torch.float64)["position_ids"]
    for n, row in enumerate(rows):
        own = feed.positions([row.ids], [row.images], [0], len(row.ids))[0][..., 0, :]
        assert torch.equal(places[..., layout.pack[n], layout.slot[n, : len(row.ids)]], own)


def test_an_image_after_the_last_question_is_left_out() -> None:
    model, processor = tiny_vlm("llava")
    feed = Feed(Vision(model, ImageTokens(processor)))
    ids = Transcript(processor, [1]).prompt([user(ONE, "x"), said("y"), user(TWO)])
    start = rows_to_read([ids], [[True] * (len(ids) - 1)], [(ONE, TWO)], feed)[0].starts[1]
    mask = [n < start - 2 for n in range(len(ids) - 1)]
    (row,) = rows_to_read([ids], [mask], [(ONE, TWO)], feed)
    assert (len(row.ids), row.images) == (start - 2, (ONE,))


def test_placeholders_without_features_are_an_error() -> None:
    model, processor = tiny_vlm("llava")
    feed = Feed(Vision(model, ImageTokens(processor)))
    ids = Transcript(processor, [1]).prompt([user(ONE, "x")])
    mask = [True] * (len(ids) - 1)
    with pytest.raises(ValueError, match="row 1 has 16 image tokens, but its 2 images have 32 features"):
        rows_to_read([ids, ids], [mask, mask], [(ONE,), (ONE, TWO)], feed)
