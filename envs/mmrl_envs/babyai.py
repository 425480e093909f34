"""BabyAI and MiniGrid in words or pixels: every id that stock minigrid registers, and BALROG's five tasks.

Comes in: actions by name.  Goes out: the scene's text, line for line as BALROG writes it, its picture, or both.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from minigrid.envs.babyai.core import roomgrid_level
from minigrid.envs.distshift import DistShiftEnv
from minigrid.envs.empty import EmptyEnv
from minigrid.envs.gotodoor import GoToDoorEnv
from minigrid.envs.gotoobject import GoToObjectEnv
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from mmrl.env import Env, EnvFamily
from mmrl.errors import BadInput
from mmrl.sample import Content, Message, Sample, Text
from mmrl_envs.balrog import TASKS
from mmrl_envs.bot import BotExpert
from mmrl_envs.grid_frames import VIEWS, Frames, View, check_tile_size
from mmrl_envs.grid_rules import INSTRUCTIONS, Instructions, system_head
from mmrl_envs.grid_state import state_key
from mmrl_envs.grid_text import describe
from mmrl_envs.level_line import level_line
from mmrl_envs.mission_aim import aim, place

ACTIONS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
FORWARD = ACTIONS.index("go forward")
_BALROG = "babyai/balrog-"
_STOCK = re.compile(r"^(?P<family>BabyAI|MiniGrid)-(?P<name>.+)-v(?P<version>\d+)$")

Choice = TypeVar("Choice", bound=str)
Invalid = Literal["words", "forward"]
Observation = Literal["text", "image", "both"]
OBSERVATIONS: dict[Observation, tuple[bool, bool]] = {
    "text": (False, True), "image": (True, False), "both": (True, True)
}  # fmt: skip
"""Whether the scene is shown, and whether it is told."""


def _quiet(*_: object) -> None:
    """Say nothing."""


# Minigrid prints a line for every layout that it rejects; stdout belongs to the user's results.
setattr(roomgrid_level, "print", _quiet)  # noqa: B010 - the module declares no such name


def stock_ids(family: str) -> list[str]:
    """The ids that stock minigrid registers under ``BabyAI`` or ``MiniGrid``.

    Layouts by wave function collapse need the extra ``minigrid[wfc]`` and count only where it is installed.
    """
    has_wfc = all(importlib.util.find_spec(module) for module in ("imageio", "networkx"))
    found = [i for i in gymnasium.registry if (match := _STOCK.match(i)) and match["family"] == family]
    return [i for i in found if has_wfc or not i.startswith("MiniGrid-WFC-")]


def short_ids(family: str) -> dict[str, str]:
    """Short id -> stock id; a name without a version 0 takes the lowest that there is."""
    matches = sorted((m["name"], int(m["version"]), i) for i in stock_ids(family) if (m := _STOCK.match(i)))
    return {f"{family.lower()}/{name}": i for name, _, i in reversed(matches)}


def _ids(family: str) -> Sequence[str]:
    tasks = [_BALROG + name for name in TASKS] if family == "BabyAI" else []
    return [*tasks, *sorted(short_ids(family)), *sorted(stock_ids(family))]


def _short(env_id: str) -> str:
    """The short id of a stock id; any other id as it is."""
    shorts = {**short_ids("BabyAI"), **short_ids("MiniGrid")}
    return next((short for short, stock in shorts.items() if stock == env_id), env_id)


def _spec(env_id: str) -> EnvSpec:
    family = "BabyAI" if env_id.startswith(("babyai/", "BabyAI-")) else "MiniGrid"
    return gymnasium.spec(short_ids(family).get(env_id, env_id))


def _about(env_id: str) -> str:
    """What the level's class says of itself."""
    if env_id.startswith(_BALROG):
        return level_line(TASKS[env_id.removeprefix(_BALROG)])
    entry = _spec(env_id).entry_point
    return "" if entry is None else level_line(load_env_creator(entry) if isinstance(entry, str) else entry)


