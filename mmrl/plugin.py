"""Reward plugins: each answers one question about a rollout, and knows nothing of the trainer.

Three equivalent ways to write one, smallest first: a function under ``@reward_plugin``; a class with
``compute(query, response, images=None, ...)``; a class with ``score(trajectories) -> list[Score]``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from mmrl.errors import BadInput
from mmrl.plugin_fields import ENV_FIELDS, FIELDS, Call, fields_of
from mmrl.registry import PLUGINS
from mmrl.run_state import START, RunState
from mmrl.run_sync import run_sync
from mmrl.score import Score
from mmrl.trajectory import Trajectory

ASYNC_CONCURRENCY = 16


class RewardPlugin:
    """Answers one question about a rollout: what is this worth?

    Define ``compute`` (a call a trajectory, plain or ``async``) or ``score`` (many at once, for batched models).

    Attributes:
        range: lowest and highest possible value; a score outside is an error.
        requires: for plugins that define ``score``: the fields among ``reference``, ``images``, ``videos`` without
            which they have no answer.  Those with ``compute`` say so by a parameter without a default.
        requires_any: fields of them of which one is enough, such as ``images`` or ``videos``.
        over_turns: how the values of a ``compute`` that names ``turn``, and is called for each, become one.
        batch_size: trajectories in one call of ``score``.
        concurrency: calls at once; None: 1, and 16 for an ``async`` compute.  More than 1 needs thread safety.
        potential: ``turns`` holds the potential of each turn's state, for potential-based shaping (``mmrl.shaping``).
        cost: what a score costs, in a few words, for the reference table.
        defined_by: the function or plain class that it was made of, if it was; mmrl sets it.
    """

    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    requires: ClassVar[frozenset[str]] = frozenset()
    requires_any: ClassVar[frozenset[str]] = frozenset()
    over_turns: ClassVar[Literal["mean", "sum", "min"]] = "mean"
    batch_size: ClassVar[int] = 64
    concurrency: ClassVar[int | None] = None
    potential: ClassVar[bool] = False
    cost: ClassVar[str] = "microseconds"
    defined_by: Any = None

    compute: Callable[..., Any]
    """``compute(query, response, ...)``: receives exactly the fields of :data:`mmrl.plugin_fields.FIELDS` that it
    names and returns a float, ``{"reward": float, "info": {...}}``, a :class:`Score`, or None (not applicable)."""

    def load(self) -> None:
        """Load what takes long, a model for instance: called once, before the first score, with a time limit apart."""

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Score each trajectory with ``compute``; an exception in one fails that one alone.

        A plugin that defines it may also take ``state: RunState``.
        """
        return run_sync(_score_all(self, trajectories)) if is_async(self) else [_guarded(self, t) for t in trajectories]


def by_compute(plugin: RewardPlugin) -> bool:
    """Whether the plugin answers by ``compute`` (a call a trajectory) and not by ``score``."""
    return type(plugin).score is RewardPlugin.score


def is_async(plugin: RewardPlugin) -> bool:
    """Whether the plugin's ``compute`` is a coroutine function."""
    if not by_compute(plugin):
        return False
    compute = plugin.compute
    while isinstance(compute, functools.partial):
        compute = cast("Callable[..., Any]", compute.func)
    return inspect.iscoroutinefunction(compute)


def takes_state(plugin: RewardPlugin) -> bool:
    """Whether the plugin's own ``score`` also takes the run's state."""
    return "state" in inspect.signature(plugin.score).parameters


async def _score_all(plugin: RewardPlugin, trajectories: Sequence[Trajectory]) -> list[Score]:
    at_once = asyncio.Semaphore(ASYNC_CONCURRENCY)

    async def one(trajectory: Trajectory) -> Score:
        async with at_once:
            try:
                return await score_one_async(plugin, trajectory)
            except Exception as error:
                return Score.failed(f"{type(error).__name__}: {error}")

    return list(await asyncio.gather(*map(one, trajectories)))


