import dataclasses
import runpy
from pathlib import Path

import pytest

from mmrl.episode_record import EpisodeRecord, read_records, to_lines

ROOT = Path(__file__).resolve().parents[2]
BALROG = runpy.run_path(str(ROOT / "scripts" / "balrog_figure.py"))


def episodes(lost: int = 0, lost_putnext: int = 0) -> list[EpisodeRecord]:
    """All episodes of the figure, the first ``lost`` of goto and ``lost_putnext`` of putnext without success."""
    bound = {"babyai/balrog-goto": lost, "babyai/balrog-putnext": lost_putnext}
    return [EpisodeRecord(task, seed, seed >= bound.get(task, 0), 0.9, 10, 0)
            for task in BALROG["TASKS"] for seed in BALROG["SEEDS"]]  # fmt: skip


def code(folder: Path, records: list[EpisodeRecord]) -> int:
    path = folder / "records.jsonl"
    path.write_bytes(to_lines(records))
    return BALROG["main"]([str(path)])


@pytest.mark.parametrize(
    ("lost", "lost_putnext", "expected"), [(0, 0, 0), (75, 50, 0), (76, 50, 1), (0, 50, 0), (0, 51, 1)]
)
def test_the_bounds(tmp_path: Path, lost: int, lost_putnext: int, expected: int) -> None:
    assert code(tmp_path, episodes(lost, lost_putnext)) == expected


def test_each_episode_counts_exactly_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(tmp_path, episodes()[1:]) == 1
    assert "babyai/balrog-goto seed 0: 0 times" in capsys.readouterr().err
    assert code(tmp_path, [*episodes(), EpisodeRecord("babyai/balrog-open", 7, True, 0.9, 10, 0)]) == 1
    assert "babyai/balrog-open seed 7: 2 times" in capsys.readouterr().err
    assert code(tmp_path, [*episodes(), EpisodeRecord("babyai/GoToLocal", 7, True, 0.9, 10, 0)]) == 1


def test_the_table_and_the_differences() -> None:
    records = episodes(lost=50)
    lines = BALROG["table"](records)
    assert lines[2] == "| goto | 90.0% | 87.1% - 92.3% | 10.0 | 500 |"
    assert lines[-1].startswith("| all | 98.0% |")
    longer = dataclasses.replace(records[60], turns=11)
    changed = BALROG["different"]([*records[:60], longer, *records[61:]], records)
    assert changed == ["babyai/balrog-goto seed 60: success True in 11 turns, committed True in 10"]


def test_what_falls_short_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(tmp_path, episodes(lost_putnext=51)) == 1
    assert capsys.readouterr().err == "89.8% on putnext, which is to be at least 90%\n"


def test_the_committed_record_has_the_figure_of_the_page() -> None:
    committed = ROOT / "docs" / "data" / "balrog.jsonl"
    assert BALROG["main"]([str(committed)]) == 0
    page = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    assert "\n".join(BALROG["table"](read_records(committed))) in page
