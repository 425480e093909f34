from mmrl.usage import Metered, Usage


def test_what_was_used_in_words_and_as_json() -> None:
    used = Usage(3, 12_000, 450)
    assert str(used) == "3 requests, 12,000 prompt tokens, 450 completion tokens"
    assert str(Usage(3, 12_000, 450, 0.00125)).endswith("450 completion tokens, cost 0.0013")
    assert used.as_dict() == {"requests": 3, "prompt_tokens": 12_000, "completion_tokens": 450, "cost": None}


def test_only_a_policy_that_counts_is_metered() -> None:
    class Counts:
        usage = Usage()

    assert isinstance(Counts(), Metered)
    assert not isinstance(object(), Metered)
