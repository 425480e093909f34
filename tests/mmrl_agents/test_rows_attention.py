import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from mmrl_agents.rows_attention import NAME, Places, Span, attend, attending, shared_spans, spans


def bare(found: list[Span]) -> list[tuple[slice, slice, int, int]]:
    return [(s.rows, s.tokens, s.new, s.held) for s in found]


def test_spans_join_rows_alike_in_size_and_those_that_read_one_token() -> None:
    found = spans([2, 2, 0, 1, 1, 3, 3], [2, 2, 9, 4, 6, 5, 7])
    assert bare(found) == [
        (slice(0, 2), slice(0, 4), 2, 2),
        (slice(3, 5), slice(4, 6), 1, 6),
        (slice(5, 6), slice(6, 9), 3, 5),
        (slice(6, 7), slice(9, 12), 3, 7),
    ]
    assert [None if s.unseen is None else s.unseen.exp().int().tolist() for s in found] == [
        [[1, 0], [1, 1]],
        [[[[1, 1, 1, 1, 0, 0]]], [[[1, 1, 1, 1, 1, 1]]]],
        [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
        [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]],
    ]


def test_rows_of_one_length_that_read_one_token_need_no_mask() -> None:
    assert spans([1, 1], [3, 3]) == [Span(slice(0, 2), slice(0, 2), 1, 3, None)]
    assert spans([0, 0], [3, 3]) == []


@pytest.mark.parametrize("few", [1, 2, 4])
@pytest.mark.parametrize("new", [[3, 0, 1, 1, 2, 2], [1, 1, 1, 1, 1, 1], [4, 4, 4, 4, 4, 4]])
def test_each_token_attends_to_its_own_row_up_to_itself(few: int, new: list[int]) -> None:
    made = torch.Generator().manual_seed(0)
    held = [4 + 2 * (i % 3) for i in range(6)]
    query = torch.randn((1, 4, sum(new), 5), generator=made, dtype=torch.float64)
    key = torch.randn((6, few, 10, 5), generator=made, dtype=torch.float64)
    value = torch.randn((6, few, 10, 5), generator=made, dtype=torch.float64)
    out, _ = attend(torch.nn.Module(), query, key, value, None, 0.4, mmrl_places=Places(spans(new, held)))
    assert out.shape == (1, sum(new), 4, 5)
    token = 0
    for row, (n, h) in enumerate(zip(new, held, strict=True)):
        for back in range(n, 0, -1):
            seen = slice(0, h - back + 1)
            k, v = (t[row, :, seen].repeat_interleave(4 // few, 0) for t in (key, value))
            expected = scaled_dot_product_attention(query[0, :, token, None], k, v, scale=0.4)[:, 0]
            torch.testing.assert_close(out[0, token], expected)
            token += 1


def test_spans_of_shared_prompts() -> None:
    assert shared_spans([1, 2, 0, 3, 0], [0, 0, 1, 1, 2], [7, 8, 9]) == [
        Span(slice(0, 1), slice(0, 3), 3, 7, None),
        Span(slice(1, 2), slice(3, 6), 3, 8, None),
    ]


@pytest.mark.parametrize("few", [1, 2, 4])
def test_a_shared_prompt_and_a_rows_own_are_attended_to_as_one(few: int) -> None:
    made = torch.Generator().manual_seed(0)
    new, held, roots, known = [2, 1, 1, 3], [2, 3, 1, 5], [1, 1, 0, 0], [6, 4]
    query = torch.randn((1, 4, sum(new), 5), generator=made, dtype=torch.float64)
    key, value = (torch.randn((4, few, 5, 5), generator=made, dtype=torch.float64) for _ in range(2))
    keys, values = (torch.randn((2, few, 6, 5), generator=made, dtype=torch.float64) for _ in range(2))
    layer = torch.nn.Module()
    layer.layer_idx = 1
    places = Places(spans(new, held), shared_spans(new, roots, known), [(key, value), (keys, values)])
    out, _ = attend(layer, query, key, value, None, 0.4, mmrl_places=places)
    token = 0
    for row, (n, h, root) in enumerate(zip(new, held, roots, strict=True)):
        for back in range(n, 0, -1):
            parts = ((keys, key), (values, value))
            k, v = (
                torch.cat([b[root, :, : known[root]], own[row, :, : h - back + 1]], 1).repeat_interleave(4 // few, 0)
                for b, own in parts
            )
            expected = scaled_dot_product_attention(query[0, :, token, None], k, v, scale=0.4)[:, 0]
            torch.testing.assert_close(out[0, token], expected)
            token += 1


@pytest.mark.parametrize(
    ("more", "line"),
    [({"softcap": 50.0}, "no softcap"), ({"s_aux": torch.ones(4)}, "no s_aux"), ({"mmrl_places": None}, "no place")],
)
def test_what_it_does_not_do_is_refused(more: dict[str, object], line: str) -> None:
    states = torch.zeros((1, 1, 1, 2))
    with pytest.raises(ValueError, match=line):
        attend(torch.nn.Module(), states, states, states, None, **{"mmrl_places": Places(spans([1], [1])), **more})


def test_a_decoder_attends_as_before_afterwards() -> None:
    from learner_tools import llama

    decoder = llama().get_decoder()

    def inside() -> None:
        with attending(decoder, NAME):
            assert decoder.config._attn_implementation == NAME
            raise KeyError

    with pytest.raises(KeyError):
        inside()
    assert decoder.config._attn_implementation == "sdpa"
