import math

import numpy as np
import pytest

from mmrl_plugins._clip_score import Fit, fit, probabilities, unit


def test_unit_maps_minus_one_to_one() -> None:
    assert unit(np.array([-1.0, 0.0, 0.5, 1.0])).tolist() == [0.0, 0.5, 0.75, 1.0]


def test_probabilities_are_a_softmax_for_each_picture() -> None:
    cosines, others = np.array([0.5, 0.0]), np.array([[0.5, 0.5], [0.1, -0.1]])
    found = probabilities(cosines, others, scale=10.0)
    assert found[0] == pytest.approx(1 / 3)
    assert found[1] == pytest.approx(1 / (1 + math.e + 1 / math.e))
    assert probabilities(cosines, np.zeros((2, 0)), 10.0).tolist() == [1.0, 1.0]
    assert probabilities(np.array([1.0]), np.array([[-1.0]]), 1e6).tolist() == [1.0]


def test_pictures_are_joined() -> None:
    values, cosines = np.array([0.25, 0.75, 0.5]), np.array([-0.5, 0.5, 0.0])
    assert fit(values, cosines, "best") == Fit(0.75, 0.5)
    assert fit(values, cosines, "mean") == Fit(0.5, 0.0)
    assert fit(values[1:2], cosines[1:2], "last") == fit(values[1:2], cosines[1:2], "first") == Fit(0.75, 0.5)
