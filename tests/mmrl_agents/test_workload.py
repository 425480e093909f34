from __future__ import annotations

from pathlib import Path

import pytest
import torch
from learner_tools import run_config, trajectory, turn

from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.kv_cache import SlabLayer
from mmrl_agents.workload import course, growths, held_out_sampling, training_sampling, update_of


def talk(name: str, *lengths: tuple[int, int], anew: bool = False, first: int = 0) -> Trajectory:
    """Turns of (ids that the environment added, ids sampled); each prompt goes on from the last, or begins anew."""
    turns: list[Turn] = []
    for i, (added, sampled) in enumerate(lengths):
        held = [] if anew or not turns else [*turns[-1].prompt_ids, *turns[-1].token_ids]
        turns.append(turn([*held, *range(10 + first + i, 10 + first + i + added)], range(100, 100 + sampled)))
    return trajectory(name, turns)


def test_a_course_takes_the_most_of_all_rows() -> None:
    """A prompt, three ids one by one (the last goes in with what follows), and so on."""
    rows = [talk("a", (7, 4), (5, 2)), talk("b", (9, 3), (2, 4)), talk("c", (8, 4))]
    assert course(rows, 0) == (9, 1, 1, 1, 6, 1, 1, 1)
    assert course(rows, 1) == (18 - 2, 1, 1, 1)  # what begins at the second turn is its whole prompt
    assert course([talk("a", (7, 4), (5, 2), anew=True)], 0) == (7, 1, 1, 1)


@pytest.mark.parametrize("widths", [(5, *[1] * 200), (60, 1, 1, 30, 1, 1, 90, 1), (100, 1), (10, 5, 40, 2), (7,)])
def test_growths_are_those_of_the_cache(widths: tuple[int, ...]) -> None:
    layer, found = SlabLayer(), list[int]()
    states = torch.zeros(1, 1, widths[0], 1)
    layer.load(states, states.clone())
    for i, width in enumerate(widths[1:], 1):
        room = layer.room_k
        layer.update(torch.zeros(1, 1, width, 1), torch.zeros(1, 1, width, 1))
        if layer.room_k is not room and layer.room_k is not None and layer.room_k.shape[2] != getattr(room, "shape")[2]:
            found.append(i)
    assert growths(widths) == found


def test_the_heaviest_micro_batch_is_of_any_step_and_cut_at_fresh_prompts(tmp_path: Path) -> None:
    config = run_config(tmp_path, training_args={"per_device_train_batch_size": 2}).config
    light = [talk("a", (3, 2)), talk("b", (4, 2))]
    heavy = [talk("c", (5, 3), (6, 3), (20, 3), anew=True), talk("d", (9, 2), first=50)]
    found = update_of(config, [light, heavy], vocabulary=1, width=10)
    assert [t.id for t in found.segments] == ["c.2", "d.0"]
    assert found.micro_batches == 2
    assert [len(t.turns[0].prompt_ids) for t in found.segments] == [20, 9]
    whole = update_of(config, [[talk("e", (5, 3), (6, 3))], light], vocabulary=1, width=10)
    assert [(t.id, len(t.turns)) for t in whole.segments] == [("e.0", 2)]
    assert whole.micro_batches == 1


def test_sampling_computes_equal_prompts_once_and_keeps_whole_batches(tmp_path: Path) -> None:
    config = run_config(tmp_path, rollout={"max_batch": 3}).config
    step = [talk(f"{i}", (6, 4), (3, 4), first=i // 4) for i in range(8)]
    found = training_sampling(config, [step, step[:4]])
    assert (found.rows, found.batches) == (3, 2)
    assert [r.prompt for r in found.prompts] == [t.turns[0].prompt_ids for t in step[:3]]
    assert len(found.prompts) == 3
    assert {r.limit for r in found.prompts} == {2}
    assert found.widths == (6, 1, 1, 1, 4, 1, 1, 1)
    few = run_config(tmp_path, "few", rollout={"concurrency": 2}).config
    assert (training_sampling(few, [step]).rows, training_sampling(few, [step]).batches) == (2, 1)


def test_the_prompts_of_an_evaluation_are_all_different(tmp_path: Path) -> None:
    config = run_config(tmp_path, eval={"episodes": 5, "final_episodes": 40}).config
    found = held_out_sampling(config, [talk("a", (6, 4)), talk("b", (9, 4))])
    assert found is not None
    assert (found.rows, len({r.prompt for r in found.prompts})) == (40, 40)
    assert {len(r.prompt) for r in found.prompts} == {9}
    assert held_out_sampling(run_config(tmp_path, "none").config, [talk("a", (6, 4))]) is None