def _build(env_id: str) -> MiniGridEnv:
    """Build the simulator behind an id, without Gymnasium's wrappers."""
    if env_id.startswith(_BALROG):
        return TASKS[env_id.removeprefix(_BALROG)](render_mode="rgb_array")
    # A spec and not an id: Gymnasium warns about ids that have a newer version, and the id was asked for.
    inner = gymnasium.make(_spec(env_id), render_mode="rgb_array", disable_env_checker=True).unwrapped
    assert isinstance(inner, MiniGridEnv)
    return inner


def _pick(name: str, value: Choice, known: Sequence[Choice]) -> Choice:
    if value not in known:
        raise BadInput(f"babyai's {name} is one of {', '.join(known)}, not {value!r}")
    return value


def _check_pictures(shown: bool, view: View, tile_size: int, history: int) -> None:
    check_tile_size("babyai", tile_size)
    if history < 1:
        raise BadInput(f"babyai's history is at least 1, not {history}")
    if not shown and (view, tile_size, history) != ("partial", 8, 1):
        raise BadInput("babyai's view, tile_size and history are for pictures: set observation to image or both")


class BabyAI(Env):
    """A BabyAI or MiniGrid environment that speaks, or shows what there is to see.

    Args:
        env_id: a short id, a stock id, or one of BALROG's tasks.
        invalid: what an action that is none does: ``"words"`` executes nothing and says what was expected,
            ``"forward"`` goes forward as BALROG does, and says so.  Both cost a step.
        max_steps: the step limit; by default the level's own.
        instructions: the system message: ``"short"`` (a few tokens) or ``"full"`` (the rules, for language models).
        observation: ``"text"``, ``"image"`` (pictures and, after an invalid action, what was expected), or ``"both"``
            (pictures, then the text).
        view: what a picture shows: ``"partial"`` is the agent's own view of 7 x 7 cells, ``"full"`` the whole grid.
        tile_size: width of a cell in pixels, 4 to 64.
        history: how many pictures an observation holds at most: the last ones, the oldest first.
        reasoning: an answer may say something before its action, which is what stands after the last colon; the expert
            says what it is after and where it sees that (``the blue key 2 steps forward: go forward``).

    Attributes:
        actions: the names of the actions, in minigrid's order.
        simulator: the stock minigrid environment inside.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - as in Env

    def __init__(
        self,
        env_id: str,
        *,
        invalid: Invalid = "words",
        max_steps: int | None = None,
        instructions: Instructions = "short",
        observation: Observation = "text",
        view: View = "partial",
        tile_size: int = 8,
        history: int = 1,
        reasoning: bool = False,
    ) -> None:
        super().__init__()
        if max_steps is not None and max_steps < 1:
            raise BadInput(f"babyai's max_steps is at least 1, not {max_steps}")
        self._invalid = _pick("invalid", invalid, ("words", "forward"))
        self._max_steps = max_steps
        shown, self._told = OBSERVATIONS[_pick("observation", observation, tuple(OBSERVATIONS))]
        _check_pictures(shown, _pick("view", view, VIEWS), tile_size, history)
        self._head = system_head(
            _pick("instructions", instructions, INSTRUCTIONS), view=view if shown else None, told=self._told,
            history=history, reasoning=reasoning,
        )  # fmt: skip
        self._reasoning = reasoning
        self.simulator = _build(env_id)
        self._frames = Frames(self.simulator, view, tile_size, history) if shown else None
        self._name = _short(env_id)
        self.metadata = {**self.metadata, "one_episode": _is_fixed(self.simulator)}
        self.render_mode = "rgb_array"
        self.actions = _action_names(self.simulator)
        self._indices = {name: index for index, name in enumerate(self.actions)}
        self._running = self._won = False
        self._description = ""
        self._expert: BotExpert | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Content, dict[str, Any]]:
        """Begin the episode of ``seed``; without one, of a seed drawn from ``np_random``."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        observation, _ = self.simulator.reset(seed=seed)
        if self._max_steps is not None:
            self.simulator.max_steps = self._max_steps  # after reset: levels set their own limit there
        self._running, self._won, self._expert = True, False, None
        self._description = describe(observation["image"])
        if self._frames is not None:
            self._frames.begin()
        content = self._content("")
        mission = self.simulator.mission
        head = self._head.format(mission=mission, actions=", ".join(self.actions))
        messages = (Message("system", (Text(head),)), Message("user", content))
        sample = Sample(f"{self._name}-seed-{seed}", messages, meta={"mission": mission, "seed": seed})
        return content, {"sample": sample, **self._facts()}

    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        """Take the named action; ``info["unsafe"]`` is ``"lava"`` if it led into lava."""
        if not self._running:
            raise RuntimeError("call reset() before step(), and once more after the episode has ended")
        inner = self.simulator
        name = (action.rpartition(":")[2] if self._reasoning else action).strip()
        index = self._indices.get(name.casefold() if self._invalid == "words" else name)
        valid, complaint = index is not None, ""
        if index is None:
            complaint = self._complain(name)
            index = FORWARD if self._invalid == "forward" else None
        reward, terminated = 0.0, False
        if index is None:
            inner.step_count += 1  # an attempt counts, so that every episode ends
            truncated = inner.step_count >= inner.max_steps
        else:
            observation, earned, terminated, truncated, _ = inner.step(index)
            reward = float(earned)
            self._description = describe(observation["image"])
            if self._frames is not None:
                self._frames.look(observation["image"])
            if self._expert is not None:
                self._expert.took(index)
        self._won = self._won or reward > 0
        info = {**self._facts(), "valid_action": valid, "action_cost": 1.0}
        if _in_lava(inner):
            info["unsafe"] = "lava"
        if terminated or truncated:
            self._running = False
            info["success"] = self._won
        return self._content(complaint), reward, terminated, truncated, info

    def expert_action(self) -> str:
        """What MiniGrid's BabyAIBot would do, by name; under ``reasoning`` after what it is after and a colon.

        Raises:
            NoExpert: if the level is not BabyAI's, or the bot cannot plan from here.
        """
        if not self._running:
            raise RuntimeError("call reset() before expert_action()")
        if self._expert is None:
            self._expert = BotExpert(self.simulator)
        return self.expert_reasoning() + ACTIONS[self._expert.suggest()]

    def expert_reasoning(self) -> str:
        """Under ``reasoning``, what the mission is after at the moment, where that is in sight, and a colon."""
        if not self._reasoning:
            return ""
        thing = aim(self.simulator)
        return f"the {thing} {place(thing, self._description)}".rstrip() + ": "

    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride] - narrower than Env's
        """The whole grid as an RGB frame, the agent's view highlighted; shape (height, width, 3)."""
        return np.asarray(self.simulator.render(), dtype=np.uint8)

    def close(self) -> None:
        """Close the simulator."""
        self.simulator.close()

    def _facts(self) -> dict[str, Any]:
        inner = self.simulator
        return {"description": self._description, "mission": inner.mission, "state_key": state_key(inner)}

    def _content(self, complaint: str) -> Content:
        scene = (self._description or "You see nothing.") if self._told else ""
        said = "\n".join(filter(None, (complaint, scene)))
        images = self._frames.images if self._frames is not None else ()
        return (*images, Text(said)) if said else images

    def _complain(self, name: str) -> str:
        went = " Went forward instead." if self._invalid == "forward" else ""
        return f"Invalid action: {name[:80]!r}.{went} Valid: {', '.join(self.actions)}."


def _action_names(inner: MiniGridEnv) -> tuple[str, ...]:
    """The names of the actions that do something; some environments know only the first few."""
    assert isinstance(inner.action_space, gymnasium.spaces.Discrete)
    named = ACTIONS[: int(inner.action_space.n)]
    return (*named, "done") if isinstance(inner, GoToDoorEnv | GoToObjectEnv) else named


def _in_lava(inner: MiniGridEnv) -> bool:
    """Whether the agent stands where it should not have gone."""
    here = inner.grid.get(*inner.agent_pos)
    return here is not None and here.type == "lava"


def _is_fixed(inner: MiniGridEnv) -> bool:
    """Whether the level draws nothing, so that every seed gives the same episode."""
    return isinstance(inner, DistShiftEnv) or (isinstance(inner, EmptyEnv) and inner.agent_start_pos is not None)


FAMILY = EnvFamily(ids=partial(_ids, "BabyAI"), make=BabyAI, about=_about)
MINIGRID = EnvFamily(ids=partial(_ids, "MiniGrid"), make=BabyAI, about=_about)
