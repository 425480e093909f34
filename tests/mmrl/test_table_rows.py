from pathlib import Path
from typing import Any

import pytest

from mmrl.config import Config, EnvironmentConfig
from mmrl.table_rows import evaluated_rows, rows_of, rows_said

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
    assert rows_said(config([table], **few)) == "rows: 3 of text; evaluated on the same"
    assert rows_said(config([MADE], environments=[table, table], **few)) == "rows: evaluated on 3 of text, 3 of text"
    assert rows_said(config([table], episodes=0, final_episodes=0)) == "rows: 3 of text"


def test_rows_that_episodes_draw_again(table: dict[str, Any]) -> None:
    again = evaluated_rows(config([MADE], environments=[table], episodes=0, final_episodes=4))
    assert again == "3 of text (drawn again by 4 episodes; intervals count rows)"
