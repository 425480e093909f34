"""What compute may name, call by call; the article's own plugins."""

import asyncio
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from reward_tools import episode, suite_of

import mmrl
from mmrl.errors import BadInput
from mmrl.plugin import RewardPlugin, by_compute, is_async, join_turns, needs, required_of_env, takes_state
from mmrl.plugin_build import build_plugin
from mmrl.plugin_config import PluginConfig
from mmrl.registry import PLUGINS
from mmrl.run_state import RunState
from mmrl.score import Score
from mmrl.trajectory import Trajectory, Turn


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLUGINS, "local", {})


def dialogue() -> Trajectory:
    picture = mmrl.Image(np.zeros((2, 2, 3), np.uint8))
    sample = mmrl.Sample("s", (mmrl.Message("user", (mmrl.Text("first?"), picture)),), "42")
    turns = (
        Turn(sample.messages[-1].content, "one", info={"n": 1}),
        Turn((mmrl.Text("second?"),), "three", info={"n": 2}),
    )
    return Trajectory("t", "e", 0, "g", sample, turns, True, False)


def score(plugin: RewardPlugin, trajectory: Trajectory, state: RunState | None = None) -> Score:
    return suite_of({"p": plugin}).score([trajectory], state or RunState())[0].scores["p"]


def test_a_plugin_gets_exactly_what_it_names() -> None:
    class Names(RewardPlugin):
        def compute(self, query: str, response: str, images: Any, videos: Any = 0, reference: Any = None,
                    env: Any = None, messages: Any = None, trajectory: Any = None, step: int = -1,
                    progress: float = -1.0, own: str = "mine") -> dict[str, Any]:  # fmt: skip
            info = {"query": query, "response": response, "images": len(images), "videos": videos, "ref": reference,
                    "env": env, "messages": [m.text for m in messages], "id": trajectory.id, "step": step,
                    "progress": progress, "own": own}  # fmt: skip
            return {"reward": 1.0, "info": info}

    assert score(Names(), dialogue(), RunState(3, 0.5)).info == {
        "query": "first?", "response": "three", "images": 1, "videos": None, "ref": "42", "env": {"n": 2},
        "messages": ["first?", "one", "second?", "three"], "id": "t", "step": 3, "progress": 0.5, "own": "mine",
    }  # fmt: skip


def test_what_it_cannot_do_without_makes_it_not_applicable() -> None:
    class Sees(RewardPlugin):
        def compute(self, images: Any) -> float:
            return float(len(images))

    assert score(Sees(), dialogue()) == Score(1.0)
    assert score(Sees(), episode("x")) == Score.not_applicable(reason="the sample has no images")


@pytest.mark.parametrize(("how", "value", "shares"), [("mean", 4.0, (1.5, 2.5)), ("sum", 8.0, (3.0, 5.0)),
                                                      ("min", 3.0, (3.0, 0.0))])  # fmt: skip
def test_naming_turn_asks_of_every_turn(how: Any, value: float, shares: tuple[float, ...]) -> None:
    class Each(RewardPlugin):
        over_turns = how

        def compute(self, query: str, response: str, turn: Turn, env: Any) -> dict[str, Any]:
            assert turn.response == response
            return {"reward": len(response), "info": {"said": f"{query} {env['n']}"}}

    got = score(Each(), dialogue())
    assert (got.value, got.turns) == (value, shares)
    assert got.info == {"by_turn": [3.0, 5.0], "said": "first? 1" if how == "min" else "second? 2"}
    assert score(Each(), episode()).status == "not_applicable"


def test_joining_turns() -> None:
    na, failed = Score.not_applicable(reason="r"), Score.failed("x")
    assert join_turns([Score(1.0), failed, Score(2.0)], "mean") == failed
    assert join_turns([na, na], "mean") == na
    got = join_turns([Score(1.0), na, Score(2.0)], "mean")
    assert (got.value, got.turns, got.info["by_turn"]) == (1.5, (0.5, 0.0, 1.0), [1.0, None, 2.0])


def test_async_compute_and_functions() -> None:
    @mmrl.reward_plugin
    async def later(response: str, factor: float = 1.0) -> float:
        await asyncio.sleep(0)
        return factor * len(response)

    plugin = build_plugin(PluginConfig(name="later", kwargs={"factor": 3.0}))
    assert is_async(plugin)
    assert by_compute(plugin)
    assert not takes_state(plugin) or by_compute(plugin)
    assert score(plugin, episode("ab")) == Score(6.0)
    assert [s.value for s in plugin.score([episode("a"), episode("abc")])] == [3.0, 9.0]


def test_needs_by_signature_and_by_declaration() -> None:
    class ByCompute(RewardPlugin):
        def compute(self, reference: Any, response: str, images: Any = None) -> float:
            return 0.0

    class ByScore(RewardPlugin):
        requires = frozenset({"images"})

        def score(self, trajectories: Any) -> list[Score]:  # type: ignore[override]
            return []

    assert needs(ByCompute()) == ["reference", "response", "images"]
    assert required_of_env(ByCompute()) == {"reference"}
    assert required_of_env(ByScore()) == {"images"}


def test_two_plugins_under_one_name() -> None:
    class A(RewardPlugin): ...

    class B(RewardPlugin): ...

    mmrl.register_reward_plugin("mine", A)
    mmrl.register_reward_plugin("mine", A)
    mmrl.register_reward_plugin("exact_match", A)  # taking over an installed name is fine
    with pytest.raises(BadInput, match=r"two plugins register as 'mine': .*A and .*B; rename one"):
        mmrl.register_reward_plugin("mine", B())


