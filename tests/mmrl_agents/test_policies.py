import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

import mmrl
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.policy import Completion, Request
from mmrl.sample import Message, Text
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.policies.random import RandomPolicy, named_actions
from mmrl_agents.turns import end_ids


def request(messages: tuple[Message, ...], seed: tuple[int, ...] = (0,), episode: str = "e", env: Any = None,
            **changes: Any) -> Request:
    made = env if env is not None else make("text/arithmetic")
    return Request(episode, 0, messages, None, 0, seed, made, **changes)


def say(role: Any, text: str) -> Message:
    return Message(role, (Text(text),))


def ask(policy: Any, *requests: Request) -> list[Completion]:
    return asyncio.run(policy.generate(requests))


ACTIONS = (
    say("system", "You are in a room.\nActions: left, right , go forward\nBe brief."),
    say("user", "Actions: none"),
)


def test_random_takes_the_system_messages_actions() -> None:
    assert named_actions(request(ACTIONS)) == ["left", "right", "go forward"]
    said = [ask(RandomPolicy(), request(ACTIONS, (1, n)))[0].text for n in range(60)]
    assert {s: 10 < said.count(s) < 30 for s in set(said)} == {"left": True, "right": True, "go forward": True}


def test_random_goes_by_the_seed_alone() -> None:
    for messages in (ACTIONS, ACTIONS[1:]):
        first = [ask(RandomPolicy(), request(messages, (1, n)))[0] for n in range(5)]
        assert [ask(RandomPolicy(), request(messages, (1, n)))[0] for n in range(5)] == first
        assert len({c.text for c in first}) > 1


def test_random_has_words_where_no_action_is_named() -> None:
    env = make("text/arithmetic")
    (said,) = ask(RandomPolicy(), request(ACTIONS[1:], env=env))
    assert env.action_space.contains(said.text)
    assert said.token_ids == ()


def test_expert_speaks_the_environments_action() -> None:
    trajectories = mmrl.rollout("babyai/GoToLocal", policy="expert", seeds=range(3))
    assert all(t.success for t in trajectories)
    assert {turn.response for t in trajectories for turn in t.turns} <= {"turn left", "turn right", "go forward"}
    (t,) = mmrl.rollout("text/arithmetic", policy="expert", seeds=[4])
    assert t.success
    assert t.response == t.sample.reference


QUESTION = (say("user", "What is 2 + 2?"),)


def test_a_language_model_answers_with_ids_and_log_probabilities(tiny: Path) -> None:
    policy = mmrl.load_policy(str(tiny), temperature=0.6, max_new_tokens=8)
    assert isinstance(policy, HFPolicy)
    policy.updated(3)
    (said,) = ask(policy, request(QUESTION))
    assert said.prompt_ids == policy.transcript.prompt(QUESTION)
    assert len(said.token_ids) == len(said.logprobs) == 8
    assert said.text == policy.transcript.tokenizer.decode(said.token_ids, skip_special_tokens=True)
    assert (said.finish_reason, said.version) == ("length", 3)


def test_one_answer_does_not_depend_on_the_others(tiny: Path) -> None:
    def fresh() -> Any:
        return mmrl.load_policy(str(tiny), max_new_tokens=8)

    requests = [request((say("user", "x" * n),), (7, n), f"e{n}") for n in range(1, 5)]
    together = ask(fresh(), *requests)
    assert [ask(fresh(), r)[0].token_ids for r in requests] == [c.token_ids for c in together]


def test_a_full_context_is_said_and_leaves_the_others_alone(tiny: Path) -> None:
    policy = mmrl.load_policy(str(tiny), max_new_tokens=8, max_context=40)
    long, short = request((say("user", "x" * 40),), episode="a"), request((say("user", "x"),), episode="b")
    full, said = ask(policy, long, short)
    assert (full.finish_reason, full.token_ids, full.text) == ("context", (), "")
    assert len(said.token_ids) == 8
    (only,) = ask(policy, long)
    assert only.finish_reason == "context"


def test_the_context_may_be_filled_to_the_last_token(tiny: Path) -> None:
    probe = mmrl.load_policy(str(tiny), max_new_tokens=8)
    assert isinstance(probe, HFPolicy)
    room = len(probe.transcript.prompt(QUESTION)) + 8
    assert ask(mmrl.load_policy(str(tiny), max_new_tokens=8, max_context=room), request(QUESTION))[0].token_ids
    (full,) = ask(mmrl.load_policy(str(tiny), max_new_tokens=8, max_context=room - 1), request(QUESTION))
    assert full.finish_reason == "context"


def test_a_context_beyond_the_models_is_bad_input(tiny: Path) -> None:
    with pytest.raises(BadInput, match="max_context is 4096, but the model holds at most 2048 tokens"):
        mmrl.load_policy(str(tiny), max_context=4096)
    with pytest.raises(BadInput, match="max_new_tokens is 64, which leaves no room for a prompt"):
        mmrl.load_policy(str(tiny), max_new_tokens=64, max_context=64)


def test_end_ids_are_the_models_and_the_tokenizers(tiny: Path) -> None:
    policy = mmrl.load_policy(str(tiny))
    assert isinstance(policy, HFPolicy)
    model = policy.generator.model
    assert end_ids(model.generation_config, policy.transcript.tokenizer) == (1,)
    model.generation_config.eos_token_id = [5, 1, 7]
    assert end_ids(model.generation_config, policy.transcript.tokenizer) == (5, 1, 7)
    model.generation_config.eos_token_id = None
    assert end_ids(model.generation_config, policy.transcript.tokenizer) == (1,)
    assert end_ids(None, policy.transcript.tokenizer) == (1,)


def scored(policy: HFPolicy, said: Completion) -> list[float]:
    ids = torch.tensor([[*said.prompt_ids, *said.token_ids]])
    mask = torch.tensor([[i >= len(said.prompt_ids) - 1 for i in range(ids.shape[1] - 1)]])
    return Scorer(policy.generator.model, 1.0)(ids, mask)[0][mask].tolist()


@pytest.mark.parametrize("says", [True, False])
def test_after_an_update_the_sampler_speaks_with_the_new_weights(tiny: Path, says: bool) -> None:
    """A second turn uses what was kept from the first; kept from old weights it would be stale."""
    from mmrl.training_args import TrainingArgs
    from mmrl.trajectory import Turn

    policy = mmrl.load_policy(str(tiny), max_new_tokens=6)
    assert isinstance(policy, HFPolicy)
    (said,) = ask(policy, request(QUESTION))
    first = Turn((), said.text, said.prompt_ids, said.token_ids, said.logprobs)
    following = Request("e", 1, (*QUESTION, say("assistant", said.text), say("user", "And?")), first, 1, (1,), None)  # type: ignore[arg-type]
    from learner_tools import ragged

    learner = Learner(policy.generator.model, TrainingArgs(learning_rate=0.05), 1.0, 1)
    assert learner.update(ragged(4), [1.0, -1.0, 2.0, -2.0])["grad_norm"] > 0
    if says:
        policy.updated(1)
    (after,) = ask(policy, following)
    learners = scored(policy, after)
    if says:
        assert list(after.logprobs) == pytest.approx(learners, abs=1e-5)
        assert after.version == 1
    else:
        assert max(abs(a - b) for a, b in zip(after.logprobs, learners, strict=True)) > 1e-3
    (again,) = ask(policy, request(QUESTION, episode="new"))
    assert list(again.logprobs) == pytest.approx(scored(policy, again), abs=1e-5)
    assert again.logprobs != said.logprobs
