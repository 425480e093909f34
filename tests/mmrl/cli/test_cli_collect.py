import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmrl.cli import collect as module
from mmrl.cli.collect import make_specs, run_chunks
from mmrl.episode import EpisodeLimits
from mmrl.load import load_policy
from mmrl.store import RunStore, read_trajectories

Cli = Callable[..., Any]


def test_stores_scored_episodes_of_each_environment(mmrl: Cli, tmp_path: Path) -> None:
    words = ("--env", "text/arithmetic", "--env", "babyai/balrog-goto", "--policy", "expert", "--reward", "exact_match")
    code, out, _ = mmrl("collect", *words, "--episodes", "3", "--out", "runs/x")
    assert code == 0
    assert out.splitlines() == [
        "6 episodes in runs/x, 6 succeeded (100.0%)",
        "read them: python -c \"import pandas; print(pandas.read_parquet('runs/x/rollouts'))\"",
    ]
    stored = read_trajectories(tmp_path / "runs/x")
    assert [(t.env_id, t.seed) for t in stored] == [
        (e, 2_000_000 + i) for e in ("text/arithmetic", "babyai/balrog-goto") for i in range(3)
    ]
    assert [t.record is not None and t.record.valid for t in stored] == [True] * 3 + [False] * 3
    assert "policy: expert" in (tmp_path / "runs/x/config.yaml").read_text()


def test_an_existing_folder_is_refused(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/file").touch()
    code, _, err = mmrl("collect", "--env", "text/arithmetic", "--policy", "random", "--out", "here")
    assert code == 2
    assert err.startswith("mmrl: here exists and is not empty")


def test_a_wrong_plugin_is_named_before_anything_is_made(mmrl: Cli, tmp_path: Path) -> None:
    words = ("--env", "text/arithmetic", "--policy", "random", "--out", "x", "--reward", "exact_mach")
    code, _, err = mmrl("collect", *words)
    assert (code, err) == (2, "mmrl: unknown plugin 'exact_mach'; did you mean 'exact_match'?\n")
    assert not (tmp_path / "x").exists()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a terminal's program has it: who started us may ignore it, as a shell does for what runs behind it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_keeps_what_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)
    store, seen = RunStore.create(tmp_path / "run", ""), []
    count = module.EpisodeBar.episode

    def interrupt(self: Any, trajectory: Any) -> None:
        count(self, trajectory)
        seen.append(trajectory)
        if len(seen) == 6:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(module.EpisodeBar, "episode", interrupt)
    specs = make_specs(["text/arithmetic"], {}, 0, 12)
    with pytest.raises(KeyboardInterrupt):
        run_chunks(store, specs, load_policy("expert"), None, EpisodeLimits())
    stored = read_trajectories(tmp_path / "run")
    assert [t.id for t in stored[:4]] == [s.id for s in specs[:4]]
    assert {t.id for t in stored} == {t.id for t in seen}
    assert 6 <= len(stored) <= 8
