import pytest

from mmrl.errors import BadInput
from mmrl.gpus import gpu_bytes, usable


@pytest.mark.parametrize(("words", "gib"), [
    ("24GiB", 24), ("24 GB", 24), ("1.5g", 1.5), ("512MiB", 0.5), ("h100", 80), ("H100", 80), ("RTX 4090", 24),
    ("rtx_4090", 24), ("t4", 16), ("a100-40", 40), ("a100", 80),
])  # fmt: skip
def test_a_name_or_a_size(words: str, gib: float) -> None:
    assert gpu_bytes(words) == gib * 2**30


@pytest.mark.parametrize(("words", "said"), [
    ("h10", "--gpu: unknown GPU 'h10'; did you mean 'h100'?"),
    ("24", "--gpu: unknown GPU '24'; did you mean '24GiB'?"),
    ("0GiB", "--gpu 0GiB: a GPU has more memory than none"),
])  # fmt: skip
def test_anything_else_is_bad_input(words: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        gpu_bytes(words)
    assert str(error.value) == said


def test_a_tenth_stays_free() -> None:
    assert usable(1000) == 900
