import pytest
from talk_tools import ONE, SYSTEM, TWO, WIDE, said, user
from tiny_vlm import KINDS, tiny_vlm

from mmrl import BadInput
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.transcript import Transcript


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


def test_a_processor_without_a_placeholder_is_refused() -> None:
    class Wordless:
        tokenizer = None

    with pytest.raises(BadInput, match="Wordless writes no placeholder for an image into its text"):
        ImageTokens(Wordless())


def test_neighbouring_texts_do_not_make_a_placeholder_nor_does_an_answer() -> None:
    _, processor = tiny_vlm("llava")
    t = Transcript(processor, [1])
    tokens = ImageTokens(processor)
    assert tokens.id not in t.prompt([user("<ima", "ge> there")])
    _, answer = t.answer([user(ONE, "x")], "an <image> of a ball")
    assert tokens.id not in answer


def test_a_template_that_wants_texts_gets_texts() -> None:
    _, processor = tiny_vlm("llava")
    loop = ("{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}"
            "{% endfor %}")  # fmt: skip
    processor.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'user' %}" + loop + "{% else %}{{ m['content'] }}"
        "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    t = Transcript(processor, [1])
    said_so = processor.tokenizer.decode(t.prompt([SYSTEM, user(ONE, "What?"), said("ball"), user("Sure?")]))
    assert said_so.startswith("<|system|>Look.<|end|><|user|><image>")
    assert said_so.endswith("What?<|end|><|assistant|>ball<|end|><|user|>Sure?<|end|><|assistant|>")
