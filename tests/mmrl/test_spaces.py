import json

import numpy as np
import pytest

from mmrl.sample import Image, Text
from mmrl.spaces import ContentSpace, UnicodeText


def test_unicode_text_holds_any_string_up_to_its_length() -> None:
    space = UnicodeText(5)
    assert "" in space
    assert "go, 你好"[:5] in space
    assert "123456" not in space
    assert 3 not in space
    assert space == UnicodeText(5)
    assert space != UnicodeText(6)
    with pytest.raises(ValueError, match="at least 1"):
        UnicodeText(0)


def test_samples_belong_to_the_space_and_follow_the_seed() -> None:
    for space, again in ((UnicodeText(7, seed=3), UnicodeText(7, seed=3)), (ContentSpace(3), ContentSpace(3))):
        drawn = [space.sample() for _ in range(50)]
        assert all(x in space for x in drawn)
        assert drawn == [again.sample() for _ in range(50)]
        assert len({str(x) for x in drawn}) > 25


def test_content_space_holds_tuples_of_parts() -> None:
    space = ContentSpace()
    assert () in space
    assert (Text("a"), Image(np.zeros((1, 1, 3), np.uint8))) in space
    assert [Text("a")] not in space
    assert ("a",) not in space
    assert not space.is_np_flattenable


def test_content_space_round_trips_through_json() -> None:
    space = ContentSpace()
    contents = [(Text("a"),), (Text("a"), Image(np.zeros((2, 1, 3), np.uint8))), (), (Text("a"), Text("b"))]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(contents)))) == contents
