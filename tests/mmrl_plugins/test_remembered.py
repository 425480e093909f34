from collections.abc import Sequence

import numpy as np

from mmrl_plugins._remembered import Remembered, Vectors


def test_only_new_items_are_embedded_and_the_oldest_are_forgotten() -> None:
    asked: list[list[int]] = []

    def embed(items: Sequence[int]) -> Vectors:
        asked.append(list(items))
        return np.array([[i, -i] for i in items], np.float32)

    memory = Remembered(kept=2)
    assert memory.look_up({}, embed) == {}
    found = memory.look_up({"a": 1, "b": 2}, embed)
    assert {key: vector.tolist() for key, vector in found.items()} == {"a": [1, -1], "b": [2, -2]}
    memory.look_up({"a": 1}, embed)
    memory.look_up({"c": 3, "a": 1}, embed)
    assert asked == [[1, 2], [3]]
    assert [key in memory for key in "abc"] == [True, False, True]
    assert len(memory.look_up({key: i for i, key in enumerate("defg")}, embed)) == 4
    memory.forget()
    assert "g" not in memory


def test_what_cannot_be_embedded_is_not_remembered() -> None:
    def fail(items: Sequence[int]) -> Vectors:
        raise RuntimeError("no")

    memory = Remembered(kept=2)
    for _ in range(2):
        try:
            memory.look_up({"a": 1}, fail)
        except RuntimeError:
            continue
        raise AssertionError("the exception was lost")
    assert "a" not in memory