def _guarded(plugin: RewardPlugin, trajectory: Trajectory) -> Score:
    try:
        return score_one(plugin, trajectory)
    except Exception as error:
        return Score.failed(f"{type(error).__name__}: {error}")


def score_one(plugin: RewardPlugin, trajectory: Trajectory, state: RunState = START) -> Score:
    """Call a plain ``compute`` for one trajectory, or for each of its turns if it names ``turn``.

    A field without a default that the trajectory lacks makes the score not applicable.

    Raises:
        Exception: whatever ``compute`` raises, or TypeError for an answer of the wrong kind.
    """
    asked, names = _questions(plugin, trajectory, state)
    return _together(plugin, names, [as_score(ask()) for ask in asked])


async def score_one_async(plugin: RewardPlugin, trajectory: Trajectory, state: RunState = START) -> Score:
    """:func:`score_one` for an ``async`` compute."""
    asked, names = _questions(plugin, trajectory, state)
    scores: list[Score] = []
    for ask in asked:
        answer = ask()
        scores.append(as_score(await answer if inspect.isawaitable(answer) else answer))
    return _together(plugin, names, scores)


def _questions(plugin: RewardPlugin, trajectory: Trajectory,
               state: RunState) -> tuple[list[Callable[[], Any]], list[str]]:
    """The calls of ``compute`` that one trajectory takes, and the fields that it names."""
    names, required = signature(plugin)
    if not trajectory.turns:
        return [lambda: Score.not_applicable(reason="the episode has no turns")], ["turn"]
    turns = range(len(trajectory.turns)) if "turn" in names else (None,)
    return [functools.partial(_ask, plugin, names, required, Call(trajectory, state, t)) for t in turns], names


def _ask(plugin: RewardPlugin, names: Sequence[str], required: frozenset[str], call: Call) -> Any:
    values = fields_of(call, names)
    lacking = next((n for n in names if n in required and values[n] is None), None)
    if lacking is not None:
        return Score.not_applicable(reason=f"the sample has no {lacking}")
    return plugin.compute(**values)


def _together(plugin: RewardPlugin, names: Sequence[str], scores: Sequence[Score]) -> Score:
    return join_turns(scores, plugin.over_turns) if "turn" in names else scores[0]


def join_turns(scores: Sequence[Score], how: Literal["mean", "sum", "min"]) -> Score:
    """One score of the scores of single turns; its ``turns`` say how it came about and add up to the value.

    Turns to which the question does not apply are left out; the first failed turn fails the whole.  ``info`` keeps
    each turn's own value.
    """
    failed = next((s for s in scores if s.status == "failed"), None)
    if failed is not None:
        return failed
    known = [i for i, s in enumerate(scores) if s.valid]
    if not known:
        return scores[-1] if scores else Score.not_applicable(reason="the episode has no turns")
    values = {i: scores[i].value for i in known}
    if how == "min":
        worst = min(known, key=lambda i: values[i])
        values = {worst: values[worst]}
    shares = {i: v / (len(known) if how == "mean" else 1) for i, v in values.items()}
    turns = tuple(shares.get(i, 0.0) for i in range(len(scores)))
    info = {"by_turn": [s.value if s.valid else None for s in scores], **scores[max(shares)].info}
    return Score(math.fsum(turns), info=info, turns=turns)


def signature(plugin: RewardPlugin) -> tuple[list[str], frozenset[str]]:
    """The fields that the plugin's ``compute`` names, and those of them that it cannot do without.

    Raises:
        BadInput: if it names a field that no trajectory has.
    """
    names: list[str] = []
    required: set[str] = set()
    for name, parameter in inspect.signature(plugin.compute).parameters.items():
        if name in FIELDS:
            names.append(name)
            if parameter.default is inspect.Parameter.empty:
                required.add(name)
        elif parameter.default is inspect.Parameter.empty:
            raise BadInput(
                f"plugin {type(plugin).__name__}: compute() asks for '{name}'; it may name {', '.join(FIELDS)}"
            )
    return names, frozenset(required)


