from pathlib import Path

import pytest

import mmrl
from mmrl.policy import Request
from mmrl.sample import Message, Sample, Text
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.batch import Segment, segments_of
from mmrl_agents.imitation import imitation_segments
from mmrl_agents.models import find_model, load_processing
from mmrl_agents.transcript import Transcript


def transcript(tiny: Path) -> Transcript:
    tokenizer = load_processing(find_model(str(tiny)))
    return Transcript(tokenizer, [tokenizer.eos_token_id])


def episode() -> Trajectory:
    sample = Sample("s", (Message("system", (Text("R"),)), Message("user", (Text("o0"),))))
    turns = [Turn((Text(f"o{n}"),), f"a{n}") for n in range(3)]
    return Trajectory("t", "env", 0, "g", sample, tuple(turns), True, False)


def text(t: Transcript, ids: tuple[int, ...]) -> str:
    return t.tokenizer.decode(list(ids))


def masked(t: Transcript, segment: Segment) -> list[tuple[int, str]]:
    out: dict[int, list[int]] = {}
    for i, n in zip(segment.ids, segment.turn, strict=True):
        if n >= 0:
            out.setdefault(n, []).append(i)
    return [(n, t.tokenizer.decode(ids)) for n, ids in out.items()]


WHOLE = ("<|system|>R<|end|><|user|>o0<|end|><|assistant|>a0<|end|><|user|>o1<|end|><|assistant|>a1<|end|>"
         "<|user|>o2<|end|><|assistant|>a2<|end|>")  # fmt: skip


def test_a_whole_transcript_is_one_segment(tiny: Path) -> None:
    t = transcript(tiny)
    (segment,) = imitation_segments(episode(), 5, t, None)
    assert text(t, segment.ids) == WHOLE
    assert masked(t, segment) == [(0, "a0<|end|>"), (1, "a1<|end|>"), (2, "a2<|end|>")]
    assert segment.trajectory == 5
    assert segment.mask == tuple(n >= 0 for n in segment.turn)


@pytest.mark.parametrize(
    ("window", "seen"),
    [(1, "<|user|>o2<|end|>"), (2, "<|user|>o1<|end|><|assistant|>a1<|end|><|user|>o2<|end|>")],
)
def test_a_window_gives_a_segment_a_turn(tiny: Path, window: int, seen: str) -> None:
    t = transcript(tiny)
    segments = imitation_segments(episode(), 0, t, window)
    assert text(t, segments[-1].ids) == f"<|system|>R<|end|>{seen}<|assistant|>a2<|end|>"
    assert [masked(t, s) for s in segments] == [[(n, f"a{n}<|end|>")] for n in range(3)]


def test_turns_that_are_not_kept_stay_in_the_context(tiny: Path) -> None:
    t = transcript(tiny)
    (segment,) = imitation_segments(episode(), 0, t, None, [False, True, False])
    assert text(t, segment.ids) == WHOLE
    assert masked(t, segment) == [(1, "a1<|end|>")]
    (one,) = imitation_segments(episode(), 0, t, 1, [False, True, False])
    assert text(t, one.ids).endswith("<|user|>o1<|end|><|assistant|>a1<|end|>")
    assert imitation_segments(episode(), 0, t, None, [False] * 3) == []


def test_a_template_that_drops_reasoning_gives_a_segment_a_turn(tiny: Path) -> None:
    t = transcript(tiny)
    t.tokenizer.chat_template = t.tokenizer.chat_template.replace(
        "m['content']", "(m['content'].split('</think>')[-1] if m['role'] == 'assistant' else m['content'])"
    )
    assert t.extends is False
    segments = imitation_segments(episode(), 0, t, None)
    assert [text(t, s.ids) for s in segments][2] == WHOLE
    assert [masked(t, s) for s in segments] == [[(n, f"a{n}<|end|>")] for n in range(3)]


@pytest.mark.parametrize("window", [None, 1, 2])
def test_prompts_are_those_that_the_policy_would_have_seen(tiny: Path, window: int | None) -> None:
    """The expert's episode, imitated, has the prompts of the model that speaks the same words."""
    t = transcript(tiny)
    (played,) = mmrl.rollout("babyai/GoToLocal", policy="expert", seeds=[3], window=window)
    segments = imitation_segments(played, 0, t, window)
    prompts: list[tuple[int, ...]] = []

    class Watch:
        async def generate(self, requests: list[Request]) -> list[mmrl.policy.Completion]:
            out = []
            for r in requests:
                prompt = t.prompt_of(r)
                prompts.append(prompt)
                response = r.env.expert_action()
                ids = (*t.tokenizer(response, add_special_tokens=False)["input_ids"], t.tokenizer.eos_token_id)
                out.append(mmrl.policy.Completion(response, prompt, ids, (-1.0,) * len(ids)))
            return out

    (spoken,) = mmrl.rollout("babyai/GoToLocal", policy=Watch(), seeds=[3], window=window)
    assert len(spoken.turns) == len(played.turns) > 2
    wanted = segments_of(spoken, 0)
    if window is None:
        assert [(s.ids, s.mask) for s in segments] == [(s.ids, s.mask) for s in wanted]
    else:
        answers = [(*u.prompt_ids, *u.token_ids) for u in spoken.turns]
        assert [s.ids for s in segments] == answers
