import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tiny_classifier import save_tiny_classifier

from mmrl import BadInput, Sample, Text, Trajectory, Turn
from mmrl.score import Score
from mmrl_plugins._classifier import classifier
from mmrl_plugins.factuality import Factuality

TRUE, FALSE = "Paris is the capital of France.", "Mars has five moons."
NEAR, FAR = "Paris has wide streets in France.", "Bananas contain potassium."
VERDICTS = {1.0: "supported", -1.0: "contradicted", 0.0: "unknown"}


def episode(*answers: str) -> Trajectory:
    turns = tuple(Turn((Text("see"),), answer) for answer in answers)
    return Trajectory("t", "test", 0, "g", Sample.ask("?"), turns, True, False)


def score(*answers: str, **kwargs: Any) -> Score:
    (found,) = Factuality(**{"knowledge": "sample", **kwargs}).score([episode(*answers)])
    return found


def right(name: str) -> list[tuple[str, str]]:
    """(label, verdict) of each shipped claim."""
    text = resources.files("mmrl_assets").joinpath("checks", name).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    scores = Factuality("sample").score([episode(row["response"]) for row in rows])
    verdicts = [VERDICTS[s.value] if s.valid else "unknown" for s in scores]
    return list(zip([row["label"] for row in rows], verdicts, strict=True))


def test_the_shipped_claims_are_judged() -> None:
    judged = right("factuality.jsonl")
    assert len(judged) == 20
    assert sum(label == verdict for label, verdict in judged) >= 19  # 20 with all-MiniLM-L6-v2


def test_harder_claims_are_undecided_rather_than_misjudged() -> None:
    judged = right("factuality_hard.jsonl")
    assert sum(label == verdict for label, verdict in judged) >= 48  # 50 of 60
    wrong = [pair for pair in judged if pair[0] != pair[1] and pair[1] != "unknown"]
    assert len(wrong) <= 1


def test_the_value_is_the_mean_over_the_claims_with_a_fact() -> None:
    assert score(TRUE).value == 1.0
    assert score(FALSE).value == -1.0
    assert score(f"{TRUE} {FALSE}").value == 0.0
    found = score(f"{TRUE} {FAR} {TRUE} {FALSE}")
    assert found.value == pytest.approx(1 / 3)
    assert {k: found.info[k] for k in ("supported", "contradicted", "unknown", "without_a_fact")} == {
        "supported": 2, "contradicted": 1, "unknown": 0, "without_a_fact": 1,
    }  # fmt: skip


def test_info_says_which_fact_decided_and_why() -> None:
    (report,) = score(FALSE).info["claims"]
    assert {k: v for k, v in report.items() if k != "similarity"} == {
        "claim": FALSE, "verdict": "contradicted", "why": "5, and not 2",
        "fact": "Mars has two moons, Phobos and Deimos.", "fact_id": "astronomy-13", "source": "astronomy",
    }  # fmt: skip
    assert 0.5 <= report["similarity"] <= 1.0


def test_pronouns_refer_to_the_claim_before() -> None:
    found = score("Mount Everest is 8,849 metres high. It lies on the border of Nepal and China.")
    assert [c["verdict"] for c in found.info["claims"]] == ["supported", "supported"]


def test_last_or_all_turns() -> None:
    assert score(FALSE, TRUE).value == 1.0
    assert score(FALSE, TRUE).turns is None
    found = score(f"{FALSE} {TRUE}", "go on", TRUE, TRUE, turns="all")
    assert found.turns == (0.0, 0.0, 0.25, 0.25)
    assert found.value == math.fsum(found.turns) == 0.5


@pytest.mark.parametrize(("answers", "reason"), [
    ((), "the episode has no turns"), (("",), "the answer makes no claim that could be checked"),
    (("Is Paris the capital of France?",), "the answer makes no claim that could be checked"),
    ((TRUE, "4"), "the answer makes no claim that could be checked"),
    ((FAR,), "the knowledge base holds nothing near the claims"),
])  # fmt: skip
def test_nothing_to_check_is_not_applicable(answers: tuple[str, ...], reason: str) -> None:
    found = score(*answers)
    assert (found.status, found.info["reason"]) == ("not_applicable", reason)


