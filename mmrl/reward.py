"""Reward plugins and the suite that joins them; rewards join here and nowhere else.

Three equivalent ways to write a plugin, smallest first: a function under ``@reward_plugin``; a class with
``compute(query, response, images=None, ...)``; a class with ``score(trajectories) -> list[Score]``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmrl.errors import BadInput
from mmrl.registry import PLUGINS
from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory

FIELDS: dict[str, Callable[[Trajectory], Any]] = {
    "query": lambda t: t.sample.query,
    "response": lambda t: t.response,
    "images": lambda t: [i for m in t.messages for i in m.images] or None,
    "videos": lambda t: [v for m in t.messages for v in m.videos] or None,
    "reference": lambda t: t.sample.reference,
    "messages": lambda t: t.messages,
    "trajectory": lambda t: t,
    "env": lambda t: t.turns[-1].info if t.turns else {},
}
"""What ``compute`` may name, and where it comes from in a trajectory."""


class RewardPlugin:
    """Answers one question about a rollout: what is this worth?

    Define ``compute`` (a call a trajectory) or ``score`` (all at once, for batched models).

    Attributes:
        range: lowest and highest possible value; a score outside is an error.
    """

    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    compute: Callable[..., Any]
    """``compute(query, response, ...)``: receives exactly the fields of :data:`FIELDS` that it names and
    returns a float, ``{"reward": float, "info": {...}}``, a :class:`Score`, or None (not applicable)."""

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Score each trajectory; an exception in one fails that one alone."""
        return [self._score_one(t) for t in trajectories]

    def _score_one(self, trajectory: Trajectory) -> Score:
        names = needs(self)
        try:
            return as_score(self.compute(**{n: FIELDS[n](trajectory) for n in names}))
        except Exception as error:
            return Score.failed(f"{type(error).__name__}: {error}")


def needs(plugin: RewardPlugin) -> list[str]:
    """The fields that the plugin's ``compute`` names.

    Raises:
        BadInput: if it names a field that no trajectory has.
    """
    names: list[str] = []
    for name, parameter in inspect.signature(plugin.compute).parameters.items():
        if name in FIELDS:
            names.append(name)
        elif parameter.default is inspect.Parameter.empty:
            raise BadInput(
                f"plugin {type(plugin).__name__}: compute() asks for '{name}'; it may name {', '.join(FIELDS)}"
            )
    return names


def as_score(value: Any) -> Score:
    """Read what ``compute`` returned.

    Raises:
        TypeError: if it is none of the accepted forms.
    """
    if value is None:
        return Score.not_applicable()
    if isinstance(value, Score):
        return value
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        if mapping["reward"] is None:
            return Score.not_applicable(**dict(mapping.get("info", {})))
        return Score(float(mapping["reward"]), info=dict(mapping.get("info", {})))
    if isinstance(value, bool | int | float) or hasattr(value, "__float__"):
        return Score(float(value))
    raise TypeError(f"compute() returns a float, a dict with 'reward', a Score or None, not {type(value).__name__}")


