from pathlib import Path
from typing import Any

import pytest

from mmrl.errors import BadInput
from mmrl_envs.vqa_columns import Columns
from mmrl_envs.vqa_grade import Question
from mmrl_envs.vqa_item import Item, Layout, read_item
from mmrl_envs.vqa_split import content_id


def read(row: Any, columns: Any = None, **layout: Any) -> Item:
    return read_item(row, Layout(Columns.of(columns), **layout))


def question(**row: Any) -> Question:
    return read({"image": "a.png", "question": "What?", **row}).questions[0]


def test_a_plain_row() -> None:
    item = read({"image": "a.png", "question": "What?", "answer": 3, "id": 7, "system": "Look."}, system="unused")
    assert item == Item("7", ("a.png",), ("a.png",), (Question("What?", ("3",)),), "Look.")
    item = read({"image": "a.png", "question": "What?", "answer": "x", "system": None}, system="Look.")
    assert (item.id, item.system) == (content_id("What?", ["a.png"]), "Look.")


def test_the_content_id_is_of_question_and_images_and_not_of_the_prompt(tmp_path: Path) -> None:
    row = {"image": "a.png", "question": "What?", "answer": "x"}
    assert read(row, prompt="{question}!").id == read({**row, "answer": "y"}).id
    assert read({**row, "image": f"{tmp_path}/a.png"}, root=tmp_path).id == read(row, root=tmp_path).id
    assert read({**row, "question": "Why?"}).id != read(row).id


@pytest.mark.parametrize("images", [["a.png", "b.png"], '["a.png", "b.png"]', ("a.png", "b.png")])
def test_several_images_in_a_column(images: Any) -> None:
    assert read({"images": images, "question": "What?", "answer": "x"}).names == ("a.png", "b.png")


def test_several_image_columns_and_those_that_are_empty() -> None:
    row = {"i1": {"bytes": None, "path": "a.png"}, "i2": {"bytes": None, "path": None}, "i3": None, "i4": "b.png",
           "question": "What?", "answer": "x"}  # fmt: skip
    assert read(row, {"image": ["i1", "i2", "i3", "i4"]}).names == ("a.png", "b.png")


def test_answers_of_every_form() -> None:
    ten = ["red"] * 9 + ["pink"]
    for answers in (ten, [{"answer": a, "answer_confidence": "yes"} for a in ten], [*ten, " "]):
        assert question(answers=answers) == Question("What?", tuple(ten))
    assert question(answer=["red"]) == Question("What?", ("red",))
    assert question(answer=2.0).answers == ("2",)
    box = question(answer=[1, 2, 3.5, 4])
    assert (box.reference, box.answers) == ([1, 2, 3.5, 4], ("[1, 2, 3.5, 4]",))
    assert question(answer={"box": [1, 2]}).reference == {"box": [1, 2]}
    assert question(answer="[1, 2, 3, 4]").reference == "[1, 2, 3, 4]"
    item = read({"image": "a", "question": "?", "answer": ["sofa", "couch"]}, lists="alternatives")
    assert item.questions[0].reference == ["sofa", "couch"]
    row = {"image": "a", "question": "?", "a1": "sofa", "a2": "couch", "a3": None}
    item = read(row, {"answer": ["a1", "a2", "a3"]}, lists="alternatives")
    assert item.questions[0].reference == ["sofa", "couch"]


@pytest.mark.parametrize("answer", ["b", "B", 1, "1", "blue", "Blue.", ["blue"]])
@pytest.mark.parametrize("choices", [["red", "blue", "10"], '["red", "blue", "10"]', ["red", "blue", 10]])
def test_multiple_choice(answer: Any, choices: Any) -> None:
    found = question(choices=choices, answer=answer)
    assert found == Question("What?\nA. red\nB. blue\nC. 10", ("B",), ("red", "blue", "10"))
    assert found.reference == "B"


