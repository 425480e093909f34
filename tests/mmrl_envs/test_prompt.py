import pytest

from mmrl.errors import BadInput
from mmrl_envs.prompt import fill


def test_roles_go_before_columns_of_the_same_name() -> None:
    assert fill("{question} ({hint})", {"hint": "think", "question": "q"}, {"question": "Why?"}) == "Why? (think)"


@pytest.mark.parametrize("prompt", ["{topic}", "{", "{0}", "{hint.x}", "{hint[a]}", "{hint:d}"])
def test_a_prompt_that_does_not_fit_is_named_with_the_columns(prompt: str) -> None:
    with pytest.raises(BadInput) as caught:
        fill(prompt, {"hint": "think", "a": 1}, {"question": "Why?"})
    assert str(caught.value).startswith(f"does not fill the prompt {prompt!r} (")
    assert str(caught.value).endswith("; columns present: hint, a")
