"""MiniGrid's BabyAIBot as an expert that survives being ignored.

Comes in: the simulator and every action that was really taken.  Goes out: the bot's next action.  The bot
replans from what it has seen; when it gives up (after moves that it did not suggest it may assert, or plan in
circles for ever), it is built afresh from the present state and the rest of the mission.
"""

from __future__ import annotations

from typing import Any

from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import Instr, SeqInstr
from minigrid.minigrid_env import MiniGridEnv
from minigrid.utils.baby_ai_bot import BabyAIBot

from mmrl.env import NoExpert


def remaining(instruction: Instr) -> Instr:
    """The part of a mission that is not done yet."""
    if not isinstance(instruction, SeqInstr):
        return instruction
    sequence: Any = instruction  # minigrid sets a_done and b_done without declaring them
    if sequence.a_done == "success":
        return remaining(sequence.instr_b)
    if sequence.b_done == "success":
        return remaining(sequence.instr_a)
    return type(instruction)(remaining(sequence.instr_a), remaining(sequence.instr_b))


class _Plan(list[Any]):
    """The bot's stack of subgoals, which gives up when one replanning pushes too many: the bot plans in circles."""

    patience = 200  # a replanning that ends pushes a few at a time

    def __init__(self, subgoals: list[Any]) -> None:
        super().__init__(subgoals)
        self.pushed = 0

    def append(self, subgoal: Any, /) -> None:
        self.pushed += 1
        if self.pushed > self.patience:
            raise RecursionError("the bot plans in circles")
        super().append(subgoal)


class BotExpert:
    """Suggests actions for one episode.

    Args:
        env: the unwrapped simulator, already reset.

    Raises:
        NoExpert: if the simulator is no BabyAI level; the bot reads the level's instructions.
    """

    def __init__(self, env: MiniGridEnv) -> None:
        if not isinstance(env, RoomGridLevel):
            name = type(env).__name__
            raise NoExpert(f"BabyAIBot plays BabyAI levels only, and {name} is none; use a babyai/... environment")
        self._env: Any = env  # Any: minigrid sets instrs without declaring it
        self._bot: Any = None
        self._suggested: int | None = None

    def suggest(self) -> int:
        """The action that the bot would take now.

        Raises:
            NoExpert: if a fresh bot cannot plan from here either.
        """
        if self._suggested in (None, int(self._env.actions.done)):
            self._suggested = self._start()
        return self._suggested

    def took(self, action: int) -> None:
        """Tell the bot which action was taken; call it after every step, followed or not."""
        if self._bot is None:
            return
        self._bot.stack.pushed = 0
        try:
            self._suggested = int(self._bot.replan(action))
        except Exception:  # the bot asserts, or trips over its own stack, in states that it did not plan
            self._bot, self._suggested = None, None

    def _start(self) -> int:
        """Plan afresh from the present state; turn and look around if the bot sees nothing left to do."""
        actions = self._env.actions
        whole = self._env.instrs
        self._env.instrs = remaining(whole)  # the bot reads its instructions from the level, and only here
        try:
            self._bot = BabyAIBot(self._env)
            self._bot.stack = _Plan(self._bot.stack)
            action = int(self._bot.replan())
        except Exception as error:
            self._bot = None
            raise NoExpert(f"BabyAIBot cannot plan from here: {type(error).__name__}: {error}") from error
        finally:
            self._env.instrs = whole
        return int(actions.left) if action == int(actions.done) else action
