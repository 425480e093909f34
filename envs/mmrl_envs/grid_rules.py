"""What the system message of a MiniGrid environment says: the mission, the actions and, on request, the rules.

Comes in: what is shown each turn, and what an answer is.  Goes out: a template with the fields ``mission`` and
``actions``.
"""

from __future__ import annotations

from typing import Literal

Instructions = Literal["short", "full"]
INSTRUCTIONS: tuple[Instructions, ...] = ("short", "full")

_SHORT = "Mission: {mission}\nActions: {actions}"
_WORLD = "You are an agent in a grid world with walls, doors, keys, balls and boxes."
_TOLD = "Each turn you are told what you see in front of you, with distances in steps from where you stand."
_ALSO_TOLD = "You are also told what you see in front of you, with distances in steps from where you stand."
_SHOWN = {
    "partial": "Each turn you are shown what you see in front of you: you are the red triangle at the bottom, pointing "
    "up, what you carry is drawn beneath you, and what you cannot see is black.",
    "full": "Each turn you are shown the whole grid: you are the red triangle, which points where you face, and what "
    "you carry is drawn in the top left corner.",
}
_EARLIER = "The last {history} pictures are shown, the oldest first."
_AHEAD_ONLY = "You see only ahead and to the sides: turn to look around."
_RULES = """\
"go forward" moves one step and does nothing against a wall, an object or a closed door. "pick up" and \
"toggle" act on the cell right in front of you; you carry one object at a time, and "drop" puts it there. "toggle" \
opens a door or a box; a locked door needs the key of its colour in your hands. To go to something is to stand next \
to it and face it.
Your mission: {mission}
Actions: {actions}"""
_ALONE = "Answer with one action only."
_AFTER_COLON = "Answer with what you are after, a colon and one action."
_AFTER_COLON_SHORT = "the aim: the action"


def system_head(
    instructions: Instructions, *, view: Literal["partial", "full"] | None, told: bool, history: int, reasoning: bool
) -> str:
    """The system message's template.

    Args:
        instructions: ``"short"`` for mission and actions, ``"full"`` for the rules as well.
        view: what the pictures show; None without pictures.
        told: whether the scene's text is shown.
        history: how many pictures are shown at most.
        reasoning: whether an answer may say something before its action.
    """
    if instructions == "short":
        return f"{_SHORT}\n{_AFTER_COLON_SHORT}" if reasoning else _SHORT
    sentences = [_WORLD]
    if view is not None:
        sentences.append(_SHOWN[view])
    if history > 1:
        sentences.append(_EARLIER.replace("{history}", str(history)))
    if told:
        sentences.append(_TOLD if view is None else _ALSO_TOLD)
    if view != "full":
        sentences.append(_AHEAD_ONLY)
    return " ".join([*sentences, f"{_RULES}\n{_AFTER_COLON if reasoning else _ALONE}"])