class _FunctionPlugin(RewardPlugin):
    """A plugin made of one function; keyword arguments from the YAML are bound to it."""

    def __init__(self, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
        import functools

        known = inspect.signature(function).parameters
        for key in kwargs:
            if key not in known:
                raise TypeError(f"unexpected keyword argument '{key}'")
        self.compute = functools.partial(function, **kwargs) if kwargs else function


def register_reward_plugin(name: str, plugin: Any) -> None:
    """Register a plugin class, instance or factory under ``name`` in this process."""
    PLUGINS.register(name, plugin)


def reward_plugin(function: Callable[..., Any] | None = None, *, name: str | None = None,
                  range: tuple[float, float] = (-math.inf, math.inf)) -> Any:
    """Make a plugin of a function and register it by the function's name (or ``name``).

    The function's parameters are fields of a trajectory (``query``, ``response``, ``reference``, ...) or
    arguments with defaults, which the YAML's ``kwargs`` may set.
    """

    def decorate(f: Callable[..., Any]) -> type[RewardPlugin]:
        def __init__(self: _FunctionPlugin, **kwargs: Any) -> None:
            _FunctionPlugin.__init__(self, f, kwargs)

        body = {"__init__": __init__, "__doc__": f.__doc__, "range": range, "__module__": f.__module__}
        made = type(f.__name__, (_FunctionPlugin,), body)
        register_reward_plugin(name or f.__name__, made)
        return made

    return decorate if function is None else decorate(function)


class PluginConfig(BaseModel):
    """One entry of ``reward_plugins``."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    as_: str | None = Field(default=None, alias="as")
    weight: float = Field(default=1.0, allow_inf_nan=False)
    kwargs: dict[str, Any] = {}
    timeout_s: float | None = None
    retries: int = 0

    @property
    def instance(self) -> str:
        """The name under which scores are recorded."""
        return self.as_ or self.name


def _read_entry(entry: Mapping[str, Any]) -> PluginConfig:
    try:
        return PluginConfig.model_validate(entry)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(str(part) for part in wrong["loc"])
        raise BadInput(f"reward plugin {entry.get('name', '?')!r}: {key}: {wrong['msg']}") from error


def build_plugin(config: PluginConfig, where: str = "") -> RewardPlugin:
    """Construct the plugin that an entry names.

    Raises:
        BadInput: naming the plugin and what is wrong with it.
    """
    prefix = f"{where}: " if where else ""
    found = PLUGINS.get(config.name, where)
    if isinstance(found, RewardPlugin) or not callable(found):
        if config.kwargs:
            raise BadInput(f"{prefix}plugin '{config.name}' is registered as an instance; it takes no kwargs")
        plugin: Any = found
    else:
        try:
            plugin = _FunctionPlugin(found, config.kwargs) if inspect.isfunction(found) else found(**config.kwargs)
        except TypeError as error:
            raise BadInput(f"{prefix}plugin '{config.name}' does not take these kwargs: {error}") from error
        except (ValueError, OSError, ImportError) as error:  # BadInput is a ValueError
            raise BadInput(f"{prefix}plugin '{config.name}': {error}") from error
    if not isinstance(plugin, RewardPlugin):
        plugin = _adopt(plugin)
    if type(plugin).score is RewardPlugin.score:
        if not callable(getattr(plugin, "compute", None)):
            raise BadInput(f"{prefix}plugin '{config.name}' has neither compute() nor score()")
        needs(plugin)
    return plugin


def _adopt(plain: Any) -> RewardPlugin:
    """A plugin made of an object that has ``compute`` or ``score`` without being a :class:`RewardPlugin`."""
    methods = {name: getattr(plain, name, None) for name in ("score", "compute")}
    body: dict[str, Any] = {n: staticmethod(m) for n, m in methods.items() if callable(m)}
    made = type(type(plain).__name__, (RewardPlugin,), {**body, "range": getattr(plain, "range", RewardPlugin.range)})
    return made()


class RewardSuite:
    """Weighted plugins; one :class:`RewardRecord` a trajectory.

    Args:
        plugins: (instance name, weight, plugin) triples; names are unique.
    """

    def __init__(self, plugins: Sequence[tuple[str, float, RewardPlugin]]) -> None:
        self.plugins = tuple(plugins)

    @classmethod
    def from_config(cls, entries: Sequence[Mapping[str, Any] | PluginConfig]) -> RewardSuite:
        """Build a suite from the entries of ``reward_plugins``.

        Raises:
            BadInput: for an unknown plugin, wrong arguments, or two entries of one name.
        """
        configs = [e if isinstance(e, PluginConfig) else _read_entry(e) for e in entries]
        names = [c.instance for c in configs]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"two reward plugins are called '{name}'; give one of them another name with 'as:'")
        return cls([(c.instance, c.weight, build_plugin(c)) for c in configs])

    def score(self, trajectories: Sequence[Trajectory]) -> list[RewardRecord]:
        """Score trajectories with every plugin and join the scores."""
        columns = {name: _checked(plugin, trajectories) for name, _, plugin in self.plugins}
        weights = {name: weight for name, weight, _ in self.plugins}
        return [join({n: column[i] for n, column in columns.items()}, weights) for i in range(len(trajectories))]


def _checked(plugin: RewardPlugin, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Call the plugin; an exception, a NaN or a value out of range is a failed score."""
    try:
        scores = list(plugin.score(trajectories))
    except Exception as error:
        return [Score.failed(f"{type(error).__name__}: {error}")] * len(trajectories)
    if len(scores) != len(trajectories):
        return [Score.failed(f"score() returned {len(scores)} scores for {len(trajectories)} trajectories")] * len(
            trajectories
        )
    low, high = plugin.range
    return [_within(s, low, high, len(t.turns)) for s, t in zip(scores, trajectories, strict=True)]


def _within(returned: Any, low: float, high: float, n_turns: int) -> Score:
    try:
        return _judged(as_score(returned), low, high, n_turns)
    except Exception as error:  # a Score whose value or turns are no numbers among them
        return Score.failed(f"score() returned {returned!r:.80}: {error}")


def _judged(score: Score, low: float, high: float, n_turns: int) -> Score:
    if not score.valid:
        return score
    if score.turns is not None and (len(score.turns) != n_turns or not all(map(math.isfinite, score.turns))):
        return Score.failed(f"the values by turn are {score.turns}, not {n_turns} finite numbers")
    if not math.isfinite(score.value):
        return Score.failed(f"the score is {score.value}, not a finite number")
    if not low <= score.value <= high:
        return Score.failed(f"the score {score.value:g} is outside the declared range [{low:g}, {high:g}]")
    return score


def join(scores: Mapping[str, Score], weights: Mapping[str, float]) -> RewardRecord:
    """Join scores: ``sum(w_i s_i) * sum(w) / sum(w of those that apply)``.

    A failed score makes the record invalid.  Scores that do not apply are left out and the remaining
    weights scaled up, so that the record keeps its scale; if none applies, the record is invalid.
    """
    applies = [n for n, s in scores.items() if s.valid]
    failed = any(s.status == "failed" for s in scores.values())
    if failed or not applies:
        return RewardRecord(0.0, False, scores)
    total, present = sum(abs(w) for w in weights.values()), sum(abs(weights[n]) for n in applies)
    scale = total / present if present > 0 else 1.0
    return RewardRecord(scale * sum(weights[n] * scores[n].value for n in applies), True, scores)
