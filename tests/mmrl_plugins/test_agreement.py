import pytest

from mmrl_plugins._agreement import Judgement, judge
from mmrl_plugins._statement import read_statement

SAME = {frozenset({"tall", "height"}), frozenset({"wrote", "written"})}


def judged(claim: str, fact: str, paraphrase: bool = False) -> Judgement:
    return judge(read_statement(claim), read_statement(fact), lambda a, b: frozenset({a, b}) in SAME, paraphrase)


@pytest.mark.parametrize(("claim", "fact", "verdict"), [
    ("Paris is the capital of France.", "The capital of France is Paris.", "supported"),
    ("Lyon is the capital of France.", "Paris is the capital of France.", "contradicted"),
    ("Berlin is the capital of Germany.", "Paris is the capital of France.", "unknown"),
    ("Paris is the largest city of France.", "Paris is the capital of France.", "unknown"),
    ("The tower has a height of 330 metres.", "The tower is 330 metres tall.", "supported"),
    ("The tower is 300 metres tall.", "The tower is 330 metres tall.", "contradicted"),
    ("The tower is more than 300 metres tall.", "The tower is 330 metres tall.", "unknown"),
    ("The tower is about 328 metres tall.", "The tower is 330 metres tall.", "supported"),
    ("The tower is tall.", "The tower is 330 metres tall.", "supported"),
    ("The tower is 330 metres tall.", "The tower is tall.", "unknown"),
    ("The tower has 3 floors.", "The tower is 330 metres tall.", "unknown"),
    ("Neil Armstrong walked on the Moon in 1972.", "Neil Armstrong walked on the Moon in 1969.", "contradicted"),
    ("Armstrong walked on the Moon about 1972.", "Neil Armstrong walked on the Moon in 1969.", "contradicted"),
    ("Mozart was born in Salzburg.", "Wolfgang Amadeus Mozart was born in Salzburg in 1756.", "supported"),
    ("Mozart died in Salzburg.", "Wolfgang Amadeus Mozart was born in Salzburg in 1756.", "unknown"),
    ("Wolfgang Mozart was born in Vienna.", "Mozart was born in Salzburg.", "contradicted"),
    ("Hamlet was written by Marlowe.", "Shakespeare wrote Hamlet.", "contradicted"),
    ("Tickets for students cost 8 euros.", "Tickets for adults cost 14 euros.", "unknown"),
    ("Penguins can fly.", "Penguins cannot fly.", "contradicted"),
    ("Penguins don't fly.", "Penguins cannot fly.", "supported"),
    ("Penguins can swim.", "Penguins cannot fly.", "unknown"),
    ("A whale is a mammal.", "Whales are mammals.", "supported"),
    ("Whales are fish.", "Whales are mammals.", "unknown"),
    ("Der Turm ist 300 Meter hoch.", "Der Turm ist 330 Meter hoch.", "contradicted"),
    ("Paris a 2,1 millions d'habitants.", "Paris a 2.1 millions d'habitants.", "supported"),
    ("珠穆朗玛峰高8849米。", "珠穆朗玛峰的高度是8849米。", "supported"),
    ("珠穆朗玛峰高7000米。", "珠穆朗玛峰的高度是8849米。", "contradicted"),
    ("企鹅会飞。", "企鹅不会飞。", "contradicted"),
    ("法国的首都是里昂。", "巴黎是法国的首都。", "unknown"), ("It is so.", "It is red.", "unknown"),
    ("It is 5.", "It is 6.", "unknown"),
])  # fmt: skip
def test_verdicts(claim: str, fact: str, verdict: str) -> None:
    assert judged(claim, fact).verdict == verdict


def test_a_paraphrase_needs_the_same_names_and_numbers_only() -> None:
    fact = "The Berlin Wall fell in 1989."
    assert judged("The Berlin Wall came down in 1989.", fact).verdict == "unknown"
    assert judged("The Berlin Wall came down in 1989.", fact, paraphrase=True).verdict == "supported"
    assert judged("The Berlin Wall came down in 1999.", fact, paraphrase=True).verdict == "contradicted"
    assert judged("The Berlin Wall did not come down in 1989.", fact, paraphrase=True).verdict == "contradicted"


def test_reasons_name_what_differs() -> None:
    assert judged("Lyon is the capital of France.", "Paris is the capital of France.").why == "Lyon, and not Paris"
    assert judged("Spiders have six legs.", "Spiders have 8 legs.").why == "6, and not 8"
    assert judged("Paris lies in France.", "Paris lies there.").why == "the fact does not mention France"


def test_support_outweighs_contradiction_and_both_outweigh_nothing() -> None:
    fact = "Spiders have 8 legs."
    assert [judged(claim, fact).weight for claim in (fact, "Spiders have 6 legs.", "It is so.")] == [2.0, 1.0, 0.0]
