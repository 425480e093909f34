"""One row of a VQA table, read: its images, its questions and their answers.

Comes in: a row, and how it is to be read.  Goes out: an :class:`Item`, or one line that says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mmrl.bridges.conversation import IMAGE_TAG
from mmrl.errors import BadInput
from mmrl_envs.prompt import fill
from mmrl_envs.vqa_columns import Columns, is_empty, listed, present, text_of_cell
from mmrl_envs.vqa_grade import LETTERS, Lists, Question, listing, right_letter
from mmrl_envs.vqa_split import content_id, image_name


@dataclass(frozen=True)
class Layout:
    """How rows are read.

    Attributes:
        columns: which column holds which role.
        prompt: the user message's template; None takes the question, and below it the choices.
        system: the system message of rows without one.
        lists: what a list of answers means.
        root: the folder that image paths start at.
    """

    columns: Columns
    prompt: str | None = None
    system: str | None = None
    lists: Lists = "annotators"
    root: Path | None = None

    @property
    def key(self) -> Hashable:
        """Names this way of reading."""
        return (*sorted(self.columns.given.items()), self.prompt, self.system, self.lists, self.root)


@dataclass(frozen=True)
class Item:
    """A row that was read.

    Attributes:
        id: its name; the same wherever the row stands.
        images: at least one, each as the row holds it.
        names: what the images are called.
        questions: the first, with the prompt filled in, and those that follow it.
        system: the system message, if any.
    """

    id: str
    images: tuple[Any, ...]
    names: tuple[str, ...]
    questions: tuple[Question, ...]
    system: str | None


def read_item(row: Any, layout: Layout) -> Item:
    """Read a row.

    Raises:
        BadInput: naming the column that is missing or wrong.
    """
    if not isinstance(row, Mapping):
        raise BadInput(f"a {type(row).__name__}, not an object with columns")
    columns, row = layout.columns, cast("Mapping[str, Any]", row)
    images = _images(columns.needed(row, "image"))
    names = tuple(image_name(image, layout.root) for image in images)
    asked = _asked(row, layout)
    main = _question(asked, columns.needed(row, "answer"), columns.value(row, "choices"), layout.lists)
    listed_choices = listing(main.choices)
    template = layout.prompt or ("{question}\n{choices}" if main.choices else "{question}")
    prompt = fill(template, row, {"question": asked, "choices": listed_choices})
    system = columns.value(row, "system")
    head = layout.system if is_empty(system) else text_of_cell(system, "the system message")
    marks = prompt.count(IMAGE_TAG) + (head or "").count(IMAGE_TAG)
    if marks not in (0, len(images)):
        raise BadInput(f"{marks} times {IMAGE_TAG} and {len(images)} images; give each image a mark, or none")
    followups = _followups(columns.value(row, "followups"), layout.lists)
    given = columns.value(row, "id")
    name = content_id(asked, names) if is_empty(given) else text_of_cell(given, "the id")
    first = Question(prompt, main.answers, main.choices, main.structure)
    return Item(name, images, names, (first, *followups), head)


def _asked(row: Mapping[str, Any], layout: Layout) -> str:
    """The question; one that the prompt does not repeat may be missing."""
    if layout.prompt is None or "{question" in layout.prompt:
        if "question" not in row and "question" not in layout.columns.given:
            raise BadInput(f"no column 'question'; map it in columns, or give a prompt that asks; {present(row)}")
        return text_of_cell(layout.columns.needed(row, "question"), "the question")
    value = layout.columns.value(row, "question")
    return "" if is_empty(value) else text_of_cell(value, "the question")


def _images(value: Any) -> tuple[Any, ...]:
    value = listed(value)
    images = tuple(value) if isinstance(value, list | tuple) else (value,)
    if any(is_empty(image) for image in images):
        raise BadInput("an image is missing from the list of images")
    return images


def _question(text: str, answer: Any, choices: Any, lists: Lists) -> Question:
    if is_empty(choices := listed(choices)):
        return _open_question(text, listed(answer), lists)
    if not isinstance(choices, list | tuple):
        raise BadInput(f"choices are a list of texts, or several columns, not a {type(choices).__name__}")
    texts = tuple(text_of_cell(c, "a choice") for c in cast("Sequence[Any]", choices))
    if not 2 <= len(texts) <= len(LETTERS) or len(set(texts)) < len(texts):
        raise BadInput(f"choices are 2 to {len(LETTERS)} different texts, not {list(texts)!r:.200}")
    one: Any = answer[0] if isinstance(answer, list | tuple) and len(answer) == 1 else answer
    is_index = isinstance(one, int) and not isinstance(one, bool)
    right = right_letter(one if is_index else text_of_cell(one, "the answer"), texts)
    if right is None:
        raise BadInput(f"the answer {one!r:.80} is no letter, index from 0 or text of the choices {list(texts)!r:.200}")
    return Question(text, (right,), texts)


def _open_question(text: str, answer: Any, lists: Lists) -> Question:
    if isinstance(answer, list | tuple):
        said = [a["answer"] if isinstance(a, Mapping) and "answer" in a else a for a in cast("Sequence[Any]", answer)]
        if all(isinstance(a, str) for a in said):
            return Question(text, _texts(said, lists))
    if isinstance(answer, list | tuple | Mapping):
        try:
            return Question(text, (json.dumps(answer),), structure=answer)
        except TypeError as error:
            raise BadInput(f"the answer is text, a number, a list or what JSON can hold ({error})") from error
    return Question(text, (text_of_cell(answer, "the answer"),))


def _texts(said: list[Any], lists: Lists) -> tuple[str, ...]:
    texts = tuple(a for a in said if a.strip())
    if not texts:
        raise BadInput("the list of answers holds nothing")
    if lists == "annotators" and len(texts) in (2, 3):
        raise BadInput(f"{len(texts)} answers are too few annotators for an answer to score 1 (4 are needed); "
                       "if each of them is right, set lists: alternatives")  # fmt: skip
    return texts


def _followups(value: Any, lists: Lists) -> tuple[Question, ...]:
    if is_empty(value := listed(value)):
        return ()
    if not isinstance(value, list | tuple):
        raise BadInput(f"followups are a list of {{question, answer}}, not a {type(value).__name__}")
    out: list[Question] = []
    for number, one in enumerate(cast("Sequence[Any]", value), 1):
        if not isinstance(one, Mapping) or is_empty(one.get("question")) or is_empty(one.get("answer")):
            raise BadInput(f"follow-up {number} needs a question and an answer, it is {one!r:.80}")
        question = _question(text_of_cell(one["question"], f"follow-up {number}"), one["answer"], one.get("choices"),
                             lists)  # fmt: skip
        text = "\n".join(filter(None, (question.text, listing(question.choices))))
        if IMAGE_TAG in text:
            raise BadInput(f"follow-up {number} says {IMAGE_TAG}, but images stand in the first message only")
        out.append(Question(text, question.answers, question.choices, question.structure))
    return tuple(out)
