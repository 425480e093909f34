from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmrl
from mmrl import BadInput, text_of
from mmrl_envs.text import normalise

PATH = Path(__file__).parents[1] / "data" / "questions.jsonl"
COLUMNS = {"question": "q", "answer": "a"}


def test_a_row_an_episode_drawn_by_the_seed() -> None:
    env = mmrl.make("text", path=PATH, columns=COLUMNS)
    seen = {}
    for seed in range(40):
        observation, info = env.reset(seed=seed)
        seen[info["sample"].id] = (text_of(observation), info["sample"].reference)
    assert len(seen) == 6
    assert seen[f"{PATH}-row-2"] == ("How many legs has a spider?", "8")


def test_the_expert_is_right_and_another_answer_is_not() -> None:
    env = mmrl.make("text", path=PATH, columns=COLUMNS)
    env.reset(seed=1)
    assert env.step(f" {env.expert_action().upper()}. ")[1:4] == (1.0, True, False)
    env.reset(seed=1)
    *_, info = env.step("no idea")
    assert info["success"] is False


def test_prompt_and_system_come_from_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,answer,hint,role\nWhy?,because,think,You are wise.\n")
    env = mmrl.make("text", path=path, columns={"system": "role"}, prompt="{question} ({hint})")
    _, info = env.reset(seed=0)
    assert [(m.role, m.text) for m in info["sample"].messages] == [
        ("system", "You are wise."), ("user", "Why? (think)"),
    ]  # fmt: skip
    env = mmrl.make("text", path=path, system="Be brief.")
    assert [m.text for m in env.reset(seed=0)[1]["sample"].messages] == ["Be brief.", "Why?"]


def test_a_dataset_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([{"q": "one?", "a": "1"}]).save_to_disk(tmp_path)
    observation, _ = mmrl.make("text", dataset=str(tmp_path), columns=COLUMNS).reset(seed=0)
    assert text_of(observation) == "one?"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "needs one of path (a file of questions) and dataset"),
        ({"path": PATH, "dataset": "x"}, "needs one of path"),
        ({"path": PATH}, "questions.jsonl: row 1 has no column 'question'; columns present: q, a"),
        ({"path": PATH, "columns": {"query": "q"}}, "'query' is none of them"),
        ({"path": PATH, "columns": COLUMNS, "prompt": "{topic}"}, "row 1 does not fill the prompt '{topic}'"),
        ({"path": PATH, "columns": COLUMNS, "prompt": "{"}, "row 1 does not fill the prompt"),
    ],
)
def test_bad_input_is_named_before_the_first_episode(kwargs: dict, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        mmrl.make("text", **kwargs)
    assert message in str(caught.value)


@given(st.text(alphabet=st.characters(max_codepoint=0x24F)))  # beyond, Unicode's own folding has rare exceptions
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize("answer", ["Carbon Dioxide", " carbon  dioxide.", "**carbon dioxide**", '"carbon\ndioxide"'])
def test_answers_that_mean_the_same(answer: str) -> None:
    assert normalise(answer) == "carbon dioxide"