def test_min_similarity_and_top_k() -> None:
    assert score(NEAR).value == 0.0
    assert score(NEAR, min_similarity=0.99).status == "not_applicable"
    assert score(FAR, min_similarity=-1.0).value == 0.0
    assert score("Marie Curie won the Nobel Prize in Chemistry in 1911.", top_k=1).value == 1.0


def test_a_knowledge_base_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "shop.jsonl"
    facts = ["The shop opens at 9 and closes at 18.", "Dogs are not allowed in the shop."]
    path.write_text("".join(json.dumps({"fact": fact}) + "\n" for fact in facts))
    assert score("The shop opens at 9.", knowledge=str(path)).value == 1.0
    assert score("Dogs are allowed in the shop.", knowledge=str(path)).value == -1.0


def test_a_batch_gives_what_one_by_one_gives() -> None:
    plugin = Factuality("sample", turns="all")
    episodes = [episode(TRUE), episode(FALSE, NEAR), episode(), episode(FAR, TRUE + " " + FALSE), episode("ok")]
    assert plugin.score(episodes) == [plugin.score([e])[0] for e in episodes]
    assert plugin.score(episodes[::-1]) == plugin.score(episodes)[::-1]


def test_a_huge_answer_has_a_bound() -> None:
    found = score("Mars has two moons. " * 10_000 + "x" * 100_000)
    assert found.value == 1.0
    assert (found.info["supported"], len(found.info["claims"])) == (200, 40)
    assert len(json.dumps(dict(found.info))) < 65_536


def test_a_real_nli_model_decides(tmp_path: Path) -> None:
    labels = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
    folder = str(save_tiny_classifier(tmp_path, labels, seed=1, max_tokens=128))
    claims = [TRUE, FALSE, NEAR, "The Sun is a star.", "Whales are mammals.", "Spiders have eight legs."]
    plugin = Factuality("sample", nli_model=folder, device="cpu", top_k=2)
    scores = plugin.score([episode(claim) for claim in claims])
    model = classifier(folder, "cpu")
    for claim, found in zip(claims, scores, strict=True):
        near = plugin.find([claim])[claim]
        rows = model.probabilities([(fact.text, claim) for fact, _ in near])
        decided = [(row[label], label) for row in rows for label in labels if row[label] == max(row.values())]
        best = max((d for d in decided if d[1] != "NEUTRAL"), default=(0.0, "NEUTRAL"))
        expected = {"ENTAILMENT": 1.0, "CONTRADICTION": -1.0, "NEUTRAL": 0.0}[best[1]]
        assert found.value == expected
        assert found.info["claims"][0]["why"].startswith(best[1])
    assert plugin.score([episode(c) for c in claims]) == [plugin.score([episode(c)])[0] for c in claims]


@pytest.mark.parametrize(("labels", "message"), [
    (["NEGATIVE", "POSITIVE"], "'NEGATIVE'"), (["entailment", "neutral"], "both entailment and contradiction"),
    (["entailment", "not_entailment"], "'not_entailment'"),
])  # fmt: skip
def test_a_model_of_something_else_is_an_error_at_once(tmp_path: Path, labels: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Factuality("sample", nli_model=str(save_tiny_classifier(tmp_path, labels)))


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"top_k": 0}, "top_k"), ({"min_similarity": 1.5}, "min_similarity"), ({"turns": "first"}, "turns"),
    ({"device": "gpu"}, "device"), ({"model": ""}, "model is"), ({"knowledge": "no/such.jsonl"}, "cannot be read"),
    ({"nli_model": ""}, "nli_model"), ({"knowledge": 5}, "knowledge is a JSONL file"),
])  # fmt: skip
def test_bad_arguments_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Factuality(**{"knowledge": "sample", **kwargs})
