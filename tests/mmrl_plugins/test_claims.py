import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_plugins._claims import MAX_CLAIMS, MAX_LENGTH, claims_of


def said(text: str) -> list[str]:
    return [claim.text for claim in claims_of(text)]


@pytest.mark.parametrize(("text", "expected"), [
    ("Paris is big. Rome is old!", ["Paris is big.", "Rome is old!"]),
    ("Dr. Smith met J. S. Bach in St. Gallen. It rained.", ["Dr. Smith met J. S. Bach in St. Gallen.", "It rained."]),
    ("It costs 3.7 million. Really.", ["It costs 3.7 million."]),
    ("Wait ... it is red.", ["Wait ... it is red."]),
    ("The moon is far; the sun is farther.", ["The moon is far;", "the sun is farther."]),
    ("The moon is far, and the sun is farther.", ["The moon is far", "the sun is farther."]),
    ("Paris, Lyon, and Nice are cities.", ["Paris, Lyon, and Nice are cities."]),
    ("I bought apples, and pears.", ["I bought apples, and pears."]),
    ("Is Paris big? Paris is big.", ["Paris is big."]), ("I don't know how big Paris is.", []),
    ("1. **Paris** is big.\n- Rome is old", ["Paris is big.", "Rome is old"]),
    ("<think>Rome is old</think><answer>Paris is big</answer>", ["Rome is old", "Paris is big"]),
    ("巴黎是法国的首都。柏林是德国的首都！北京大吗？", ["巴黎是法国的首都。", "柏林是德国的首都！"]),
    ("巴黎是法国的首都，而柏林是德国的首都。", ["巴黎是法国的首都", "柏林是德国的首都。"]),
    ("Der Mt. Everest ist hoch, und Berlin liegt z.B. in Europa.",
     ["Der Mt. Everest ist hoch", "Berlin liegt z.B. in Europa."]),
    ("दिल्ली भारत की राजधानी है। मुंबई बड़ा शहर है।", ["दिल्ली भारत की राजधानी है।", "मुंबई बड़ा शहर है।"]),
    ("", []), ("4", []), ("Yes.", []), ("∞ 你好 🙂 −4", []), ("go forward", ["go forward"]),
])  # fmt: skip
def test_splitting(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(("text", "meanings"), [
    ("Mount Everest is high. It lies in Nepal. Its summit is cold.",
     ["Mount Everest is high.", "Mount Everest lies in Nepal.", "Mount Everest's summit is cold."]),
    ("Berlin ist groß. Sie liegt in Europa.", ["Berlin ist groß.", "Berlin liegt in Europa."]),
    ("No, the Sun is a star.", ["the Sun is a star."]), ("It is red and round.", ["It is red and round."]),
    ("Items are here, said Rome. Itself it is red.", ["Items are here, said Rome.", "Itself it is red."]),
])  # fmt: skip
def test_pronouns_at_the_start_are_replaced(text: str, meanings: list[str]) -> None:
    assert [claim.meaning for claim in claims_of(text)] == meanings


def test_endless_answers_have_an_end() -> None:
    assert len(claims_of("The sun is hot. " * 5_000)) == MAX_CLAIMS
    assert [len(text) for text in said("word " * 50_000)] == [MAX_LENGTH]
    assert said("." * 100_000 + "x") == said("," * 100_000) == said("<" * 100_000) == []


@given(st.text())
def test_any_text_has_claims_that_stand_in_it(text: str) -> None:
    plain = "".join(text.split())
    for claim in claims_of(text):
        assert claim.meaning
        if not set("*_`<") & set(text):
            assert "".join(claim.text.split()) in plain
