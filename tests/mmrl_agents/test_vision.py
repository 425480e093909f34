"""Vision-language models: LLaVA, Qwen2.5-VL and Idefics3, tiny and untrained, through the one path of all policies."""

import asyncio
from typing import Any

import pytest
import torch
from learner_tools import lora
from talk_tools import CONVERSATION, ONE, SYSTEM, TWO, WIDE, picture, said, user
from tiny_vlm import KINDS, tiny_vlm

from mmrl import Image, Message, Video
from mmrl.env import Env
from mmrl.errors import BadInput
from mmrl.image import Image as CoreImage
from mmrl.policy import Request
from mmrl.sample import Sample
from mmrl.score import RewardRecord
from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents import reading
from mmrl_agents.batch import Segment, collate, segments_of
from mmrl_agents.decoder import language_parameters
from mmrl_agents.feed import Feed
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.loss import sft_loss
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.reading import packed, way_to_read
from mmrl_agents.transcript import Transcript
from mmrl_agents.vision import Vision

ALL = pytest.mark.parametrize("kind", sorted(KINDS))


def rendered(processor: Any, messages: list[Message]) -> str:
    chat = [{"role": m.role, "content": [{"type": "image"} if isinstance(p, Image) else {"type": "text", "text": p.text}
                                         for p in m.content]} for m in messages]  # fmt: skip
    return processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def request(episode: str, messages: list[Message], previous: Turn | None = None, seed: int = 0) -> Request:
    return Request(episode, 0 if previous is None else 1, tuple(messages), previous, int(previous is not None),
                   (seed, 0 if previous is None else 1), Env.__new__(Env))  # fmt: skip


@ALL
def test_the_prompt_is_the_processors_own(kind: str) -> None:
    _, processor = tiny_vlm(kind)
    prompt = Transcript(processor, [1]).prompt(CONVERSATION)
    images = [i.to_pil() for i in (ONE, WIDE, TWO)]
    theirs = processor(text=[rendered(processor, CONVERSATION)], images=[images], add_special_tokens=False)
    assert list(prompt) == list(theirs["input_ids"][0])


@ALL
def test_a_longer_conversation_extends_the_shorter_one(kind: str) -> None:
    _, processor = tiny_vlm(kind)
    t = Transcript(processor, [1])
    first = t.prompt(CONVERSATION[:2])
    answer = (*processor.tokenizer("ball", add_special_tokens=False)["input_ids"], 1)
    turn = Turn((), "ball", first, answer, (0.0,) * len(answer), images=(ONE, WIDE))
    following = request("e", CONVERSATION, turn)
    assert t.prompt_of(following) == t.prompt(CONVERSATION)
    assert t.images_of(following) == (ONE, WIDE, TWO)


@ALL
def test_text_that_looks_like_an_image_is_text(kind: str) -> None:
    _, processor = tiny_vlm(kind)
    t = Transcript(processor, [1])
    prompt = t.prompt([user(f"a {processor.image_token} b", ONE)])
    tokens = ImageTokens(processor)
    assert prompt.count(tokens.id) == tokens.of(ONE).features
    assert f"{processor.image_token[0]} {processor.image_token[1:]}" in processor.tokenizer.decode(prompt)


def test_a_video_is_its_frames_with_their_times() -> None:
    _, processor = tiny_vlm("llava")
    t = Transcript(processor, [1])
    video = user(Video([ONE, TWO], fps=2.0), "How many?")
    assert t.prompt([video]) == t.prompt([user("0.0s", ONE, "0.5s", TWO, "How many?")])


def whole(model: Any, processor: Any, messages: list[Message], images: list[CoreImage]) -> torch.Tensor:
    """The model's own logits after a conversation, by its own way from pixels to logits."""
    made = processor(text=[rendered(processor, messages)], images=[[i.to_pil() for i in images]],
                     add_special_tokens=False, return_tensors="pt")  # fmt: skip
    made = {n: v.double() if v.is_floating_point() else v for n, v in made.items()}
    return model(**made).logits[0]


