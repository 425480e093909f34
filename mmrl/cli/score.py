"""``mmrl score``: what other plugins or weights would have made of a stored run."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mmrl.check_config import build_suite
from mmrl.cli.progress import EpisodeBar
from mmrl.cli.score_tables import show
from mmrl.config_load import LoadedConfig, load_config
from mmrl.errors import BadInput
from mmrl.plugin_config import PluginConfig
from mmrl.registry import PLUGINS
from mmrl.rescore import STATUSES, Rescored, Rescorer
from mmrl.score_report import report
from mmrl.store import atomic_write
from mmrl.stored_run import StoredRun

INTERRUPTED = 130
SUFFIXES = (".parquet", ".jsonl")
UNUSED = ("train_type=none", "model_id=none", "environments=[{id: none}]")
"""Keys that every configuration has and scoring does without, so that a file with ``reward_plugins`` alone will do."""


def score(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, its rollouts folder or one .parquet file of it.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of the config, as key.path=value.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with reward_plugins; by default the run's own, if it names no code.")
    ] = None,
    steps: Annotated[str | None, typer.Option(metavar="A-B", help="Only the rollouts of these steps.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only the rollouts of the last N steps.")] = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the rollouts that changed places to show.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Also write the scores of each to this .parquet or .jsonl.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, as stdout's last line.")] = False,
) -> None:
    """Score the rollouts of a run again and compare. Nothing in the run is changed.

    Ctrl-C prints what has been scored by then.

    For example:

      mmrl score runs/babyai_goto --config new.yaml --last 20

      mmrl score runs/babyai_goto reward_plugins.0.weight=2 --out scores.parquet
    """
    stored = StoredRun.find(run)
    chosen = _choose(stored.steps, steps, last)
    _check_out(out, stored)
    loaded = _load(stored, config, overrides or [])
    found, whole = _score(stored, chosen, Rescorer(build_suite(loaded)))
    record = {"run": str(run), "config": str(loaded.path), "overrides": overrides or [], "interrupted": not whole,
              **report(found, top)}  # fmt: skip
    if as_json:
        print(json.dumps(record))
    else:
        show(record)
    if out is not None:
        _save(out, found)
    _complain(record, stored.count(chosen))


def _choose(known: Sequence[int], steps: str | None, last: int | None) -> list[int]:
    """The steps that ``--steps`` or ``--last`` takes of those that are known."""
    if steps is None:
        return list(known[-last:] if last else known)
    if last is not None:
        raise BadInput("--steps and --last both choose steps; give one of them")
    match = re.fullmatch(r"(\d+)(?:(-)(\d*))?", steps.strip())
    if match is None:
        raise BadInput(f"--steps {steps}: write --steps 5, --steps 5-20 or --steps 5-")
    first = int(match[1])
    end = int(match[3]) if match[3] else known[-1] if match[2] else first
    chosen = [s for s in known if first <= s <= end]
    if not chosen:
        raise BadInput(f"--steps {steps}: no rollouts; the stored steps are {known[0]}-{known[-1]}")
    return chosen


def _load(stored: StoredRun, config: Path | None, overrides: Sequence[str]) -> LoadedConfig:
    """The configuration to score by, which names at least one plugin.

    Potential-based shaping takes the run's own discount if ``config`` has no ``training_args``.
    """
    if config is None:
        return _own(stored, overrides)
    loaded = load_config(config, [*UNUSED, *overrides])
    if not loaded.config.reward_plugins:
        raise BadInput(f"{config} has no reward_plugins; list what to score with, such as [{{name: exact_match}}]")
    discount = stored.training_args.get("turn_discount")
    if "training_args" not in loaded.config.model_fields_set and discount is not None:
        return load_config(config, [*UNUSED, f"training_args.turn_discount={discount}", *overrides])
    return loaded


def _own(stored: StoredRun, overrides: Sequence[str]) -> LoadedConfig:
    """The run's own configuration, which may name no code: nothing is ever loaded from a stored run by name."""
    path = stored.config
    if not path.is_file():
        raise BadInput(f"{stored.root} has no config.yaml; say what to score with: --config FILE")
    if "collect" in stored.stored:
        raise BadInput(f"{path} is of mmrl collect and has no reward_plugins; say what to score with: --config FILE")
    loaded = load_config(path, [*UNUSED, *overrides])
    if not loaded.config.reward_plugins:
        raise BadInput(f"{path} has no reward_plugins; say what to score with: --config FILE")
    named = [(("plugin_files", i), str(f)) for i, f in enumerate(loaded.config.plugin_files)]
    entries = enumerate(loaded.config.reward_plugins)
    named += [(("reward_plugins", i), what) for i, entry in entries if (what := _outside(entry)) is not None]
    if named:
        key, what = named[0]
        raise BadInput(f"{loaded.where(*key)}: nothing is loaded from a stored run by name, and this names '{what}'; "
                       f"if you trust it: --config {path}")  # fmt: skip
    return loaded


