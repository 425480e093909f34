import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmrl_envs.tables import KEPT, shared, stamp


def test_a_table_is_made_once_for_all_threads() -> None:
    made: list[int] = []
    barrier = threading.Barrier(4)

    def ask(_: int) -> str:
        barrier.wait()
        return shared(("test", "once"), lambda: made.append(1) or "table")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["table"] * 4
    assert made == [1]


def test_an_error_is_not_remembered_and_the_oldest_table_goes() -> None:
    def fail() -> str:
        raise ValueError("no table")

    with pytest.raises(ValueError, match="no table"):
        shared(("test", "first"), fail)
    assert shared(("test", "first"), lambda: "one") == "one"
    for i in range(KEPT):
        shared(("test", i), lambda: "other")
    assert shared(("test", "first"), lambda: "two") == "two"


def test_a_table_may_be_made_of_another() -> None:
    assert shared(("test", "outer"), lambda: shared(("test", "inner"), lambda: 1) + 1) == 2


def test_stamps_change_with_what_they_stamp(tmp_path: Path) -> None:
    assert stamp(None) is None
    assert stamp(tmp_path / "none") is None
    path = tmp_path / "inner" / "a.txt"
    path.parent.mkdir()
    path.write_text("a")
    before = stamp(path), stamp(tmp_path)
    path.write_text("ab")
    assert stamp(path) != before[0]
    (path.parent / "b.txt").touch()
    os.utime(path.parent, ns=(1, 1))  # two changes may fall within the clock's grain
    assert stamp(tmp_path) != before[1]
