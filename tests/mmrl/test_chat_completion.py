from typing import Any

import pytest
from pydantic import ValidationError

from mmrl.chat_completion import ChatCompletion, TokenCounts

SAID = {"choices": [{"message": {"role": "assistant", "content": "yes", "extra": 1}}]}


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({}, None),
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": None}}, TokenCounts()),
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}},
         TokenCounts(prompt_tokens=3, completion_tokens=1)),
    ],
)  # fmt: skip
def test_what_servers_leave_out_is_not_missed(more: dict[str, Any], usage: TokenCounts | None) -> None:
    read = ChatCompletion.model_validate({**SAID, **more})
    assert (read.choices[0].message.content, read.choices[0].finish_reason, read.usage) == ("yes", None, usage)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": "yes"}]}, []])
def test_what_is_no_completion_is_refused(answer: Any) -> None:
    with pytest.raises(ValidationError):
        ChatCompletion.model_validate(answer)