@ALL
def test_logprobs_are_the_models_own(kind: str) -> None:
    model, processor = tiny_vlm(kind)
    vision = Vision(model, ImageTokens(processor))
    ids = Transcript(processor, [1]).prompt(CONVERSATION)
    mask = torch.zeros(1, len(ids) - 1, dtype=torch.bool)
    mask[0, -6:] = True
    mine = Scorer(model, 0.7, vision)(torch.tensor([ids]), mask, [(ONE, WIDE, TWO)])[0][mask]
    logits = whole(model, processor, CONVERSATION, [ONE, WIDE, TWO])
    logits[:, list(vision.tokens.banned)] = -1e30
    theirs = torch.log_softmax(logits[:-1] / 0.7, -1).gather(1, torch.tensor(ids)[1:, None])[:, 0][mask[0]]
    assert torch.allclose(mine, theirs, atol=1e-6)  # the vision tower runs on its own images alone


def segment(transcript: Transcript, messages: list[Message], answer: str, index: int) -> Segment:
    prompt, spoken = transcript.answer(messages, answer)
    images = tuple(i for m in messages for i in m.images)
    ids = (*prompt, *spoken)
    mask = (*[False] * len(prompt), *[True] * len(spoken))
    return Segment(ids, mask, (0.0,) * len(ids), (-1,) * len(ids), index, images)


@ALL
def test_a_row_alone_equals_the_row_in_a_padded_batch(kind: str) -> None:
    model, processor = tiny_vlm(kind)
    vision, t = Vision(model, ImageTokens(processor)), Transcript(processor, [1])
    scorer = Scorer(model, 1.0, vision)
    several = [user(ONE, TWO, "x", ONE)]
    talks = {"no": [user(WIDE, "a")], "a red ball": CONVERSATION, "yes": [user("blind")], "2": several}
    rows = [segment(t, messages, answer, i) for i, (answer, messages) in enumerate(talks.items())]
    ones = torch.ones(4, dtype=torch.double)

    def learn(parts: list[Segment]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        model.zero_grad()
        b = collate(parts, ones, ones, torch.double)
        logp = scorer(b.ids, b.mask, b.images)[0]
        sft_loss(logp, b.weight, b.mask).backward()
        return [p[m].detach() for p, m in zip(logp, b.mask, strict=True)], _gradients(model)

    together, gradients = learn(rows)
    alone = [learn([row]) for row in rows]
    for one, (logps, _) in zip(together, alone, strict=True):
        assert torch.allclose(one, logps[0], atol=1e-6)
    for i, gradient in enumerate(gradients):
        # Qwen's norms compute in single precision whatever the model's.
        assert torch.allclose(gradient, sum(g[i] for _, g in alone), rtol=1e-4, atol=1e-6)
    assert any(g.abs().max() > 1e-4 for g in gradients)


def _gradients(model: Any) -> list[torch.Tensor]:
    return [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]


def policy_of(kind: str, temperature: float = 0.6) -> HFPolicy:
    model, processor = tiny_vlm(kind)
    return HFPolicy(model, processor, temperature, max_new_tokens=5)


def ask(policy: HFPolicy, requests: list[Request]) -> list[Turn]:
    answers = asyncio.run(policy.generate(requests))
    return [Turn((), a.text, a.prompt_ids, a.token_ids, a.logprobs, images=a.images) for a in answers]


@ALL
def test_sampler_and_learner_agree_over_turns_with_images(kind: str) -> None:
    policy = policy_of(kind)
    starts = {"a": [SYSTEM, user(ONE, "What?")], "b": [SYSTEM, user(WIDE, TWO, "Which?")], "c": [SYSTEM, user("None.")]}
    first = ask(policy, [request(n, m, seed=i) for i, (n, m) in enumerate(starts.items())])
    more = {"a": user("Now?", TWO), "b": user("Sure?"), "c": user(WIDE, "And this?")}
    second = ask(policy, [request(n, [*starts[n], said(t.response), more[n]], t, i)
                          for i, (n, t) in enumerate(zip(starts, first, strict=True))])  # fmt: skip
    assert [t.images for t in second] == [(ONE, TWO), (WIDE, TWO), (WIDE,)]
    trajectories = [Trajectory(n, "e", 0, "g", Sample(n, ()), turns, True, False)
                    for n, turns in zip(starts, zip(first, second, strict=True), strict=True)]  # fmt: skip
    rows = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]
    assert len(rows) == 3
    b = collate(rows, torch.zeros(3), torch.ones(3), torch.double)
    logp = Scorer(policy.generator.model, 0.6, policy.vision)(b.ids, b.mask, b.images)[0]
    assert torch.allclose(logp[b.mask], b.mu[b.mask], atol=1e-6)


