"""``mmrl train``: check the configuration, then train."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mmrl import launched
from mmrl.check_config import check_config
from mmrl.cli.program import program
from mmrl.cli.progress import TrainReporter
from mmrl.config_load import LoadedConfig, load_config
from mmrl.store import refuse_taken

INTERRUPTED = 130


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of it, as key.path=value.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the run's last checkpoint.")] = False,
    output_dir: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/<name of the config file>.")
    ] = None,
) -> None:
    """Train a policy.

    Ctrl-C finishes the step in progress and saves; Ctrl-C again stops at once. Either way --resume goes on.

    For example:

      mmrl train configs/babyai_goto.yaml

      mmrl train configs/babyai_goto.yaml training_args.max_steps=20

      mmrl train configs/babyai_goto.yaml --resume
    """
    loaded = load_config(config, [*(overrides or []), *output_override(output_dir)])
    if not resume:
        with suppress(OSError):  # said when the folder is made
            refuse_taken(loaded.output_dir)  # before checks that take their time
    console = Console(quiet=not launched.is_first())
    with console.status(Text(f"checking {loaded.path}")):  # torch is imported for it
        trainer, _ = check_config(loaded)
    command, root = resume_command(config, overrides or [], output_dir), None
    reporter = TrainReporter(console, loaded.config.training_args.max_minutes)
    with reporter, _interrupts(reporter, command), suppress(KeyboardInterrupt):
        root = trainer.train(loaded, resume, reporter)
    if root is None:
        _write(f"stopped; to go on: {command}\n")
        raise typer.Exit(INTERRUPTED)
    if launched.is_first():
        _say_where(loaded, root)


def output_override(output_dir: Path | None) -> list[str]:
    """``--output-dir`` as an override; quoted, since ``2024`` is a folder too."""
    return [] if output_dir is None else [f"training_args.output_dir={json.dumps(str(output_dir))}"]


def resume_command(config: Path, overrides: list[str], output_dir: Path | None) -> str:
    """The command that takes up this run again."""
    if launched.processes() > 1:
        return "give the command that started these processes, with --resume"  # the launcher's part is not known here
    folder = [] if output_dir is None else ["--output-dir", str(output_dir)]
    return shlex.join([program(), "train", str(config), *overrides, *folder, "--resume"])


@contextmanager
def _interrupts(reporter: TrainReporter, command: str) -> Generator[None]:
    """Ctrl-C and SIGTERM ask for an orderly end; the second one, or one before the first step, ends at once."""

    def handle(signum: int, frame: FrameType | None) -> None:
        if reporter.stopping or reporter.steps == 0:
            # Everything stored is whole at any moment, so nothing is lost by not unwinding; and unwinding would
            # wait for threads that may be busy for minutes.  The escape gives the terminal its cursor back.
            cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
            _write(f"{cursor}\nstopped; to go on: {command}\n")
            os._exit(INTERRUPTED)
        reporter.stop()
        _write("\nfinishing this step; Ctrl-C again stops at once\n")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(text: str) -> None:
    """Write to stderr past its buffers: a signal may come while they are being written."""
    if launched.is_first():
        os.write(2, text.encode())


def _say_where(loaded: LoadedConfig, root: Path) -> None:
    folders = [f for f in ("final", "best") if (root / f).is_dir()]
    policy = shlex.quote(str(root / folders[-1])) if folders else loaded.config.model_id
    config = shlex.quote(str(root / "config.yaml"))  # with every override that the run was given
    held = " and ".join(f"{f}/" for f in folders)
    print(f"run:         {root}" + (f"  (policy in {held})" if held else ""))
    print(f"evaluate it: {program()} eval {config} --policy {policy}")
    print(f"watch it:    {program()} play {config} --policy {policy}")
