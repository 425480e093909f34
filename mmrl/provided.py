"""What an environment's samples provide of what plugins ask for: reference, images, videos."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import closing, contextmanager

from mmrl.config import EnvironmentConfig
from mmrl.env import Env
from mmrl.errors import BadInput, one_line, place_of
from mmrl.make import make
from mmrl.plugin_fields import ENV_FIELDS, Call, fields_of
from mmrl.sample import Image, Video
from mmrl.trajectory import Trajectory

PROBED = 8
"""Samples of an environment that are looked at in any case."""
RARE = 64
"""Samples that are looked at before something counts as lacking: a data set may have it in some rows only."""


def fields_provided(config: EnvironmentConfig, wanted: Collection[frozenset[str]] = ()) -> frozenset[str]:
    """The fields among reference, images and videos that an environment's samples have.

    Args:
        config: the environment.
        wanted: sets of fields of which one each is asked for.  While one of them lacks, further samples are looked at,
            and at last what the environment shows after a few actions.

    Raises:
        BadInput: if the environment cannot be made, or fails; naming the file and line that raised.
    """
    with closing(make(config.id, **config.kwargs)) as env, first_episodes(config.id):
        return frozenset(_provided(env, config, wanted))


@contextmanager
def first_episodes(env_id: str) -> Generator[None]:
    """Within it an environment is looked at before a run: what it raises becomes bad input, one line.

    Raises:
        BadInput: naming the environment, and the file and line that raised.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # whatever a user's own environment raises
        raise BadInput(f"environment '{env_id}' fails in its first episodes: {one_line(error)} "
                       f"({place_of(error)}); see mmrl check env") from error  # fmt: skip


def _provided(env: Env, config: EnvironmentConfig, wanted: Collection[frozenset[str]]) -> set[str]:
    found: set[str] = set()
    for i in range(RARE):
        if i >= PROBED and all(any_of & found for any_of in wanted):
            break
        sample = env.reset(seed=config.seeds.start + i)[1]["sample"]
        start = Trajectory("probe", config.id, 0, "probe", sample, (), False, False)
        found |= {name for name in ENV_FIELDS if fields_of(Call(start), [name])[name] is not None}
    if not all(any_of & found for any_of in wanted):
        found |= _shown_on_the_way(env, config.seeds.start)
    return found


def _shown_on_the_way(env: Env, seed: int) -> set[str]:
    """Whether images or videos appear in a short episode of random actions."""
    from mmrl.conformance import play  # it imports Gymnasium's vector environments

    kinds = {"images": (Image, Video), "videos": (Video,)}  # a video counts as its frames
    parts = [part for observation, *_ in play(env, seed) for part in observation]
    return {name for name, types in kinds.items() if any(isinstance(part, types) for part in parts)}
