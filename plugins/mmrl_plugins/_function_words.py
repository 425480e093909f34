"""Words that say how a statement is meant and not what it is about, in English, German, French, Spanish and others.

Data only: small words, negations, marks of approximation and of bounds, number words and scales.
"""

from __future__ import annotations


def _listed(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


SCALES = {
    "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "tausend": 1e3, "mille": 1e3,
    "mil": 1e3, "millionen": 1e6, "millions": 1e6, "millones": 1e6, "milliarden": 1e9, "milliarde": 1e9,
    "milliards": 1e9, "billions": 1e9, "万": 1e4, "萬": 1e4, "亿": 1e8, "億": 1e8,
}  # fmt: skip
"""What multiplies the number before it."""

_COUNTED = (
    "two three four five six seven eight nine ten eleven twelve",
    "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "deux trois quatre cinq six sept huit neuf dix onze douze",
    "dos tres cuatro cinco seis siete ocho nueve diez once doce",
)
NUMBERS = {word: float(value) for row in _COUNTED for value, word in enumerate(row.split(), start=2)}
"""Words for 2 to 12; those for 1 are articles or pronouns too."""

NEGATIONS = _listed(
    "not no never cannot none neither nor nobody nothing nowhere nicht kein keine keinen keiner nie niemals",
    "pas jamais aucun aucune rien nunca jamás ningún ninguna ninguno non não nem не нет никогда 不 没 沒 無 无",
)
ABOUT = _listed(
    "about around approximately roughly nearly almost circa ca etwa ungefähr rund environ presque unos unas",
    "aproximadamente cerca casi 约 約",
)
BOUNDS = _listed(
    "over under above below least most exceeds mehr mindestens höchstens weniger plus moins más menos more less fewer",
    "up than 超 至",
)
"""Marks of a number that is a bound: another number does not contradict it."""

SMALL = _listed(
    "a an the this that these those is are was were be been being am has have had having do does did done can could",
    "will would may might must shall should i you he she it we they its his her their our my your of in on at by to",
    "from for with as and or but if so then there here also very just only which who whom whose what when where while",
    "into than too such one each every some any all both other same own between through during within among across",
    "located situated called named",
    "der die das den dem des ein eine einen einem einer eines ist sind war waren wird werden wurde wurden hat haben",
    "hatte im in am auf an von vom zu zum zur mit für und oder aber es er sie wir ihr als auch bei nach aus",
    "le la les un une des du de d l est sont était étaient a ont avait au aux en dans sur par pour avec et ou mais ce",
    "cette ces il elle ils elles qui que ne n y se sa son ses",
    "el los las unos una del al es son era eran fue fueron ha han había con por para o pero su sus lo",
    "gli i uno di è sono da nel nella della che si um uma os as dos das na nos nas foi são",
    "的 了 是 在 有 和 与 也 都 就 而 被 把 地 得 着 之 于 一 个 這 这 那 它 他 她 你 我 们",
    "の は が を に で と も へ だ す る",
)
"""Articles, pronouns, prepositions, auxiliaries: they neither support nor contradict."""
