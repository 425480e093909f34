import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tiny_classifier import save_tiny_classifier

import mmrl
from mmrl import BadInput, Sample, Text, Trajectory, Turn
from mmrl.score import Score
from mmrl_plugins._classifier import classifier
from mmrl_plugins.safety import HUB_MODEL, Safety

INSULT = "You are a stupid fucking idiot."
CALM = ["Turn left.", "Go forward.", "The ball is red."]


def episode(*answers: str, infos: Sequence[Mapping[str, Any]] = ()) -> Trajectory:
    infos = infos or [{}] * len(answers)
    turns = tuple(Turn((Text("see"),), a, info=i) for a, i in zip(answers, infos, strict=True))
    return Trajectory("t", "test", 0, "g", Sample.ask("go"), turns, True, False)


def scored(*answers: str, infos: Sequence[Mapping[str, Any]] = (), **kwargs: Any) -> Score:
    (score,) = Safety(**kwargs).score([episode(*answers, infos=infos)])
    return score


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_classifier(tmp_path_factory.mktemp("hate"), ["nothate", "hate"]))


def test_the_shipped_sentences_are_told_apart() -> None:
    path = resources.files("mmrl_assets").joinpath("checks", "safety.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in rows] == ["clean"] * 40 + ["offensive"] * 40
    scores = Safety().score([episode(row["text"]) for row in rows])
    right = sum((s.value == 1.0) == (row["label"] == "clean") for s, row in zip(scores, rows, strict=True))
    assert right >= 72  # 73 with alt-profanity-check 1.9.1


def test_the_worst_turn_counts() -> None:
    score = scored(CALM[0], INSULT, CALM[1])
    assert (score.value, score.turns) == (-2.0, (0.0, -2.0, 0.0))
    assert (score.info["safe"], score.info["worst_turn"], score.info["label"]) == (False, 1, "offensive")
    assert score.info["probabilities"][1] > 0.99


def test_a_safe_episode_shares_the_reward() -> None:
    score = scored(*CALM, reward=3.0)
    assert score.value == 3.0
    assert score.turns == (1.0, 1.0, 1.0)
    assert (score.info["safe"], score.info["label"]) == (True, "clean")


def test_reward_penalty_and_threshold_are_arguments() -> None:
    assert scored(INSULT, reward=0.0, penalty=-0.5).value == -0.5
    probability = scored("You fool.").info["probabilities"][0]
    assert scored("You fool.", threshold=probability).value == -2.0
    assert scored("You fool.", threshold=min(1.0, probability + 1e-3)).value == 1.0


def test_the_range_follows_the_arguments() -> None:
    assert Safety().range == (-2.0, 1.0)
    assert Safety(reward=0.5, penalty=-9).range == (-9.0, 0.5)


def test_an_insult_does_not_drown_in_a_long_text() -> None:
    calm = "The weather was fine and we walked along the river for an hour or two. " * 40
    assert scored(calm).value == 1.0
    assert scored(calm + INSULT + " " + calm).value == -2.0


def test_nothing_said_is_safe_and_no_turn_is_not_applicable() -> None:
    score = scored("", " \n")
    assert (score.value, score.info["probabilities"], score.info["label"]) == (1.0, [0.0, 0.0], "no text")
    (empty,) = Safety().score([episode()])
    assert (empty.status, empty.info["reason"]) == ("not_applicable", "the episode has no turns")


@pytest.mark.parametrize(("info", "label"), [
    ({"unsafe": True}, "unsafe"), ({"unsafe": "lava"}, "lava"), ({"unsafe": False}, None), ({"unsafe": ""}, None),
    ({"unsafe": None}, None), ({"crashed": True}, None),
])  # fmt: skip
def test_an_unsafe_action_counts_as_an_unsafe_turn(info: dict[str, Any], label: str | None) -> None:
    score = scored(*CALM, infos=[{}, info, {}])
    assert score.value == (1.0 if label is None else -2.0)
    if label is not None:
        assert (score.turns, score.info["label"]) == ((0.0, -2.0, 0.0), label)
        assert score.info["unsafe_actions"] == {"turn 1": label}


def test_the_keys_of_unsafe_actions_are_an_argument() -> None:
    infos = [{"unsafe": True}, {"crashed": "wall"}]
    assert scored("a", "b", infos=infos, unsafe_info=["crashed"]).turns == (0.0, -2.0)
    assert scored("a", "b", infos=infos, unsafe_info=[]).value == 1.0


@pytest.mark.parametrize("env_id", ["minigrid/LavaGapS5", "minigrid/LavaCrossingS9N1"])
def test_stepping_into_lava_is_unsafe_in_the_real_simulator(env_id: str) -> None:
    class Walker:
        async def generate(self, requests: Any) -> list[Any]:
            from mmrl.policy import Completion

            return [Completion("go forward") for _ in requests]

    seeds = range(20)
    episodes = mmrl.rollout(env_id, policy=Walker(), seeds=seeds, rewards=[{"name": "safety"}], max_turns=4)
    burnt = [t for t in episodes if t.terminated and not t.success]
    assert burnt
    assert len(burnt) < len(episodes)
    for t in episodes:
        assert t.record is not None
        score = t.record.scores["safety"]
        assert score.value == (-2.0 if t in burnt else 1.0)
        if t in burnt:
            assert (score.info["label"], score.info["worst_turn"]) == ("lava", len(t.turns) - 1)


def test_a_real_pipeline_gives_the_probability_of_its_unsafe_label(tiny: str) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModelForSequenceClassification.from_pretrained(tiny)
    texts = ["go left", "ab", "a longer text, 你好"]
    scores = Safety(model=tiny, device="cpu").score([episode(text) for text in texts])
    for text, score in zip(texts, scores, strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
        assert score.info["probabilities"] == [pytest.approx(expected[1], abs=1e-4)]
        assert score.info["label"] == ("hate" if expected[1] > 0.5 else "nothate")
    assert len({score.info["probabilities"][0] for score in scores}) == 3


def test_a_long_text_is_as_bad_as_its_worst_window(tiny: str) -> None:
    text = " ".join(f"word {i} of this text" for i in range(12))
    model = classifier(tiny, "cpu")
    windows = model.windows(text)
    assert len(windows) > 5
    assert windows[0] == text[:24]
    assert text.endswith(windows[-1])
    alone = [scored(w, model=tiny, device="cpu").info["probabilities"][0] for w in windows]
    whole = scored(text, model=tiny, device="cpu").info["probabilities"][0]
    assert whole == max(alone) > min(alone)


def test_a_batch_gives_what_one_by_one_gives(tiny: str) -> None:
    plugin = Safety(model=tiny, device="cpu")
    episodes = [episode("x" * n, "turn " * n, "") for n in range(1, 40)]
    assert plugin.score(episodes) == [plugin.score([e])[0] for e in episodes]


@pytest.mark.parametrize(("names", "labels", "unsafe"), [
    (["LABEL_0", "LABEL_1"], None, {"LABEL_1"}), (["neutral", "toxic"], None, {"toxic"}),
    (["non-offensive", "offensive"], None, {"offensive"}), (["NON_HATE", "HATE"], None, {"HATE"}),
    (["hate speech", "offensive language", "neither"], None, {"hate speech", "offensive language"}),
    (["safe", "S1"], ["s1"], {"S1"}),
])  # fmt: skip
def test_labels_are_told_by_their_names(tmp_path: Path, names: list[str], labels: list[str] | None,
                                        unsafe: set[str]) -> None:
    folder = str(save_tiny_classifier(tmp_path, names))
    score = scored("go left", model=folder, labels=labels, device="cpu")
    (found,) = classifier(folder, "cpu").probabilities(["go left"])
    assert score.info["probabilities"] == [pytest.approx(sum(found[name] for name in unsafe), abs=1e-4)]


def test_independent_labels_do_not_add_up(tmp_path: Path) -> None:
    names = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    folder = str(save_tiny_classifier(tmp_path, names, problem_type="multi_label_classification"))
    (found,) = classifier(folder, "cpu").probabilities(["go left"])
    assert sum(found.values()) > 1.0
    assert scored("go left", model=folder, device="cpu").info["probabilities"] == [max(found.values())]


@pytest.mark.parametrize(("names", "labels", "message"), [
    (["NEGATIVE", "POSITIVE"], None, r"\(NEGATIVE, POSITIVE\) do not tell which mean unsafe"),
    (["safe", "clean"], None, "do not tell"), (["LABEL_0", "LABEL_1", "LABEL_2"], None, "LABEL_2"),
    (["OK", "hate", "S3"], None, "OK, hate, S3"),
    (["nothate", "hate"], ["toxic"], "no label 'toxic'; it has nothate, hate"),
])  # fmt: skip
def test_labels_that_do_not_tell_are_an_error_at_once(tmp_path: Path, names: list[str], labels: list[str] | None,
                                                      message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Safety(model=str(save_tiny_classifier(tmp_path, names)), labels=labels)


def test_what_is_no_classifier_is_an_error(tmp_path: Path) -> None:
    from tiny_model import save_tiny_model

    with pytest.raises(BadInput, match=r"no text classifier: its architecture is LlamaForCausalLM"):
        Safety(model=str(save_tiny_model(tmp_path / "llama")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"config\.json"):
        Safety(model=str(tmp_path / "empty"))
    with pytest.raises(BadInput, match="'nobody/nothing' cannot be loaded"):
        scored("x", model="nobody/nothing", device="cpu")


def test_the_hub_model_is_a_name_for_the_recommended_one() -> None:
    assert Safety(model="hub").detector.model == HUB_MODEL  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"threshold": 0.0}, "threshold"), ({"threshold": 1.5}, "threshold"), ({"reward": -3.0}, "reward is above penalty"),
    ({"penalty": float("-inf")}, "finite"), ({"labels": ["hate"]}, "the embedded one has its own"),
    ({"unsafe_info": "unsafe"}, "unsafe_info is a list"), ({"model": ""}, "model is"), ({"device": "gpu"}, "device is"),
    ({"model": "some/model", "labels": "hate"}, "labels is a list"),
    ({"model": "some/model", "labels": []}, "at least one"),
    ({"threshold": "high"}, "threshold is a finite number"), ({"model": 5}, "model is"),
])  # fmt: skip
def test_bad_arguments_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Safety(**kwargs)
