import pytest

from mmrl_envs.level_line import level_line


class Described:
    """
    ## Description

    Go to the ball. Mind
    the lava.

    ## Mission Space

    "go to the ball."
    """


class Endless:
    """
    ## Description

    Go to a door
    (of any color)
    Note: it may be locked.

    No distractors.
    """


class Plain:
    """Go to an object, 3.5 m away! Then stop.

    More.
    """


class Untold:
    """
    ## Mission Space

    "go."
    """


class Silent:
    pass


@pytest.mark.parametrize(("level", "line"), [
    (Described, "Go to the ball."), (Endless, "Go to a door (of any color)"), (Plain, "Go to an object, 3.5 m away!"),
    (Untold, ""), (Silent, ""),
])  # fmt: skip
def test_the_first_sentence(level: type, line: str) -> None:
    assert level_line(level) == line