@ALL
def test_a_way_to_read_is_tried_with_a_picture(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_vlm(kind)
    feed = Feed(Vision(model, ImageTokens(processor)))
    assert way_to_read(model, feed, model.dtype) == ("packed", "")
    shown: list[bool] = []

    def wrong(*args: Any) -> torch.Tensor:
        shown.append(bool(args[4]))
        return packed(*args) * (1.1 if args[4] else 1.0)  # of words alone it would pass

    monkeypatch.setitem(reading.WAYS, "packed", wrong)
    assert way_to_read(model, feed, model.dtype)[0] == "padded"
    assert shown == [True]


@ALL
def test_the_features_of_a_group_are_computed_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_vlm(kind)
    for p in model.parameters():
        p.requires_grad_(False)
    for p in language_parameters(model):
        p.requires_grad_(True)
    policy, calls = HFPolicy(model, processor, 1.0, 4), list[int]()
    own = model.get_image_features

    def counted(**kwargs: Any) -> Any:
        out = own(**kwargs)
        calls.append(len(out.pooler_output))
        return out

    monkeypatch.setattr(model, "get_image_features", counted)
    turns = ask(policy, [request(f"{i}", [user(ONE, "What?", TWO)], seed=i) for i in range(8)])
    assert sum(calls) == 3  # two images and the picture that the way to read was tried with, once each
    trajectories = [Trajectory(f"{i}", "e", 0, "g", Sample("s", ()), (t,), True, False,
                               record=RewardRecord(float(i), True, {})) for i, t in enumerate(turns)]  # fmt: skip
    args = TrainingArgs(learning_rate=1e-3, per_device_train_batch_size=2)
    learner = Learner(model, args, 1.0, 1, vision=policy.vision)
    metrics = learner.update(trajectories, [float(i) - 3.5 for i in range(8)])
    assert sum(calls) == 3  # nor does the update run the frozen tower again
    assert metrics["ratio_deviation"] == 0.0
    policy.updated(1)
    ask(policy, [request("again", [user(ONE, "What?")])])
    assert sum(calls) == 4  # a new step begins anew


def test_a_trained_tower_gets_gradients_and_is_never_stale() -> None:
    model, processor = tiny_vlm("llava")
    policy = HFPolicy(model, processor, 1.0, 4)
    turns = ask(policy, [request(f"{i}", [user(ONE, "What?")], seed=i) for i in range(4)])
    trajectories = [Trajectory(f"{i}", "e", 0, "g", Sample("s", ()), (t,), True, False) for i, t in enumerate(turns)]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    learner = Learner(model, TrainingArgs(learning_rate=1e-2), 1.0, 1, vision=policy.vision)
    learner.update(trajectories, [1.0, -1.0, 2.0, -2.0])
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert any("vision_tower" in n for n in moved)
    policy.updated(1)
    fresh = ask(policy, [request("0", [user(ONE, "What?")], seed=0)])[0]
    row = collate(segments_of(Trajectory("0", "e", 0, "g", Sample("s", ()), (fresh,), True, False), 0),
                  torch.zeros(1), torch.ones(1), torch.double)  # fmt: skip
    now = Scorer(model, 1.0, Vision(model, ImageTokens(processor)))(row.ids, row.mask, row.images)[0][row.mask]
    assert torch.allclose(now, row.mu[row.mask], atol=1e-6)


@ALL
def test_image_tokens_are_never_sampled(kind: str) -> None:
    policy = policy_of(kind, temperature=1.0)
    assert policy.vision is not None
    banned = policy.vision.tokens.banned
    assert policy.vision.tokens.id in banned
    assert not {1, *policy.transcript.prompt([user("x")])} & set(banned)
    head = policy.generator.model.get_output_embeddings()
    original = head.forward

    def likes_images(hidden: torch.Tensor) -> torch.Tensor:
        out = original(hidden)
        out[..., list(banned)] = 50.0
        return out

    head.forward = likes_images
    (turn,) = ask(policy, [request("e", [user(ONE, "What?")])])
    assert not set(turn.token_ids) & set(banned)
    row = segments_of(Trajectory("e", "e", 0, "g", Sample("s", ()), (turn,), True, False), 0)
    b = collate(row, torch.zeros(1), torch.ones(1), torch.double)
    logp, entropy = Scorer(policy.generator.model, 1.0, policy.vision)(b.ids, b.mask, b.images)
    assert torch.allclose(logp[b.mask], b.mu[b.mask], atol=1e-6)
    assert 0 < float(entropy) < 10


def test_placeholders_without_features_are_an_error() -> None:
    model, processor = tiny_vlm("llava")
    vision = Vision(model, ImageTokens(processor))
    ids = Transcript(processor, [1]).prompt([user(ONE, "x")])
    with pytest.raises(ValueError, match="row 0 has 16 image tokens, but its 2 images have 32 features"):
        vision.embed(torch.tensor([ids]), [(ONE, TWO)])
    with pytest.raises(BadInput, match="wrote 0 placeholders <image> for 1 images"):
        ImageTokens(processor).expand([5, 6], [ONE])


def test_other_images_behind_the_same_ids_are_another_segment() -> None:
    _, processor = tiny_vlm("llava")
    t = Transcript(processor, [1])
    one, other = t.prompt([user(ONE), said("x"), user(TWO)]), t.prompt([user(TWO), said("x"), user(ONE)])
    assert one == other
    turns = (Turn((), "y", one, (5, 1), (0.0, 0.0), images=(ONE, TWO)),
             Turn((), "y", (*other, 5, 1, 7), (5, 1), (0.0, 0.0), images=(TWO, ONE, WIDE)))  # fmt: skip
    found = segments_of(Trajectory("e", "e", 0, "g", Sample("s", ()), turns, True, False), 0)
    assert [s.images for s in found] == [(ONE, TWO), (TWO, ONE, WIDE)]


def test_other_images_behind_the_same_ids_are_not_taken_from_the_cache() -> None:
    policy, fresh = policy_of("llava"), policy_of("llava")
    first = ask(policy, [request("e", [user(ONE, "x")])])[0]
    swapped = Turn((), "", first.prompt_ids, first.token_ids, first.logprobs, images=(TWO,))
    following = request("e", [user(TWO, "x"), said(first.response), user("y")], swapped)
    assert ask(policy, [following])[0].logprobs == pytest.approx(ask(fresh, [following])[0].logprobs, abs=1e-9)


def test_a_group_shares_the_prompt_with_its_images() -> None:
    policy, widths = policy_of("llava"), list[tuple[int, ...]]()
    ask(policy, [request("the first use, which tries the model", [user(ONE, "What?")])])
    decoder = policy.generator.model.get_decoder()
    hook = decoder.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    turns = ask(policy, [request(f"{i}", [user(ONE, "What?")], seed=i) for i in range(6)])
    hook.remove()
    assert widths[0] == (1, len(turns[0].prompt_ids))
    assert widths[1] == (1, 6)
    assert all(w[0] == 1 and w[1] <= 6 for w in widths[2:])


@ALL
def test_images_are_read_packed(kind: str) -> None:
    policy = policy_of(kind)
    ask(policy, [request(f"{i}", [user(ONE, "What?" * i)], seed=i) for i in range(2)])
    assert policy.generator._read is packed


def test_an_adapter_is_trained_through_images() -> None:
    model, processor = tiny_vlm("llava")
    wrapped = lora(model, trained=True)
    vision, t = Vision(wrapped, ImageTokens(processor)), Transcript(processor, [1])
    b = collate([segment(t, [user(ONE, "a")], "no", 0)], torch.ones(1), torch.ones(1), torch.double)
    logp = Scorer(wrapped, 1.0, vision)(b.ids, b.mask, b.images)[0]
    with wrapped.disable_adapter():
        off = Scorer(wrapped, 1.0, Vision(wrapped, ImageTokens(processor)))(b.ids, b.mask, b.images)[0]
    assert (logp - off).abs().max() > 1e-4
    logp.sum().backward()
    assert all(p.grad is not None for n, p in wrapped.named_parameters() if "language_model" in n and "lora_" in n)


def test_the_self_check_refuses_a_model_that_sees_in_another_way() -> None:
    model, processor = tiny_vlm("llava")
    own = model.model.forward

    def mirrored(*args: Any, pixel_values: torch.Tensor | None = None, **kwargs: Any) -> Any:
        return own(*args, pixel_values=None if pixel_values is None else pixel_values.flip(-1), **kwargs)

    model.model.forward = mirrored
    with pytest.raises(BadInput, match=r"'llava' reads images in a way that mmrl does not follow \(its logits differ"):
        HFPolicy(model, processor)


def test_the_self_check_shuts_dropout_off_and_leaves_every_module_as_it_was() -> None:
    model, processor = tiny_vlm("llava")
    wrapped = lora(model, dropout=0.5, trained=True).train()
    wrapped.get_base_model().model.vision_tower.eval()
    before = [m.training for m in wrapped.modules()]
    vision = Vision(wrapped, ImageTokens(processor))
    assert [m.training for m in wrapped.modules()] == before
    assert len(vision._known) == 0  # nothing is kept from it


def test_features_are_kept_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_vlm("llava")
    vision, t = Vision(model, ImageTokens(processor)), Transcript(processor, [1])
    of_one = 16 * 32 * 8
    monkeypatch.setattr(vision._known, "_limit", 2 * of_one)
    for seed in range(5):
        with torch.no_grad():
            vision.embed(torch.tensor([t.prompt([user(picture(seed), "x")])]), [(picture(seed),)])
    assert len(vision._known) == 2
    wide = [picture(s) for s in range(4)]
    with torch.no_grad():
        together = vision.embed(torch.tensor([t.prompt([user(*wide)])]), [wide])
        vision.forget()
        assert torch.allclose(together, vision.embed(torch.tensor([t.prompt([user(*wide)])]), [wide]))


def test_a_reference_runs_a_frozen_tower_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmrl_agents.reference import adapter_off

    model, processor = tiny_vlm("llava")
    wrapped = lora_on_language(model)
    policy, calls = HFPolicy(wrapped, processor, 1.0, 4), list[int]()
    own = model.get_image_features
    monkeypatch.setattr(model, "get_image_features", lambda **k: calls.append(1) or own(**k))
    turns = ask(policy, [request(f"{i}", [user(ONE, "What?")], seed=i) for i in range(4)])
    trajectories = [Trajectory(f"{i}", "e", 0, "g", Sample("s", ()), (t,), True, False) for i, t in enumerate(turns)]
    args = TrainingArgs(learning_rate=1e-3, per_device_train_batch_size=1, kl_coef=0.1)
    learner = Learner(wrapped, args, 1.0, 1, adapter_off(wrapped), vision=policy.vision)
    metrics = learner.update(trajectories, [1.0, -1.0, 2.0, -2.0])
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-12)
    assert len(calls) == 2  # one picture to try the way to read, one of the group


def lora_on_language(model: Any) -> Any:
    from mmrl.training_args import LoraArgs
    from mmrl_agents.models import ModelFiles
    from mmrl_agents.run import add_adapter

    return add_adapter(model, LoraArgs(r=2), ModelFiles("m", "m"))
