"""Write docs/learning.md: what every algorithm reached in the newest `make test-learning`.

Comes in: docs/data/learning.json, and the settings in tests/algorithms.py and tests/learning_runs.py.  Goes out: one
table, a row an algorithm; what was not measured with these settings says so.

    python scripts/learning_docs.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from algorithms import ALGORITHMS, Settings  # noqa: E402 - they lie among the tests
from learning_results import Results, measured, read  # noqa: E402 - as above
from learning_runs import RED_BALL, TASKS, TEN_ARMS, TRIES, Task, laid_over, reached_by  # noqa: E402 - as above

PAGE = ROOT / "docs" / "learning.md"
INTRO = """\
<!-- Written by scripts/learning_docs.py (`make test-learning`): change that, not this. -->

# Does every algorithm learn?

`make test-learning` takes every advantage, loss and learner through two tasks by `mmrl train`, and writes this page. It
fails if one of them misses its mark. It is no part of `make test`. For some of it:

    make test-learning ARGS='-k "arms and gspo"'

**Ten arms** is a bandit in words (`tests/ten_arms.py`): every answer pulls one of ten arms, the best pays 1, the others
0 to 0.6, and success is the share of pulls of the best. The policy is a Llama of 29,024 random weights.
**GoToRedBallNoDists** is BabyAI's level of that name, in words, {turns} turns at most. The policy is `mmrl/tiny`,
which has not seen it.

Success is on {episodes} held-out seeds at temperature 1, before the first step and after the last; no checkpoint is
chosen. In brackets is Wilson's 95% interval. The mark is {arms:.0%} on ten arms and {ball:.0%} on
GoToRedBallNoDists, unless a row has its own, and the two intervals must be apart. Every row is one run with one seed:
rows whose intervals overlap do not differ. Steps and minutes are of ten arms, then of GoToRedBallNoDists; minutes are
of training alone, on two CPU cores that other work shares, and no benchmark.

All rows have these settings, but for those that they name:

```yaml
# ten arms
{arms_base}
# GoToRedBallNoDists
{ball_base}```

`weighted_log_ratio` learns from {stored} stored episodes of the policy that it starts from, in groups of {tries};
`sft` from as many of the expert. Settings in italics are those of one task alone.

"""
HEAD = """\
| algorithm | settings that differ | ten arms | GoToRedBallNoDists | steps | minutes |
|---|---|---|---|---|---|
"""


def flat(tree: Settings, prefix: str = "") -> Iterator[str]:
    """``key: value`` of every leaf; sections that speak for themselves are left out."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, "" if key == "training_args" else f"{key}.")
        elif key == "reward_plugins":
            yield f"reward_plugins: {', '.join(p['name'] for p in value)}"
        else:
            yield f"{prefix}{key}: {value:g}" if isinstance(value, float) else f"{prefix}{key}: {value}"


def differs(name: str) -> str:
    """The settings of a row: of both tasks, then in italics those of one alone."""
    algorithm = ALGORITHMS[name]
    alone = zip(TASKS, (algorithm.bandit, algorithm.red_ball), strict=True)
    own = [f"*{setting}* ({task})" for task, tree in alone for setting in flat(tree)]
    return "<br>".join([*(f"`{setting}`" for setting in flat(algorithm.sections)), *own]) or "-"


def rise(found: dict[str, Any] | None) -> str:
    """Success before and after, in words."""
    if found is None:
        return "not run yet"
    (a, b), (c, d) = found["before_ci95"], found["after_ci95"]
    return f"{found['before']:.1%} [{a:.1%}, {b:.1%}] → **{found['after']:.1%}** [{c:.1%}, {d:.1%}]"


def row(name: str, results: Results) -> str:
    """One algorithm."""
    found = [measured(results, task, name) for task in TASKS]
    rises = " | ".join(rise(f) + own_mark(name, task) for f, task in zip(found, TASKS.values(), strict=True))
    steps = ", ".join(str(f["steps"]) if f else "-" for f in found)
    minutes = ", ".join(f"{f['minutes']:.1f}" if f else "-" for f in found)
    return f"| {name} | {differs(name)} | {rises} | {steps} | {minutes} |\n"


def own_mark(name: str, task: Task) -> str:
    """The algorithm's mark, where it is not the task's."""
    mark = reached_by(ALGORITHMS[name], task)
    return "" if mark == task.reached else f"<br>mark: {mark:.0%}"


def base(tree: Settings) -> str:
    """A base configuration as YAML, without what says nothing of learning."""
    shown = laid_over(tree, {"training_args": {k: v for k, v in tree["training_args"].items() if k != "save_steps"}})
    shown["training_args"].pop("save_steps")
    return yaml.safe_dump(shown, sort_keys=False, default_flow_style=None, width=110)


def page(results: Results) -> str:
    """The whole page."""
    intro = INTRO.format(
        turns=RED_BALL.base["rollout"]["max_turns"],
        episodes=RED_BALL.base["eval"]["final_episodes"], arms=TEN_ARMS.reached, ball=RED_BALL.reached,
        arms_base=base(TEN_ARMS.base), ball_base=base(RED_BALL.base), stored=RED_BALL.stored * TRIES, tries=TRIES,
    )  # fmt: skip
    return intro + HEAD + "".join(row(name, results) for name in ALGORITHMS)


if __name__ == "__main__":
    PAGE.write_text(page(read()), encoding="utf-8")
    print(f"wrote {PAGE}")
