"""A learner's weights on real vLLM servers: the same log-probabilities, at every version, and no step lost."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from learner_tools import REWARD
from vllm_servers import Served, free_port
from vllm_tools import LONG, gaps, shake, smol

import mmrl
from mmrl.config_load import LoadedConfig, load_config
from mmrl.env import Env
from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.json_client import ServerError
from mmrl.policy import Completion, Request
from mmrl.report import Quiet
from mmrl.sample import Message, Text
from mmrl.store import RunStore, read_trajectories
from mmrl.training_args import LoraArgs
from mmrl_agents.check_server import check_servers
from mmrl_agents.engine_api import EngineApi
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.handover import Handover
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.logprobs import Scorer
from mmrl_agents.models import find_model, load_generation, load_model, load_processing
from mmrl_agents.policies.vllm_server import ServerSampler
from mmrl_agents.processes import ALONE
from mmrl_agents.run import add_adapter
from mmrl_agents.server_args import server_args
from mmrl_agents.server_facts import facts_of
from mmrl_agents.tasks import plan, step_specs
from mmrl_agents.train import Grpo
from mmrl_agents.turns import Turns, end_ids
from mmrl_agents.vision import Vision

pytestmark = pytest.mark.vllm
TEMPERATURE, CLOSE, APART = 0.7, 1e-4, 0.02
TALKS = ((Text("What is 13 + 8?"),), (Text(f"{LONG}Where do you go?"),))
"""What is asked: short, and behind a long text that the server keeps."""
PICTURES = [Image(np.random.default_rng(n).integers(0, 256, (40, 60, 3), dtype=np.uint8)) for n in (0, 1, 0)]
SIGHTS = [(Text("Look: "), *PICTURES[:n], Text(" What now?")) for n in range(4)]
"""The same of a model that sees: no picture, one, two, and two that are equal."""


def vllm_config(port: int, **engine: Any) -> dict[str, Any]:
    return {"server": f"http://localhost:{port}", "engine": {"max_num_seqs": 16, **engine}}


def config_of(folder: Path, name: str, model: str, port: int, args: dict[str, Any] | None = None,
              **sections: Any) -> LoadedConfig:  # fmt: skip
    tree = {
        "train_type": "GRPO", "model_id": model, "environments": [{"id": "text/arithmetic"}],
        "reward_plugins": [{"name": f"{folder / 'letters.py'}:Letters"}],
        "training_args": {
            "output_dir": str(folder / name), "use_vllm_sampler": True, "lora": {"r": 8}, "learning_rate": 1e-3,
            "vllm_config": vllm_config(port), "num_generations": 4, "per_device_train_batch_size": 8, **(args or {}),
        },
        "rollout": {"temperature": TEMPERATURE, "max_context": 512, "max_new_tokens": 8},
        "eval": {"episodes": 0, "final_episodes": 0}, **sections,
    }  # fmt: skip
    (folder / "letters.py").write_text(REWARD)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return load_config(folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[dict[str, Served]]:
    """Three servers that start together: of a real model, which takes weights too, of a tiny one, and one that sees."""
    models = {"smol": smol(), "tiny": "mmrl/tiny", "sees": "mmrl/tiny-vlm"}
    # vLLM's own code for models that see needs torchvision, which is not to be had here; that of transformers does not.
    engines: dict[str, dict[str, Any]] = {"smol": {}, "tiny": {}, "sees": {"model_impl": "transformers"}}
    made: dict[str, Served] = {}
    for name, model in models.items():
        port = free_port()
        config = config_of(folder, name, model, port, {"vllm_config": vllm_config(port, **engines[name])})
        made[name] = Served(config.path, port, VLLM_SERVER_DEV_MODE="1")
    try:
        for server in made.values():
            server.wait()
        yield made
    finally:
        for server in made.values():
            server.kill()


@pytest.fixture(scope="module")
def model() -> Any:
    """The learner's model: SmolLM2 with a fresh adapter."""
    files = find_model(smol())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return add_adapter(load_model(files, device="cpu", trainable=True), LoraArgs(r=8), files)


@pytest.fixture
def config(folder: Path, servers: dict[str, Served]) -> LoadedConfig:
    return load_config(folder / "smol.yaml")


def sampler_of(config: LoadedConfig, model: Any, adapter: bool) -> ServerSampler:
    """As a run makes it, of a model that is there."""
    args, files = server_args(config), find_model(config.config.model_id)
    processing = load_processing(files)
    ends = end_ids(load_generation(files), processing)
    facts = facts_of(args, "here")[0]
    handover = Handover(config.output_dir / "sampler", f"mmrl-test-{adapter}", adapter)
    turns = Turns(processing, ends, 8, 512, 2048)
    return ServerSampler(args, facts.api, facts.name, turns, TEMPERATURE, ends, model, handover, ALONE, print)


def ask(sampler: ServerSampler, talks: Sequence[tuple[Text | Image, ...]] = TALKS) -> list[Completion]:
    env = mmrl.make("text/arithmetic")
    assert isinstance(env, Env)
    requests = [Request(f"e{i}", 0, (Message("user", t),), None, 0, (7, i), env) for i, t in enumerate(talks)]
    return asyncio.run(sampler.generate(requests))


def worst(model: Any, said: Sequence[Completion]) -> float:
    """The largest distance between the server's log-probabilities and the learner's."""
    rows = [Row("", c.prompt_ids, (), len(c.token_ids)) for c in said]
    return max(gaps(model, rows, [Sampled(c.token_ids, c.logprobs, True) for c in said], TEMPERATURE))