def test_choices_in_columns_of_their_own() -> None:
    row = {"image": "a", "question": "What?", "answer": "B", "A": "red", "B": "blue", "C": None, "D": float("nan")}
    item = read(row, {"choices": ["A", "B", "C", "D"]}, prompt="{choices}\n{question}")
    assert item.questions == (Question("A. red\nB. blue\nWhat?", ("B",), ("red", "blue")),)


def test_the_prompt_takes_columns_and_may_ask_by_itself() -> None:
    row = {"image": "a", "label": "cat", "hint": "an animal"}
    assert read(row, prompt="What is it? ({hint}){choices}").questions[0].text == "What is it? (an animal)"
    with pytest.raises(BadInput, match="no column 'question'; map it in columns, or give a prompt that asks; columns"):
        read(row)


def test_follow_ups() -> None:
    followups = [{"question": "Where?", "answer": "left"},
                 {"question": "Which?", "answer": "b", "choices": ["one", "two"]}]  # fmt: skip
    expected = (Question("What?", ("x",)), Question("Where?", ("left",)),
                Question("Which?\nA. one\nB. two", ("B",), ("one", "two")))  # fmt: skip
    for value in (followups, str(followups).replace("'", '"')):
        item = read({"image": "a", "question": "What?", "answer": "x", "followups": value})
        assert item.questions == expected


def test_marks_are_for_every_image_or_none() -> None:
    row = {"images": ["a", "b"], "question": "<image> or <image>?", "answer": "x"}
    assert read(row).questions[0].text == "<image> or <image>?"
    for changed in ({"question": "<image>?"}, {"images": ["a"]}, {"images": ["a", "b", "c"]}):
        with pytest.raises(BadInput, match=r"times <image> and \d images; give each image a mark, or none"):
            read({**row, **changed})


@pytest.mark.parametrize(("row", "message"), [
    ({"image": None}, "'image' holds nothing; columns present: image, question, answer"),
    ({"image": ["a", None]}, "an image is missing from the list of images"),
    ({"image": 3}, "an image is a path, an address, base64 or bytes, not a int"),
    ({"question": " "}, "'question' holds nothing"),
    ({"question": ["q"]}, "the question is text or a number, not a list"),
    ({"answer": None}, "'answer' holds nothing"),
    ({"answer": ["", " "]}, "the list of answers holds nothing"),
    ({"answer": ["a", "b"]}, "2 answers are too few annotators for an answer to score 1 (4 are needed); "
                             "if each of them is right, set lists: alternatives"),
    ({"answer": {1, 2}}, "the answer is text or a number, not a set"),
    ({"choices": "red"}, "choices are a list of texts, or several columns, not a str"),
    ({"choices": ["red"]}, "choices are 2 to 26 different texts, not ['red']"),
    ({"choices": ["red", "red"]}, "choices are 2 to 26 different texts"),
    ({"choices": ["red", "blue"]}, "the answer 'x' is no letter, index from 0 or text of the choices ['red', 'blue']"),
    ({"choices": ["red", "blue"], "answer": 2}, "the answer 2 is no letter"),
    ({"choices": ["red", "blue"], "answer": True}, "the answer True is no letter"),
    ({"followups": "x"}, "followups are a list of {question, answer}, not a str"),
    ({"followups": [{"question": "Why?"}]}, "follow-up 1 needs a question and an answer"),
    ({"followups": [{"question": "<image>?", "answer": "x"}]}, "follow-up 1 says <image>"),
    ({"system": ["x"]}, "the system message is text or a number, not a list"),
])  # fmt: skip
def test_bad_rows(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        read({"image": "a", "question": "What?", "answer": "x", **row})
    assert str(caught.value).startswith(message)


def test_a_row_that_is_none() -> None:
    with pytest.raises(BadInput, match="a list, not an object with columns"):
        read([1])
    with pytest.raises(BadInput, match=r"does not fill the prompt '\{topic\}'"):
        read({"image": "a", "question": "What?", "answer": "x"}, prompt="{topic}")
