"""How far two texts are apart, in single characters.

Myers' bit-vector algorithm (J. ACM 46, 1999) in the form of Hyyrö (2003, "A bit-vector algorithm for computing
Levenshtein and Damerau edit distances"): one column of the table of distances is two integers, of which bit i says
whether row i + 1 is one above, or one below, row i.  A step costs a few operations on integers of that many bits.
"""

from __future__ import annotations


def edit_distance(one: str, other: str) -> int:
    """The least number of characters to insert, delete or replace that makes ``other`` of ``one``.

    Takes ``len(one) * len(other) / 64`` machine steps or so.
    """
    if not one or not other:
        return max(len(one), len(other))
    places: dict[str, int] = {}
    for i, character in enumerate(one):
        places[character] = places.get(character, 0) | 1 << i
    all_bits, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = all_bits, 0, len(one)
    for character in other:
        equal = places.get(character, 0)
        diagonal = ((((equal & up) + up) ^ up) | equal | down) & all_bits
        right, left = down | (all_bits & ~(diagonal | up)), diagonal & up
        distance += bool(right & last) - bool(left & last)
        right, left = (right << 1 | 1) & all_bits, left << 1 & all_bits
        up, down = left | (all_bits & ~(diagonal | right)), right & diagonal
    return distance