def _outside(entry: PluginConfig) -> str | None:
    """What an entry names outside of the installed plugins: code, a model, an address, a file, a secret; or None."""
    if entry.name not in PLUGINS.names() and ":" in entry.name:
        return entry.name
    return str(entry.cache) if isinstance(entry.cache, Path) else _name_in(entry.kwargs)


def _name_in(value: Any, key: str = "") -> str | None:
    """The first text in an argument that may be a path, an address, a model or an environment variable."""
    if isinstance(value, Mapping):
        return next((n for k, v in value.items() if (n := _name_in(v, str(k))) is not None), None)
    if isinstance(value, list):
        return next((n for v in value if (n := _name_in(v, key)) is not None), None)
    telling = key == "model" or key.endswith("_env")
    return value if isinstance(value, str) and (telling or re.search(r"[/\\:]", value)) else None


def _score(stored: StoredRun, chosen: Sequence[int], rescorer: Rescorer) -> tuple[Rescored, bool]:
    """Score the chosen steps; whether all of it was done before an interrupt."""
    try:
        with EpisodeBar("scoring", stored.count(chosen)) as bar:
            for step, trajectories in stored.read(chosen):
                bar.label(f"scoring, now step {step}")
                rescorer.step(trajectories, stored.state(step), bar.episode)
    except KeyboardInterrupt:
        return rescorer.result(), False
    return rescorer.result(), True


def _check_out(out: Path | None, stored: StoredRun) -> None:
    """Refuse a file that cannot be written, or lies in the run, before anything slow begins."""
    if out is None:
        return
    if out.suffix not in SUFFIXES:
        raise BadInput(f"--out {out}: the name ends in {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise BadInput(f"--out {out}: is a folder; name a file in it")
    inside = out.resolve().is_relative_to(stored.root.resolve()) and stored.config.is_file()
    if inside or out.resolve() in [f.resolve() for f in stored.files]:
        raise BadInput(f"--out {out}: lies in the run, where nothing is changed; write it elsewhere")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error.strerror or error}") from error


def _save(out: Path, r: Rescored) -> None:
    """Write a row a rollout: id, step, group, rewards, and score and status by each plugin."""
    columns: dict[str, list[Any]] = {
        "id": list(r.ids), "step": r.steps.tolist(), "group": [r.group_names[g] for g in r.groups],
        "reward_old": _nullable(r.old), "reward_new": _nullable(r.new),
    }  # fmt: skip
    for name, values in r.scores.items():
        columns[f"score/{name}"] = _nullable(values)
        columns[f"status/{name}"] = [STATUSES[i] for i in r.status[name]]
    try:
        atomic_write(out, _parquet(columns) if out.suffix == ".parquet" else _jsonl(columns))
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error.strerror or error}") from error


def _nullable(values: Any) -> list[float | None]:
    return [None if math.isnan(v) else v for v in values.tolist()]


def _parquet(columns: Mapping[str, list[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    real = {name: pa.float64() for name in columns if name.startswith(("reward_", "score/"))}
    table = pa.table({name: pa.array(column, real.get(name)) for name, column in columns.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _jsonl(columns: Mapping[str, list[Any]]) -> bytes:
    rows = zip(*columns.values(), strict=True)
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode()


def _complain(record: Mapping[str, Any], total: int) -> None:
    """Say on stderr what was not scored; exit code 130 after an interrupt, 1 if no rollout has a new reward."""
    if record["broken"]:
        print(f"{record['broken']} rollouts are left out: an exception had ended their episode", file=sys.stderr)
    for name, plugin in record["plugins"].items():
        if plugin["failed"]:
            why = plugin["first_reason"]["failed"]
            print(f"{plugin['failed']} of {record['rollouts']} scores of '{name}' failed, first: {why}",
                  file=sys.stderr)  # fmt: skip
    if record["interrupted"]:
        print(f"stopped after {record['rollouts'] + record['broken']} of {total} rollouts", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if not record["reward"]["new"]["scored"]:
        reasons = [w for p in record["plugins"].values() for w in p["first_reason"].values()]
        why = f"; the first reason: {reasons[0]}" if reasons else ""
        print(f"no rollout has a new reward{why}", file=sys.stderr)
        raise typer.Exit(1)