def needs(plugin: RewardPlugin) -> list[str]:
    """The fields that the plugin's ``compute`` names.

    Raises:
        BadInput: if it names a field that no trajectory has.
    """
    return signature(plugin)[0]


def required_of_env(plugin: RewardPlugin) -> frozenset[str]:
    """The fields that an environment must provide for the plugin to have an answer."""
    return signature(plugin)[1] & ENV_FIELDS if by_compute(plugin) else plugin.requires


def alternatives_of_env(plugin: RewardPlugin) -> list[frozenset[str]]:
    """What an environment must provide, as sets of fields of which one each is enough."""
    single = [frozenset({name}) for name in sorted(required_of_env(plugin))]
    return [*single, plugin.requires_any] if plugin.requires_any else single


def as_score(value: Any) -> Score:
    """Read what ``compute`` returned.

    Raises:
        TypeError: if it is none of the accepted forms.
    """
    if value is None:
        return Score.not_applicable(reason="the plugin gave no answer")
    if isinstance(value, Score):
        return value
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        info = dict(mapping.get("info") or {})
        if mapping["reward"] is None:
            return Score.not_applicable(**info)
        turns = mapping.get("turns")
        return Score(float(mapping["reward"]), info=info, turns=None if turns is None else tuple(map(float, turns)))
    if isinstance(value, bool | int | float) or hasattr(value, "__float__"):
        return Score(float(value))
    raise TypeError(f"compute() returns a float, a dict with 'reward', a Score or None, not {type(value).__name__}")


class FunctionPlugin(RewardPlugin):
    """A plugin made of one function; keyword arguments from the YAML are bound to it."""

    def __init__(self, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
        known = inspect.signature(function).parameters
        for key in kwargs:
            if key not in known:
                raise TypeError(f"unexpected keyword argument '{key}'")
            if key in FIELDS:
                raise TypeError(f"'{key}' is a field of the rollout and no argument")
        self.defined_by = function
        self.compute = functools.partial(function, **kwargs) if kwargs else function


def register_reward_plugin(name: str, plugin: Any) -> None:
    """Register a plugin class, instance or factory under ``name`` in this process.

    A name of an installed plugin may be taken over; one that this process has registered before may not, unless
    by the same class or function of an edited file.

    Raises:
        BadInput: if another plugin was registered under ``name``.
    """
    known = PLUGINS.local.get(name)
    if known is not None and _origin(known) != _origin(plugin):
        raise BadInput(f"two plugins register as '{name}': {_origin(known)} and {_origin(plugin)}; rename one of them")
    PLUGINS.register(name, plugin)


def _origin(plugin: Any) -> str:
    made = plugin if inspect.isclass(plugin) or inspect.isfunction(plugin) else type(plugin)
    return f"{made.__module__}:{made.__qualname__}"


def reward_plugin(function: Callable[..., Any] | None = None, *, name: str | None = None,
                  range: tuple[float, float] = (-math.inf, math.inf)) -> Any:
    """Make a plugin of a function, plain or ``async``, and register it by the function's name (or ``name``).

    The function's parameters are fields of a trajectory (``query``, ``response``, ``reference``, ...) or
    arguments with defaults, which the YAML's ``kwargs`` may set.
    """

    def decorate(f: Callable[..., Any]) -> type[RewardPlugin]:
        def __init__(self: FunctionPlugin, **kwargs: Any) -> None:
            FunctionPlugin.__init__(self, f, kwargs)

        body = {"__init__": __init__, "__doc__": f.__doc__, "range": range, "__module__": f.__module__}
        made = type(f.__name__, (FunctionPlugin,), body)
        register_reward_plugin(name or f.__name__, made)
        return made

    return decorate if function is None else decorate(function)
