import numpy as np
import pytest

import mmrl
from mmrl import BadInput, Image, Text
from mmrl_envs.picture_question import Asked, PictureQuestion, Question


class Colours(PictureQuestion):
    def __init__(self, **kwargs: object) -> None:
        base: dict[str, object] = {"difficulty": 2, "kinds": None, "usual": ("a",), "known": ("a", "b"),
                                   "prompt": "{question}", "system": None}  # fmt: skip
        super().__init__("colours", **(base | kwargs))  # type: ignore[arg-type]

    def ask(self, kind: str) -> Asked:
        shade = int(self.np_random.integers(256))
        image = Image(np.full((2, 2, 3), shade, dtype=np.uint8))
        return Asked(Question(f"{kind}?", "two crosses", ("two crosses", "no")), image, {"shade": shade})


def test_the_picture_stands_before_the_words() -> None:
    env = Colours(prompt="Q: {question} A:", system="Look.")
    observation, info = env.reset(seed=0)
    sample = info["sample"]
    assert [m.role for m in sample.messages] == ["system", "user"]
    assert sample.messages[0].text == "Look."
    assert isinstance(observation[0], Image)
    assert observation[1:] == (Text("Q: a? A:"),)
    assert sample.reference == "two crosses"
    assert dict(sample.meta) == {"kind": "a", "difficulty": 2, "question": "a?", "answers": ["two crosses", "no"],
                                 "shade": int(observation[0].pixels[0, 0, 0])}  # fmt: skip


def test_the_id_is_the_picture_and_the_question() -> None:
    env, other = Colours(), Colours(prompt="Tell me: {question}")
    ids = [env.reset(seed=seed)[1]["sample"].id for seed in range(20)]
    assert ids == [other.reset(seed=seed)[1]["sample"].id for seed in range(20)]
    assert len(set(ids)) > 15
    assert all(i.startswith("colours-") and len(i) == 24 for i in ids)
    assert Colours(kinds=["b"]).reset(seed=0)[1]["sample"].id != ids[0]


@pytest.mark.parametrize(
    ("response", "reward"),
    [("two crosses", 1.0), ("Two crosses.", 1.0), ("2 crosses", 1.0), ("the two  crosses!", 1.0), ("crosses", 0.0),
     ("", 0.0), ("no", 0.0)],
)  # fmt: skip
def test_answers_are_graded_as_vqa_is(response: str, reward: float) -> None:
    env = Colours()
    env.reset(seed=0)
    assert env.step(response)[1:4] == (reward, True, False)


def test_the_expert_is_right() -> None:
    env = mmrl.make("vqa/shapes", difficulty=3)
    for seed in range(20):
        env.reset(seed=seed)
        assert env.step(env.expert_action())[4]["success"] is True


@pytest.mark.parametrize(
    "kwargs", [{"kinds": ["c"]}, {"kinds": []}, {"kinds": "a"}, {"prompt": "What?"}, {"kinds": ["a", "c"]}]
)
def test_bad_arguments_are_named(kwargs: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=f"colours's {next(iter(kwargs))}"):
        Colours(**kwargs)


@pytest.mark.parametrize("env_id", ["vqa/shapes", "vqa/minigrid", "video"])
@pytest.mark.parametrize("difficulty", [0, 4, "hard", None])
def test_a_difficulty_that_there_is_not_is_named(env_id: str, difficulty: object) -> None:
    with pytest.raises(BadInput, match=f"{env_id}'s difficulty is 1 to 3, not {difficulty!r}"):
        mmrl.make(env_id, difficulty=difficulty)
