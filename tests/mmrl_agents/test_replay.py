import dataclasses
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config, trajectory, turn

from mmrl.config import Config
from mmrl.errors import BadInput
from mmrl.sampling_config import Replay
from mmrl.store import RunStore
from mmrl.trajectory import Trajectory
from mmrl_agents.replay import Library, Remembered, best, check_replay, replay_metrics, replayed, worth_remembering
from mmrl_agents.tasks import Plan


def won(name: str, reward: float = 1.0, **changes: Any) -> Trajectory:
    spoken = dataclasses.replace(turn([1, 2], [3, 4], [-0.25, -1.5]), info={"success": True})
    return trajectory(name, [spoken], reward, **changes)


def ref(name: str, reward: float = 1.0, step: int = 1, entry: int = 0) -> Remembered:
    return Remembered(entry, step, name, reward, 0.5)


def config(**replay: Any) -> Config:
    return Config.model_validate({"train_type": "GRPO", "model_id": "m", "environments": [{"id": "a"}],
                                  "replay": replay or None})  # fmt: skip


def test_only_successes_that_were_better_than_their_group_are_worth_it() -> None:
    lost = trajectory("lost", [turn([1], [2])], 9.0)
    found = worth_remembering(7, [won("a"), won("b", 0.5), won("c"), lost, won("d", 0.75), won("e")],
                              [0.0, 0.5, None, 2.0, 1.5, -1.0], [1, 0, 2], 2)  # fmt: skip
    assert found == [Remembered(1, 7, "b", 0.5, 0.5), Remembered(2, 7, "d", 0.75, 1.5)]


def test_the_best_of_each_environment_stay_the_newest_first_among_equals() -> None:
    known = [ref("a", 1.0, 1), ref("b", 2.0, 1), ref("c", 1.0, 2), ref("d", 1.0, 2), ref("e", 0.5, 3, entry=1)]
    assert [r.id for r in best(known, Replay(size=3))] == ["b", "d", "c", "e"]
    assert [r.id for r in best(known, Replay(size=1))] == ["b", "e"]
    assert best(known, None) == ()
    assert best(best(known, Replay(size=3)), Replay(size=3)) == best(known, Replay(size=3))


def test_a_share_of_a_full_update_is_drawn_without_replacement() -> None:
    known = [ref(str(i)) for i in range(20)]
    sizes = Plan(groups=3, size=4, steps=9)
    for share, count in ((0.25, 4), (0.5, 12), (0.6, 18), (0.9, 20)):
        drawn = replayed(known, config(share=share), sizes, 5)
        assert len(drawn) == len({r.id for r in drawn}) == count
    drawn = [replayed(known, config(share=0.25), sizes, s) for s in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert replayed(known, config(), sizes, 5) == replayed([], config(share=0.25), sizes, 5) == []


def test_the_library_reads_from_the_runs_rollouts_what_it_has_not_at_hand(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", "")
    one, two = [won("a"), won("b")], [won("c")]
    store.write_rollouts(1, one, [0.5, 0.5])
    store.write_rollouts(2, two, [0.5])
    wanted = [ref("c", step=2), ref("a")]
    assert Library(store).fetch(wanted) == [(two[0], 0.5), (one[0], 0.5)]
    kept = Library(store)
    kept.keep(one, [ref("a")])
    kept.keep(two, [ref("a"), ref("c", step=2)])
    for file in (tmp_path / "run" / "rollouts").iterdir():
        file.unlink()
    assert [t for t, _ in kept.fetch(wanted)] == [two[0], one[0]]
    assert kept.fetch(wanted)[1][0] is one[0]
    kept.keep([], [ref("c", step=2)])
    with pytest.raises(BadInput, match=r"no rollouts at .*step-000001\.parquet"):
        kept.fetch(wanted)


def test_an_episode_that_is_gone_is_bad_input(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", "")
    store.write_rollouts(1, [won("a")], [0.5])
    with pytest.raises(BadInput, match=r"step-000001\.parquet lacks the episode x, which is to be replayed"):
        Library(store).fetch([ref("x")])


def test_metrics() -> None:
    assert replay_metrics(Replay(), [ref("a"), ref("b")], [ref("a")]) == {"replay/known": 2.0, "replay/used": 1.0}
    assert replay_metrics(None, [], []) == {}


def test_replay_without_a_correction_is_bad_input(tmp_path: Path) -> None:
    args = {"importance_correction": "none"}
    with pytest.raises(BadInput, match=r"run\.yaml:\d+: replay learns from what older policies sampled"):
        check_replay(run_config(tmp_path, training_args=args, replay={"size": 4}))
    check_replay(run_config(tmp_path, training_args=args))
    check_replay(run_config(tmp_path, replay={"size": 4}))


def test_replay_beside_a_critic_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"run\.yaml:\d+: .*advantage 'gae' goes by a critic; leave 'replay' out"):
        check_replay(run_config(tmp_path, training_args={"advantage": "gae"}, replay={"size": 4}))


@pytest.mark.parametrize(("key", "value"), [("share", 0.0), ("share", 1.0), ("share", -0.5), ("size", 0)])
def test_values_out_of_range_are_bad_input(tmp_path: Path, key: str, value: float) -> None:
    with pytest.raises(BadInput, match=rf"run\.yaml:\d+: 'replay\.{key}': input should be (greater|less) than [01]"):
        run_config(tmp_path, replay={key: value})
