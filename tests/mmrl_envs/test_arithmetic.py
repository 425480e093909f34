from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmrl
from mmrl import BadInput
from mmrl_envs.arithmetic import Arithmetic, last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("= -3", -3), ("7-3", 3), ("7-3=4.", 4), ("1,234", 1234), ("3.50", Decimal("3.5")), ("−8", -8),
     ("first 1, then 2", 2), ("none", None), ("", None)],
)  # fmt: skip
def test_last_number(text: str, number: object) -> None:
    assert last_number(text) == number


@given(st.integers(-(10**12), 10**12), st.text(alphabet="abc =.\n", max_size=10))
def test_any_number_is_read_back(number: int, words: str) -> None:
    assert last_number(f"{words}{number}{words}") == number


@given(st.integers(0, 2**31))
def test_the_reference_is_right(seed: int) -> None:
    env = Arithmetic(operations="+-*", low=-20, high=20)
    _, info = env.reset(seed=seed)
    expression = info["sample"].meta["expression"]
    first, sign, second = expression.replace("(", "").replace(")", "").split()
    results = {"+": int(first) + int(second), "-": int(first) - int(second), "*": int(first) * int(second)}
    assert info["sample"].reference == str(results[sign])
    assert env.step(f"It is {results[sign]}.")[1] == 1.0


def test_it_grades_by_the_last_number() -> None:
    env = mmrl.make("text/arithmetic", operations="+", low=3, high=3, prompt="{expression} =")
    observation, info = env.reset(seed=0)
    assert mmrl.text_of(observation) == "3 + 3 ="
    assert env.expert_action() == info["sample"].reference == "6"
    assert env.step("3 + 3 = 6")[1:4] == (1.0, True, False)
    env.reset(seed=0)
    *_, wrong = env.step("6 or 7")
    assert wrong["success"] is False


@pytest.mark.parametrize("kwargs", [{"operations": "/"}, {"operations": ""}, {"low": 2, "high": 1}, {"high": 10**10},
                                    {"prompt": "add"}])  # fmt: skip
def test_bad_arguments_are_named(kwargs: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=next(reversed(kwargs))):
        mmrl.make("text/arithmetic", **kwargs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1,234", 1234), ("so 12, or 3,", 3), ("1,8", None), ("1,,8", None), ("1,2,3", None), ("-1,000.5", -1000.5)],
)
def test_commas_stand_between_thousands_only(text: str, expected: object) -> None:
    assert last_number(text) == expected
