from types import SimpleNamespace

from learner_tools import llama

from mmrl_agents.decoder import with_cache


def test_a_cache_goes_by_the_name_that_the_model_knows() -> None:
    new = SimpleNamespace(forward=lambda input_ids, cache=None, **kwargs: None)
    old = SimpleNamespace(forward=lambda input_ids, past_key_values=None, **kwargs: None)
    kept = object()
    assert (with_cache(new, kept), with_cache(old, kept)) == ({"cache": kept}, {"past_key_values": kept})
    model = llama()
    assert with_cache(model, kept).keys() == with_cache(model.get_decoder(), kept).keys()
