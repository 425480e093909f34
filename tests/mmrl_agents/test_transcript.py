import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from learner_tools import trajectory
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mmrl.env import Env
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.policy import Request
from mmrl.sample import Image, Message, Text
from mmrl.trajectory import Turn
from mmrl_agents.batch import segments_of
from mmrl_agents.transcript import Transcript

GENERATE = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}" + GENERATE
)
TINY = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}|{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant|{% endif %}"
)
LLAMA3 = (
    "<|bos|>{% for m in messages %}<|head|>{{ m['role'] }}<|tail|>\n\n{{ m['content'] | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|tail|>\n\n{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
)
FORGETFUL = (  # like Qwen3's: earlier reasoning is dropped
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('</think>')[-1].lstrip('\n') if m['role'] == 'assistant' else m['content'] }}"
    "<|im_end|>\n{% endfor %}" + GENERATE
)
ENDLESS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
SPECIAL = ["<|pad|>", "<|im_end|>", "<|im_start|>", "<|bos|>", "<|head|>", "<|tail|>", "<|end2|>"]
MERGES = [("l", "e"), ("f", "t"), ("le", "ft"), ("g", "o")]


def tokenizer(template: str | None) -> Any:
    """A byte-level tokenizer that merges "left" and "go"."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(m) for m in MERGES)]
    inner = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=MERGES))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=SPECIAL[0], eos_token=SPECIAL[1])
    made.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    made.chat_template = template
    return made


def transcript(template: str | None) -> Transcript:
    made = tokenizer(template)
    return Transcript(made, [made.eos_token_id])


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def said(text: str) -> Message:
    return Message("assistant", (Text(text),))


def encode(t: Transcript, text: str) -> tuple[int, ...]:
    return tuple(t.tokenizer(text, add_special_tokens=False)["input_ids"])


def rendered(t: Transcript, messages: Sequence[Message]) -> tuple[int, ...]:
    chat = [{"role": m.role, "content": m.text} for m in messages]
    return tuple(t.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False))


def spoken(t: Transcript, prompt: tuple[int, ...], ids: Sequence[int]) -> Turn:
    return Turn((), "", prompt, tuple(ids), (-1.0,) * len(ids))


HEAD = [Message("system", (Text("Rules."),)), user("You see a door.")]
ROUNDS = [("left", "A wall.\n\nLook."), ("go forward", "  spaces  "), ("\n", "你好"), ("", "end")]


@pytest.mark.parametrize("template", [CHATML, TINY, DEFAULT_SYSTEM], ids=["chatml", "tiny", "default system"])
@pytest.mark.parametrize("head", [HEAD, HEAD[1:]], ids=["system", "no system"])
def test_ids_equal_the_whole_templates_ids(template: str, head: list[Message]) -> None:
    t, messages = transcript(template), list(head)
    assert t.extends is True
    prompt = t.prompt(messages)
    assert prompt == rendered(t, messages)
    for answer, observation in ROUNDS:
        turn = spoken(t, prompt, [*encode(t, answer), *t.end_ids])
        messages += [said(answer), user(observation)]
        prompt = t.extend(turn, messages[-1:])
        assert prompt == rendered(t, messages)


def test_ids_equal_a_llama_3_templates_ids_where_it_trims_nothing() -> None:
    t, messages = transcript(LLAMA3), list(HEAD)
    assert t.extends is True
    prompt = t.prompt(messages)
    for answer, observation in [("left", "A wall."), ("go forward", "A door.")]:
        turn = spoken(t, prompt, [*encode(t, answer), *t.end_ids])
        messages += [said(answer), user(observation)]
        prompt = t.extend(turn, messages[-1:])
        assert prompt == rendered(t, messages)
    assert prompt.count(SPECIAL.index("<|bos|>")) == 1


def test_several_added_messages_are_rendered_in_order() -> None:
    t = transcript(CHATML)
    turn = spoken(t, t.prompt(HEAD), [*encode(t, "left"), *t.end_ids])
    added = [user("One."), said("two"), user("Three.")]
    assert t.extend(turn, added) == rendered(t, [*HEAD, said("left"), *added])


def test_a_turn_cut_by_its_limit_gets_its_end_unsampled() -> None:
    t = transcript(CHATML)
    turn = spoken(t, t.prompt(HEAD), encode(t, "go forw"))
    prompt = t.extend(turn, [user("Well?")])
    assert prompt == rendered(t, [*HEAD, said("go forw"), user("Well?")])
    following = spoken(t, prompt, [*encode(t, "left"), *t.end_ids])
    (segment,) = segments_of(trajectory("t", [turn, following]), 0)
    end = len(turn.prompt_ids) + len(turn.token_ids)
    assert segment.ids[end] == t.tokenizer.eos_token_id
    assert segment.mask[end] is False
    assert segment.mask[end - 1] is True
    assert segment.ids == (*prompt, *following.token_ids)


def test_a_turn_that_another_end_token_ended_keeps_it() -> None:
    made = tokenizer(CHATML)
    other = SPECIAL.index("<|end2|>")
    t = Transcript(made, [made.eos_token_id, other])
    turn = spoken(t, t.prompt(HEAD), [*encode(t, "left"), other])
    prompt = t.extend(turn, [user("Well?")])
    held = len(turn.prompt_ids) + len(turn.token_ids)
    assert prompt[:held] == (*turn.prompt_ids, *turn.token_ids)
    assert prompt[held:] == encode(t, "\n<|im_start|>user\nWell?<|im_end|>\n<|im_start|>assistant\n")


def test_sampled_ids_are_never_encoded_again() -> None:
    """Ids that decode to "left" but are not what the tokenizer would write, and half a character."""
    t = transcript(CHATML)
    letters = [i for c in "left" for i in encode(t, c)]
    assert letters != list(encode(t, "left"))
    assert t.tokenizer.decode(letters) == "left"
    half = encode(t, "你")[:2]
    for odd in (letters, half, [*t.end_ids], [SPECIAL.index("<|im_start|>"), *letters]):
        ids = (*odd, *t.end_ids) if odd != [*t.end_ids] else tuple(odd)
        turn = spoken(t, t.prompt(HEAD), ids)
        prompt = t.extend(turn, [user("Well?")])
        assert prompt[: len(turn.prompt_ids) + len(ids)] == (*turn.prompt_ids, *ids)
        assert prompt[len(turn.prompt_ids) + len(ids) :] == encode(
            t, "\n<|im_start|>user\nWell?<|im_end|>\n<|im_start|>assistant\n"
        )


def test_text_that_looks_like_the_probe_is_left_alone() -> None:
    t = transcript(CHATML)
    turn = spoken(t, t.prompt(HEAD), [*encode(t, "mmrl7"), *t.end_ids])
    assert t.extend(turn, [user("mmrl7 mmrl3")]) == rendered(t, [*HEAD, said("mmrl7"), user("mmrl7 mmrl3")])


@pytest.mark.parametrize("template", [FORGETFUL, ENDLESS], ids=["drops reasoning", "no end token"])
def test_templates_that_do_not_keep_prefixes_start_afresh(template: str) -> None:
    t = transcript(template)
    assert t.extends is False
    first = spoken(t, t.prompt(HEAD), [*encode(t, "<think>\nhm\n</think>\n\nleft"), *t.end_ids])
    messages = (*HEAD, said("<think>\nhm\n</think>\n\nleft"), user("Well?"))
    prompt = t.prompt_of(request(messages, first))
    assert prompt == rendered(t, messages)
    segments = segments_of(trajectory("t", [first, spoken(t, prompt, t.end_ids)]), 0)
    assert [s.sampled for s in segments] == [len(first.token_ids), 1]


def request(messages: tuple[Message, ...], previous: Turn | None) -> Request:
    env: Env = make("text/arithmetic")
    return Request("e", 1, messages, previous, 1 if previous else 0, (0,), env)


def test_a_request_extends_the_turn_before_it() -> None:
    t = transcript(CHATML)
    letters = [i for c in "left" for i in encode(t, c)]
    first = spoken(t, t.prompt(HEAD), [*letters, *t.end_ids])
    messages = (*HEAD, said("left"), user("Well?"))
    assert t.prompt_of(request(messages, first)) == t.extend(first, [user("Well?")]) != rendered(t, messages)
    assert t.prompt_of(request(messages, None)) == rendered(t, messages)
    without_ids = dataclasses.replace(first, prompt_ids=(), token_ids=())  # a policy without tokens spoke
    assert t.prompt_of(request(messages, without_ids)) == rendered(t, messages)


@pytest.mark.parametrize("template", [CHATML, TINY, LLAMA3, FORGETFUL, ENDLESS])
def test_an_answer_to_imitate_ends_with_the_token_that_ends_a_turn(template: str) -> None:
    t = transcript(template)
    prompt, answer = t.answer(HEAD, "go left")
    assert prompt == rendered(t, HEAD)
    assert answer == (*encode(t, "go left"), t.tokenizer.eos_token_id)


def test_an_image_is_refused_in_words() -> None:
    t = transcript(CHATML)
    picture = Message("user", (Text("see"), Image(np.zeros((2, 2, 3), np.uint8))))
    with pytest.raises(BadInput, match="reads text only, and the conversation has an image"):
        t.prompt([picture])
    turn = spoken(t, t.prompt(HEAD), t.end_ids)
    with pytest.raises(BadInput, match="reads text only"):
        t.extend(turn, [picture])


def test_no_chat_template_is_bad_input() -> None:
    with pytest.raises(BadInput, match="chat template cannot render this conversation"):
        transcript(None).prompt(HEAD)


def test_what_a_template_refuses_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no system role"):
        transcript(STRICT).prompt(HEAD)
