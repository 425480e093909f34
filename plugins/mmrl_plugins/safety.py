"""Whether anything that the policy said, or did in a simulator, was unsafe.

Comes in: the text of every answer, and what the environment reports of every step.  Goes out: a reward if all turns
were safe, a penalty if one was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._arguments import installed
from mmrl_plugins._classifier import local_labels
from mmrl_plugins._lazy import EMBEDDED
from mmrl_plugins._model_arguments import checked_device, checked_model, checked_names, checked_number
from mmrl_plugins._toxicity import Detector, Finding, LinearDetector, ModelDetector, unsafe_labels

HUB = "hub"
HUB_MODEL = "facebook/roberta-hate-speech-dynabench-r4-target"


class Safety(RewardPlugin):
    """``reward`` if every turn is safe, ``penalty`` if one is not: the worst turn counts.

    A turn is unsafe if a classifier gives its text at least ``threshold``, or if the environment reports so: a key of
    ``unsafe_info`` whose value in ``info`` is true or a reason (MiniGrid: ``"unsafe": "lava"``).  An answer without
    text is safe.  Not applicable to an episode without turns.

    Range: ``penalty`` or ``reward``, nothing between.  The per-turn values put all of a penalty on the worst turn, and
    share a reward evenly.  ``info`` holds each turn's probability, the worst turn and its label.

    Cost: with the embedded model about 0.3 ms a turn, on CPU; else one pass of the classifier for each window of each
    turn, in batches of 32.

    Source: the reward 1 / penalty -2 and the hub model are those of ms-swift's safety plugin; that model is from
    Vidgen et al. (2021), "Learning from the Worst"; the embedded one is alt-profanity-check's.  On the 80 sentences of
    ``mmrl_assets/checks/safety.jsonl`` the embedded one is right in 73.

    Fails: the embedded model knows English words and no meaning: it misses threats without swear words ("I will find
    you"), takes "ass" for an insult where it is a donkey, and sees nothing in other languages.  A classifier of hate
    speech need not mind plain insults.  Unsafe content of other kinds passes both.

    Args:
        model: ``embedded`` (the model inside alt-profanity-check), ``hub`` (the one recommended where a hub can be
            reached: facebook/roberta-hate-speech-dynabench-r4-target), or any text classifier of transformers, by hub
            name or folder.
        threshold: a text is unsafe from this probability on, above 0 and at most 1.
        reward: the value if all is safe, above ``penalty``.
        penalty: the value if anything is unsafe.
        labels: the model's labels that mean unsafe; by default told by their names (hate, toxic, LABEL_1, ...).
        unsafe_info: keys of ``info`` by which an environment reports an unsafe action.
        device: where the classifier runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; the embedded one is on CPU.

    Raises:
        BadInput: for a wrong argument, a missing package, or a model whose labels do not tell what is unsafe (from
            a hub, the last is found when the model is first used).
    """

    range: ClassVar[tuple[float, float]] = (-2.0, 1.0)
    cost: ClassVar[str] = "under a millisecond a turn (embedded), or a classifier call a batch"

    def __init__(self, model: str = EMBEDDED, threshold: float = 0.5, reward: float = 1.0, penalty: float = -2.0,
                 labels: Sequence[str] | None = None, unsafe_info: Sequence[str] = ("unsafe",),
                 device: str = "auto") -> None:
        self.threshold = checked_number("threshold", threshold, 0.0, 1.0)
        self.reward, self.penalty = checked_number("reward", reward), checked_number("penalty", penalty)
        if self.threshold == 0.0:
            raise BadInput("threshold is a probability above 0: at 0 everything is unsafe")
        if self.penalty >= self.reward:
            raise BadInput(f"reward is above penalty; reward is {reward}, penalty is {penalty}")
        self.range = (self.penalty, self.reward)  # pyright: ignore[reportAttributeAccessIssue] - follows the arguments
        self.unsafe_info = checked_names("unsafe_info", unsafe_info, "['unsafe']")
        self.detector = _detector(model, labels, checked_device(device))

    def load(self) -> None:
        """Load the classifier."""
        self.detector.find(["hello"])

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Judge all answers of ``trajectories`` in one batch."""
        texts = dict.fromkeys(turn.response for t in trajectories for turn in t.turns if turn.response.strip())
        found = dict(zip(texts, self.detector.find(list(texts)), strict=True))
        return [self._judge(t, found) for t in trajectories]

    def _judge(self, trajectory: Trajectory, found: Mapping[str, Finding]) -> Score:
        turns = trajectory.turns
        if not turns:
            return Score.not_applicable(reason="the episode has no turns")
        findings = [found.get(turn.response, (0.0, "no text")) for turn in turns]
        actions = {i: reason for i, turn in enumerate(turns) if (reason := self._unsafe_action(turn.info))}
        risks = [1.0 if i in actions else probability for i, (probability, _) in enumerate(findings)]
        worst = risks.index(max(risks))
        safe = risks[worst] < self.threshold
        info: dict[str, Any] = {
            "safe": safe, "probabilities": [p for p, _ in findings], "worst_turn": worst,
            "label": actions.get(worst, findings[worst][1]),
        }  # fmt: skip
        if actions:
            info["unsafe_actions"] = {f"turn {i}": reason for i, reason in actions.items()}
        if safe:
            return Score(self.reward, info=info, turns=(self.reward / len(turns),) * len(turns))
        values = tuple(self.penalty if i == worst else 0.0 for i in range(len(turns)))
        return Score(self.penalty, info=info, turns=values)

    def _unsafe_action(self, info: Mapping[str, Any]) -> str:
        """What the environment reports of a step: the reason, or the key if it gives none; empty if all is well."""
        for key in self.unsafe_info:
            reported = info.get(key)
            if reported:
                return reported if isinstance(reported, str) else key
        return ""


def _detector(model: str, labels: Sequence[str] | None, device: str) -> Detector:
    checked_model("model", model, "a text classifier, or 'embedded', or 'hub'")
    if labels is not None and not checked_names("labels", labels, "['hate']"):
        raise BadInput("labels names at least one label, such as ['hate']")
    if model == EMBEDDED:
        if labels is not None:
            raise BadInput("labels are those of a transformers model; the embedded one has its own")
        installed("profanity_check", "alt-profanity-check")
        return LinearDetector()
    for package in ("torch", "transformers"):
        installed(package, package)
    known = local_labels(model)
    if known is not None:
        unsafe_labels(known, labels)
    return ModelDetector(HUB_MODEL if model == HUB else model, labels, device)
