from typing import Any

import pytest

from mmrl import BadInput
from mmrl_plugins._model_arguments import checked_device, checked_model, checked_names, checked_number


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "xpu", "mps"])
def test_devices(device: str) -> None:
    assert checked_device(device) == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "", "cpu:1", 0, None])
def test_no_devices(device: Any) -> None:
    with pytest.raises(BadInput, match=f"not {device!r}"):
        checked_device(device)


def test_models_names_and_numbers() -> None:
    assert checked_model("m", "a/b", "a model") == "a/b"
    assert checked_names("n", ["a", "b"], "['a']") == ("a", "b")
    assert checked_names("n", (), "['a']") == ()
    assert checked_number("x", 1, 0.0, 1.0) == 1.0


@pytest.mark.parametrize("value", ["", " ", 5, None])
def test_no_model(value: Any) -> None:
    with pytest.raises(BadInput, match="m is the name or folder of a model, not"):
        checked_model("m", value, "a model")


@pytest.mark.parametrize("value", ["a", [1], None, {"a": 1}])
def test_no_names(value: Any) -> None:
    with pytest.raises(BadInput, match="n is a list of names such as"):
        checked_names("n", value, "['a']")


@pytest.mark.parametrize(("value", "message"), [
    ("1", "x is a finite number"), (True, "x is a finite number"), (float("nan"), "x is a finite number"),
    (float("inf"), "x is a finite number"), (None, "x is a finite number"), (1.5, r"x is in \[0, 1\], not 1.5"),
])  # fmt: skip
def test_no_number(value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        checked_number("x", value, 0.0, 1.0)
