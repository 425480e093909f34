from pathlib import Path
from typing import Any

import pytest

import mmrl_assets
from mmrl.config import Config, EnvironmentConfig, SftConfig
from mmrl.table_rows import APART, evaluated_rows, rows_of, rows_said

MADE = {"id": "text/arithmetic"}


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "mine.jsonl").write_text('{"question": "Who?", "answer": "me"}\n' * 3)
    return {"id": "text", "kwargs": {"path": str(tmp_path / "mine.jsonl")}}


def config(trained: list[dict[str, Any]], **eval_: Any) -> Config:
    return Config.model_validate({"train_type": "GRPO", "model_id": "m", "environments": trained, "eval": eval_})


def test_rows_of_a_table_and_of_none(table: dict[str, Any]) -> None:
    assert rows_of(EnvironmentConfig.model_validate(table)) == 3
    assert rows_of(EnvironmentConfig.model_validate(MADE)) is None


def test_what_is_made_on_the_spot_is_not_counted(table: dict[str, Any]) -> None:
    assert rows_said(config([MADE])) is None
    assert evaluated_rows(config([table], environments=[MADE])) == ""
    assert rows_said(config([table, MADE], environments=[MADE])) == "rows: 3 of text"


def test_training_and_held_out_rows(table: dict[str, Any]) -> None:
    few = {"episodes": 3, "final_episodes": 2}
    learned = f"rows: 3 of text; evaluated on the same, which it learns from; {APART}"
    assert rows_said(config([table], **few)) == learned
    again = config([table], environments=[table, MADE], **few)
    assert rows_said(again) == f"rows: 3 of text; evaluated on 3 of text, which it learns from; {APART}"
    assert rows_said(config([MADE], environments=[table, table], **few)) == "rows: evaluated on 3 of text, 3 of text"
    assert rows_said(config([table], episodes=0, final_episodes=0)) == "rows: 3 of text"


def test_rows_that_episodes_draw_again(table: dict[str, Any]) -> None:
    again = evaluated_rows(config([MADE], environments=[table], episodes=0, final_episodes=4))
    assert again == "3 of text (drawn again by 4 episodes; intervals count rows)"


LEARNED = "3 of text, which it learns from"


@pytest.mark.parametrize(("trained", "evaluated", "said"), [
    ({}, {"system": "Be brief."}, LEARNED),
    ({"columns": {"question": "question"}}, {}, LEARNED),
    ({}, {"path": "other.jsonl"}, "3 of text"),
])  # fmt: skip
def test_a_table_is_the_same_however_it_is_asked(table: Any, trained: Any, evaluated: Any, said: str) -> None:
    path = Path(table["kwargs"]["path"])
    path.with_name("other.jsonl").write_text(path.read_text())
    evaluated = {k: str(path.with_name(v)) if k == "path" else v for k, v in evaluated.items()}
    one, two = ({"id": "text", "kwargs": {**table["kwargs"], **more}} for more in (trained, evaluated))
    told = evaluated_rows(config([one], environments=[two], episodes=3, final_episodes=0))
    assert told.partition(";")[0] == said


@pytest.mark.parametrize(("trained", "evaluated", "learned"), [
    ("train", "eval", False), ("all", "eval", True), ("train", None, True), ("train", "train", True),
])  # fmt: skip
def test_two_parts_of_a_table_hold_rows_back(trained: str, evaluated: str | None, learned: bool) -> None:
    shapes = Path(mmrl_assets.__path__[0]) / "samples" / "shapes60" / "questions.jsonl"
    one, two = ({"id": "vqa", "kwargs": {"path": str(shapes), **({"part": part} if part else {})}}
                for part in (trained, evaluated))  # fmt: skip
    assert (APART in evaluated_rows(config([one], environments=[two]))) == learned


def test_a_run_that_learns_from_stored_answers_does_not_learn_in_its_environments(table: dict[str, Any]) -> None:
    one = config([table], episodes=3, final_episodes=0)
    stored = SftConfig(rollouts=[Path("runs/a")])
    assert evaluated_rows(one.model_copy(update={"sft": stored})) == "the same"
