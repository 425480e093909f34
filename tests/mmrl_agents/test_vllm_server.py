import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from learner_tools import Listening, run_config
from local_server import Asked, Reply
from stand_in_vllm import Gate, StandIn, samples
from two_processes import launch

from mmrl.config_load import LoadedConfig
from mmrl.errors import RunStopped
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl.trajectory import Trajectory
from mmrl_agents import fleet
from mmrl_agents.models import find_model, read_config
from mmrl_agents.policies import vllm_server
from mmrl_agents.train import Grpo

LORA: dict[str, Any] = {"lora": {"r": 4}}
STEPS, EPISODES = 4, 8


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(fleet, "LONGEST_PAUSE_S", 0.02)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[StandIn]]:
    """Two servers of the model that runs in ``tmp_path`` train."""
    run_config(tmp_path)
    model = str(tmp_path / "model")
    size = read_config(find_model(model)).vocab_size
    made = [StandIn(model, model, vocabulary=size, dev=True).start() for _ in range(2)]
    yield made
    for server in made:
        if server.server is not None:
            server.kill()


def loaded(servers: list[StandIn], folder: Path, name: str = "run", args: dict[str, Any] = LORA,
           **vllm_config: Any) -> LoadedConfig:
    given = {"server": [s.url for s in servers], **vllm_config}
    return run_config(folder, name, training_args={"use_vllm_sampler": True, "vllm_config": given, **args})


def train(config: LoadedConfig, resume: bool = False, reporter: Any = None) -> list[Trajectory]:
    made = Grpo()
    made.check(config)
    return episodes(made.train(config, resume, reporter or Quiet()))


def episodes(root: Path) -> list[Trajectory]:
    """What a run has stored, by name."""
    return sorted(read_trajectories(root / "rollouts"), key=lambda t: t.id)


def facts(found: list[Trajectory]) -> list[Any]:
    """What must not depend on which server answered, or how often it was asked."""
    return [(t.id, t.seed, [(turn.prompt_ids, turn.token_ids, turn.version) for turn in t.turns]) for t in found]


def test_a_run_samples_with_servers_that_are_given_its_adapter_at_every_step(servers: list[StandIn],
                                                                             tmp_path: Path) -> None:
    heard = Listening()
    config = loaded(servers, tmp_path)
    found = train(config, reporter=heard)
    assert len(found) == STEPS * EPISODES
    assert [t.turns[0].version for t in found] == [s for s in range(STEPS) for _ in range(EPISODES)]
    for server in servers:
        numbers = [name.rpartition("-")[2] for name in server.ever if "probe" not in name]
        assert numbers == ["0", "1", "2", "3", "4"]
        assert server.adapters == {}, "nothing is left behind"
    labels = {body["model"].rpartition("-")[0] for server in servers for body in server.answered}
    assert len(labels) == 1
    assert all(body["cache_salt"] == body["model"] for server in servers for body in server.answered)
    asked = [len(server.answered) for server in servers]
    assert sum(asked) == STEPS * EPISODES
    assert min(asked) >= STEPS, "both are used"
    assert not (config.output_dir / "sampler").exists()
    assert any(line.startswith("sampling with vllm at http://") and line.endswith("given the adapter")
               for line in heard.said)  # fmt: skip
    lines = RunStore(config.output_dir).metrics()
    assert [m["step"] for m in lines] == [1, 2, 3, 4]


def test_all_weights_go_over_where_no_adapter_does(servers: list[StandIn], tmp_path: Path) -> None:
    others = tmp_path / "shared" / "mmrl-other-3"
    others.mkdir(parents=True)
    train(loaded(servers, tmp_path, args={}, weights_folder=str(others.parent)))
    assert list(others.parent.iterdir()) == [others], "a folder that the user names may be that of other runs too"
    for server in servers:
        assert [Path(p).name.rpartition("-")[2] for p in server.ever] == ["0", "1", "2", "3", "4"]
        assert {body["model"] for body in server.answered} == {server.model}
        assert len({body["cache_salt"] for body in server.answered}) == STEPS, "nothing kept of old weights is used"


