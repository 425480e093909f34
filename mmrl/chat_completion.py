"""What is read of an answer of ``/v1/chat/completions``, whoever asked: a policy or a judge.

Servers differ in what else they send, and in what they leave out; only what is named here is looked at.
"""

from __future__ import annotations

from pydantic import BaseModel, Field


class ChatMessage(BaseModel):
    """What was said, or why nothing was."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """One answer."""

    message: ChatMessage
    finish_reason: str | None = None


class TokenCounts(BaseModel):
    """Tokens that were read and written; None: the server does not count them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ChatCompletion(BaseModel):
    """An answer; at least one choice."""

    choices: list[Choice] = Field(min_length=1)
    usage: TokenCounts | None = None
