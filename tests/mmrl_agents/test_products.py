from typing import Any

import pytest
import torch
from learner_tools import llama, lora
from torch import Tensor, nn

from mmrl_agents import products
from mmrl_agents.products import ROWS, can_multiply, quick_products


def test_this_build_has_them() -> None:
    assert can_multiply()


def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Filled with the weights that oneDNN multiplies by."""
    seen: list[Tensor] = []
    own = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda x, w, *more: seen.append(w) or own(x, w, *more))
    return seen


@pytest.fixture(autouse=True)
def every_weight_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LARGE", 1)


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_pytorch(shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, layer, x = calls(monkeypatch), nn.Linear(5, 7, bias=bias), torch.randn(shape)
    with torch.no_grad(), quick_products(layer):
        found = layer(x)
    assert [w is layer.weight for w in seen] == [True]
    assert found.shape == (*shape[:-1], 7)
    assert torch.allclose(found, layer(x), atol=1e-6)


def test_one_row_many_and_small_weights_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, layer = calls(monkeypatch), nn.Linear(5, 7)
    with torch.no_grad(), quick_products(layer):
        for rows in range(40):
            layer(torch.randn(rows, 5))
    assert len(seen) == ROWS - 1  # a kernel is kept for each number of rows
    monkeypatch.setattr(products, "LARGE", 36)
    with torch.no_grad(), quick_products(layer):
        assert "forward" not in layer.__dict__


def test_a_model_says_the_same_and_is_as_it_was_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, model, ids = calls(monkeypatch), lora(llama(dtype=torch.float32), trained=True), torch.tensor([[2, 3, 4]])
    layers = [m for m in model.modules() if type(m) is nn.Linear]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        with quick_products(model), quick_products(model):
            found = model(input_ids=ids).logits
        assert len(seen) == len(layers) > 20  # those of the adapter too, and the head
        again = model(input_ids=ids).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(again, expected)
    assert not any("forward" in m.__dict__ for m in layers)


def test_an_error_leaves_the_model_as_it_was() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(KeyError), quick_products(layer):
        raise KeyError
    assert "forward" not in layer.__dict__


def test_where_gradients_are_kept_pytorch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, layer = calls(monkeypatch), nn.Linear(2, 2)
    with quick_products(layer):
        layer(torch.randn(3, 2)).sum().backward()
    assert seen == []
    assert layer.weight.grad is not None


def test_under_autocast_pytorch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, layer = calls(monkeypatch), nn.Linear(2, 2)
    with torch.no_grad(), quick_products(layer), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 2)).dtype == torch.bfloat16
    assert seen == []


class Own(nn.Linear):
    """Another layer, which may compute in another way."""


def strided() -> nn.Linear:
    """Its bias is a column of a matrix."""
    layer = nn.Linear(2, 2)
    layer.bias = nn.Parameter(torch.randn(2, 3)[:, 0])
    return layer


@pytest.mark.parametrize("make", [
    lambda: nn.Linear(2, 2).double(), lambda: nn.Linear(2, 2).bfloat16(), lambda: Own(2, 2),
    lambda: nn.Linear(2, 2, device="meta"), strided,
], ids=["float64", "bfloat16", "of another class", "meta", "strided"])  # fmt: skip
def test_other_layers_are_left_alone(make: Any) -> None:
    layer = make()
    with quick_products(layer):
        assert "forward" not in layer.__dict__


def test_who_switches_onednn_off_gets_none() -> None:
    layer = nn.Linear(2, 2)
    with torch.backends.mkldnn.flags(enabled=False), quick_products(layer):
        assert "forward" not in layer.__dict__