def test_a_server_that_dies_in_the_midst_of_a_step_costs_nothing(servers: list[StandIn], tmp_path: Path) -> None:
    whole = train(loaded(servers, tmp_path, "whole"))
    first = servers[0]
    gate = Gate(after=5)
    first.hook = gate

    def kill_and_come_back() -> None:
        gate.reached.wait(60)
        first.kill()
        first.hook = lambda asked: None
        gate.opened.set()
        first.start()

    killer = threading.Thread(target=kill_and_come_back)
    killer.start()
    found = train(loaded(servers, tmp_path, "killed"))
    killer.join()
    assert facts(found) == facts(whole), "exactly the planned episodes, as if nothing had happened"
    assert max(Counter(t.id for t in found).values()) == 1
    twice = [name for name, times in Counter(first.ever).items() if times == 2]
    assert len(twice) == 1, "it was given the step's adapter once more, before it was used again"


def test_the_only_server_is_waited_for(servers: list[StandIn], tmp_path: Path) -> None:
    whole = train(loaded(servers[:1], tmp_path, "whole"))
    server = servers[0]
    gate = Gate(after=12)
    server.hook = gate

    def kill_and_come_back() -> None:
        gate.reached.wait(60)
        server.kill()
        server.hook = lambda asked: None
        gate.opened.set()
        threading.Event().wait(0.3)
        server.start()

    killer = threading.Thread(target=kill_and_come_back)
    killer.start()
    found = train(loaded([server], tmp_path, "killed"))
    killer.join()
    assert facts(found) == facts(whole)


def test_without_the_clock_a_slow_answer_holds_up_no_other_episode(servers: list[StandIn], tmp_path: Path) -> None:
    asked: list[Asked] = []
    others_went_on, waited = threading.Event(), list[bool]()

    def hook(one: Asked) -> Reply | None:
        if samples(one):
            asked.append(one)
            if len(asked) > EPISODES:  # one of them is at its second turn
                others_went_on.set()
            if len(asked) == 1:
                waited.append(others_went_on.wait(30))
        return None

    servers[0].hook = hook
    args = {"use_vllm_sampler": True, "vllm_config": {"server": servers[0].url}, "max_steps": 1, **LORA}
    task = {"environments": [{"id": "babyai/balrog-goto"}],
            "rollout": {"max_turns": 3, "max_new_tokens": 4, "deterministic": False}}  # fmt: skip
    found = train(run_config(tmp_path, "free", training_args=args, **task))
    assert waited == [True]
    assert [len(t.turns) for t in found] == [3] * EPISODES
    assert len(asked) == 3 * EPISODES


def test_a_server_that_was_started_anew_unseen_is_given_the_adapter_first(servers: list[StandIn],
                                                                          tmp_path: Path) -> None:
    whole = train(loaded(servers, tmp_path, "whole"))
    first, left = servers[0], [6]

    def forgets(asked: Asked) -> Reply | None:
        if samples(asked):
            left[0] -= 1
            if left[0] == 0:
                first.adapters.clear()  # as after a restart between two requests
        return None

    first.hook = forgets
    assert facts(train(loaded(servers, tmp_path, "forgot"))) == facts(whole)
    assert left[0] < 0


def test_what_a_server_said_with_its_old_weights_is_not_used(servers: list[StandIn], tmp_path: Path) -> None:
    whole = train(loaded(servers, tmp_path, "whole", args={}))
    first, left = servers[0], [6]

    def forgets(asked: Asked) -> Reply | None:
        if samples(asked):
            left[0] -= 1
            if left[0] == 0:  # as after a restart between two requests
                first.weights, first.births = "base", first.births + 1
        return None

    first.hook = forgets
    assert facts(train(loaded(servers, tmp_path, "forgot", args={}))) == facts(whole)
    assert left[0] < 0


def test_old_weights_are_found_out_also_where_the_server_has_been_given_the_new_ones_since(servers: list[StandIn],
                                                                                          tmp_path: Path) -> None:
    whole = train(loaded(servers[:1], tmp_path, "whole", args={}))
    server, left = servers[0], [12]

    def forgets_and_breaks(asked: Asked) -> Reply | None:
        if samples(asked):
            left[0] -= 1
            if left[0] == 0:  # as after a restart between two requests
                server.weights, server.births = "base", server.births + 1
                stale.set()
            elif left[0] == -1:  # noticed by another request, for which it is made ready again
                stale.wait(30)
                return Reply(status=0)
        return None

    stale = threading.Event()
    server.hook = forgets_and_breaks
    assert facts(train(loaded([server], tmp_path, "forgot", args={}))) == facts(whole)
    assert left[0] < -1


