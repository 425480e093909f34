"""Whether a run's model can see what its environments show, found out before any weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from mmrl.config import EnvironmentConfig
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.provided import PROBED, first_episodes
from mmrl.sample import Sample
from mmrl_agents.models import find_model, load_generation, load_processing, sees, text_context
from mmrl_agents.transcript import Transcript, shown
from mmrl_agents.turns import end_ids


def check_images(loaded: LoadedConfig) -> None:
    """Refuse images for a model that reads text only, and more of them than its context holds.

    Raises:
        BadInput: naming the environment, the model, and what each image costs.
    """
    config = loaded.config
    places = {("environments", i): e for i, e in enumerate(config.environments)} | {
        ("eval", "environments", i): e for i, e in enumerate(config.eval.environments or [])
    }
    pictured = {place: s for place, e in places.items() if (s := pictured_samples(e))}
    if not pictured:
        return
    files = find_model(config.model_id, loaded.where("model_id"))
    for place in pictured if not sees(files) else ():
        raise BadInput(f"{loaded.where(*place)}: environment '{places[place].id}' shows images, but model "
                       f"'{files.name}' reads text only; take a vision-language model, such as mmrl/tiny-vlm")
    processing = load_processing(files)
    transcript = Transcript(processing, end_ids(load_generation(files), processing))
    room = (config.rollout.max_context or text_context(files)) - config.rollout.max_new_tokens
    more = "raise rollout.max_context, or " if config.rollout.max_context else ""
    remedy = f"{more}show smaller or fewer images, or lower rollout.max_new_tokens"
    for place, samples in pictured.items():
        for sample in samples:
            taken = len(transcript.prompt(sample.messages))
            if taken > room:
                row = f" (row {sample.meta['row']})" if "row" in sample.meta else ""
                raise BadInput(
                    f"{loaded.where(*place)}: environment '{places[place].id}': sample "
                    f"'{sample.id}'{row} takes {taken} tokens, of which {costs(transcript, sample)}; "
                    f"'{files.name}' has room for {room} beside an answer of {config.rollout.max_new_tokens}; {remedy}"
                )


def pictured_samples(config: EnvironmentConfig) -> list[Sample]:
    """Those of the first few samples of an environment that have images."""
    with closing(make(config.id, **config.kwargs)) as env, first_episodes(config.id):
        samples: Sequence[Sample] = [env.reset(seed=config.seeds.start + i)[1]["sample"] for i in range(PROBED)]
    return [s for s in samples if shown(s.messages)]


def costs(transcript: Transcript, sample: Sample) -> str:
    """What the images of a sample cost, in words."""
    assert transcript.image_tokens is not None
    each = [len(transcript.image_tokens.of(i).ids) for i in shown(sample.messages)]
    sizes = str(min(each)) if min(each) == max(each) else f"{min(each)} to {max(each)}"
    return f"{len(each)} {'image takes' if len(each) == 1 else 'images take'} {sizes}{' each' * (len(each) > 1)}"
