import runpy
from pathlib import Path

from algorithms import ALGORITHMS
from learning_results import measured, read, record
from learning_runs import TASKS, Outcome

ROOT = Path(__file__).resolve().parents[2]
OUTCOME = Outcome(0.25, (0.2, 0.3), 0.9, (0.85, 0.94), 200, 20, 2.5)


def test_the_page_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "learning_docs.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](read()), "run: python scripts/learning_docs.py"


def test_only_what_was_measured_with_these_settings_is_shown(tmp_path: Path) -> None:
    script, path = runpy.run_path(str(ROOT / "scripts" / "learning_docs.py")), tmp_path / "data" / "learning.json"
    assert script["row"]("sft", read(path)).count("not run yet") == len(TASKS)
    for task in TASKS:
        record(task, "sft", OUTCOME, path)
    assert script["row"]("sft", read(path)).count("25.0% [20.0%, 30.0%] → **90.0%** [85.0%, 94.0%]") == len(TASKS)
    assert script["row"]("gdpo", read(path)).count("not run yet") == len(TASKS)
    found = read(path)
    assert measured(found, "ten arms", "sft") == found["ten arms"]["sft"]
    found["ten arms"]["gdpo"] = found["ten arms"]["sft"]  # of other settings
    assert measured(found, "ten arms", "gdpo") is None


def test_results_are_in_the_order_of_the_algorithms_and_the_newest_stays(tmp_path: Path) -> None:
    path = tmp_path / "learning.json"
    names = list(ALGORITHMS)
    for name in (names[3], names[1], names[3]):
        record("ten arms", name, OUTCOME, path)
    assert list(read(path)["ten arms"]) == [names[1], names[3]]