def test_when_no_server_comes_back_the_run_stops_and_resumes(servers: list[StandIn], tmp_path: Path) -> None:
    whole = train(loaded(servers, tmp_path, "whole"))
    config = loaded(servers, tmp_path, wait_s=0.5)
    after = Gate(after=10)
    servers[0].hook = after

    def kill_all() -> None:
        after.reached.wait(60)
        for server in servers:
            server.kill()
        after.opened.set()

    killer = threading.Thread(target=kill_all)
    killer.start()
    with pytest.raises(RunStopped, match=r"^no server for 0.5 s: http://.*; what was written is intact, and --resume"):
        train(config)
    killer.join()
    servers[0].hook = lambda asked: None
    for server in servers:
        server.start()
    left = config.output_dir / "sampler" / "mmrl-killed-3"
    left.mkdir(parents=True)
    assert facts(train(config, resume=True)) == facts(whole)
    assert not left.parent.exists(), "nothing stays of a start that was killed"


def test_a_server_that_refuses_the_weights_stops_the_run_at_once(servers: list[StandIn], tmp_path: Path) -> None:
    config = loaded(servers, tmp_path)
    Grpo().check(config)
    servers[0].hook = lambda asked: (
        Reply({"error": {"message": "no room"}}, 500) if asked.path == "/v1/load_lora_adapter" and
        not asked.body["lora_name"].startswith("mmrl-probe") else None
    )  # fmt: skip
    with pytest.raises(RunStopped, match=r"no room.*; the server does not take the weights of step 0 from"):
        train(config)


def test_a_server_that_hangs_at_the_end_holds_no_run_up(servers: list[StandIn], tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_server, "HEALTH_S", 0.2)
    over, let_go = threading.Event(), list[bool]()

    def hangs(asked: Asked) -> Reply | None:
        if asked.path == "/v1/unload_lora_adapter" and asked.body["lora_name"].endswith("-1"):
            let_go.append(over.wait(30))
        return None

    servers[0].hook = hangs
    train(loaded(servers, tmp_path, args={**LORA, "max_steps": 1}))
    assert let_go == [], "it still hangs"
    over.set()


def test_ctrl_c_waits_for_no_server_that_is_gone(servers: list[StandIn], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    gone, given_up = threading.Event(), list[str]()

    class Heard(RunStopped):
        def __init__(self, said: str) -> None:
            super().__init__(said)
            given_up.append(said)

    def hook(asked: Asked) -> Reply | None:
        if asked.path == "/v1/load_lora_adapter" and asked.body["lora_name"].endswith("-4"):
            gone.set()
        return Reply({}, 503) if gone.is_set() else None

    class Stop(Quiet):
        """Is interrupted while the background waits for a server that takes the weights of step 2."""

        steps = 0

        def step(self, *args: Any) -> None:
            self.steps += 1
            if self.steps == 3:
                gone.wait(60)
                raise KeyboardInterrupt

    for server in servers:
        server.hook = hook
    monkeypatch.setattr(fleet, "RunStopped", Heard)
    args = {"use_vllm_sampler": True, "vllm_config": {"server": [s.url for s in servers], "wait_s": 20}, **LORA}
    config = run_config(tmp_path, rollout={"async_steps": 1}, training_args={**args, "max_steps": 40})
    with pytest.raises(KeyboardInterrupt):
        train(config, reporter=Stop())
    assert gone.is_set()
    assert given_up == []


def test_two_processes_share_the_servers_and_the_first_gives_the_weights(servers: list[StandIn],
                                                                         tmp_path: Path) -> None:
    args = {**LORA, "max_steps": 2}
    whole = train(loaded(servers, tmp_path, "whole", args))
    for server in servers:
        server.ever.clear()
    config = loaded(servers, tmp_path, "two", args)
    launch(tmp_path, "two")
    assert facts(episodes(config.output_dir)) == facts(whole)
    for server in servers:
        names = [name for name in server.ever if "probe" not in name]
        assert [name.rpartition("-")[2] for name in names] == ["0", "1", "2"]
        assert server.adapters == {}
    assert not (config.output_dir / "sampler").exists()


def test_it_is_json_that_goes_over(servers: list[StandIn], tmp_path: Path) -> None:
    train(loaded(servers[:1], tmp_path, args={**LORA, "max_steps": 1}))
    seeds = [body["seed"] for body in servers[0].answered]
    assert len(set(seeds)) == EPISODES
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert json.loads(json.dumps(servers[0].answered)) == servers[0].answered