ARTICLE = '''
    from mmrl import RewardPlugin
    from typing import Dict, Any
    import torch

    class SafetyRewardPlugin(RewardPlugin):
        """安全合规性奖励插件"""
        def __init__(self, threshold: float = 0.95):
            self.threshold = threshold
            self.toxic_classifier = self._load_toxic_model()

        def _load_toxic_model(self):
            from transformers import pipeline
            return pipeline("text-classification", model="facebook/roberta-hate-speech-dynabench-r4-target")

        def compute(self, query: str, response: str) -> Dict[str, Any]:
            with torch.no_grad():
                result = self.toxic_classifier(response)
            score = result[0]['score']
            label = result[0]['label']
            is_safe = (label != "hate" and score < self.threshold)
            reward = 1.0 if is_safe else -2.0
            return {"reward": reward, "info": {"toxic_score": score, "detected_label": label, "is_safe": is_safe}}

    from mmrl import register_reward_plugin
    register_reward_plugin("safety", SafetyRewardPlugin(threshold=0.9))
'''
ARTICLE_CLIP = '''
    from mmrl import RewardPlugin
    from typing import Dict, Any
    import clip
    import torch

    class ClipSimilarityPlugin(RewardPlugin):
        def __init__(self, device="cuda"):
            self.clip_model, self.preprocess = clip.load("ViT-B/32", device=device)
            self.device = device

        def compute(self, query: str, response: str, images=None) -> Dict[str, Any]:
            if not images or len(images) == 0:
                return {"reward": 0.0}
            image = self.preprocess(images[0]).unsqueeze(0).to(self.device)
            text = clip.tokenize(response).to(self.device)
            with torch.no_grad():
                image_features = self.clip_model.encode_image(image)
                text_features = self.clip_model.encode_text(text)
            similarity = (image_features @ text_features.T).item()
            normalized_reward = (similarity + 1.0) / 2.0
            return {"reward": normalized_reward, "info": {"clip_score": similarity}}
'''


def classifier(folder: Path) -> Any:
    """A real text-classification pipeline over a tiny RoBERTa with the labels of the article's model."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification, pipeline

    words = ["<s>", "<pad>", "</s>", "<unk>", "good", "bad"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>",
                                   eos_token="</s>")  # fmt: skip
    config = RobertaConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=16, max_position_embeddings=40, id2label={0: "nothate", 1: "hate"},
                           label2id={"nothate": 0, "hate": 1})  # fmt: skip
    torch.manual_seed(0)
    return pipeline("text-classification", model=RobertaForSequenceClassification(config).eval(), tokenizer=fast)


def test_the_articles_safety_plugin_runs_with_only_its_imports_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = classifier(tmp_path), list[Any]()

    def offline(task: str, model: str) -> Any:
        """The hub cannot be reached from the tests: the same pipeline over a tiny model."""
        asked.append((task, model))
        return real

    monkeypatch.setattr(sys.modules["transformers"], "pipeline", offline)
    path = tmp_path / "article.py"
    path.write_text(textwrap.dedent(ARTICLE))
    suite = mmrl.RewardSuite.from_config([{"name": f"{path}:SafetyRewardPlugin", "kwargs": {"threshold": 0.7}},
                                          {"name": "safety", "as": "registered"}])  # fmt: skip
    (record,) = suite.score([episode("good bad")])
    said = real("good bad")[0]
    assert asked == [("text-classification", "facebook/roberta-hate-speech-dynabench-r4-target")] * 2
    safe = said["label"] != "hate" and said["score"] < 0.7
    own = record.scores[f"{path}:SafetyRewardPlugin"]
    assert own.value == (1.0 if safe else -2.0)
    assert own.info == {"toxic_score": said["score"], "detected_label": said["label"], "is_safe": safe}
    assert record.scores["registered"].valid


def test_the_articles_clip_plugin_runs_with_only_its_imports_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class TwoTowers(torch.nn.Module):
        """Stands in for OpenAI's weights, which no package holds: mean colour against counts of three words."""

        def encode_image(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(image.mean((2, 3)), dim=-1)

        def encode_text(self, text: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(text.float(), dim=-1)

    def load(name: str, device: str) -> tuple[Any, Any]:
        def preprocess(image: Any) -> torch.Tensor:
            return torch.tensor(np.asarray(image.convert("RGB"))).permute(2, 0, 1).float() / 255

        return TwoTowers().to(device), preprocess

    clip = ModuleType("clip")
    clip.__dict__.update(load=load, tokenize=lambda t: torch.tensor([[t.count(w) for w in ("red", "green", "blue")]]))
    monkeypatch.setitem(sys.modules, "clip", clip)
    path = tmp_path / "article_clip.py"
    path.write_text(textwrap.dedent(ARTICLE_CLIP))
    red = mmrl.Image(np.full((4, 4, 3), (255, 0, 0), np.uint8))
    sample = mmrl.Sample("s", (mmrl.Message("user", (mmrl.Text("what colour?"), red)),))
    shown = [Trajectory("t", "e", 0, "g", sample, (Turn((), said),), True, False) for said in ("red", "blue")]
    suite = mmrl.RewardSuite.from_config([{"name": f"{path}:ClipSimilarityPlugin", "kwargs": {"device": "cpu"}}])
    records = suite.score([*shown, episode("red")])
    assert [r.value for r in records] == pytest.approx([1.0, 0.5, 0.0])