def worst_seen(model: Any, said: Sequence[Completion]) -> float:
    """The same, of a learner that sees."""
    vision, out = Vision(model, ImageTokens(load_processing(find_model("mmrl/tiny-vlm")))), 0.0
    for c in said:
        ids = torch.tensor([[*c.prompt_ids, *c.token_ids]])
        mask = torch.tensor([[i >= len(c.prompt_ids) - 1 for i in range(ids.shape[1] - 1)]])
        with torch.no_grad():
            mine = Scorer(model.eval(), TEMPERATURE, vision)(ids, mask, [list(c.images)])[0][mask]
        out = max(out, float((mine - torch.tensor(c.logprobs)).abs().max()))
    return out


@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "all weights"])
def test_the_server_follows_the_learner_also_behind_what_it_has_kept(config: LoadedConfig, model: Any,
                                                                     adapter: bool) -> None:
    sampler = sampler_of(config, model, adapter)
    try:
        sampler.updated(0)
        first = ask(sampler)
        assert worst(model, first) < CLOSE
        assert [c.token_ids for c in ask(sampler)] == [c.token_ids for c in first], "the same seeds, the same answers"
        assert {c.version for c in first} == {0}
        shake(model, "lora_B", 0.05, seed=int(adapter))
        if not adapter:
            shake(model, "embed_tokens", 0.02)  # which the head shares
        assert worst(model, first) > APART, "the old weights are told from the new ones"
        sampler.updated(1)
        second = ask(sampler)
        assert worst(model, second) < CLOSE
        assert {c.version for c in second} == {1}
    finally:
        sampler.close()
    assert not (config.output_dir / "sampler").exists()


@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "all weights"])
def test_a_server_sees_as_the_learner_does_at_every_version(folder: Path, servers: dict[str, Served],
                                                            adapter: bool) -> None:
    config, files = load_config(folder / "sees.yaml"), find_model("mmrl/tiny-vlm")
    check_servers(config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = add_adapter(load_model(files, device="cpu", trainable=True), LoraArgs(r=8), files)
    sampler = sampler_of(config, model, adapter)
    try:
        sampler.updated(0)
        first = ask(sampler, SIGHTS)
        assert [len(c.images) for c in first] == [0, 1, 2, 3]
        assert worst_seen(model, first) < CLOSE
        assert [c.token_ids for c in ask(sampler, SIGHTS)] == [c.token_ids for c in first]
        shake(model, "lora_B", 0.05, seed=int(adapter))
        if not adapter:
            shake(model, "vision_tower", 0.05)
        assert worst_seen(model, first) > APART, "the old weights are told from the new ones"
        sampler.updated(1)
        assert worst_seen(model, ask(sampler, SIGHTS)) < CLOSE
    finally:
        sampler.close()


def test_a_run_that_the_server_cannot_follow_is_refused(folder: Path, servers: dict[str, Served]) -> None:
    port = servers["smol"].port
    check_servers(config_of(folder, "fits", smol(), port))
    with pytest.raises(BadInput, match=r"fits not\.yaml:\d+: server http://localhost:\d+ serves '.*', and the run"):
        check_servers(config_of(folder, "fits not", "mmrl/tiny", port))
    with pytest.raises(BadInput, match=r"holds 512 tokens \(max_model_len\), and a prompt and its answer may take 600"):
        check_servers(config_of(folder, "too long", smol(), port, rollout={"max_context": 600}))
    with pytest.raises(BadInput, match=r"rank 64 .*it does not load an adapter of rank 64 from"):
        check_servers(config_of(folder, "too wide", smol(), port, {"lora": {"r": 64}}))


def test_a_server_killed_in_the_midst_of_an_answer_costs_no_step_and_no_episode(
        folder: Path, servers: dict[str, Served], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    server, steps, episodes = servers["tiny"], 20, 8
    rollout = {"max_batch": 2, "max_new_tokens": 24}  # most of a step's answers are still to come when its first are
    config = config_of(folder, "killed", "mmrl/tiny", server.port, {"max_steps": steps, "lora": {"r": 4}},
                       rollout={"temperature": TEMPERATURE, "max_context": 512, **rollout})  # fmt: skip
    under_way, at_death, broken = set[object](), set[object](), set[object]()
    sample = EngineApi.sample

    async def counted(*args: Any) -> Sampled:
        one = object()
        under_way.add(one)
        try:
            return await sample(*args)
        except ServerError:
            broken.add(one)
            raise
        finally:
            under_way.discard(one)

    monkeypatch.setattr(EngineApi, "sample", counted)

    class Killer(Quiet):
        """Kills the server in the midst of the tenth step, and has it started anew."""

        seen = 0

        def episode(self, *args: Any) -> None:
            self.seen += 1
            if self.seen == 9 * episodes + 2:
                threading.Thread(target=self.kill, daemon=True).start()

        def kill(self) -> None:
            while not under_way:
                time.sleep(0.001)
            at_death.update(under_way)
            server.kill()
            server.start()

    reporter, learner = Killer(), Grpo()
    learner.check(config)
    root = learner.train(config, False, reporter)
    sizes, cursor, planned = plan(config.config), [0], list[str]()
    for step in range(1, steps + 1):
        specs, cursor = step_specs(config.config, sizes, step, cursor)
        planned += [spec.id for spec in specs]
    assert at_death & broken, "it died in the midst of an answer"
    found = sorted(read_trajectories(root / "rollouts"), key=lambda t: t.id)
    assert [t.id for t in found] == sorted(planned)
    assert len(planned) == steps * episodes == reporter.seen
    lines = RunStore(root).metrics()
    assert [m["step"] for m in lines] == list(range(1, steps + 1))
    apart = [m["mismatch_kl"] for m in lines if "mismatch_kl" in m]  # but for steps that teach nothing
    assert len(apart) > steps // 2
    assert max(apart) < 1e-6, "every answer came from the weights of its step"
