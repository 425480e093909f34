from itertools import pairwise

import pytest
from read_tiles import Picture, read

import mmrl
from mmrl import BadInput, Video
from mmrl_envs.video import VideoTask
from mmrl_envs.video_questions import LEVELS, QUESTIONS

CASES = [(kind, difficulty, frames) for kind in QUESTIONS for difficulty in LEVELS for frames in (6, 8)]


def doors(picture: Picture) -> dict[tuple[int, int], tuple[str, str, str]]:
    return {cell: thing for cell, thing in picture.things.items() if thing[0] == "door"}


def solve(text: str, film: list[Picture]) -> str:
    """The answer by the question's words and pictures of the whole room alone."""
    steps = list(pairwise(film))
    if text == "Which object did you pick up?":
        ((color, kind),) = {(after.carried[1], after.carried[0]) for before, after in steps
                            if after.carried is not None and before.carried is None}  # fmt: skip
        return f"{color} {kind}"
    if text.startswith("How many times did you turn"):
        side = {"left?": 3, "right?": 1}[text.split()[-1]]
        return str(sum((after.direction - before.direction) % 4 == side for before, after in steps))
    if text == "Did you go through a door?":
        where = [picture.agent for picture in film]
        ways = doors(film[0])
        through = [b in ways and a != b != c for a, b, c in zip(where, where[1:], where[2:], strict=False)]
        return "yes" if any(through) else "no"
    assert text == "What colour is the door that you opened?"
    (color,) = {thing[1] for before, after in steps for cell, thing in doors(after).items()
                if thing[2] == "open" and doors(before)[cell][2] == "closed"}  # fmt: skip
    return color


@pytest.mark.parametrize(("kind", "difficulty", "frames"), CASES)
def test_the_answer_can_be_seen_in_the_frames(kind: str, difficulty: int, frames: int) -> None:
    env = VideoTask(difficulty=difficulty, kinds=[kind], frames=frames)
    for seed in range(25):
        (video, _), info = env.reset(seed=seed)
        sample = info["sample"]
        assert isinstance(video, Video)
        film = [read(frame.pixels, "full") for frame in video.frames]
        assert len(film) == frames == len(sample.meta["actions"]) + 1
        assert solve(sample.meta["question"], film) == sample.reference
        assert sample.reference in sample.meta["answers"]
        turned = [(b.direction - a.direction) % 4 for a, b in pairwise(film)]
        named = {"turn left": 3, "turn right": 1}
        assert turned == [named.get(action, 0) for action in sample.meta["actions"]]


@pytest.mark.parametrize("kind", QUESTIONS)
def test_the_partial_view_shows_the_same_walk_through_the_agents_eyes(kind: str) -> None:
    env = VideoTask(difficulty=2, kinds=[kind], view="partial")
    for seed in range(20):
        (video, _), info = env.reset(seed=seed)
        sample = info["sample"]
        assert isinstance(video, Video)
        assert {frame.size for frame in video.frames} == {(56, 56)}
        film = [read(frame.pixels, "partial") for frame in video.frames]
        actions = sample.meta["actions"]
        for action, (before, after) in zip(actions, pairwise(film), strict=True):
            assert not action.startswith("turn") or before != after
            assert (action == "pick up") is (before.carried is None and after.carried is not None)
        if kind == "picked":
            assert solve(sample.meta["question"], film) == sample.reference
        if kind == "turns":
            turn = " ".join(sample.meta["question"].rstrip("?").split()[-2:])
            assert str(actions.count(turn)) == sample.reference
        if kind == "opened":
            front = film[actions.index("toggle") + 1].things[3, 5]
            assert front == ("door", sample.reference, "open")


def test_the_sample_is_a_video_and_a_question() -> None:
    observation, info = mmrl.make("video", prompt="Watch. {question}", system="Be brief.").reset(seed=0)
    video, words = observation
    assert isinstance(video, Video)
    assert (len(video.frames), video.fps, video.frames[0].size) == (8, 4.0, (56, 56))
    assert words == mmrl.Text(f"Watch. {info['sample'].meta['question']}")
    assert info["sample"].messages[0].text == "Be brief."
    assert info["sample"].id.startswith("video-")


@pytest.mark.parametrize(
    "kwargs", [{"frames": 5}, {"frames": 65}, {"view": "top"}, {"tile_size": 1}, {"kinds": ["colour"]}, {"prompt": "?"}]
)
def test_bad_arguments_are_named(kwargs: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=f"video's {next(iter(kwargs))}"):
        mmrl.make("video", **kwargs)
