import pytest
from talk_tools import ONE, TWO, WIDE
from tiny_vlm import KINDS, tiny_vlm

from mmrl_agents.image_tokens import ImageTokens


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_images_become_placeholders_again(kind: str) -> None:
    tokens = ImageTokens(tiny_vlm(kind)[1])
    bare, images = (7, tokens.id, tokens.id, 9, 10, tokens.id), (ONE, WIDE, TWO)
    ids = tokens.expand(bare, images)
    assert len(ids) > len(bare)
    assert tokens.collapse(ids, images) == bare
    assert tokens.collapse((7, 9), ()) == (7, 9)
    with pytest.raises(ValueError, match="1 of 4 images do not stand among the ids"):
        tokens.collapse(ids, (*images, ONE))
