"""``mmrl``: the Typer application, and the one place where exceptions become exit codes.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.  Commands import what is heavy (torch, pyarrow, an
environment's simulator) when they run, so that ``mmrl --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

import mmrl
from mmrl import launched
from mmrl.cli.check import app as check_app
from mmrl.cli.collect import collect
from mmrl.cli.eval import eval_
from mmrl.cli.export import app as export_app
from mmrl.cli.listing import list_
from mmrl.cli.plan import plan
from mmrl.cli.play import play
from mmrl.cli.score import score
from mmrl.cli.serve_sampler import serve_sampler
from mmrl.cli.train import train
from mmrl.env import NoExpert
from mmrl.errors import BadInput, RunStopped

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="mmrl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("plan")(plan)
app.command("eval")(eval_)
app.command("collect")(collect)
app.command("play")(play)
app.command("score")(score)
app.command("serve-sampler")(serve_sampler)
app.command("list")(list_)
app.add_typer(check_app, name="check")
app.add_typer(export_app, name="export")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mmrl {mmrl.__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """A gym for training (vision-)language policies by reward.

    For example:

      mmrl play --env babyai/GoToLocal

      mmrl train configs/babyai_goto.yaml

      mmrl eval --env babyai/balrog-goto --policy runs/babyai_goto
    """


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; the entry point of the ``mmrl`` script.

    Args:
        words: the arguments; None takes the process's own.

    Returns:
        The exit code.
    """
    # Hugging Face's own bars, one for each file it reads or writes, would run through ours; a user may set it to 0.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Wherever it is installed, peft imports bitsandbytes, which on a CPU misses a package that nothing here needs.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # peft asks transformers for what now has another name; whoever trains an adapter cannot do anything about it.
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    try:
        app(args=None if words is None else list(words), prog_name="mmrl")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0
    except (BadInput, NoExpert) as error:
        return _fail(str(error), BAD_INPUT)
    except RunStopped as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return FAILED
    return 0


def _fail(message: str, code: int) -> int:
    """Say what is wrong in one line; of the processes of a run only the first of each machine, since all come here."""
    if launched.is_first_here():
        print("mmrl: " + " ".join(message.split("\n")), file=sys.stderr)
    return code
