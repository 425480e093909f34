from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas
import pytest
from learner_tools import run_config, trajectory, turn

from mmrl import launched
from mmrl.config import RolloutConfig
from mmrl.errors import BadInput
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl.trajectory import Trajectory
from mmrl_agents import sampler
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.run import Run
from mmrl_agents.sampling import Sampled
from mmrl_agents.staleness import check_staleness, limit_of, staleness, staleness_metrics, without_stale
from mmrl_agents.train import Grpo


def of(*versions: int) -> Trajectory:
    """A trajectory whose turns were sampled by these versions."""
    turns = [dataclasses.replace(turn([1], [2]), version=v) for v in versions]
    return trajectory(f"t{versions}", turns)


def batch(*trajectories: Trajectory) -> Sampled:
    return Sampled([*trajectories], 2, [0], [None], [0], 1, None, (1,))


def test_a_trajectory_is_as_old_as_its_oldest_turn() -> None:
    assert [staleness(t, 5) for t in (of(5, 5), of(4, 3, 5), of())] == [0, 2, 0]


def test_older_ones_are_not_valid_and_the_others_are_as_they_were() -> None:
    old, fresh = of(2, 5), of(4)
    given = batch(old, fresh)
    assert without_stale(given, 5, 3) is given
    cut = without_stale(given, 5, 2)
    assert [t.valid for t in cut.trajectories] == [False, True]
    assert cut.trajectories[1] is fresh
    assert old.valid, "what is stored stays as it was"
    assert dataclasses.replace(cut, trajectories=given.trajectories) == given


def test_figures_of_age() -> None:
    ahead = RolloutConfig(async_steps=2)
    assert limit_of(ahead) == 2
    assert limit_of(RolloutConfig(async_steps=2, max_staleness=1)) == 1
    rows = [of(2, 5), of(4)]
    assert staleness_metrics(rows, 5, ahead) == {
        "staleness/mean": pytest.approx(4 / 3), "staleness/max": 3.0, "staleness/dropped": 1.0,
    }  # fmt: skip
    assert staleness_metrics([of(5)], 5, RolloutConfig()) == {}
    assert staleness_metrics([of(5)], 5, ahead)["staleness/max"] == 0.0
    assert staleness_metrics([of(4)], 5, RolloutConfig())["staleness/dropped"] == 1.0


class Lagging(HFPolicy):
    """Samples with the weights of two updates before, and says so, as a server does that missed them."""

    def updated(self, version: int) -> None:
        super().updated(max(0, version - 2))


def lagging(run: Run) -> Lagging:
    return Lagging(run.model, run.processing, 1.0, 6, vision=run.vision)


@pytest.mark.parametrize(("limit", "skipped"), [(2, []), (1, [3, 4])])
def test_a_run_leaves_out_what_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, skipped: list[int]
) -> None:
    monkeypatch.setitem(sampler.SAMPLERS, "hf", sampler.SamplerKind(lagging, sampler.check_own))
    loaded = run_config(tmp_path, rollout={"max_staleness": limit})
    root = Grpo().train(loaded, False, Quiet())
    metrics = RunStore(root).metrics()
    assert [m["step"] for m in metrics if m.get("update/skipped")] == skipped
    assert [m.get("staleness/max", 0.0) for m in metrics] == [0.0, 1.0, 2.0, 2.0]
    assert [m["invalid"] for m in metrics] == [8.0 * (m["step"] in skipped) for m in metrics]
    for step in skipped:
        stored = read_trajectories(RunStore(root).rollouts_of(step))
        assert all(t.valid and t.record is not None for t in stored), "rewards are stored all the same"
        assert pandas.read_parquet(RunStore(root).rollouts_of(step))["advantage"].isna().all()


def test_wrong_settings_are_bad_input_that_names_the_place(tmp_path: Path) -> None:
    for sections, words in (
        ({"rollout": {"async_steps": 1}, "training_args": {"importance_correction": "none"}},
         "async_steps learns from what older policies sampled, and importance_correction 'none' ignores that; take "
         "token, icepop or geometric, or set rollout.async_steps to 0"),
        ({"rollout": {"async_steps": 2, "max_staleness": 1}},
         "every rollout is 2 updates old (async_steps), and max_staleness 1 would leave all of them out; set it to at "
         "least 2, or rollout.deterministic to false, so that the newest policy samples"),
    ):  # fmt: skip
        with pytest.raises(BadInput) as error:
            Grpo().check(run_config(tmp_path, **sections))
        assert "run.yaml:" in str(error.value)
        assert str(error.value).endswith(words)
    right: dict[str, Any] = {"async_steps": 2, "max_staleness": 1, "deterministic": False}
    check_staleness(run_config(tmp_path, rollout=right))


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "processes", lambda: 2)
    check_staleness(run_config(tmp_path))
    with pytest.raises(BadInput) as error:
        check_staleness(run_config(tmp_path, rollout={"async_steps": 1}))
    place, _, said = str(error.value).partition(": ")
    assert "async_steps:" in (tmp_path / "run.yaml").read_text().splitlines()[int(place.rpartition(":")[2]) - 1]
    assert said == ("async_steps samples in the background of one process, and the launcher starts 2; set it to 0, or "
                    "train with one process")  # fmt: skip
