"""``mmrl serve-sampler``: start a server for a run to sample with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mmrl.config_load import load_config
from mmrl.errors import BadInput
from mmrl.registry import LEARNERS
from mmrl.serving import Place, Serves


def serve_sampler(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of it, as key.path=value.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all, in a network that you trust.")] = (
        Place.host
    ),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; left out: that of the first server in vllm_config.")
    ] = None,
    cpu: Annotated[
        bool | None, typer.Option("--cpu/--gpu", help="What it runs on; left out: as this machine is.")
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the command, for another machine, and end.")] = False,
) -> None:
    """Start a vLLM server with what a run's configuration asks for.

    The run's vllm_config names the server (server: http://localhost:8000); what it trains decides how its weights go
    there. Ctrl-C ends the server.

    For example:

      mmrl serve-sampler run.yaml

      mmrl serve-sampler run.yaml training_args.vllm_config.server=http://localhost:8001

      mmrl serve-sampler run.yaml --host 0.0.0.0 --gpu --print
    """
    loaded = load_config(config, overrides or [])
    learner = LEARNERS.get(loaded.config.train_type, loaded.where("train_type"))()
    if not isinstance(learner, Serves):
        raise BadInput(f"{loaded.where('train_type')}: learner '{loaded.config.train_type}' samples with no server; it "
                       "has no method 'server' (see mmrl.serving)")  # fmt: skip
    launch = learner.server(loaded, Place(host, port, cpu, not show))
    if show:
        print(launch.line)
        return
    values = {name: os.environ[source] for name, source in launch.secrets.items()}
    print(launch.line, flush=True)
    os.execvpe(launch.words[0], launch.words, {**os.environ, **launch.environment, **values})
